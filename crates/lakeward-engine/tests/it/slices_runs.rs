//! Runs of sliced sources: taken once, counted, again, over restarts.

use std::time::Duration;

use lakeward_columnar::shape::{Dedup, DedupKey};
use lakeward_engine::{
    Asked, Engine, EngineOptions, Ledger, PipelineSpec, Run, RunErrorKind, RunKind, RunRequest, RunSlice,
    RunSliceState, RunState, SlicedSpec, SlicesError,
};
use lakeward_model::conformance::{Fault, MemorySlices, plain_slice};
use lakeward_model::{Failure, FailureKind, Slice, SliceFailure, SliceId, Timestamp};

use crate::bench::{Lakes, options, pipeline, wait_for};
use crate::slices::{filled, open, slices_of, spec, until};

/// A pipeline that delivers each record once.
fn once(name: &str) -> PipelineSpec {
    let window = Duration::from_secs(400 * 86_400);
    let mut spec = pipeline(name, "events", name);
    spec.shape.dedup = Some(Dedup { key: DedupKey::Content, window, time: None });
    spec
}

async fn open_with(
    state: &std::path::Path,
    lakes: &Lakes,
    sliced: SlicedSpec,
    pipelines: Vec<PipelineSpec>,
) -> Engine {
    let options = EngineOptions { sliced: vec![sliced], ..options(state, lakes) };
    Engine::open(options, pipelines).await.expect("the engine opens")
}

