//! What became of each slice's records, in the transaction that commits them.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use lakeward_columnar::shape::{Dedup, DedupKey, Shape};
use lakeward_engine::ledger::Commit;
use lakeward_engine::plan::Plan;
use lakeward_engine::{BatchRecord, Counts, Engine, Ledger, SliceCounts};
use lakeward_model::clock::Stopwatch;
use lakeward_model::conformance::Fault;
use lakeward_model::{BatchId, Keys, Lineage, Offset, Origin, Records, SliceId, Span, StreamName, Timestamp};

use crate::bench::{Lakes, open, pipeline, wait_for};

/// Records of slices, each with its lineage.
fn records(given: &[(u128, &str)]) -> Records {
    let (mut data, mut ends) = (Vec::new(), Vec::new());
    let (mut keys, mut key_ends) = (Vec::new(), Vec::new());
    for (line, (slice, text)) in (1..).zip(given) {
        data.extend_from_slice(text.as_bytes());
        ends.push(u32::try_from(data.len()).expect("few bytes"));
        Lineage { slice: SliceId(*slice), file: "a.json", line, fields: "" }.write(&mut keys);
        key_ends.push(u32::try_from(keys.len()).expect("few bytes"));
    }
    let keys = Some(Keys { data: Bytes::from(keys), ends: key_ends });
    Records { keys, ..Records::new(data.into(), ends) }
}

async fn accept(engine: &Engine, given: &[(u128, &str)]) {
    let stream = StreamName::new("events").expect("a name");
    engine.intake().accept(&stream, records(given), Origin::Push(None)).await.expect("it is accepted");
}

async fn of_slices(engine: &Engine, slices: &[u128]) -> Vec<SliceCounts> {
    let slices = slices.iter().map(|slice| SliceId(*slice)).collect();
    engine.control().slice_counts("p", slices).await.expect("there is such a pipeline")
}

