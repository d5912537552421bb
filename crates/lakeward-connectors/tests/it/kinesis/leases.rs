//! Leases, with a table in which others write what is worst for us. Whole
//! processes on a real table are in `tests/test_kinesis_leases.py`.

use std::time::Duration;

use lakeward_connectors::sources::kinesis::{KinesisConfig, KinesisSource, LeasesConfig, StartConfig};
use lakeward_model::{FailureKind, Source};
use serde_json::json;

use super::server::{Fault, Server, Shard};
use super::{ONE, Stored, TWO, config, numbered, state, texts};

const FAILOVER: Duration = Duration::from_secs(1);

fn leased(server: &Server) -> KinesisSource {
    let endpoint = Some(server.address.clone());
    let leases = LeasesConfig { table: "app".into(), failover: FAILOVER, endpoint, region: None };
    let config = KinesisConfig { leases: Some(leases), ..config(server) };
    KinesisSource::open(&config).expect("it opens")
}

#[tokio::test]
async fn a_lease_that_was_lost_and_taken_again_is_read_from_where_the_other_stopped() {
    let server = Server::start(state([(ONE, numbered(1..=40))])).await;
    let (mut source, mut stored) = (leased(&server), Stored::default());
    stored.fill(&mut source, 10).await;
    // Another worker takes the lease, appends 11 to 20, and gives it back.
    server.state().leases.set(ONE, &[("checkpoint", json!({ "S": "40" })), ("leaseOwner", json!(null))]);
    // So long that the next poll finds out and takes the lease back at once.
    tokio::time::sleep(FAILOVER * 2 / 5).await;
    stored.fill(&mut source, 30).await;
    assert_eq!(stored.records, [texts(1..=10), texts(21..=40)].concat());
    assert_eq!(server.state().leases.get(ONE, "checkpoint").as_deref(), Some("80"));
}

#[tokio::test]
async fn a_lost_lease_is_not_read_on_although_the_table_fails() {
    let server = Server::start(state([(ONE, numbered(1..=40))])).await;
    let (mut source, mut stored) = (leased(&server), Stored::default());
    stored.fill(&mut source, 10).await;
    let other = json!({ "S": "somebody" });
    server.state().leases.set(ONE, &[("checkpoint", json!({ "S": "40" })), ("leaseOwner", other)]);
    let fault = Fault::Error(500, "InternalServerError");
    server.state().faults.insert("Scan", [Some(fault), Some(fault)].into());
    tokio::time::sleep(FAILOVER * 2 / 5).await;
    source.poll(stored.cursor.as_ref()).await.expect_err("the table fails");
    tokio::time::sleep(FAILOVER * 2 / 5).await;
    server.state().leases.set(ONE, &[("checkpoint", json!({ "S": "60" })), ("leaseOwner", json!(null))]);
    stored.fill(&mut source, 20).await;
    assert_eq!(stored.records, [texts(1..=10), texts(31..=40)].concat());
}

#[tokio::test]
async fn a_source_that_is_not_polled_for_a_while_keeps_its_leases() {
    let server = Server::start(state([(ONE, numbered(1..=20))])).await;
    let (mut source, mut stored) = (leased(&server), Stored::default());
    stored.fill(&mut source, 10).await;
    let counter = || -> u64 {
        server.state().leases.get(ONE, "leaseCounter").and_then(|n| n.parse().ok()).expect("a counter")
    };
    let (before, begun) = (counter(), tokio::time::Instant::now());
    // As while a refusal, a hanging reply or a full journal makes us wait.
    while counter() < before + 4 {
        assert!(begun.elapsed() < FAILOVER * 10, "nobody renews");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() > FAILOVER, "it is renewed no more often than it must be");
    stored.fill(&mut source, 20).await;
    assert_eq!(stored.records, texts(1..=20));
    // A source that is gone renews nothing.
    source.close().await;
    assert_eq!(server.state().leases.get(ONE, "leaseOwner"), None);
    let after = counter();
    tokio::time::sleep(FAILOVER * 3 / 2).await;
    assert_eq!(counter(), after);
}

