//! The Kinesis API: puts, reads, iterators, limits, and its two encodings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lakeward_model::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::harness::{Hand, Setup, ask, call, kinesis, kinesis_try, refused, send, start};

pub(crate) fn b64(data: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(data)
}

/// An iterator over one shard.
pub(crate) async fn iterator(addr: SocketAddr, stream: &str, shard: &str, kind: &str) -> String {
    let input = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": kind});
    ask(addr, "GetShardIterator", &input).await["ShardIterator"].as_str().unwrap().to_owned()
}

/// All that a shard has for now: its records, and whether it has ended.
pub(crate) async fn read_on(addr: SocketAddr, from: String) -> (Vec<Value>, Option<String>) {
    let (mut records, mut at) = (Vec::new(), from);
    loop {
        let page = ask(addr, "GetRecords", &json!({"ShardIterator": at, "Limit": 7})).await;
        let found = page["Records"].as_array().unwrap().clone();
        let is_tip = page["MillisBehindLatest"] == json!(0) && found.is_empty();
        records.extend(found);
        match page["NextShardIterator"].as_str() {
            None => {
                assert!(
                    !page["ChildShards"].as_array().unwrap().is_empty(),
                    "a shard that ends has children"
                );
                return (records, None);
            }
            Some(next) if is_tip => return (records, Some(next.to_owned())),
            Some(next) => at = next.to_owned(),
        }
    }
}

pub(crate) async fn read_shard(addr: SocketAddr, stream: &str, shard: &str) -> Vec<Value> {
    read_on(addr, iterator(addr, stream, shard, "TRIM_HORIZON").await).await.0
}

pub(crate) async fn create(addr: SocketAddr, stream: &str, shards: u32) {
    ask(addr, "CreateStream", &json!({"StreamName": stream, "ShardCount": shards})).await;
}

#[tokio::test]
async fn what_is_put_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 4).await;
    let input = json!({"StreamName": "s", "Data": b64(b"\x00\xffone"), "PartitionKey": "user-123"});
    let one = ask(addr, "PutRecord", &input).await;
    assert_eq!(one["ShardId"], "shardId-000000000002", "the contract's vector");
    let records = json!([
        {"Data": b64(b"two"), "PartitionKey": "a"},
        {"Data": "", "PartitionKey": "é\"\\\u{1}"},
        {"Data": b64(b"four"), "PartitionKey": "user-123"},
        {"Data": b64(b"five"), "PartitionKey": "user-123", "ExplicitHashKey": "0"},
    ]);
    let many = ask(addr, "PutRecords", &json!({"StreamName": "s", "Records": records})).await;
    assert_eq!((&many["FailedRecordCount"], many["Records"].as_array().unwrap().len()), (&json!(0), 4));
    assert_eq!(many["Records"][0]["ShardId"], "shardId-000000000000");
    assert_eq!(many["Records"][3]["ShardId"], "shardId-000000000000", "the explicit hash key counts");

    let second = read_shard(addr, "s", "shardId-000000000002").await;
    assert_eq!(second.len(), 2);
    assert_eq!(
        (&second[0]["Data"], &second[0]["PartitionKey"], &second[0]["SequenceNumber"]),
        (&input["Data"], &input["PartitionKey"], &one["SequenceNumber"])
    );
    assert_eq!(second[1]["SequenceNumber"], many["Records"][2]["SequenceNumber"]);
    assert!(second[0]["SequenceNumber"].as_str() < second[1]["SequenceNumber"].as_str());
    let arrived = second[0]["ApproximateArrivalTimestamp"].as_f64().unwrap();
    assert!((SystemClock.now().millis() as f64 / 1e3 - arrived).abs() < 60.0);
    let mut met = Vec::new();
    for shard in 0..4 {
        met.extend(read_shard(addr, "s", &format!("shardId-{shard:012}")).await);
    }
    assert_eq!(met.len(), 5);
    assert!(met.iter().any(|record| record["PartitionKey"] == "é\"\\\u{1}" && record["Data"] == ""));
    server.stop().await;
}

