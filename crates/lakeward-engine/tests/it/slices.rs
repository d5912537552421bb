//! A sliced source that fails, stops and dies: each of its records once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakeward_engine::{Engine, EngineOptions, Schedule, SlicedSpec, SlicesStatus, SourceState, SourceStatus};
use lakeward_model::conformance::{MemorySlices, plain_slice};
use lakeward_model::{Announcement, Failure, FailureKind, Slice, SliceFailure, StreamName, Wanted};

use crate::bench::{Lakes, options, pipeline, wait_for};

/// Slices `s000`, `s001` … with so many records each, numbered through.
pub(crate) fn filled(counts: &[usize]) -> MemorySlices {
    let source = MemorySlices::default();
    let mut n = 0;
    for (i, count) in counts.iter().enumerate() {
        let records = (n..n + count).map(|n| format!("{{\"n\":{n}}}")).collect();
        source.add(plain_slice(&format!("s{i:03}")), records);
        n += count;
    }
    source
}

pub(crate) fn spec(source: &MemorySlices) -> SlicedSpec {
    SlicedSpec {
        name: "slices".into(),
        stream: StreamName::new("events").expect("a stream name"),
        kind: "memory".into(),
        source: Arc::new(source.clone()),
        announcements: None,
        parallel: 3,
        every: Duration::from_millis(20),
        schedule: None,
        growing: None,
        wanted: Wanted::default(),
        looks: true,
    }
}

pub(crate) async fn open(state: &Path, lakes: &Lakes, spec: SlicedSpec) -> Engine {
    let options = EngineOptions { sliced: vec![spec], ..options(state, lakes) };
    Engine::open(options, vec![pipeline("p", "events", "lake")]).await.expect("the engine opens")
}

pub(crate) fn slices_of(engine: &Engine) -> SlicesStatus {
    engine.control().sources().remove(0).slices.expect("it has slices")
}