#[tokio::test]
async fn a_shard_that_outlived_its_retention_does_not_hold_up_its_children() {
    let parent = Shard { closed: true, ..numbered(1..=20) };
    let child = Shard { parents: vec![ONE], ..numbered(101..=110) };
    let server = Server::start(state([(ONE, parent), (TWO, child)])).await;
    let (mut source, mut stored) = (leased(&server), Stored::default());
    stored.fill(&mut source, 10).await;
    drop(source);
    server.state().shards.remove(ONE);
    stored.fill(&mut leased(&server), 20).await;
    assert_eq!(stored.records, [texts(1..=10), texts(101..=110)].concat());
    assert!(stored.troubles.iter().any(|said| said.contains("was not read to its end")), "{stored:?}");
}

#[tokio::test]
async fn a_claim_on_a_shard_that_is_gone_is_given_up_aloud() {
    let parent = Shard { closed: true, ..numbered(1..=20) };
    let child = Shard { parents: vec![ONE], ..numbered(101..=110) };
    let server = Server::start(state([(ONE, parent), (TWO, child)])).await;
    let (mut source, mut stored) = (leased(&server), Stored::default());
    stored.fill(&mut source, 10).await;
    // The next page is claimed and never stored.
    let page = source.poll(stored.cursor.as_ref()).await.expect("a page");
    assert_eq!(page.records.len(), 10);
    drop(source);
    let shard = server.state().shards.remove(ONE).expect("it is there");
    // As long as it may be the stream that is missing, nothing is given up.
    let fault = Some(Fault::Error(400, "ResourceNotFoundException"));
    server.state().faults.insert("ListShards", [fault].into());
    leased(&server).poll(stored.cursor.as_ref()).await.expect_err("no stream");
    server.state().shards.insert(ONE, shard);
    let page = leased(&server).poll(stored.cursor.as_ref()).await.expect("a page");
    assert_eq!(page.records.len(), 10);
    server.state().shards.remove(ONE);
    stored.fill(&mut leased(&server), 20).await;
    assert_eq!(stored.records, [texts(1..=10), texts(101..=110)].concat());
    let lost = "10 of 10 records of shardId-000000000001 up to 40 were claimed";
    assert!(stored.troubles.iter().any(|said| said.contains(lost)), "{stored:?}");
}

#[tokio::test]
async fn a_finished_lease_stays_while_it_holds_a_claim_of_another() {
    let parent = Shard { closed: true, ends: true, ..numbered(1..=20) };
    let child = Shard { parents: vec![ONE], ..numbered(101..=110) };
    let server = Server::start(state([(ONE, parent), (TWO, child)])).await;
    let (mut source, mut stored) = (leased(&server), Stored::default());
    stored.fill(&mut source, 10).await;
    let claim = json!({ "M": { "to": { "S": "10" } } });
    server.state().leases.set(ONE, &[("lakewardClaim_other", claim)]);
    stored.fill(&mut source, 30).await;
    server.state().shards.remove(ONE);
    let polled = async |source: &mut KinesisSource, stored: &mut Stored, scans: usize| {
        let until = server.asked("Scan").len() + scans;
        while server.asked("Scan").len() < until {
            stored.append(source.poll(stored.cursor.as_ref()).await.expect("a page"));
        }
    };
    polled(&mut source, &mut stored, 2).await;
    assert_eq!(server.state().leases.get(ONE, "checkpoint").as_deref(), Some("SHARD_END"));
    server.state().leases.set(ONE, &[("lakewardClaim_other", json!(null))]);
    polled(&mut source, &mut stored, 2).await;
    assert_eq!(server.state().leases.get(ONE, "checkpoint"), None);
    // Ours were removed with what they covered.
    let names: Vec<String> = server.state().leases.0[TWO].keys().cloned().collect();
    assert!(names.iter().all(|name| !name.starts_with("lakewardClaim")), "{names:?}");
}

