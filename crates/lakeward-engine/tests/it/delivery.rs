//! What destinations do, and what becomes of the records.

use std::time::Duration;

use lakeward_engine::PipelineState;
use lakeward_model::conformance::Fault;
use lakeward_model::{FailureKind, Origin, RequestKey, Role, StreamName};

use crate::bench::{Lakes, open, pipeline, record, send, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_in_each_record_exactly_once() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let faults = [
        Fault::Reject(FailureKind::NotDone),
        Fault::FailAfterWrite,
        Fault::Slow(Duration::from_millis(10)),
        Fault::FailAfterWrite,
    ];
    lakes.faults("lake", faults.into_iter().cycle().take(16));
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    send(&engine, "events", 0..100).await;
    let status = wait_for(&engine, "p", |s| s.counts.delivered == 100).await;
    assert_eq!(lakes.numbers("lake"), (0..100).collect::<Vec<_>>());
    assert_eq!((status.counts.rows, status.pending), (100, 0));
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_is_tried_again_and_the_pipeline_says_so() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    lakes.faults("lake", [Fault::Reject(FailureKind::Refused)]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    send(&engine, "events", 0..5).await;
    let status = wait_for(&engine, "p", |s| matches!(s.state, PipelineState::Halted { .. })).await;
    assert!(matches!(status.state, PipelineState::Halted { code, .. } if code == "LW-2001"));
    assert_eq!(lakes.numbers("lake"), Vec::<u64>::new());
    engine.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_destination_delays_no_other() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["dead", "alive"]);
    lakes.faults("dead", [Fault::Hold]);
    let specs = vec![pipeline("to-dead", "events", "dead"), pipeline("to-alive", "events", "alive")];
    let engine = open(state.path(), &lakes, specs).await;
    send(&engine, "events", 0..50).await;
    wait_for(&engine, "to-alive", |s| s.counts.delivered == 50).await;
    assert_eq!(lakes.numbers("alive"), (0..50).collect::<Vec<_>>());
    let held = wait_for(&engine, "to-dead", |s| s.state == PipelineState::Delivering).await;
    assert_eq!(held.counts.delivered, 0);
    lakes.lake("dead").release();
    wait_for(&engine, "to-dead", |s| s.counts.delivered == 50).await;
    assert_eq!(lakes.numbers("dead"), (0..50).collect::<Vec<_>>());
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_adds_nothing() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    let (intake, stream) = (engine.intake(), StreamName::new("events").unwrap());
    let origin = || Origin::Push(RequestKey::new("once"));
    let first = intake.accept(&stream, record(r#"{"n":1}"#), origin()).await.unwrap();
    let again = intake.accept(&stream, record(r#"{"n":1}"#), origin()).await.unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!((first.first, first.count), (again.first, again.count));
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake"), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_kept_and_its_neighbours_are_delivered() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    let (intake, stream) = (engine.intake(), StreamName::new("events").unwrap());
    for text in [r#"{"n":1}"#, "{broken", "  ", r#"{"n":2}{"n":3}"#, "7"] {
        intake.accept(&stream, record(text), Origin::Push(None)).await.unwrap();
    }
    let status = wait_for(&engine, "p", |s| s.pending == 0).await;
    let counts = status.counts;
    assert_eq!((counts.delivered, counts.rows, counts.filtered, counts.quarantined), (2, 3, 1, 2));
    assert_eq!(lakes.numbers("lake"), [1, 2, 3]);
    let files = lakes.lake("lake").inner().files();
    let mut kept: Vec<String> = files
        .iter()
        .filter(|file| file.role == Role::Quarantine)
        .flat_map(|file| crate::bench::lines(&file.body).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .map(|line| {
            serde_json::from_slice::<serde_json::Value>(&line).unwrap()["data"].as_str().unwrap().to_string()
        })
        .collect();
    kept.sort();
    assert_eq!(kept, ["7", "{broken"]);
    engine.drain(Duration::ZERO).await;
}