/// Why slices cannot be taken once more.
async fn refused(engine: &Engine, wanted: Asked) -> String {
    match engine.control().begin_run("slices", RunRequest { wanted, again: true, ..take() }).await {
        Err(SlicesError::Invalid(message)) => message,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn take() -> RunRequest {
    RunRequest { kind: RunKind::Take, wanted: Asked::default(), again: false, replace: None }
}

pub(crate) async fn ended(engine: &Engine, id: uuid::Uuid) -> Run {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let run = engine.control().run(id).await.expect("the run is known");
        if run.state.is_ended() {
            return run;
        }
        assert!(tokio::time::Instant::now() < deadline, "{run:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn done(engine: &Engine, asked: RunRequest) -> Run {
    let run = engine.control().begin_run("slices", asked).await.expect("it begins");
    ended(engine, run.id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_take_what_is_wanted_once_and_again_only_if_asked() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["p"]));
    let source = filled(&[3, 0, 4, 2]);
    for (n, name) in ["s000", "s001", "s002", "s003"].iter().enumerate() {
        source.script(|s| {
            s.slices.get_mut(*name).expect("it is there").0.date = Some(Timestamp(n as i64));
        });
    }
    let quiet = || SlicedSpec { looks: false, ..spec(&source) };
    let engine = open_with(state.path(), &lakes, quiet(), vec![once("p")]).await;
    let wanted = Asked { to: Some(Timestamp(2)), ..Asked::default() };
    let first = done(&engine, RunRequest { wanted, ..take() }).await;
    let seen = (first.state, first.slices, first.slices_done, first.slices_empty, first.records);
    assert_eq!(seen, (RunState::Done, 2, 1, 1, 3));
    let all = done(&engine, take()).await;
    assert_eq!((all.slices, all.slices_already, all.slices_done, all.records), (4, 2, 2, 6));
    let none = done(&engine, take()).await;
    assert_eq!((none.slices_already, none.slices_done, none.records), (4, 0, 0));
    wait_for(&engine, "p", |s| s.counts.delivered == 9).await;
    assert!(engine.control().run(all.id).await.expect("it is known").delivered);

    let wanted = Asked { prefix: "s002".into(), ..Asked::default() };
    let again = done(&engine, RunRequest { wanted, again: true, ..take() }).await;
    assert_eq!((again.slices_done, again.records), (1, 4));
    let lines = engine.control().run_slices(again.id, None, 10).await.expect("its slices");
    assert_eq!((lines.len(), lines[0].state), (1, RunSliceState::Exported));
    assert_ne!(lines[0].id, plain_slice("s002").id(uuid::Uuid::nil()));
    let count = done(&engine, RunRequest { kind: RunKind::Count, ..take() }).await;
    assert_eq!((count.slices_done, count.slices_empty, count.records), (3, 1, 9));
    wait_for(&engine, "p", |s| s.counts.duplicates == 4).await;
    assert_eq!(slices_of(&engine).taken, 5);
    let list = engine.control().slices("slices", &Asked::default(), None, 10).await.expect("a list");
    let twice = &list.slices[2];
    let again = twice.again.as_ref().expect("it was taken once more");
    assert_eq!((twice.records, again.records, again.id), (Some(4), 4, lines[0].id));
    assert_eq!((again.pipelines["p"].delivered, again.pipelines["p"].duplicates), (0, 4));
    assert_eq!((twice.pipelines["p"].delivered, twice.others["p"].delivered), (4, 4));
    assert!(list.slices[3].again.is_none() && list.slices[3].others.is_empty());
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("p"), (0..9).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_once_more_that_would_be_doubled() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["p", "q"]));
    let source = filled(&[3, 4]);
    let plain = || pipeline("p", "events", "p");
    let quiet = || SlicedSpec { looks: false, ..spec(&source) };
    let engine = open_with(state.path(), &lakes, quiet(), vec![plain()]).await;
    assert_eq!(done(&engine, take()).await.records, 7);
    let said = refused(&engine, Asked::default()).await;
    assert!(said.contains("give the pipeline `dedup"), "{said}");
    wait_for(&engine, "p", |s| s.counts.delivered == 7).await;
    assert!(engine.drain(Duration::from_secs(10)).await);

    // The advice is followed: what is delivered from now on is known.
    let engine = open_with(state.path(), &lakes, quiet(), vec![once("p")]).await;
    let said = refused(&engine, Asked::default()).await;
    assert!(said.contains("only since") && said.contains("s000 was taken before"), "{said}");
    source.add(plain_slice("s002"), vec!["{\"n\":7}".into(), "{\"n\":8}".into()]);
    assert_eq!(done(&engine, take()).await.records, 2);
    let new = || Asked { prefix: "s002".into(), ..Asked::default() };
    let again = done(&engine, RunRequest { wanted: new(), again: true, ..take() }).await;
    assert_eq!(again.records, 2);
    wait_for(&engine, "p", |s| s.counts.duplicates == 2).await;
    assert!(engine.drain(Duration::from_secs(10)).await);

    // So it is after a restart, and a pipeline that has nothing yet gets all of
    // it; a time of the records says nothing about what is remembered.
    let late = || PipelineSpec { from_latest: true, ..once("q") };
    let engine = open_with(state.path(), &lakes, quiet(), vec![once("p"), late()]).await;
    let again = done(&engine, RunRequest { wanted: new(), again: true, ..take() }).await;
    assert_eq!(again.records, 2);
    wait_for(&engine, "p", |s| s.counts.duplicates == 4).await;
    wait_for(&engine, "q", |s| s.counts.delivered == 2).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    let mut timed = once("p");
    timed.shape.dedup.as_mut().expect("it dedups").time = Some("at".into());
    timed.shape.dedup.as_mut().expect("it dedups").key = DedupKey::Columns(vec!["n".into()]);
    let engine = open_with(state.path(), &lakes, quiet(), vec![timed, late()]).await;
    let said = refused(&engine, new()).await;
    assert!(said.contains("from the column at"), "{said}");
    assert!(engine.drain(Duration::from_secs(10)).await);

    // Away for one start: what came meanwhile is not known.
    let engine = open_with(state.path(), &lakes, quiet(), vec![plain(), late()]).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    let engine = open_with(state.path(), &lakes, quiet(), vec![once("p"), late()]).await;
    let said = refused(&engine, new()).await;
    assert!(said.contains("only since"), "{said}");
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("p"), (0..9).collect::<Vec<_>>());
    assert_eq!(lakes.numbers("q"), vec![7, 8]);
}

