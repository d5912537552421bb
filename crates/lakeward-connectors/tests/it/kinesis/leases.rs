//! Leases, with a table in which others write what is worst for us. Whole
//! processes on a real table are in `tests/test_kinesis_leases.py`.

use std::time::Duration;

use lakeward_connectors::sources::kinesis::{KinesisConfig, KinesisSource, LeasesConfig};
use lakeward_model::Source;
use serde_json::json;

use super::server::{Fault, Server};
use super::{ONE, Stored, config, numbered, state, texts};

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