#[tokio::test]
async fn iterators_start_where_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hand::default());
    let shared: lakeward_model::clock::SharedClock = Arc::<Hand>::clone(&clock);
    let server = start(dir.path(), Setup { clock: shared, ..Setup::default() }).await;
    let addr = server.addr;
    create(addr, "s", 1).await;
    let shard = "shardId-000000000000";
    let mut sequences = Vec::new();
    let mut times = Vec::new();
    for n in 0..4 {
        clock.forward(Duration::from_secs(10));
        times.push(clock.now().millis() as f64 / 1e3);
        let input = json!({"StreamName": "s", "Data": b64(&[n]), "PartitionKey": "k"});
        sequences.push(ask(addr, "PutRecord", &input).await["SequenceNumber"].clone());
        clock.forward(Duration::from_secs(1));
    }
    let read = async |kind: &str, sequence: &Value, time: Value| {
        let input = json!({
            "StreamName": "s", "ShardId": shard, "ShardIteratorType": kind, "StartingSequenceNumber": sequence,
            "Timestamp": time,
        });
        let at = ask(addr, "GetShardIterator", &input).await["ShardIterator"].as_str().unwrap().to_owned();
        read_on(addr, at).await.0.iter().map(|record| record["SequenceNumber"].clone()).collect::<Vec<_>>()
    };
    let nothing = Value::Null;
    assert_eq!(read("TRIM_HORIZON", &nothing, Value::Null).await, sequences);
    assert_eq!(read("LATEST", &nothing, Value::Null).await, [] as [Value; 0]);
    assert_eq!(read("AT_SEQUENCE_NUMBER", &sequences[1], Value::Null).await, sequences[1..]);
    assert_eq!(read("AFTER_SEQUENCE_NUMBER", &sequences[1], Value::Null).await, sequences[2..]);
    assert_eq!(read("AFTER_SEQUENCE_NUMBER", &sequences[3], Value::Null).await, [] as [Value; 0]);
    assert_eq!(read("AT_SEQUENCE_NUMBER", &json!("0"), Value::Null).await, sequences);
    assert_eq!(read("AT_TIMESTAMP", &nothing, json!(times[2])).await, sequences[2..]);
    assert_eq!(read("AT_TIMESTAMP", &nothing, json!(0)).await, sequences);

    let get = |kind: &str, more: Value| {
        let mut input = json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": kind});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let check = async |input: Value, kind: &str, message: &str| {
        assert_eq!(refused(addr, "GetShardIterator", &input).await, (kind.to_owned(), message.to_owned()));
    };
    check(
        get("TRIM_HORIZON", json!({"StartingSequenceNumber": sequences[0]})),
        "InvalidArgumentException",
        "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) \
         TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified TRIM_HORIZON and also a \
         StartingSequenceNumber.",
    )
    .await;
    check(
        get("AT_SEQUENCE_NUMBER", json!({"StartingSequenceNumber": "7"})),
        "InvalidArgumentException",
        "StartingSequenceNumber 7 used in GetShardIterator on shard shardId-000000000000 in stream s under account \
         000000000000 is invalid.",
    )
    .await;
    check(
        get("LATEST", json!({"ShardId": "shardId-000000000009"})),
        "ResourceNotFoundException",
        "Shard shardId-000000000009 in stream s under account 000000000000 does not exist",
    )
    .await;
    check(
        get("LATEST", json!({"StreamName": "gone"})),
        "ResourceNotFoundException",
        "Stream gone under account 000000000000 not found.",
    )
    .await;

    let at = iterator(addr, "s", shard, "TRIM_HORIZON").await;
    clock.forward(Duration::from_secs(301));
    let (kind, message) = refused(addr, "GetRecords", &json!({"ShardIterator": at})).await;
    assert_eq!(kind, "ExpiredIteratorException");
    assert!(message.starts_with("Iterator expired. The iterator was created at time "), "{message}");
    let (kind, message) = refused(addr, "GetRecords", &json!({"ShardIterator": "AAAA"})).await;
    assert_eq!((kind.as_str(), message.as_str()), ("InvalidArgumentException", "Invalid ShardIterator."));
    server.stop().await;
}