/// A slice of which a part came before the keys were remembered is not known.
#[test]
fn a_slice_that_was_half_taken_when_dedup_began_is_not_taken_once_more() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["p"]));
    let source = MemorySlices::default();
    // A chunk is handed on before the next one is read only if it is large.
    let padding = "x".repeat(200_000);
    source.add(plain_slice("s000"), (0..60).map(|n| format!("{{\"n\":{n},\"p\":\"{padding}\"}}")).collect());
    source.script(|s| s.hold = true);
    let quiet = || SlicedSpec { looks: false, ..spec(&source) };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let engine = open_with(state.path(), &lakes, quiet(), vec![pipeline("p", "events", "p")]).await;
        engine.control().begin_run("slices", take()).await.expect("it begins");
        wait_for(&engine, "p", |s| s.counts.delivered > 0).await;
    });
    source.script(|s| s.hold = false);
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let engine = open_with(state.path(), &lakes, quiet(), vec![once("p")]).await;
        until(&engine, |_, slices| slices.taken == 1).await;
        wait_for(&engine, "p", |s| s.counts.delivered == 60).await;
        let said = refused(&engine, Asked::default()).await;
        assert!(said.contains("only since"), "{said}");
        assert!(engine.drain(Duration::from_secs(10)).await);
    });
    assert_eq!(lakes.numbers("p"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_tells_how_pipelines_ended_and_waits_no_longer_than_it_is_worth() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["p", "q"]));
    let source = filled(&[3]);
    lakes.faults("q", std::iter::repeat_n(Fault::Hold, 1));
    let quiet = || SlicedSpec { looks: false, ..spec(&source) };
    let pipelines = vec![pipeline("p", "events", "p"), pipeline("q", "events", "q")];
    let engine = open_with(state.path(), &lakes, quiet(), pipelines).await;
    done(&engine, take()).await;
    lakes.held("q", 1).await;
    let control = engine.control();
    let pending = |name: &str| {
        let all = control.status();
        all.into_iter().find(|it| it.pipeline == name).map(|it| it.pending).expect("it is known")
    };
    let enough = async {
        while pending("p") > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let drained = engine.drain_until(Duration::from_secs(10), enough);
    let complete = tokio::time::timeout(Duration::from_secs(30), drained).await.expect("it ends");
    assert!(!complete);
    assert_eq!((pending("p"), pending("q")), (0, 3));
}