#[tokio::test]
async fn a_table_of_another_stream_is_refused() {
    let server = Server::start(state([(ONE, numbered(1..=20))])).await;
    let (mut source, mut stored) = (leased(&server), Stored::default());
    stored.fill(&mut source, 10).await;
    assert_eq!(server.state().leases.get(ONE, "lakewardStream").as_deref(), Some("orders"));
    server.state().leases.set(ONE, &[("lakewardStream", json!({ "S": "payments" }))]);
    let failure = loop {
        match source.poll(stored.cursor.as_ref()).await {
            Ok(page) => stored.append(page),
            Err(failure) => break failure,
        }
    };
    assert!(failure.message.contains("payments"), "{failure}");
    let again = leased(&server).poll(stored.cursor.as_ref()).await.expect_err("refused");
    assert_eq!((again.kind, again.message.contains("payments")), (FailureKind::Refused, true));
    // One that KCL made says nothing of it, and does when it is taken.
    server.state().leases.set(ONE, &[("lakewardStream", json!(null)), ("leaseOwner", json!(null))]);
    let mut source = leased(&server);
    for _ in 0..50 {
        if server.state().leases.get(ONE, "lakewardStream").is_some() {
            break;
        }
        stored.append(source.poll(stored.cursor.as_ref()).await.expect("a page"));
    }
    assert_eq!(server.state().leases.get(ONE, "lakewardStream").as_deref(), Some("orders"));
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_told() {
    let parent = Shard { closed: true, ends: true, ..numbered(1..=20) };
    let child = Shard { parents: vec![ONE], ..numbered(101..=110) };
    let server = Server::start(state([(ONE, parent), (TWO, child)])).await;
    let (mut source, mut stored) = (leased(&server), Stored::default());
    stored.fill(&mut source, 30).await;
    server.state().shards = [(ONE, numbered(1_001..=1_010))].into();
    for _ in 0..20 {
        if stored.troubles.iter().any(|said| said.contains("delete the lease table")) {
            return;
        }
        if let Ok(page) = source.poll(stored.cursor.as_ref()).await {
            stored.append(page);
        }
    }
    panic!("nobody says so: {stored:?}");
}

#[tokio::test]
async fn latest_means_the_same_for_shards_whose_lease_a_crash_left_out() {
    let parent = Shard { closed: true, ends: true, ..Shard::default() };
    let child = Shard { parents: vec![ONE], ..numbered(101..=110) };
    let server = Server::start(state([(ONE, parent), (TWO, child)])).await;
    let latest = |server: &Server| {
        let leases = LeasesConfig {
            table: "app".into(),
            failover: FAILOVER,
            endpoint: Some(server.address.clone()),
            region: None,
        };
        let config = KinesisConfig { leases: Some(leases), start: StartConfig::Latest, ..config(server) };
        KinesisSource::open(&config).expect("it opens")
    };
    // The first of two leases is made, the second not.
    let fault = Some(Fault::Error(500, "InternalServerError"));
    server.state().faults.insert("PutItem", [None, fault].into());
    let mut stored = Stored::default();
    let mut source = latest(&server);
    stored.append(source.poll(None).await.expect("a cursor"));
    source.poll(stored.cursor.as_ref()).await.expect_err("the table fails");
    server.state().leases.0.remove(TWO);
    let instant = server.state().leases.get(ONE, "lakewardTimestamp").expect("an instant");
    // Another worker goes on.
    let mut stored = Stored::default();
    stored.fill(&mut latest(&server), 10).await;
    let asked = server.asked("GetShardIterator");
    let of_child = asked.iter().find(|input| input["ShardId"] == TWO).expect("it was read");
    assert_eq!(of_child["ShardIteratorType"], "AT_TIMESTAMP", "{of_child}");
    let millis = instant.parse::<u64>().expect("a number") / 1_000;
    assert_eq!(of_child["Timestamp"].as_f64().map(|at| (at * 1_000.0).round() as u64), Some(millis));
    // KCL knows nothing of the instant: nothing is lost with it.
    assert_eq!(server.state().leases.get(TWO, "lakewardTimestamp"), Some(instant));
}