#[tokio::test]
async fn an_iterator_passes_what_is_not_its_shards() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 2).await;
    for _ in 0..3 {
        let record = json!({"Data": b64(&[7; 10_000]), "PartitionKey": "k", "ExplicitHashKey": "0"});
        ask(addr, "PutRecords", &json!({"StreamName": "s", "Records": vec![record; 500]})).await;
    }
    let mut at = iterator(addr, "s", "shardId-000000000001", "TRIM_HORIZON").await;
    let mut calls = 0;
    loop {
        let page = ask(addr, "GetRecords", &json!({"ShardIterator": at})).await;
        assert_eq!(page["Records"], json!([]));
        at = page["NextShardIterator"].as_str().unwrap().to_owned();
        calls += 1;
        if page["MillisBehindLatest"] == json!(0) {
            break;
        }
    }
    assert!(calls <= 3, "15 MB are passed in {calls} calls");
    let record =
        json!({"StreamName": "s", "Data": "", "PartitionKey": "k", "ExplicitHashKey": u128::MAX.to_string()});
    ask(addr, "PutRecord", &record).await;
    let page = ask(addr, "GetRecords", &json!({"ShardIterator": at})).await;
    assert_eq!(page["Records"].as_array().unwrap().len(), 1, "what came since is found at once");

    // 10 MiB and 10,000 records are the most that a call gives.
    let page = ask(
        addr,
        "GetRecords",
        &json!({"ShardIterator": iterator(addr, "s", "shardId-000000000000", "TRIM_HORIZON").await}),
    )
    .await;
    assert_eq!(page["Records"].as_array().unwrap().len(), (10 << 20) / 10_000);
    server.stop().await;
}

