//! A source that fails, stops and dies: each of its records once.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lakeward_engine::{Engine, EngineOptions, SourceSpec, SourceState, SourceStatus};
use lakeward_model::{Cursor, Failure, FailureKind, Page, Records, Source, StreamName};

use crate::bench::{Lakes, options, pipeline, wait_for};

/// Numbers from 0 on, three to a page; the cursor is the next number.
#[derive(Debug, Default, Clone)]
struct Numbers(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    /// How many numbers there are.
    count: u64,
    failures: VecDeque<Failure>,
    /// How long a poll takes.
    pause: Duration,
    polls: u64,
    closed: u64,
}

impl Numbers {
    fn up_to(count: u64) -> Self {
        Self(Arc::new(Mutex::new(Script { count, ..Script::default() })))
    }

    fn script<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut self.0.lock().expect("not poisoned"))
    }
}

#[async_trait::async_trait]
impl Source for Numbers {
    async fn poll(&mut self, cursor: Option<&Cursor>) -> Result<Page, Failure> {
        let (pause, count, failure) = self.script(|s| {
            s.polls += 1;
            (s.pause.max(Duration::from_millis(1)), s.count, s.failures.pop_front())
        });
        tokio::time::sleep(pause).await;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let stored = cursor.map(|cursor| String::from_utf8_lossy(&cursor.0).into_owned());
        let from = stored.map_or(0, |stored| stored.parse().expect("a number"));
        let to = count.min(from + 3);
        let texts: Vec<String> = (from..to).map(|n| format!("{{\"n\":{n}}}")).collect();
        let mut end = 0;
        let ends = texts.iter().map(|text| {
            end += text.len() as u32;
            end
        });
        let records = Records::new(texts.concat().into(), ends.collect());
        let next = Cursor(to.to_string().into());
        Ok(Page { records, next, behind: Some(Duration::from_millis(count - to)), trouble: None })
    }

    async fn close(&mut self) {
        self.script(|s| s.closed += 1);
    }
}

async fn open(state: &Path, lakes: &Lakes, source: &Numbers) -> Engine {
    let spec = SourceSpec {
        name: "numbers".into(),
        stream: StreamName::new("events").expect("a stream name"),
        kind: "test".into(),
        source: Box::new(source.clone()),
    };
    let options = EngineOptions { sources: vec![spec], ..options(state, lakes) };
    Engine::open(options, vec![pipeline("p", "events", "lake")]).await.expect("the engine opens")
}

async fn wait_for_status(engine: &Engine, done: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let status = engine.control().sources().remove(0);
        if done(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn every_record_of_a_source_is_delivered_once_over_crashes() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let source = Numbers::up_to(300);
    for stored in [10, 50, 51, 200] {
        // The runtime's end stops every task wherever it waits.
        let life = tokio::runtime::Runtime::new().unwrap();
        life.block_on(async {
            let engine = open(state.path(), &lakes, &source).await;
            wait_for(&engine, "p", |s| s.received >= stored).await;
        });
    }
    // Some lives had the time to close it before their end, some had not.
    let closed = source.script(|s| s.closed);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let engine = open(state.path(), &lakes, &source).await;
        wait_for(&engine, "p", |s| s.counts.delivered == 300).await;
        let status = wait_for_status(&engine, |s| s.state == SourceState::Idle).await;
        assert_eq!((status.behind_ms, status.last_error), (Some(0), None));
        assert!(status.records < 150, "it went on where it was: {}", status.records);
        assert!(engine.drain(Duration::from_secs(10)).await);
    });
    assert_eq!(lakes.numbers("lake"), (0..300).collect::<Vec<_>>());
    assert_eq!(source.script(|s| s.closed), closed + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_is_tried_again_and_says_why() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let source = Numbers::up_to(9);
    source.script(|s| {
        s.failures.push_back(Failure::new(FailureKind::NotDone, "busy"));
        s.failures.push_back(Failure {
            retry_after: Some(Duration::from_secs(1)),
            ..Failure::new(FailureKind::Refused, "not allowed")
        });
    });
    let engine = open(state.path(), &lakes, &source).await;
    let retrying = wait_for_status(&engine, |s| s.last_error.is_some()).await;
    assert_eq!(retrying.state, SourceState::Retrying { attempts: 1 });
    let refused = wait_for_status(&engine, |s| s.state == SourceState::Refused).await;
    assert_eq!(refused.last_error.as_deref(), Some("not allowed"));
    let idle = wait_for_status(&engine, |s| s.state == SourceState::Idle).await;
    assert_eq!((idle.records, idle.last_error.as_deref()), (9, Some("not allowed")));
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), (0..9).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_stores_and_delivers_the_page_that_is_on_its_way() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let source = Numbers::up_to(3);
    source.script(|s| s.pause = Duration::from_millis(300));
    let engine = open(state.path(), &lakes, &source).await;
    while source.script(|s| s.polls) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(engine.control().sources()[0].state, SourceState::Starting);
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(source.script(|s| (s.polls, s.closed)), (1, 1));
    assert_eq!(lakes.numbers("lake"), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_leaves_pipelines_time_to_deliver() {
    let state = tempfile::tempdir().expect("a folder");
    let lakes = Lakes::new(&["lake"]);
    let source = Numbers::up_to(6);
    let engine = open(state.path(), &lakes, &source).await;
    wait_for_status(&engine, |s| s.records == 6).await;
    let polls = source.script(|s| {
        s.pause = Duration::from_secs(3_600);
        s.polls
    });
    while source.script(|s| s.polls) < polls + 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(engine.drain(Duration::from_secs(3)).await, "delivered, although the source never answers");
    assert_eq!(source.script(|s| s.closed), 0);
    assert_eq!(lakes.numbers("lake"), (0..6).collect::<Vec<_>>());
}