#[test]
fn runs_go_on_over_restarts() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["p"]));
    let source = filled(&[5; 40]);
    let quiet = || SlicedSpec { looks: false, ..spec(&source) };
    let mut ids = Vec::new();
    for stop in [3, 60, 61, 140, 240] {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
            let engine = open_with(state.path(), &lakes, quiet(), vec![once("p")]).await;
            let again = RunRequest { again: true, ..take() };
            let count = RunRequest { kind: RunKind::Count, ..take() };
            let mut now = Vec::new();
            for asked in [take(), again, count] {
                now.push(engine.control().begin_run("slices", asked).await.expect("it begins").id);
            }
            if ids.is_empty() {
                ids = now;
            }
            until(&engine, |_, _| source.script(|s| s.reads) >= stop).await;
        });
    }
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let engine = open_with(state.path(), &lakes, quiet(), vec![once("p")]).await;
        for id in &ids {
            let run = ended(&engine, *id).await;
            assert_eq!((run.slices, run.slices_done, run.records), (40, 40, 200), "{run:?}");
        }
        let received = wait_for(&engine, "p", |s| s.pending == 0).await.received;
        assert_eq!(received % 200, 0);
        assert!(engine.drain(Duration::from_secs(10)).await);
        // A run that ended in an earlier life was asked for again.
        assert!(received > 200, "it was taken once more");
        assert_eq!(lakes.numbers("p"), (0..200).collect::<Vec<_>>());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_set_aside_and_holds_nothing_up() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[4, 4, 4]);
    source.add(Slice { version: "old".into(), ..plain_slice("s000") }, vec![]);
    source.script(|s| {
        s.slices.get_mut("s000").expect("there").0.version = String::new();
        s.slices.get_mut("s000").expect("there").1 = (0..4).map(|n| format!("{{\"n\":{n}}}")).collect();
        let broken = || SliceFailure::Broken("the archive is cut".into());
        s.read_failures.insert("s001".into(), [broken(), broken()].into());
    });
    let engine = open(state.path(), &lakes, spec(&source)).await;
    until(&engine, |_, slices| (slices.taken, slices.set_aside) == (2, 1)).await;
    let list = engine.control().slices("slices", &Asked::default(), None, 10).await.expect("a list");
    assert_eq!(list.slices[1].reason.as_deref(), Some("the archive is cut"));
    let tried = done(&engine, take()).await;
    assert_eq!((tried.state, tried.slices_already, tried.slices_set_aside), (RunState::Done, 2, 1));
    let mended = done(&engine, take()).await;
    assert_eq!((mended.slices_done, mended.records), (1, 4));
    assert_eq!(slices_of(&engine).set_aside, 0);

    // It is gone before it is read: nothing is kept of it.
    source.add(plain_slice("s009"), vec!["{\"n\":12}".into()]);
    source.script(|s| {
        s.read_failures.insert("s009".into(), [SliceFailure::Gone("deleted".into())].into());
    });
    until(&engine, |_, slices| slices.taken == 4).await;
    source.script(|s| {
        let refused = || Failure::new(FailureKind::Refused, "not allowed").into();
        s.read_failures.insert("s010".into(), (0..50).map(|_| refused()).collect());
    });
    source.add(plain_slice("s010"), vec!["{\"n\":13}".into()]);
    let refused = done(&engine, take()).await;
    let error = refused.error.expect("an error");
    assert_eq!(
        (refused.state, error.kind, &*error.message),
        (RunState::Failed, RunErrorKind::Refused, "not allowed")
    );
    source.script(|s| s.read_failures.clear());
    assert_eq!(done(&engine, take()).await.state, RunState::Done);
    wait_for(&engine, "p", |s| s.counts.delivered == 14).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), (0..14).collect::<Vec<_>>());
}

#[test]
fn a_page_of_a_run_ends_between_names() {
    let state = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(&state.path().join("ledger.redb")).expect("it opens");
    let run = uuid::Uuid::from_u128(7);
    let line = |(name, id): (&str, u128)| {
        let (id, state) = (SliceId(id), RunSliceState::Exported);
        (run, RunSlice { name: name.into(), id, state, records: 1, bytes: 1, reason: None })
    };
    ledger.put_run_slices(&[("a", 1), ("b", 1), ("b", 2), ("c", 1)].map(line)).expect("stored");
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = ledger.run_slices(run, after.as_deref(), 2).expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        seen.extend(page.into_iter().map(|slice| (slice.name, slice.id.0)));
    }
    let all = [("a", 1), ("b", 1), ("b", 2), ("c", 1)].map(|(name, id)| (name.to_string(), id));
    assert_eq!(seen, all);
}

/// Prints how long it took with `--nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_small_slices_are_taken_in_reasonable_time() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = lakeward_model::conformance::MemorySlices::default();
    let count: u64 =
        std::env::var("LAKEWARD_TEST_SLICES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    for n in 0..count {
        source.add(plain_slice(&format!("section/145/video/{n:08}.jsonl")), vec![format!("{{\"n\":{n}}}")]);
    }
    source.script(|s| s.page = 1_000);
    let begun = lakeward_model::clock::Stopwatch::start();
    let mut sliced = spec(&source);
    (sliced.parallel, sliced.every) = (8, Duration::from_secs(3_600));
    let engine = open(state.path(), &lakes, sliced).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
    while slices_of(&engine).taken < count {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", slices_of(&engine));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{count} slices in {:?}: {rate:.0} a second", begun.elapsed());
    assert!(engine.drain(Duration::from_secs(60)).await);
    assert_eq!(lakes.numbers("lake"), (0..count).collect::<Vec<_>>());
}