#[tokio::test]
async fn both_encodings_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 1).await;
    let cbor = async |operation: &str, body: Vec<u8>| {
        let target = format!("Kinesis_20131202.{operation}");
        let headers = [("Content-Type", "application/x-amz-cbor-1.1"), ("X-Amz-Target", target.as_str())];
        let reply = send(addr, "POST /", &headers, &body).await;
        assert_eq!(reply.header("content-type"), Some("application/x-amz-cbor-1.1"));
        reply
    };
    let mut put = minicbor::Encoder::new(Vec::new());
    put.begin_map().unwrap().str("StreamName").unwrap().str("s").unwrap();
    put.str("Records").unwrap().begin_array().unwrap();
    put.begin_map().unwrap().str("Data").unwrap().bytes(b"\x00\xff").unwrap();
    put.str("PartitionKey").unwrap().str("é").unwrap().end().unwrap().end().unwrap().end().unwrap();
    let reply = cbor("PutRecords", put.into_writer()).await;
    assert_eq!(reply.status, 200);
    let mut answer = minicbor::Decoder::new(&reply.body);
    assert_eq!(answer.map().unwrap(), Some(2));
    assert_eq!((answer.str().unwrap(), answer.u64().unwrap()), ("FailedRecordCount", 0));

    let at = iterator(addr, "s", "shardId-000000000000", "TRIM_HORIZON").await;
    let json = ask(addr, "GetRecords", &json!({"ShardIterator": at})).await["Records"][0].clone();
    let mut get = minicbor::Encoder::new(Vec::new());
    get.map(1).unwrap().str("ShardIterator").unwrap().str(&at).unwrap();
    let reply = cbor("GetRecords", get.into_writer()).await;
    let mut found = minicbor::Decoder::new(&reply.body);
    found.map().unwrap();
    assert_eq!(
        (found.str().unwrap(), found.array().unwrap(), found.map().unwrap()),
        ("Records", Some(1), Some(4))
    );
    for _ in 0..4 {
        match found.str().unwrap() {
            "Data" => assert_eq!(found.bytes().unwrap(), b"\x00\xff"),
            "ApproximateArrivalTimestamp" => {
                assert_eq!(found.tag().unwrap(), minicbor::data::Tag::new(1));
                let millis = found.i64().unwrap();
                assert_eq!(json["ApproximateArrivalTimestamp"], json!(millis as f64 / 1e3));
            }
            other => assert_eq!(json[other], found.str().unwrap()),
        }
    }
    let mut get = minicbor::Encoder::new(Vec::new());
    get.map(1).unwrap().str("ShardIterator").unwrap().str("x").unwrap();
    let reply = cbor("GetRecords", get.into_writer()).await;
    assert_eq!(reply.status, 400);
    let mut fault = minicbor::Decoder::new(&reply.body);
    fault.map().unwrap();
    assert_eq!((fault.str().unwrap(), fault.str().unwrap()), ("__type", "InvalidArgumentException"));
    assert_eq!((fault.str().unwrap(), fault.str().unwrap()), ("message", "Invalid ShardIterator."));
    assert_eq!(cbor("ListStreams", b"\xff\x00".to_vec()).await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_retried_put_lands_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 1).await;
    let input = json!({"StreamName": "s", "Records": [
        {"Data": b64(b"one"), "PartitionKey": "a"}, {"Data": b64(b"two"), "PartitionKey": "zz"},
    ]});
    let id = [("amz-sdk-invocation-id", "7f7c9f55-8a57-4be2-a24f-b9f1d5a2f2a8")];
    let first = kinesis_try(addr, "PutRecords", &input, &id).await;
    // The shard that took them is closed before the retry comes.
    let half = (1_u128 << 127).to_string();
    let split =
        json!({"StreamName": "s", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": half});
    ask(addr, "SplitShard", &split).await;
    let again = kinesis_try(addr, "PutRecords", &input, &id).await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    let other = kinesis_try(addr, "PutRecords", &input, &[("amz-sdk-invocation-id", "other")]).await;
    assert_ne!(other.json(), first.json());
    assert_eq!(read_shard(addr, "s", "shardId-000000000000").await.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_retry_of_a_put_that_was_throttled_in_part_answers_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"kinesis": {"throttle": true}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let addr = server.addr;
    create(addr, "s", 2).await;
    // 1.5 MB in three records to one shard: two fit; one to the other shard.
    let record = |n: u8, hash: u128| json!({"Data": b64(&[n; 500_000]), "PartitionKey": "k", "ExplicitHashKey": hash.to_string()});
    let records = json!([record(0, 0), record(1, 0), record(2, 0), record(3, u128::MAX)]);
    let input = json!({"StreamName": "s", "Records": records});
    let id = [("amz-sdk-invocation-id", "one")];
    let first = kinesis_try(addr, "PutRecords", &input, &id).await.json();
    assert_eq!(first["FailedRecordCount"], 1);
    assert_eq!(
        first["Records"][2],
        json!({
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.",
        })
    );
    for _ in 0..2 {
        assert_eq!(kinesis_try(addr, "PutRecords", &input, &id).await.json(), first);
    }
    let one =
        json!({"StreamName": "s", "Data": b64(&[9; 500_000]), "PartitionKey": "k", "ExplicitHashKey": "0"});
    let (kind, message) = refused(addr, "PutRecord", &one).await;
    assert_eq!(kind, "ProvisionedThroughputExceededException");
    assert_eq!(
        message,
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000."
    );
    // The fourth read within a second is too many together with those before.
    let at = iterator(addr, "s", "shardId-000000000000", "TRIM_HORIZON").await;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(kinesis(addr, "GetRecords", &json!({"ShardIterator": at, "Limit": 1})).await.status);
    }
    assert!(statuses.contains(&400) && statuses[0] == 200, "{statuses:?}");
    server.stop().await;
}

#[tokio::test]
async fn records_of_other_doors_have_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    // `events` is a pipeline's stream, which no Kinesis client made.
    let batch: Vec<_> = (0..40).map(|n| json!({"Data": b64(format!("f{n}").as_bytes())})).collect();
    let put = json!({"DeliveryStreamName": "events", "Records": batch});
    assert_eq!(call(addr, "PutRecordBatch", &put).await.status, 200);
    assert_eq!(read_shard(addr, "events", "shardId-000000000000").await.len(), 40);
    ask(
        addr,
        "UpdateShardCount",
        &json!({
            "StreamName": "events", "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING",
        }),
    )
    .await;
    assert_eq!(call(addr, "PutRecordBatch", &put).await.status, 200);
    let mut met = Vec::new();
    for shard in 0..3 {
        met.push(read_shard(addr, "events", &format!("shardId-{shard:012}")).await);
    }
    assert_eq!(met[0].len(), 40);
    assert_eq!(met[1].len() + met[2].len(), 40);
    assert!(met[1].len() > 5 && met[2].len() > 5, "they are spread");
    assert_eq!(met[0][7]["PartitionKey"], "7", "the offset stands for the key");
    server.stop().await;
}

