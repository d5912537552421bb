//! The catalog beside delivery: it learns of everything, whatever fails, and
//! delivery never waits for it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use lakeward_engine::{CatalogState, CatalogStatus, Engine, PipelineSpec};
use lakeward_model::conformance::Fault;
use lakeward_model::{Catalog, CatalogAnswer, Failure, FailureKind, Partition, Registered, Registration};
use tokio::sync::Notify;

use crate::bench::{Lakes, open, pipeline, send, wait_for};

/// A catalog in memory, which does as it is told.
#[derive(Debug, Default)]
pub(crate) struct MemoryCatalog {
    there: Mutex<There>,
    released: Notify,
}

#[derive(Debug, Default)]
struct There {
    is_table: bool,
    /// Which table of its name it is.
    made: u64,
    /// Folders that other partitions are instead.
    elsewhere: BTreeSet<String>,
    columns: Vec<String>,
    partitions: BTreeSet<String>,
    calls: usize,
    /// How many calls fail after they were done.
    lost: usize,
    /// Calls wait.
    hold: bool,
    /// What calls are refused with.
    refuse: Option<String>,
}

impl MemoryCatalog {
    fn with<T>(&self, change: impl FnOnce(&mut There) -> T) -> T {
        change(&mut self.there.lock().expect("not poisoned"))
    }

    fn folder(partition: &Partition) -> String {
        let values: Vec<&str> = partition.values.iter().map(|v| v.as_deref().unwrap_or("null")).collect();
        format!("{} at {}", values.join("/"), partition.location)
    }
}

#[async_trait::async_trait]
impl Catalog for MemoryCatalog {
    async fn register(&self, registration: &Registration) -> Result<Registered, Failure> {
        while self.with(|there| there.hold) {
            self.released.notified().await;
        }
        self.with(|there| {
            there.calls += 1;
            if let Some(why) = &there.refuse {
                return Err(Failure::new(FailureKind::Refused, why.clone()));
            }
            let is_other = registration.made.as_ref().is_some_and(|made| *made != there.made.to_string());
            if is_other || (!there.is_table && !registration.from_the_start) {
                return Ok(Registered::TableMissing);
            }
            there.is_table = true;
            there.columns = registration.table.columns.iter().map(|column| column.name.clone()).collect();
            let mut elsewhere = Vec::new();
            for partition in &registration.partitions {
                if there.elsewhere.contains(&partition.location) {
                    elsewhere.push((partition.clone(), String::from("s3://other/")));
                } else {
                    there.partitions.insert(Self::folder(partition));
                }
            }
            if there.lost > 0 {
                there.lost -= 1;
                return Err(Failure::new(FailureKind::Unknown, "the reply is lost"));
            }
            let made = Some(there.made.to_string());
            Ok(Registered::Done(CatalogAnswer { notes: vec!["a note".into()], made, elsewhere }))
        })
    }
}

/// A pipeline with a folder for every number.
fn cataloged(name: &str) -> PipelineSpec {
    let mut spec = pipeline(name, "s", "lake");
    spec.shape.path = String::from("p/n=!{event:n}/");
    spec.catalog = Some("one".into());
    spec
}

fn status(engine: &Engine) -> CatalogStatus {
    engine.control().status()[0].catalog.clone().expect("it has a catalog")
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within 10 s");
}

