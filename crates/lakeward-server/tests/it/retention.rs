//! What readers are promised, and what is left when nothing was.

use std::sync::Arc;
use std::time::Duration;

use lakeward_engine::StreamSpec;
use lakeward_model::StreamName;
use lakeward_model::clock::SharedClock;
use serde_json::json;

use crate::harness::{Hand, Setup, ask, refused, start};
use crate::kinesis::{b64, create, iterator, read_on, read_shard};

fn conf_stream() -> Vec<StreamSpec> {
    let promised = Some(Duration::from_secs(48 * 3600));
    vec![StreamSpec { retention: promised, ..StreamSpec::new(StreamName::new("conf").unwrap()) }]
}

#[tokio::test]
async fn retention_hides_what_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hand::default());
    let shared: SharedClock = Arc::<Hand>::clone(&clock);
    let config = json!({"kinesis": {"shards": {"conf": 3}}});
    let server =
        start(dir.path(), Setup { clock: shared, streams: conf_stream(), config, ..Setup::default() }).await;
    let addr = server.addr;
    let summary = async |stream: &str| {
        let described = ask(addr, "DescribeStreamSummary", &json!({"StreamName": stream})).await;
        let summary = &described["StreamDescriptionSummary"];
        (summary["RetentionPeriodHours"].as_u64().unwrap(), summary["OpenShardCount"].as_u64().unwrap())
    };
    assert_eq!(summary("conf").await, (48, 3));
    create(addr, "s", 1).await;
    assert_eq!(summary("s").await, (24, 1));
    let put = async |text: &[u8]| {
        ask(addr, "PutRecord", &json!({"StreamName": "s", "Data": b64(text), "PartitionKey": "k"})).await;
    };
    let read = async || {
        let records = read_shard(addr, "s", "shardId-000000000000").await;
        records.iter().map(|record| record["Data"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let change = |hours: u64| json!({"StreamName": "s", "RetentionPeriodHours": hours});
    put(b"old").await;
    clock.forward(Duration::from_secs(25 * 3600));
    put(b"new").await;
    assert_eq!(read().await, [b64(b"new")]);
    ask(addr, "IncreaseStreamRetentionPeriod", &change(72)).await;
    assert_eq!(read().await, [b64(b"new")], "what has expired stays so");
    clock.forward(Duration::from_secs(30 * 3600));
    assert_eq!(read().await, [b64(b"new")]);
    ask(addr, "DecreaseStreamRetentionPeriod", &change(24)).await;
    assert_eq!(read().await, [] as [String; 0]);
    let message = async |operation: &str, hours| refused(addr, operation, &change(hours)).await.1;
    assert_eq!(
        message("IncreaseStreamRetentionPeriod", 23).await,
        "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short."
    );
    assert_eq!(
        message("DecreaseStreamRetentionPeriod", 48).await,
        "Requested retention period (48 hours) for stream s can not be longer than existing retention period (24 \
         hours). Use IncreaseRetentionPeriod API."
    );
    let conf = json!({"StreamName": "conf", "RetentionPeriodHours": 60});
    ask(addr, "IncreaseStreamRetentionPeriod", &conf).await;
    server.stop().await;

    // Both the configuration's promise and the client's hold; shards are those
    // that the stream had when it was first met.
    let config = json!({"kinesis": {"shards": {"conf": 7}}});
    let server = start(dir.path(), Setup { streams: conf_stream(), config, ..Setup::default() }).await;
    let described = ask(server.addr, "DescribeStreamSummary", &json!({"StreamName": "conf"})).await;
    let summary = &described["StreamDescriptionSummary"];
    assert_eq!((&summary["RetentionPeriodHours"], &summary["OpenShardCount"]), (&json!(60), &json!(3)));
    server.stop().await;
}

/// A shard whose records were all trimmed ends all the same, or its children
/// would never be read.
#[tokio::test]
async fn a_trimmed_shard_still_ends() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hand::default());
    let shared: SharedClock = Arc::<Hand>::clone(&clock);
    // Nobody was promised the records of this one.
    let streams = vec![StreamSpec::new(StreamName::new("conf").unwrap())];
    let server = start(dir.path(), Setup { clock: shared, streams, ..Setup::default() }).await;
    let addr = server.addr;
    ask(addr, "PutRecord", &json!({"StreamName": "conf", "Data": b64(b"x"), "PartitionKey": "k"})).await;
    let half = (1_u128 << 127).to_string();
    let split = json!({"StreamName": "conf", "ShardToSplit": "0", "NewStartingHashKey": half});
    ask(addr, "SplitShard", &split).await;
    clock.forward(Duration::from_secs(2 * 3600));
    // The engine looks at idle streams every ten seconds, and trims the last
    // segment at the second look.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    loop {
        assert!(tokio::time::Instant::now() < deadline, "the journal is trimmed");
        let at = iterator(addr, "conf", "shardId-000000000000", "TRIM_HORIZON").await;
        let (records, next) = read_on(addr, at).await;
        assert_eq!(next, None, "the shard has ended");
        if records.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.stop().await;
}