#[tokio::test]
async fn streams_are_made_described_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 2).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let described = ask(addr, "DescribeStream", &json!({"StreamARN": arn, "Limit": 1})).await;
    let described = &described["StreamDescription"];
    assert_eq!((&described["StreamARN"], &described["StreamStatus"]), (&json!(arn), &json!("ACTIVE")));
    assert_eq!(
        (&described["HasMoreShards"], &described["Shards"][0]["ShardId"]),
        (&json!(true), &json!("shardId-000000000000"))
    );
    let rest = json!({"StreamName": "s", "ExclusiveStartShardId": "shardId-000000000000"});
    let rest = ask(addr, "DescribeStream", &rest).await;
    assert_eq!(rest["StreamDescription"]["Shards"].as_array().unwrap().len(), 1);

    let list = ask(addr, "ListStreams", &json!({"Limit": 2})).await;
    assert_eq!((&list["StreamNames"], &list["HasMoreStreams"]), (&json!(["events", "other"]), &json!(true)));
    let list = ask(addr, "ListStreams", &json!({"NextToken": list["NextToken"]})).await;
    assert_eq!((&list["StreamNames"], &list["HasMoreStreams"]), (&json!(["s"]), &json!(false)));
    assert_eq!(list["StreamSummaries"][0]["StreamARN"], arn);

    let check = async |operation: &str, input: Value, kind: &str, part: &str| {
        let (got, message) = refused(addr, operation, &input).await;
        assert_eq!(got, kind, "{operation} {input}: {message}");
        assert!(message.contains(part), "{operation} {input}: {message}");
    };
    let named = |name: &str| json!({"StreamName": name});
    let exists = "Stream s under account 000000000000 already exists.";
    check("CreateStream", json!({"StreamName": "s", "ShardCount": 1}), "ResourceInUseException", exists)
        .await;
    check("CreateStream", named("t"), "ValidationException", "'shardCount'").await;
    check(
        "CreateStream",
        json!({"StreamName": "t", "ShardCount": 10_001}),
        "LimitExceededException",
        "10001",
    )
    .await;
    check("DescribeStream", json!({}), "InvalidArgumentException", "StreamName or StreamARN").await;
    let elsewhere = json!({"StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/s"});
    check("DescribeStream", elsewhere, "ResourceNotFoundException", "under account 123456789012").await;
    check("DeleteStream", named("events"), "ResourceInUseException", "delivered by events").await;
    check("DeleteStream", named("gone"), "ResourceNotFoundException", "Stream gone").await;
    check(
        "PutRecord",
        json!({"StreamName": "gone", "Data": "", "PartitionKey": "k"}),
        "ResourceNotFoundException",
        "gone",
    )
    .await;
    check("CreateQueue", json!({}), "UnknownOperationException", "CreateQueue is not supported").await;

    ask(addr, "PutRecord", &json!({"StreamName": "s", "Data": b64(b"x"), "PartitionKey": "k"})).await;
    let at = iterator(addr, "s", "0", "TRIM_HORIZON").await;
    ask(addr, "DeleteStream", &named("s")).await;
    check("GetRecords", json!({"ShardIterator": at}), "ResourceNotFoundException", "Stream s").await;
    create(addr, "s", 1).await;
    check("GetRecords", json!({"ShardIterator": at}), "InvalidArgumentException", "Invalid ShardIterator")
        .await;
    assert_eq!(read_shard(addr, "s", "shardId-000000000000").await, [] as [Value; 0]);
    server.stop().await;
}

#[tokio::test]
async fn dev_makes_what_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"open": true});
    let server = start(dir.path(), Setup { config, auto: true, ..Setup::default() }).await;
    let addr = server.addr;
    ask(addr, "PutRecord", &json!({"StreamName": "first", "Data": b64(b"x"), "PartitionKey": "k"})).await;
    assert_eq!(read_shard(addr, "first", "shardId-000000000000").await.len(), 1);
    create(addr, "second", 3).await;
    let shards = ask(addr, "ListShards", &json!({"StreamName": "second"})).await;
    assert_eq!(shards["Shards"].as_array().unwrap().len(), 3);
    let pipelines = || server.control.list().iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
    assert_eq!(pipelines(), ["events", "first", "other", "second"]);
    ask(addr, "DeleteStream", &json!({"StreamName": "second"})).await;
    assert_eq!(pipelines(), ["events", "first", "other"]);
    let (kind, _) = refused(addr, "DeleteStream", &json!({"StreamName": "events"})).await;
    assert_eq!(kind, "ResourceInUseException", "the configuration made this one");
    server.stop().await;
}