async fn until_registered(engine: &Engine, lakes: &Lakes, count: u64) {
    wait_for(engine, "p", |status| status.counts.delivered == count && status.pending == 0).await;
    let all: BTreeSet<String> = (0..count).map(|n| format!("{n} at lake/p/n={n}/")).collect();
    until("registration", || {
        lakes.catalog().with(|there| there.partitions == all)
            && status(engine).state == CatalogState::UpToDate
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_is_registered_once() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    send(&engine, "s", 0..25).await;
    until_registered(&engine, &lakes, 25).await;
    assert_eq!(status(&engine).notes, ["a note"]);
    assert_eq!(status(&engine).name, "one");
    assert!(engine.drain(Duration::from_secs(10)).await);
    let calls = lakes.catalog().with(|there| there.calls);
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    until("a look at the table", || lakes.catalog().with(|there| there.calls == calls + 1)).await;
    send(&engine, "s", 25..30).await;
    until_registered(&engine, &lakes, 30).await;
    engine.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_does_not_wait_for_a_catalog_that_hangs_fails_or_refuses() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    lakes.catalog().with(|there| there.hold = true);
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    send(&engine, "s", 0..30).await;
    wait_for(&engine, "p", |status| status.counts.delivered == 30).await;
    assert_eq!(lakes.catalog().with(|there| there.calls), 0);
    lakes.catalog().with(|there| {
        there.hold = false;
        there.refuse = Some("change the table".into());
    });
    lakes.catalog().released.notify_waiters();
    until("a refusal", || {
        matches!(status(&engine).state, CatalogState::Failing { error, .. } if error == "change the table")
    })
    .await;
    send(&engine, "s", 30..40).await;
    wait_for(&engine, "p", |status| status.counts.delivered == 40).await;
    // A catalog that refuses does not hold a drain up.
    assert!(engine.drain(Duration::from_secs(10)).await, "everything is delivered");
    lakes.catalog().with(|there| {
        there.refuse = None;
        there.lost = 3;
    });
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    until_registered(&engine, &lakes, 40).await;
    engine.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_comes_later_learns_of_what_was_before() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let without = PipelineSpec { catalog: None, ..cataloged("p") };
    let engine = open(dir.path(), &lakes, vec![without.clone()]).await;
    send(&engine, "s", 0..20).await;
    wait_for(&engine, "p", |status| status.counts.delivered == 20).await;
    assert!(engine.control().status()[0].catalog.is_none());
    engine.drain(Duration::from_secs(10)).await;
    // Batches are committed while the catalog goes through those of before.
    lakes.catalog().with(|there| there.lost = 2);
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    send(&engine, "s", 20..40).await;
    until_registered(&engine, &lakes, 40).await;
    engine.drain(Duration::from_secs(10)).await;
    // Without it for a while, and with it again.
    let engine = open(dir.path(), &lakes, vec![without]).await;
    send(&engine, "s", 40..50).await;
    wait_for(&engine, "p", |status| status.counts.delivered == 50).await;
    engine.drain(Duration::from_secs(10)).await;
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    until_registered(&engine, &lakes, 50).await;
    engine.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_removed_is_made_with_everything() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    send(&engine, "s", 0..20).await;
    until_registered(&engine, &lakes, 20).await;
    lakes.catalog().with(|there| {
        there.is_table = false;
        there.partitions.clear();
    });
    send(&engine, "s", 20..25).await;
    until_registered(&engine, &lakes, 25).await;
    engine.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_made_anew_learns_of_everything() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let made_anew = || {
        lakes.catalog().with(|there| {
            there.made += 1;
            there.partitions.clear();
        });
    };
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    send(&engine, "s", 0..20).await;
    until_registered(&engine, &lakes, 20).await;
    made_anew();
    send(&engine, "s", 20..25).await;
    until_registered(&engine, &lakes, 25).await;
    // While nobody looked.
    engine.drain(Duration::from_secs(10)).await;
    made_anew();
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    until_registered(&engine, &lakes, 25).await;
    engine.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_another_folder_is_told_until_it_is_put_right() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    lakes.catalog().with(|there| there.elsewhere = ["lake/p/n=3/", "lake/p/n=4/"].map(String::from).into());
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    send(&engine, "s", 0..10).await;
    wait_for(&engine, "p", |status| status.counts.delivered == 10 && status.pending == 0).await;
    until("a note", || {
        let status = status(&engine);
        status.state == CatalogState::UpToDate && status.notes.len() == 2
    })
    .await;
    let note = status(&engine).notes[1].clone();
    assert!(note.starts_with("2 partitions are other folders in the catalog"), "{note}");
    assert!(note.contains("3 is s3://other/ and the files are in lake/p/n=3/"), "{note}");
    assert_eq!(lakes.catalog().with(|there| there.partitions.len()), 8);
    // They are put right: the next new partition takes them along.
    lakes.catalog().with(|there| there.elsewhere.clear());
    send(&engine, "s", 10..11).await;
    until_registered(&engine, &lakes, 11).await;
    assert_eq!(status(&engine).notes, ["a note"]);
    engine.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_catalog_starts_from_the_first_batch() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    send(&engine, "s", 0..20).await;
    until_registered(&engine, &lakes, 20).await;
    engine.drain(Duration::from_secs(10)).await;
    lakes.catalog().with(|there| *there = There::default());
    let other = PipelineSpec { catalog: Some("another".into()), ..cataloged("p") };
    let engine = open(dir.path(), &lakes, vec![other]).await;
    until_registered(&engine, &lakes, 20).await;
    engine.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_dropped_at_any_time_leaves_nothing_out() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    lakes.catalog().with(|there| there.lost = 4);
    let mut sent = 0;
    for round in 0..6_u64 {
        let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
        if round % 2 == 0 {
            lakes.faults("lake", [Fault::FailAfterWrite]);
        }
        send(&engine, "s", sent..sent + 7).await;
        sent += 7;
        wait_for(&engine, "p", |status| status.counts.delivered >= sent.saturating_sub(3)).await;
        // Nothing is drained: what is under way is dropped.
        engine.drain(Duration::ZERO).await;
    }
    let engine = open(dir.path(), &lakes, vec![cataloged("p")]).await;
    until_registered(&engine, &lakes, sent).await;
    engine.drain(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_made_anew_starts_its_catalog_anew() {
    let (dir, lakes) = (tempfile::tempdir().expect("a folder"), Lakes::new(&["lake"]));
    let engine = open(dir.path(), &lakes, vec![]).await;
    for _ in 0..3 {
        engine.control().create(cataloged("p")).await.expect("it is made");
        send(&engine, "s", 0..15).await;
        until_registered(&engine, &lakes, 15).await;
        engine.control().delete("p").await.expect("it is deleted");
        lakes.catalog().with(|there| *there = There::default());
    }
    engine.drain(Duration::from_secs(10)).await;
}
