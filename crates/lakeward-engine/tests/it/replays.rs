//! Records leave quarantine exactly once, whatever destinations and processes
//! do meanwhile.

use std::time::Duration;

use bytes::Bytes;
use lakeward_engine::{Engine, PipelineStatus, Quarantined, ReplayAnswer};
use lakeward_model::conformance::Fault;
use lakeward_model::{FailureKind, Offset, Origin, Role, StreamName, Timestamp};

use crate::bench::{Lakes, lines, open, pipeline, record, wait_for};

/// Sends 20 records, every other of which is broken, and waits until they are
/// settled.
async fn half_broken(engine: &Engine) -> PipelineStatus {
    let (intake, stream) = (engine.intake(), StreamName::new("events").expect("a stream name"));
    for n in 0..20 {
        let text = if n % 2 == 0 { format!("{{\"n\":{n}}}") } else { format!("{{broken {n}") };
        intake.accept(&stream, record(&text), Origin::Push(None)).await.expect("it is accepted");
    }
    let status = wait_for(engine, "p", |s| s.received == 20 && s.pending == 0).await;
    assert_eq!((status.counts.delivered, status.counts.quarantined), (10, 10));
    status
}

fn fixed(source: uuid::Uuid, offset: u64) -> Quarantined {
    Quarantined {
        source,
        offset: Offset(offset),
        received_at: Timestamp(1_700_000_000_000_000),
        data: Bytes::from(format!("{{\"n\":{offset}}}")),
    }
}

async fn replay(engine: &Engine, source: uuid::Uuid, offsets: &[u64]) -> ReplayAnswer {
    let records = offsets.iter().map(|&offset| fixed(source, offset)).collect();
    engine.control().replay("p", records).await.expect("it is queued")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_in_each_replayed_record_exactly_once() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    let source = half_broken(&engine).await.incarnation;
    let faults = [Fault::FailAfterWrite, Fault::Reject(FailureKind::NotDone), Fault::FailAfterWrite];
    lakes.faults("lake", faults);
    let first = replay(&engine, source, &[1, 3, 5, 5]).await;
    assert_eq!((first.queued, first.already, first.unknown), (3, 1, 0));
    let second = replay(&engine, source, &[1, 7, 9, 11]).await;
    assert_eq!((second.queued, second.already), (3, 1));
    let status = wait_for(&engine, "p", |s| s.pending == 0).await;
    assert_eq!((status.counts.delivered, status.counts.quarantined), (16, 4));
    assert_eq!((status.replayed, status.replays_settled), (6, 6));
    assert_eq!(lakes.numbers("lake"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18]);
    let again = replay(&engine, source, &[1, 3, 5, 7, 9, 11]).await;
    assert_eq!((again.queued, again.already, again.replay), (0, 6, None));
    let batches = engine.control().batches(None, 100).await.unwrap();
    let its = batches.iter().find(|batch| batch.replay == first.replay).unwrap();
    assert_eq!((its.source(), its.span.from, its.span.to), (first.replay.unwrap(), Offset(0), Offset(3)));
    assert!(engine.drain(Duration::from_secs(10)).await);
}

/// The write happens, the reply is lost, and the process dies; again and again
/// in the middle of one replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_outlives_the_process() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let start = || open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]);
    let mut engine = start().await;
    let source = half_broken(&engine).await.incarnation;
    lakes.faults("lake", [Fault::HoldAfterWrite]);
    replay(&engine, source, &[1, 3, 5]).await;
    replay(&engine, source, &[7, 9]).await;
    for round in 1..4 {
        lakes.held("lake", round).await;
        assert!(!engine.drain(Duration::ZERO).await, "a held delivery cannot be drained");
        lakes.faults("lake", [Fault::HoldAfterWrite]);
        engine = start().await;
        let status = engine.control().status().remove(0);
        assert_eq!(status.received, status.counts.settled() + status.pending);
        assert_eq!((status.replayed, status.replays_settled, status.counts.quarantined), (5, 0, 5));
        let again = replay(&engine, source, &[1, 3, 5, 7, 9]).await;
        assert_eq!((again.queued, again.already), (0, 5), "a second run adds nothing");
    }
    lakes.held("lake", 4).await;
    assert!(!engine.drain(Duration::ZERO).await, "a held delivery cannot be drained");
    lakes.lake("lake").clear();
    let engine = start().await;
    let status = wait_for(&engine, "p", |s| s.pending == 0).await;
    assert_eq!((status.counts.delivered, status.counts.quarantined, status.replays_settled), (15, 5, 5));
    let mut expect: Vec<u64> = (0..20).step_by(2).chain([1, 3, 5, 7, 9]).collect();
    expect.sort_unstable();
    assert_eq!(lakes.numbers("lake"), expect);
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_broken_comes_back_under_its_replays_name() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    let source = half_broken(&engine).await.incarnation;
    let still = Quarantined { data: Bytes::from_static(b"{still"), ..fixed(source, 3) };
    let first = engine.control().replay("p", vec![fixed(source, 1), still]).await.unwrap();
    let status = wait_for(&engine, "p", |s| s.pending == 0).await;
    assert_eq!((status.counts.delivered, status.counts.quarantined), (11, 9));
    // The record keeps its bytes there, with its place in the replay.
    let files = lakes.lake("lake").inner().files();
    let kept: Vec<serde_json::Value> = files
        .iter()
        .filter(|file| file.role == Role::Quarantine)
        .flat_map(|file| {
            lines(&file.body).map(|line| serde_json::from_slice(line).unwrap()).collect::<Vec<_>>()
        })
        .filter(|line: &serde_json::Value| line["data"] == "{still")
        .collect();
    assert_eq!((kept.len(), &kept[0]["offset"]), (1, &serde_json::json!(1)));
    let again = replay(&engine, first.replay.unwrap(), &[1]).await;
    assert_eq!(again.queued, 1);
    let status = wait_for(&engine, "p", |s| s.pending == 0).await;
    assert_eq!((status.counts.delivered, status.counts.quarantined, status.replayed), (12, 8, 3));
    assert!(engine.drain(Duration::from_secs(10)).await);
}

/// A wrong request must not make the numbers wrong.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_leave_a_batch_than_it_put_into_quarantine() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    let source = half_broken(&engine).await.incarnation;
    let all: Vec<u64> = (0..25).collect();
    let answer = replay(&engine, source, &all).await;
    assert_eq!((answer.queued, answer.unknown), (10, 15));
    assert_eq!(replay(&engine, uuid::Uuid::nil(), &[0, 1]).await.unknown, 2);
    let status = wait_for(&engine, "p", |s| s.pending == 0).await;
    assert_eq!((status.received, status.counts.quarantined, status.counts.delivered), (20, 0, 20));
    assert!(engine.control().replay("none", Vec::new()).await.is_err());
    assert!(engine.drain(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_delivers_replays_too() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let engine = open(state.path(), &lakes, vec![pipeline("p", "events", "lake")]).await;
    let source = half_broken(&engine).await.incarnation;
    lakes.faults("lake", [Fault::Hold]);
    replay(&engine, source, &[1]).await;
    replay(&engine, source, &[3]).await;
    lakes.held("lake", 1).await;
    lakes.lake("lake").release();
    assert!(engine.drain(Duration::from_secs(10)).await);
    assert_eq!(lakes.numbers("lake").len(), 12);
}