#[tokio::test]
async fn large_records_only_where_they_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 1).await;
    let put = |bytes: usize| json!({"StreamName": "s", "Data": b64(&vec![0; bytes]), "PartitionKey": "k"});
    let mut dry = put(1);
    dry["DryRun"] = true.into();
    assert_eq!(refused(addr, "PutRecord", &dry).await.0, "DryRunOperationException");
    ask(addr, "PutRecord", &put(1 << 20)).await;
    let (kind, message) = refused(addr, "PutRecord", &put((1 << 20) + 1)).await;
    assert_eq!(kind, "ValidationException");
    assert!(message.contains("'data'") && message.contains("1048576"), "{message}");
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    ask(addr, "UpdateMaxRecordSize", &json!({"StreamARN": arn, "MaxRecordSizeInKiB": 4096})).await;
    ask(addr, "PutRecord", &put(4 << 20)).await;
    assert_eq!(read_shard(addr, "s", "shardId-000000000000").await.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn tags_encryption_metrics_and_mode_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    ask(addr, "CreateStream", &json!({"StreamName": "s", "ShardCount": 1, "Tags": {"team": "data"}})).await;
    ask(addr, "AddTagsToStream", &json!({"StreamName": "s", "Tags": {"a": "1", "b": ""}})).await;
    ask(addr, "RemoveTagsFromStream", &json!({"StreamARN": arn, "TagKeys": ["a", "none"]})).await;
    let tags = json!([{"Key": "b", "Value": ""}, {"Key": "team", "Value": "data"}]);
    assert_eq!(
        ask(addr, "ListTagsForStream", &json!({"StreamName": "s"})).await,
        json!({"Tags": tags, "HasMoreTags": false})
    );
    assert_eq!(ask(addr, "ListTagsForResource", &json!({"ResourceARN": arn})).await["Tags"], tags);
    ask(addr, "UntagResource", &json!({"ResourceARN": arn, "TagKeys": ["b", "team"]})).await;
    assert_eq!(ask(addr, "ListTagsForResource", &json!({"ResourceARN": arn})).await["Tags"], json!([]));

    let key = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"});
    ask(addr, "StartStreamEncryption", &key).await;
    let put = json!({"StreamName": "s", "Data": "", "PartitionKey": "k"});
    assert_eq!(ask(addr, "PutRecord", &put).await["EncryptionType"], "KMS");
    let metrics = json!({"StreamName": "s", "ShardLevelMetrics": ["ALL"]});
    let answer = ask(addr, "EnableEnhancedMonitoring", &metrics).await;
    assert_eq!(answer["CurrentShardLevelMetrics"], json!([]));
    assert_eq!(answer["DesiredShardLevelMetrics"].as_array().unwrap().len(), 7);
    let mode = json!({"StreamARN": arn, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ask(addr, "UpdateStreamMode", &mode).await;
    let summary = ask(addr, "DescribeStreamSummary", &json!({"StreamName": "s"})).await;
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!((&summary["EncryptionType"], &summary["KeyId"]), (&json!("KMS"), &json!("alias/aws/kinesis")));
    assert_eq!(summary["StreamModeDetails"], json!({"StreamMode": "ON_DEMAND"}));
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "99"});
    let (kind, message) = refused(addr, "SplitShard", &split).await;
    assert_eq!(
        (kind.as_str(), message.as_str()),
        (
            "ValidationException",
            "Request is invalid. Stream s under account 000000000000 is in On-Demand mode."
        )
    );
    assert_eq!(ask(addr, "DescribeLimits", &json!({})).await["OnDemandStreamCount"], 1);
    server.stop().await;

    // All of it survives a restart.
    let server = start(dir.path(), Setup::default()).await;
    let summary = ask(server.addr, "DescribeStreamSummary", &json!({"StreamName": "s"})).await;
    assert_eq!(summary["StreamDescriptionSummary"]["KeyId"], "alias/aws/kinesis");
    server.stop().await;
}

#[tokio::test]
async fn a_signature_names_its_service() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"auth": {"sigv4_keys": [{"access_key_id": "AK", "secret": "s"}]}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let authorization = "AWS4-HMAC-SHA256 Credential=AK/20261121/us-east-1/firehose/aws4_request, \
                         SignedHeaders=host, Signature=00";
    let headers = [("Authorization", authorization), ("X-Amz-Date", "20261121T100000Z")];
    let reply = kinesis_try(server.addr, "ListStreams", &json!({}), &headers).await.json();
    assert_eq!(reply["__type"], "InvalidSignatureException");
    assert_eq!(reply["message"], "Credential should be scoped to correct service: 'kinesis'. ");
    let reply = kinesis(server.addr, "ListStreams", &json!({})).await.json();
    assert_eq!(reply["__type"], "MissingAuthenticationTokenException");
    server.stop().await;
}