pub(crate) async fn until(
    engine: &Engine,
    done: impl Fn(&SourceStatus, &SlicesStatus) -> bool,
) -> SourceStatus {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let status = engine.control().sources().remove(0);
        if status.slices.is_some_and(|slices| done(&status, &slices)) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn upto(end: u64) -> Vec<u64> {
    (0..end).collect()
}

/// A small generator of numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn every_record_comes_once_wherever_the_process_dies() {
    let seeds = std::env::var("LAKEWARD_TEST_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        let mut dice = Dice(seed);
        let counts: Vec<usize> = (0..20).map(|_| dice.roll(12) as usize).collect();
        let all = counts.iter().sum::<usize>() as u64;
        let source = filled(&counts);
        source.script(|s| {
            s.chunk = 1 + dice.roll(4) as usize;
            s.page = 1 + dice.roll(8) as usize;
            s.fail_every = [0, 5, 17][dice.roll(3) as usize];
            let broken = SliceFailure::Broken("a bad day".into());
            s.read_failures.insert(format!("s{:03}", dice.roll(20)), [broken].into());
        });
        let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
        for _ in 0..6 {
            let stop = source.script(|s| s.reads) + dice.roll(40);
            let waits = dice.roll(30);
            // The runtime's end stops every task wherever it waits.
            let life = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let life = life.expect("a runtime");
            let engine = life.block_on(async {
                let mut sliced = spec(&source);
                sliced.parallel = 1 + dice.roll(4) as usize;
                let engine = open(state.path(), &lakes, sliced).await;
                let begun = tokio::time::Instant::now();
                while source.script(|s| s.reads) < stop && begun.elapsed() < Duration::from_millis(300) {
                    tokio::task::yield_now().await;
                }
                tokio::time::sleep(Duration::from_millis(waits)).await;
                engine
            });
            drop(life);
            drop(engine);
        }
        source.script(|s| (s.fail_every, s.read_failures) = (0, std::collections::BTreeMap::new()));
        tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
            let engine = open(state.path(), &lakes, spec(&source)).await;
            until(&engine, |_, slices| slices.taken + slices.set_aside == 20 && slices.open == 0).await;
            // What was set aside is whole after a run that tries it again.
            let run =
                engine.control().begin_run("slices", crate::slices_runs::take()).await.expect("it begins");
            let run = crate::slices_runs::ended(&engine, run.id).await;
            assert_eq!(run.slices_set_aside, 0, "seed {seed}: {run:?}");
            assert_eq!(slices_of(&engine).taken, 20, "seed {seed}");
            wait_for(&engine, "p", |s| s.counts.delivered == s.received && s.received >= all).await;
            assert!(engine.drain(Duration::from_secs(10)).await);
        });
        assert_eq!(lakes.numbers("lake"), upto(all), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_read_in_parallel_and_failures_are_tried_again() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[30; 12]);
    source.script(|s| {
        let refused = || Failure {
            retry_after: Some(Duration::from_millis(100)),
            ..Failure::new(FailureKind::Refused, "not allowed")
        };
        s.list_failures = [Failure::new(FailureKind::NotDone, "busy"), refused()].into();
        let cut = || SliceFailure::Source(Failure::new(FailureKind::Unknown, "cut"));
        s.read_failures.insert("s004".into(), [cut(), cut()].into());
        s.hold = true;
    });
    let engine = open(state.path(), &lakes, spec(&source)).await;
    let refused = until(&engine, |s, _| s.state == SourceState::Refused).await;
    assert_eq!(refused.last_error.as_deref(), Some("not allowed"));
    until(&engine, |_, _| source.script(|s| s.reading.0) == 3).await;
    source.script(|s| s.hold = false);
    let idle = until(&engine, |s, slices| s.state == SourceState::Idle && slices.taken == 12).await;
    assert_eq!((idle.records, idle.last_error.as_deref()), (360, Some("cut")));
    assert_eq!(source.script(|s| s.reading.1), 3);
    // What is there is not taken twice; what comes is taken.
    let listed = source.script(|s| s.listed);
    until(&engine, |_, _| source.script(|s| s.listed) > listed + 4).await;
    assert_eq!(source.script(|s| s.opened), 14);
    source.add(plain_slice("s0035"), vec!["{\"n\":360}".into()]);
    source.add(Slice { version: "2".into(), ..plain_slice("s001") }, vec!["{\"n\":361}".into()]);
    until(&engine, |_, slices| slices.taken == 14).await;
    wait_for(&engine, "p", |s| s.counts.delivered == 362).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), upto(362));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_what_was_read_of_a_slice() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[9, 9]);
    source.script(|s| s.hold = true);
    // Readings that look ahead wait with their first chunk in hand; both are
    // read again from their start.
    let engine = open(state.path(), &lakes, spec(&source)).await;
    until(&engine, |_, _| source.script(|s| s.reads) >= 4).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    source.script(|s| s.hold = false);
    let engine = open(state.path(), &lakes, spec(&source)).await;
    until(&engine, |_, slices| slices.taken == 2).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), upto(18));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_late_twice_and_out_of_order_is_taken_once() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[2; 30]);
    let slice = |n: usize| plain_slice(&format!("s{n:03}"));
    source.script(|s| {
        // The last first, each twice, three at a time; one tells of nothing,
        // one of what is gone.
        let two = (0..30).rev().chain(0..30);
        let announced = two.map(slice).collect::<Vec<_>>();
        let some = announced.chunks(3).map(<[Slice]>::to_vec).chain([vec![], vec![plain_slice("gone")]]);
        s.announcements = some.zip(0..).map(|(slices, number)| Announcement { number, slices }).collect();
    });
    let announcing =
        || SlicedSpec { announcements: Some(Box::new(source.clone())), looks: false, ..spec(&source) };
    let engine = open(state.path(), &lakes, announcing()).await;
    let status =
        until(&engine, |_, slices| slices.taken == 30 && source.script(|s| s.done.len()) == 22).await;
    assert_eq!(status.slices.expect("slices").next_look, None);
    assert_eq!(
        source.script(|s| {
            s.done.sort_unstable();
            s.done.clone()
        }),
        upto(22)
    );
    source
        .script(|s| s.announcements.push_back(Announcement { number: 99, slices: vec![slice(7), slice(7)] }));
    until(&engine, |_, _| source.script(|s| s.done.contains(&99))).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!((lakes.numbers("lake"), source.script(|s| s.listed)), (upto(60), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_makes_a_source_wait() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = MemorySlices::default();
    for n in 0..24 {
        let padding = "x".repeat(300_000);
        source.add(plain_slice(&format!("s{n:03}")), vec![format!("{{\"n\":{n},\"p\":\"{padding}\"}}")]);
    }
    lakes.faults("lake", [lakeward_model::conformance::Fault::HoldAfterWrite]);
    let mut options = EngineOptions { sliced: vec![spec(&source)], ..options(state.path(), &lakes) };
    options.journal.disk_bytes_max = 5 << 20;
    let engine = Engine::open(options, vec![pipeline("p", "events", "lake")]).await.expect("it opens");
    until(&engine, |s, _| s.state == SourceState::Waiting).await;
    lakes.lake("lake").clear();
    // What is not delivered by then is delivered after the next start.
    engine.drain(Duration::from_millis(200)).await;
    // What was cut off may still be letting go of its ledger.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while lakeward_engine::Ledger::open(&state.path().join("ledger.redb")).is_err() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let engine = open(state.path(), &lakes, spec(&source)).await;
    until(&engine, |_, slices| slices.taken == 24).await;
    wait_for(&engine, "p", |s| s.counts.delivered == 24).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), upto(24));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_grow_are_not_all_listed_again() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = MemorySlices::default();
    source.script(|script| script.page = 500);
    let name = |n: usize| plain_slice(&format!("s{n:05}"));
    for n in 0..3_000 {
        source.add(name(n), vec![format!("{{\"n\":{n}}}")]);
    }
    let growing = SlicedSpec { growing: Some(Duration::from_secs(86_400)), ..spec(&source) };
    let engine = open(state.path(), &lakes, growing).await;
    until(&engine, |_, slices| slices.taken == 3_000).await;
    let looked = source.script(|script| script.behind.len());
    // What is new, and what is a little late, without the whole list.
    source.add(name(3_000), vec![String::from("{\"n\":3000}")]);
    source.add(plain_slice("s02500-late"), vec![String::from("{\"n\":3001}")]);
    // Several looks, so that most of them can only have been of the end.
    let looked_often = || source.script(|script| script.behind.len() > looked + 4);
    until(&engine, |_, slices| slices.taken == 3_002 && looked_often()).await;
    let pages = source.script(|script| script.behind.split_off(looked));
    assert!(pages.iter().filter(|after| after.is_none()).count() <= 1, "{pages:?}");
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), upto(3_002));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_says_when_it_looks_and_missed_times_are_made_up_for_once() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[2]);
    let clock = Arc::new(Clock::default());
    let hourly = |catch_up| SlicedSpec {
        schedule: Some(
            Schedule::new("15 * * * *", "UTC", Duration::ZERO, catch_up, "s").expect("a schedule"),
        ),
        ..spec(&source)
    };
    let start = async |catch_up| {
        let options = EngineOptions {
            sliced: vec![hourly(catch_up)],
            clock: Arc::clone(&clock) as _,
            ..options(state.path(), &lakes)
        };
        Engine::open(options, vec![pipeline("p", "events", "lake")]).await.expect("it opens")
    };
    let minutes = |minutes: i64| lakeward_model::Timestamp(minutes * 60_000_000);
    clock.set(minutes(20));
    let engine = start(true).await;
    until(&engine, |_, slices| slices.next_look == Some(minutes(75))).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    // Three times are missed: one look, without and with what was missed.
    clock.set(minutes(220));
    let engine = start(false).await;
    until(&engine, |_, slices| slices.next_look == Some(minutes(255))).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(source.script(|s| s.listed), 0);
    let engine = start(true).await;
    until(&engine, |_, slices| slices.taken == 1 && slices.next_look == Some(minutes(255))).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(source.script(|s| s.listed), 1);
}

#[derive(Debug, Default)]
struct Clock(std::sync::atomic::AtomicI64);

impl Clock {
    fn set(&self, to: lakeward_model::Timestamp) {
        self.0.store(to.0, std::sync::atomic::Ordering::SeqCst);
    }
}

impl lakeward_model::clock::Clock for Clock {
    fn now(&self) -> lakeward_model::Timestamp {
        lakeward_model::Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