fn counts(delivered: u64, filtered: u64, duplicates: u64, quarantined: u64) -> SliceCounts {
    SliceCounts { delivered, filtered, duplicates, quarantined, rows: delivered }
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_counted_once_whatever_happens() {
    let state = tempfile::tempdir().unwrap();
    let lakes = Lakes::new(&["lake"]);
    let mut spec = pipeline("p", "events", "lake");
    spec.shape.dedup = Some(Dedup {
        key: DedupKey::Columns(vec!["n".into()]),
        window: Duration::from_secs(3600),
        time: None,
    });
    let first = [(1, "{\"n\":1}"), (1, "{\"n\":2}"), (2, "{\"n\":1}"), (2, "{broken"), (3, " ")];
    let second = [(2, "{\"n\":2}"), (2, "{\"n\":3}"), (3, "{\"n\":4}")];

    // The files are written, the reply is lost, and the process dies.
    lakes.faults("lake", [Fault::HoldAfterWrite]);
    let engine = open(state.path(), &lakes, vec![spec.clone()]).await;
    accept(&engine, &first).await;
    lakes.held("lake", 1).await;
    assert_eq!(of_slices(&engine, &[1, 2, 3]).await, [SliceCounts::default(); 3]);
    assert!(!engine.drain(Duration::ZERO).await, "a held delivery cannot be drained");
    lakes.lake("lake").clear();

    let engine = open(state.path(), &lakes, vec![spec.clone()]).await;
    wait_for(&engine, "p", |s| s.counts.settled() == 5).await;
    let expect = [counts(2, 0, 0, 0), counts(0, 0, 1, 1), counts(0, 1, 0, 0), counts(0, 0, 0, 0)];
    assert_eq!(of_slices(&engine, &[1, 2, 3, 4]).await, expect);
    accept(&engine, &second).await;
    wait_for(&engine, "p", |s| s.counts.settled() == 8).await;
    let expect = [counts(1, 1, 0, 0), counts(1, 0, 2, 1), counts(2, 0, 0, 0)];
    assert_eq!(of_slices(&engine, &[3, 2, 1]).await, expect, "in the order that was asked");

    let batches = engine.control().batches(None, 100).await.unwrap();
    let mut of_batches = Vec::new();
    for batch in &batches {
        of_batches.push(engine.control().slices_of_batch(batch.key()).await.unwrap());
    }
    let ids = |ids: &[u128]| ids.iter().map(|id| SliceId(*id)).collect::<Vec<_>>();
    assert_eq!(of_batches, [ids(&[1, 2, 3]), ids(&[2, 3])]);
    assert!(engine.drain(Duration::from_secs(10)).await);

    // A stream that is made anew starts empty.
    std::fs::remove_dir_all(state.path().join("journal/events")).unwrap();
    let engine = open(state.path(), &lakes, vec![spec]).await;
    assert_eq!(of_slices(&engine, &[1, 2, 3]).await, [SliceCounts::default(); 3]);
    assert!(engine.control().slice_counts("q", Vec::new()).await.is_err(), "there is no such pipeline");
    engine.drain(Duration::ZERO).await;
}

/// A ledger on which one pipeline has a plan for so many records.
fn planned(path: &Path, records: u64) -> (Ledger, Plan, BatchRecord) {
    let ledger = Ledger::open(path).expect("a new ledger");
    let (stream, incarnation) = (StreamName::new("events").expect("a name"), uuid::Uuid::from_u128(1));
    ledger.register("p", &stream, incarnation, Offset(0)).expect("it is registered");
    let span = Span::new(Offset(0), Offset(records)).expect("some records");
    let plan = Plan {
        batch: BatchId::derive(incarnation, &stream, "p", span),
        span,
        replay: None,
        shape: Shape::default(),
        destination: "lake".into(),
        reopen: None,
        planned_at: Timestamp(0),
        source_bytes: 0,
        refused: Vec::new(),
    };
    ledger.begin("p", &plan).expect("it is begun");
    let record = BatchRecord {
        pipeline: "p".into(),
        incarnation,
        batch: plan.batch,
        destination: "lake".into(),
        span,
        replay: None,
        counts: Counts { delivered: records, rows: records, ..Counts::default() },
        files: Vec::new(),
        committed_at: Timestamp(0),
        replaced_by: None,
    };
    (ledger, plan, record)
}

#[test]
fn a_batch_of_very_many_slices_commits_soon() {
    const SLICES: u64 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let (ledger, plan, record) = planned(&folder.path().join("ledger.redb"), SLICES);
    // Ids are hashes: far apart.
    let id = |n: u64| SliceId(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let mut slices: Vec<_> = (0..SLICES).map(|n| (id(n), counts(1, 0, 0, 0))).collect();
    slices.sort_by_key(|(slice, _)| *slice);
    let clock = Stopwatch::start();
    let commit =
        Commit { plan: &plan, record: &record, slices: &slices, schemas: None, dedup: None, next: None };
    ledger.commit("p", &commit).unwrap();
    let took = clock.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?} in a build without optimisation");
    println!("{SLICES} slices committed in {took:?}");
    assert_eq!(ledger.slice_counts("p", id(77)).unwrap(), counts(1, 0, 0, 0));
    assert_eq!(ledger.slices_of_batch(&record.key()).unwrap().len() as u64, SLICES);

    ledger.remove_pipeline("p").unwrap();
    assert_eq!(ledger.slice_counts("p", id(77)).unwrap(), SliceCounts::default());
    assert_eq!(ledger.slices_of_batch(&record.key()).unwrap().len() as u64, SLICES, "as its batch");
}

#[test]
#[should_panic(expected = "a record is of one slice at most")]
fn no_record_is_counted_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, plan, record) = planned(&folder.path().join("ledger.redb"), 10);
    let slices = [(SliceId(1), counts(6, 0, 0, 0)), (SliceId(2), counts(5, 0, 0, 0))];
    let commit =
        Commit { plan: &plan, record: &record, slices: &slices, schemas: None, dedup: None, next: None };
    let _ = ledger.commit("p", &commit);
}
