//! The process dies, or nearly, and starts again on the same state.

use std::time::Duration;

use lakeward_columnar::shape::{FileCompression, Output};
use lakeward_engine::{OpenEngineError, PipelineState};
use lakeward_model::conformance::Fault;

use crate::bench::{Lakes, open, pipeline, send, try_open, wait_for};

/// An engine that stops without draining leaves what kill −9 leaves: the
/// journal, and whatever the ledger had committed.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_batch_is_finished_under_its_own_names() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    for round in 0..6 {
        // The write happens, the reply is lost, and the process dies.
        lakes.faults("lake", [Fault::HoldAfterWrite]);
        let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
        let from = round * 25;
        send(&engine, "events", from..from + 25).await;
        lakes.held("lake", usize::try_from(round).unwrap() + 1).await;
        assert!(!engine.drain(Duration::ZERO).await, "a held delivery cannot be drained");
        lakes.lake("lake").clear();
    }
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    wait_for(&engine, "p", |s| s.counts.delivered == 150).await;
    assert_eq!(lakes.numbers("lake"), (0..150).collect::<Vec<_>>());
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_batch_keeps_its_shape_over_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    lakes.faults("lake", [Fault::HoldAfterWrite]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    send(&engine, "events", 0..10).await;
    lakes.held("lake", 1).await;
    engine.drain(Duration::ZERO).await;
    lakes.lake("lake").clear();

    let mut other = pipeline("p", "events", "lake");
    other.shape.path = "elsewhere/!{timestamp:yyyy}/".to_string();
    other.shape.output = Output::Ndjson { compression: FileCompression::None };
    let engine = open(state.path(), &lakes, vec![other]).await;
    send(&engine, "events", 10..20).await;
    wait_for(&engine, "p", |s| s.counts.delivered == 20).await;
    assert_eq!(lakes.numbers("lake"), (0..20).collect::<Vec<_>>());
    let folders: Vec<bool> = lakes
        .lake("lake")
        .inner()
        .files()
        .iter()
        .map(|file| file.path.as_str().starts_with("elsewhere/"))
        .collect();
    assert!(
        folders.contains(&true) && folders.contains(&false),
        "the first batch as planned, the next as configured"
    );
    engine.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_begun_for_another_destination_stops_the_pipeline() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["old", "new"]);
    lakes.faults("old", [Fault::HoldAfterWrite]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "old")]).await;
    send(&engine, "events", 0..10).await;
    lakes.held("old", 1).await;
    engine.drain(Duration::ZERO).await;
    lakes.lake("old").clear();

    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "new")]).await;
    let status = wait_for(&engine, "p", |s| matches!(s.state, PipelineState::Halted { .. })).await;
    assert!(matches!(status.state, PipelineState::Halted { code, .. } if code == "LW-1004"));
    assert_eq!(lakes.numbers("new"), Vec::<u64>::new());
    engine.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_delivers_what_waits_for_its_age() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let mut spec = pipeline("p", "events", "lake");
    spec.batch.age = Duration::from_secs(3600);
    spec.batch.records = 1_000_000;
    let engine = open(state.path(), &lakes, vec![spec]).await;
    send(&engine, "events", 0..30).await;
    assert_eq!(lakes.numbers("lake"), Vec::<u64>::new());
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), (0..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_engine_on_the_same_state_is_told_who_holds_it() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let first = open(state.path(), &lakes, vec![]).await;
    let second = try_open(state.path(), &lakes, vec![], None).await;
    let message = match second {
        Err(OpenEngineError::Lock(lock)) => lock.to_string(),
        other => panic!("it should not open: {other:?}"),
    };
    assert!(message.contains(&std::process::id().to_string()), "{message}");
    first.drain(Duration::from_secs(10)).await;
    open(state.path(), &lakes, vec![]).await.drain(Duration::ZERO).await;
}

/// New records would get offsets that count as delivered, and never be.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_behind_the_ledger_is_not_opened() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    send(&engine, "events", 0..10).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    for file in std::fs::read_dir(state.path().join("journal/events")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "seg") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let opened = try_open(state.path(), &lakes, vec![pipeline("p", "events", "lake")], None).await;
    let message = opened.expect_err("it should not open").to_string();
    assert!(message.contains("the ledger is at 10"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_keeps_its_stream() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    send(&engine, "events", 0..10).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    let opened = try_open(state.path(), &lakes, vec![pipeline("p", "others", "lake")], None).await;
    let message = opened.expect_err("it should not open").to_string();
    assert!(message.contains("another name"), "{message}");
}
