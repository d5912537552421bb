//! Slices and runs that fail by themselves hold up nobody else.

use std::time::Duration;

use lakeward_engine::{Asked, RunErrorKind, RunKind, RunRequest, RunState, SlicedSpec, SourceState};
use lakeward_model::conformance::plain_slice;
use lakeward_model::{Cursor, Failure, FailureKind, Origin, Records, StreamName};

use crate::bench::{Lakes, wait_for};
use crate::slices::{filled, open, slices_of, spec, until};
use crate::slices_runs::{ended, take};

fn count() -> RunRequest {
    RunRequest { kind: RunKind::Count, ..take() }
}

/// A failure after which the source is left alone so long.
fn failure(kind: FailureKind, pause: Duration) -> Failure {
    Failure { retry_after: Some(pause), ..Failure::new(kind, "it cannot be had") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_never_reads_is_set_aside_once_others_could_be_read() {
    // So many that some are left to be opened however late a bad one is heard of.
    const SLICES: usize = 400;
    for (kind, parallel, bad, looks) in [
        (FailureKind::Unknown, 1, 1, true),
        (FailureKind::Refused, 1, 1, true),
        (FailureKind::Refused, 2, 5, false),
        (FailureKind::Unknown, 2, 5, false),
    ] {
        let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
        let source = filled(&[2; SLICES]);
        source.script(|s| {
            for n in 0..bad {
                let failures = (0..1_000).map(|_| failure(kind, Duration::from_millis(100)).into());
                s.read_failures.insert(format!("s{n:03}"), failures.collect());
            }
        });
        let engine = open(state.path(), &lakes, SlicedSpec { parallel, looks, ..spec(&source) }).await;
        if !looks {
            let run = engine.control().begin_run("slices", take()).await.expect("it begins");
            let run = ended(&engine, run.id).await;
            let seen = (run.state, run.slices_set_aside, run.slices_done);
            assert_eq!(seen, (RunState::Done, bad, SLICES as u64 - bad), "{run:?}");
        }
        until(&engine, |_, slices| (slices.set_aside, slices.taken) == (bad, SLICES as u64 - bad)).await;
        let list = engine.control().slices("slices", &Asked::default(), None, 1).await.expect("a list");
        let reason = list.slices[0].reason.as_deref().expect("a reason");
        assert!(reason.contains("while others could be read: it cannot be had"), "{reason}");
        // Once it can be had again a run takes it.
        source.script(|s| s.read_failures.clear());
        let run = engine.control().begin_run("slices", take()).await.expect("it begins");
        assert_eq!(ended(&engine, run.id).await.slices_done, bad);
        wait_for(&engine, "p", |s| s.counts.delivered == 2 * SLICES as u64).await;
        assert!(engine.drain(Duration::from_secs(10)).await);
        assert_eq!(lakes.numbers("lake"), (0..2 * SLICES as u64).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_read_nothing_is_set_aside() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[2; 4]);
    source.script(|s| {
        for n in 0..4 {
            let cut = |_| failure(FailureKind::Unknown, Duration::from_millis(100)).into();
            s.read_failures.insert(format!("s{n:03}"), (0..15).map(cut).collect());
        }
    });
    let engine = open(state.path(), &lakes, spec(&source)).await;
    until(&engine, |_, slices| slices.taken + slices.set_aside > 0).await;
    until(&engine, |_, slices| slices.taken + slices.set_aside == 4).await;
    // The first that is read says that the others could be, too.
    assert!(slices_of(&engine).set_aside < 4);
    assert!(source.script(|s| s.opened) >= 16);
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_asks_for_may_be_wrong_where_the_source_is_not() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[2; 3]);
    let engine = open(state.path(), &lakes, SlicedSpec { looks: false, ..spec(&source) }).await;
    for asked in [count(), take()] {
        let refused = Failure::new(FailureKind::Refused, "there is no part named `typo`");
        source.script(|s| s.list_failures = [refused].into());
        let run = engine.control().begin_run("slices", asked).await.expect("it begins");
        let run = ended(&engine, run.id).await;
        let error = run.error.expect("an error");
        assert_eq!((run.state, error.kind), (RunState::Failed, RunErrorKind::Refused));
        assert_eq!(error.message, "there is no part named `typo`");
        assert_ne!(engine.control().sources().remove(0).state, SourceState::Refused);
    }
    let run = engine.control().begin_run("slices", take()).await.expect("it begins");
    assert_eq!(ended(&engine, run.id).await.slices_done, 3);
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_is_cancelled_stops_reading() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[9; 3]);
    source.script(|s| s.hold = true);
    let engine = open(state.path(), &lakes, SlicedSpec { looks: false, ..spec(&source) }).await;
    let first = engine.control().begin_run("slices", count()).await.expect("it begins");
    until(&engine, |_, _| source.script(|s| s.reads >= 4)).await;
    engine.control().cancel_run(first.id).await.expect("it is cancelled");
    until(&engine, |_, _| source.script(|s| s.reading.0 == 0)).await;
    source.script(|s| s.hold = false);
    let second = engine.control().begin_run("slices", count()).await.expect("it begins");
    assert_eq!(ended(&engine, second.id).await.records, 27);
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_ended_is_taken_while_another_one_streams() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[600_000, 1]);
    source.script(|s| s.chunk = 1);
    let engine = open(state.path(), &lakes, spec(&source)).await;
    until(&engine, |_, slices| slices.taken == 1 && slices.open == 1).await;
    engine.drain(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_left_alone_says_so_while_others_of_its_slices_end() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[1, 5]);
    source.script(|s| {
        (s.hold, s.chunk) = (true, 1);
        let wait = failure(FailureKind::NotDone, Duration::from_secs(300)).into();
        s.read_failures.insert("s000".into(), [wait].into());
    });
    let engine = open(state.path(), &lakes, spec(&source)).await;
    until(&engine, |s, _| matches!(s.state, SourceState::Retrying { .. })).await;
    source.script(|s| s.hold = false);
    let status = until(&engine, |_, slices| slices.taken == 1).await;
    assert!(matches!(status.state, SourceState::Retrying { .. }), "{status:?}");
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_leaves_what_a_look_found() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[2; 60]);
    source.script(|s| {
        let wait = || failure(FailureKind::NotDone, Duration::from_secs(300)).into();
        s.read_failures.insert("s000".into(), [wait(), wait()].into());
    });
    let once = SlicedSpec { parallel: 1, every: Duration::from_secs(3_600), ..spec(&source) };
    let engine = open(state.path(), &lakes, once).await;
    until(&engine, |s, _| matches!(s.state, SourceState::Retrying { .. })).await;
    let run = engine.control().begin_run("slices", take()).await.expect("it begins");
    // It failed once more, so nothing is read.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let run = engine.control().run(run.id).await.expect("the run is known");
        if run.attempts == 1 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{run:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    engine.control().cancel_run(run.id).await.expect("it is cancelled");
    let none = Asked { prefix: "nothing".into(), ..Asked::default() };
    engine.control().begin_run("slices", RunRequest { wanted: none, ..take() }).await.expect("it begins");
    until(&engine, |_, slices| slices.taken == 60).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_nobody_can_do_end() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let source = filled(&[9; 3]);
    source.script(|s| s.hold = true);
    let quiet = || SlicedSpec { looks: false, ..spec(&source) };
    let engine = open(state.path(), &lakes, quiet()).await;
    let run = engine.control().begin_run("slices", count()).await.expect("it begins");
    assert!(engine.drain(Duration::from_secs(10)).await);
    // Its source has another name now.
    let engine = open(state.path(), &lakes, SlicedSpec { name: "renamed".into(), ..quiet() }).await;
    let error = ended(&engine, run.id).await.error.expect("an error");
    assert_eq!(error.message, "the source slices is not configured any more");
    // Another kind of source had the stream before.
    let stream = StreamName::new("events").expect("a name");
    let records = Records { data: "{}".into(), ends: vec![2], keys: None };
    let foreign = Origin::Pull(Cursor("elsewhere".into()));
    engine.intake().accept(&stream, records, foreign).await.expect("it is taken");
    assert!(engine.drain(Duration::from_secs(10)).await);
    source.add(plain_slice("new"), vec![]);
    let engine = open(state.path(), &lakes, quiet()).await;
    for asked in [take(), count()] {
        let run = engine.control().begin_run("slices", asked).await.expect("it begins");
        assert_eq!(ended(&engine, run.id).await.state, RunState::Failed);
    }
    assert!(engine.drain(Duration::from_secs(10)).await);
}
