//! Streams of the configuration: their retention beside what clients ask for,
//! and what is left when they go.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lakeward_engine::StreamSpec;
use lakeward_model::StreamName;
use serde_json::json;

use crate::harness::{Server, Setup, ask, refused, start};
use crate::kinesis::{create, read_shard};

/// A server whose configuration gives the stream `conf` so many hours.
async fn configured(dir: &Path, hours: u64) -> Server {
    let retention = Some(Duration::from_secs(hours * 3600));
    let streams = vec![StreamSpec { retention, ..StreamSpec::new(StreamName::new("conf").unwrap()) }];
    start(dir, Setup { streams, ..Setup::default() }).await
}

async fn hours(addr: SocketAddr) -> u64 {
    let described = ask(addr, "DescribeStreamSummary", &json!({"StreamName": "conf"})).await;
    described["StreamDescriptionSummary"]["RetentionPeriodHours"].as_u64().unwrap()
}

#[tokio::test]
async fn the_configured_retention_is_a_lower_bound_and_can_be_lowered() {
    let dir = tempfile::tempdir().unwrap();
    let change = |hours: u64| json!({"StreamName": "conf", "RetentionPeriodHours": hours});
    let server = configured(dir.path(), 72).await;
    assert_eq!(hours(server.addr).await, 72);
    // Changes of other things do not keep it either.
    ask(server.addr, "AddTagsToStream", &json!({"StreamName": "conf", "Tags": {"a": "1"}})).await;
    let (kind, message) = refused(server.addr, "DecreaseStreamRetentionPeriod", &change(48)).await;
    assert_eq!(
        (kind.as_str(), message.as_str()),
        (
            "InvalidArgumentException",
            "Requested retention period (48 hours) for stream conf can not be shorter than the one that Lakeward's \
             configuration gives it (72 hours). Lower it there."
        )
    );
    server.stop().await;

    let server = configured(dir.path(), 48).await;
    assert_eq!(hours(server.addr).await, 48, "it was lowered where it was set");
    ask(server.addr, "IncreaseStreamRetentionPeriod", &change(100)).await;
    let (_, message) = refused(server.addr, "DecreaseStreamRetentionPeriod", &change(24)).await;
    assert!(message.contains("(48 hours)"), "{message}");
    server.stop().await;

    let server = configured(dir.path(), 24).await;
    assert_eq!(hours(server.addr).await, 100, "what a client asked for stays");
    ask(server.addr, "DecreaseStreamRetentionPeriod", &change(24)).await;
    assert_eq!(hours(server.addr).await, 24);
    server.stop().await;
}

#[tokio::test]
async fn what_the_configuration_abandons_is_explained_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let named = json!({"StreamName": "conf"});
    let server = configured(dir.path(), 24).await;
    let put = json!({"StreamName": "conf", "Data": "eA==", "PartitionKey": "k"});
    ask(server.addr, "PutRecord", &put).await;
    server.stop().await;

    let server = start(dir.path(), Setup::default()).await;
    let made = json!({"StreamName": "conf", "ShardCount": 1});
    let calls = [
        ("CreateStream", &made, "ResourceInUseException"),
        ("DescribeStream", &named, "ResourceNotFoundException"),
        ("PutRecord", &put, "ResourceNotFoundException"),
        ("DeleteStream", &named, "ResourceNotFoundException"),
    ];
    for (operation, input, kind) in calls {
        let (got, message) = refused(server.addr, operation, input).await;
        assert_eq!(got, kind, "{operation}: {message}");
        assert!(message.contains("still holds records of a stream conf"), "{operation}: {message}");
    }
    create(server.addr, "other-one", 1).await;
    server.stop().await;

    let server = configured(dir.path(), 24).await;
    assert_eq!(read_shard(server.addr, "conf", "shardId-000000000000").await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn the_time_of_its_making_tells_streams_of_one_name_apart() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 1).await;
    let described = ask(addr, "DescribeStreamSummary", &json!({"StreamName": "s"})).await;
    let created = described["StreamDescriptionSummary"]["StreamCreationTimestamp"].as_f64().unwrap();
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    for (operation, member) in [("ListShards", "Shards"), ("ListStreamConsumers", "Consumers")] {
        let input = |at: f64| json!({"StreamARN": arn, "StreamCreationTimestamp": at});
        // As described, and in whole seconds as SDKs send it.
        for at in [created, created.floor()] {
            assert!(ask(addr, operation, &input(at)).await[member].is_array());
        }
        let (kind, message) = refused(addr, operation, &input(created - 60.0)).await;
        assert_eq!(
            (kind.as_str(), message.as_str()),
            ("ResourceNotFoundException", "Stream s under account 000000000000 not found.")
        );
    }
    server.stop().await;
}
