//! A table that will never take some rows: their records go to quarantine, and
//! the rest of their batch is delivered.

use std::sync::Arc;
use std::time::Duration;

use lakeward_columnar::shape::{Dedup, DedupKey, TableFiles};
use lakeward_engine::{Engine, EngineOptions, Opened, PipelineSpec};
use lakeward_model::conformance::{Fault, Faulty, MemoryDestination};
use lakeward_model::{Batch, Destination, Failure, FailureKind, Receipt, Role, UnfitRow};

use crate::bench::{Lakes, lines, open, options, pipeline, send, wait_for};

/// Refuses rows with a number that ends in 3; tells at most so many at a time.
#[derive(Debug)]
struct Picky {
    lake: Arc<Faulty<MemoryDestination>>,
    tells: usize,
}

fn number(line: &[u8]) -> u64 {
    let row: serde_json::Value = serde_json::from_slice(line).expect("a row is JSON");
    row["n"].as_u64().expect("a row has its number")
}

#[async_trait::async_trait]
impl Destination for Picky {
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let data = batch.files.iter().enumerate().filter(|(_, file)| file.role == Role::Data);
        let rows = data.flat_map(|(file, data)| {
            let unfit = (0..).zip(lines(&data.body)).filter(|(_, line)| number(line) % 10 == 3);
            unfit.map(move |(row, line)| UnfitRow {
                file,
                row,
                message: format!("{} is a bad number", number(line)),
            })
        });
        let rows: Vec<_> = rows.take(self.tells).collect();
        if rows.is_empty() {
            self.lake.deliver(batch).await
        } else {
            Err(Failure::unfit("bad numbers", rows))
        }
    }
}

fn picky(state: &std::path::Path, lakes: &Lakes, tells: usize) -> EngineOptions {
    let mut options = options(state, lakes);
    let inner = Arc::clone(&options.connectors.destination);
    let lakes = lakes.clone();
    options.connectors.destination = Arc::new(move |value| {
        let opened = inner(value)?;
        let lake = lakes.shared(&opened.name);
        Ok(Opened { destination: Arc::new(Picky { lake, tells }), ..opened })
    });
    options
}

async fn start(state: &std::path::Path, lakes: &Lakes, tells: usize, spec: &PipelineSpec) -> Engine {
    // What was stopped without draining may still be letting go of its ledger.
    for _ in 0..2_000 {
        match Engine::open(picky(state, lakes, tells), vec![spec.clone()]).await {
            Ok(engine) => return engine,
            Err(error) => assert!(error.to_string().contains("already open"), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the ledger stays open");
}

/// What is in quarantine: the number of each record, and why.
fn quarantined(lakes: &Lakes) -> Vec<(u64, String, String)> {
    let files = lakes.lake("lake").inner().files();
    let mut all: Vec<_> = files
        .iter()
        .filter(|file| file.role == Role::Quarantine)
        .flat_map(|file| lines(&file.body))
        .map(|line| {
            let line: serde_json::Value = serde_json::from_slice(line).expect("a line is JSON");
            let text = |key: &str| line[key].as_str().expect("text").to_string();
            (number(text("data").as_bytes()), text("reason"), text("message"))
        })
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_table_never_takes_are_in_quarantine_and_the_rest_is_delivered() {
    let keyed = |key| Some(Dedup { key, window: Duration::from_secs(3_600), time: None });
    let by_file = std::num::NonZeroU64::new(3);
    let cases = [
        (usize::MAX, None, None),
        (1, None, by_file),
        (2, keyed(DedupKey::Columns(vec!["n".into()])), None),
        (1, keyed(DedupKey::Content), by_file),
    ];
    for (tells, dedup, rows_per_file) in cases {
        let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
        let mut spec = pipeline("p", "events", "lake");
        spec.shape.dedup = dedup;
        spec.shape.table = Some(TableFiles { row_ids: false, rows_per_file });
        let engine = start(state.path(), &lakes, tells, &spec).await;
        send(&engine, "events", 0..95).await;
        wait_for(&engine, "p", |s| s.counts.delivered == 85 && s.counts.quarantined == 10).await;
        assert!(engine.drain(Duration::from_secs(10)).await);
        let expect: Vec<u64> = (0..95).filter(|n| n % 10 != 3).collect();
        assert_eq!(lakes.numbers("lake"), expect);
        let reason = |n: u64| (n, "destination.refused".to_string(), format!("{n} is a bad number"));
        assert_eq!(quarantined(&lakes), (0..95).filter(|n| n % 10 == 3).map(reason).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_out_stays_out_wherever_the_process_dies() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let mut spec = pipeline("p", "events", "lake");
    spec.shape.table = Some(TableFiles::default());
    for round in 0..8_u64 {
        // It is written without the bad rows, and the reply is lost with the
        // process; or the process dies before.
        let fault = if round.is_multiple_of(2) { Fault::HoldAfterWrite } else { Fault::Hold };
        lakes.faults("lake", [Fault::Reject(FailureKind::Unknown), fault]);
        let engine = start(state.path(), &lakes, 1, &spec).await;
        send(&engine, "events", round * 15..round * 15 + 15).await;
        lakes.held("lake", usize::try_from(round).expect("small") + 1).await;
        assert!(!engine.drain(Duration::ZERO).await, "a held delivery cannot be drained");
        lakes.lake("lake").clear();
    }
    // A table that takes them now does not get what was left out of its batch.
    let engine = open(state.path(), &lakes, vec![spec]).await;
    let status = wait_for(&engine, "p", |s| s.pending == 0).await;
    assert!(engine.drain(Duration::from_secs(10)).await);
    let aside: Vec<u64> = quarantined(&lakes).into_iter().map(|(n, ..)| n).collect();
    assert!(!aside.is_empty() && aside.iter().all(|n| n % 10 == 3));
    assert_eq!(
        (status.counts.delivered, status.counts.quarantined),
        (120 - aside.len() as u64, aside.len() as u64)
    );
    let expect: Vec<u64> = (0..120).filter(|n| !aside.contains(n)).collect();
    assert_eq!(lakes.numbers("lake"), expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_next_to_nothing_stops_the_pipeline() {
    let (state, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let mut spec = pipeline("p", "events", "lake");
    spec.shape.table = Some(TableFiles::default());
    spec.batch.records = 1 << 20;
    spec.batch.age = Duration::from_millis(500);
    let engine = start(state.path(), &lakes, usize::MAX, &spec).await;
    let stream = lakeward_model::StreamName::new("events").expect("a name");
    let text = "{\"n\":3}".repeat(10_001);
    let records = lakeward_model::Records {
        data: text.into(),
        ends: (1..=10_001).map(|at| at * 7).collect(),
        keys: None,
    };
    let origin = lakeward_model::Origin::Push(None);
    engine.intake().accept(&stream, records, origin).await.expect("it is taken");
    let halted = |s: &lakeward_engine::PipelineStatus| matches!(&s.state, lakeward_engine::PipelineState::Halted { code, error } if code == "LW-2001" && error == "bad numbers");
    let status = wait_for(&engine, "p", halted).await;
    assert_eq!((status.counts.quarantined, status.pending), (0, 10_001));
    engine.drain(Duration::ZERO).await;
}
