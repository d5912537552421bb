//! Enhanced fan-out: consumers, and records that are pushed.

use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{Server, Setup, ask, refused, start};
use crate::kinesis::create;

/// A subscription over HTTP/2.
struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

/// What a frame says: kind of message, kind of event, payload.
type Event = (String, String, Value);

impl Events {
    async fn open(server: &Server, consumer: &str, shard: &str, position: Value) -> Self {
        Self::try_open(server, consumer, shard, position).await.unwrap()
    }

    /// `None` if it is refused.
    async fn try_open(server: &Server, consumer: &str, shard: &str, position: Value) -> Option<Self> {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let input = json!({"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": position});
        let request = axum::http::Request::post(format!("http://{}/", server.addr))
            .header("x-amz-target", "Kinesis_20131202.SubscribeToShard")
            .header("content-type", "application/x-amz-json-1.1")
            .body(Full::new(Bytes::from(input.to_string())))
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        if response.status() != 200 {
            return None;
        }
        assert_eq!(response.headers()["content-type"], "application/vnd.amazon.eventstream");
        // The connection lives as long as its body is read.
        tokio::spawn(async move {
            let _client = client;
            std::future::pending::<()>().await;
        });
        let mut events = Self { body: response.into_body(), buffer: Vec::new() };
        let first = events.next().await.unwrap();
        assert_eq!((first.0.as_str(), first.1.as_str()), ("event", "initial-response"));
        Some(events)
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.take() {
                return Some(event);
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await.unwrap()?;
            self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    fn take(&mut self) -> Option<Event> {
        let length = (&self.buffer[..]).try_get_u32().ok()? as usize;
        if self.buffer.len() < length {
            return None;
        }
        let frame: Vec<u8> = self.buffer.drain(..length).collect();
        let header_bytes = (&frame[4..]).get_u32() as usize;
        let (mut headers, payload) = (&frame[12..12 + header_bytes], &frame[12 + header_bytes..length - 4]);
        let (mut message, mut kind) = (String::new(), String::new());
        while headers.has_remaining() {
            let name = take_text(&mut headers, 1);
            assert_eq!(headers.get_u8(), 7);
            let value = take_text(&mut headers, 2);
            match name.as_str() {
                ":message-type" => message = value,
                ":event-type" | ":exception-type" => kind = value,
                _ => assert_eq!(
                    (name.as_str(), value.as_str()),
                    (":content-type", "application/x-amz-json-1.1")
                ),
            }
        }
        Some((message, kind, serde_json::from_slice(payload).unwrap()))
    }

    /// The next records, and where to go on behind them.
    async fn records(&mut self) -> (Vec<String>, Value) {
        loop {
            let (message, kind, payload) = self.next().await.unwrap();
            assert_eq!((message.as_str(), kind.as_str()), ("event", "SubscribeToShardEvent"), "{payload}");
            let data = |record: &Value| record["Data"].as_str().unwrap().to_owned();
            let records: Vec<_> = payload["Records"].as_array().unwrap().iter().map(data).collect();
            if !records.is_empty() {
                return (records, payload["ContinuationSequenceNumber"].clone());
            }
        }
    }
}

fn take_text(from: &mut &[u8], length_bytes: usize) -> String {
    let length = from.get_uint(length_bytes) as usize;
    let (text, rest) = from.split_at(length);
    *from = rest;
    String::from_utf8(text.to_vec()).unwrap()
}

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

async fn register(server: &Server, name: &str) -> String {
    let input = json!({"StreamARN": ARN, "ConsumerName": name});
    let answer = ask(server.addr, "RegisterStreamConsumer", &input).await;
    answer["Consumer"]["ConsumerARN"].as_str().unwrap().to_owned()
}

async fn put(server: &Server, data: &str) {
    let data = base64_simd::STANDARD.encode_to_string(data);
    ask(server.addr, "PutRecord", &json!({"StreamName": "s", "Data": data, "PartitionKey": "k"})).await;
}

fn b64(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(text)
}

#[tokio::test]
async fn records_are_pushed_until_the_shard_ends() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    create(server.addr, "s", 1).await;
    let consumer = register(&server, "app").await;
    let shard = "shardId-000000000000";
    let mut events = Events::open(&server, &consumer, shard, json!({"Type": "TRIM_HORIZON"})).await;
    let (_, _, empty) = events.next().await.unwrap();
    assert_eq!((&empty["Records"], &empty["ContinuationSequenceNumber"]), (&json!([]), &json!("0")));
    put(&server, "one").await;
    assert_eq!(events.records().await.0, [b64("one")]);
    put(&server, "two").await;
    let (two, after) = events.records().await;
    assert_eq!(two, [b64("two")]);
    put(&server, "three").await;
    assert_eq!(events.records().await.0, [b64("three")]);

    // Another consumer goes on where this one was; and from the very start.
    let other = register(&server, "other").await;
    let position = json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after});
    let mut behind = Events::open(&server, &other, shard, position).await;
    assert_eq!(behind.records().await.0, [b64("three")]);
    let third = register(&server, "third").await;
    let position = json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "0"});
    let mut whole = Events::open(&server, &third, shard, position).await;
    assert_eq!(whole.records().await.0, [b64("one"), b64("two"), b64("three")]);

    let half = (1_u128 << 127).to_string();
    let split = json!({"StreamName": "s", "ShardToSplit": shard, "NewStartingHashKey": half});
    ask(server.addr, "SplitShard", &split).await;
    put(&server, "four").await;
    let end = loop {
        let (_, _, payload) = events.next().await.unwrap();
        assert_eq!(payload["Records"], json!([]), "what came after the split is the children's");
        if payload["ChildShards"].is_array() {
            break payload;
        }
    };
    assert_eq!(end["ContinuationSequenceNumber"], Value::Null);
    assert_eq!(end["ChildShards"].as_array().unwrap().len(), 2);
    assert_eq!(end["ChildShards"][0]["ParentShards"], json!([shard]));
    assert_eq!(events.next().await, None);
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_subscriptions_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    create(server.addr, "s", 1).await;
    let consumer = register(&server, "app").await;
    let mut events =
        Events::open(&server, &consumer, "shardId-000000000000", json!({"Type": "LATEST"})).await;
    tokio::time::timeout(Duration::from_secs(5), server.stop()).await.expect("nothing holds it up");
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn one_subscription_for_a_consumer_and_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    create(server.addr, "s", 1).await;
    let consumer = register(&server, "app").await;
    let shard = "shardId-000000000000";
    let mut events = Events::open(&server, &consumer, shard, json!({"Type": "LATEST"})).await;
    let input = json!({"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": {"Type": "LATEST"}});
    assert_eq!(refused(server.addr, "SubscribeToShard", &input).await.0, "ResourceInUseException");
    let input = json!({"ConsumerARN": format!("{ARN}/consumer/app:1"), "ShardId": shard, "StartingPosition": {"Type": "LATEST"}});
    assert_eq!(refused(server.addr, "SubscribeToShard", &input).await.0, "ResourceNotFoundException");
    ask(server.addr, "DeregisterStreamConsumer", &json!({"ConsumerARN": consumer})).await;
    let last = loop {
        let event = events.next().await.unwrap();
        if event.0 == "exception" {
            break event;
        }
    };
    assert_eq!(last.1, "ResourceInUseException");
    assert_eq!(events.next().await, None);
    server.stop().await;
}

/// The first five seconds of a subscription are its own; after that another
/// takes over, and the first one learns why.
#[tokio::test]
async fn a_later_subscription_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    create(server.addr, "s", 1).await;
    let consumer = register(&server, "app").await;
    let shard = "shardId-000000000000";
    let begun = tokio::time::Instant::now();
    let mut first = Events::open(&server, &consumer, shard, json!({"Type": "LATEST"})).await;
    let mut second = loop {
        match Events::try_open(&server, &consumer, shard, json!({"Type": "LATEST"})).await {
            Some(events) => break events,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert!(begun.elapsed() >= Duration::from_secs(5));
    while let Some((message, kind, _)) = first.next().await {
        assert!(message == "event" || kind == "ResourceInUseException");
    }
    put(&server, "one").await;
    assert_eq!(second.records().await.0, [b64("one")]);
    drop(second);
    // One whose connection has ended is no obstacle.
    let mut third = None;
    while third.is_none() {
        third = Events::try_open(&server, &consumer, shard, json!({"Type": "TRIM_HORIZON"})).await;
    }
    assert_eq!(third.unwrap().records().await.0, [b64("one")]);
    server.stop().await;
}

#[tokio::test]
async fn consumers_are_registered_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let addr = server.addr;
    create(addr, "s", 1).await;
    let first = register(&server, "b").await;
    register(&server, "a").await;
    let named = json!({"StreamARN": ARN, "ConsumerName": "b"});
    assert_eq!(refused(addr, "RegisterStreamConsumer", &named).await.0, "ResourceInUseException");
    let described = ask(addr, "DescribeStreamConsumer", &named).await["ConsumerDescription"].clone();
    assert_eq!((&described["ConsumerARN"], &described["ConsumerStatus"]), (&json!(first), &json!("ACTIVE")));
    assert_eq!(described["StreamARN"], ARN);
    let page = ask(addr, "ListStreamConsumers", &json!({"StreamARN": ARN, "MaxResults": 1})).await;
    assert_eq!(page["Consumers"][0]["ConsumerName"], "a");
    let rest = json!({"StreamARN": ARN, "NextToken": page["NextToken"]});
    assert_eq!(ask(addr, "ListStreamConsumers", &rest).await["Consumers"][0]["ConsumerName"], "b");
    ask(addr, "TagResource", &json!({"ResourceARN": first, "Tags": {"x": "y"}})).await;
    let tags = ask(addr, "ListTagsForResource", &json!({"ResourceARN": first})).await;
    assert_eq!(tags["Tags"], json!([{"Key": "x", "Value": "y"}]));

    assert_eq!(refused(addr, "DeleteStream", &json!({"StreamName": "s"})).await.0, "ResourceInUseException");
    ask(addr, "DeregisterStreamConsumer", &named).await;
    let again = register(&server, "b").await;
    assert_ne!(again, first, "a consumer that was registered anew is another one");
    let gone = json!({"ConsumerARN": first});
    let (kind, message) = refused(addr, "DescribeStreamConsumer", &gone).await;
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("ResourceNotFoundException", "Consumer b, account 000000000000 not found.")
    );
    ask(addr, "DeleteStream", &json!({"StreamName": "s", "EnforceConsumerDeletion": true})).await;
    server.stop().await;
}

/// Records of other shards wake a subscription; they must not keep it silent.
#[tokio::test]
async fn a_quiet_shard_beside_a_busy_one_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    create(server.addr, "s", 2).await;
    let consumer = register(&server, "app").await;
    let position = json!({"Type": "TRIM_HORIZON"});
    let mut events = Events::open(&server, &consumer, "shardId-000000000001", position).await;
    let (_, _, first) = events.next().await.unwrap();
    assert_eq!(first["ContinuationSequenceNumber"], "0");
    let begun = tokio::time::Instant::now();
    let busy = async {
        let input = json!({"StreamName": "s", "Data": "", "PartitionKey": "k", "ExplicitHashKey": "0"});
        loop {
            ask(server.addr, "PutRecord", &input).await;
        }
    };
    let (_, kind, event) = tokio::select! {
        event = events.next() => event.unwrap(),
        () = busy => unreachable!("it goes on"),
    };
    assert_eq!((kind.as_str(), &event["Records"]), ("SubscribeToShardEvent", &json!([])));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_ne!(event["ContinuationSequenceNumber"], "0", "it says what was passed over");
    server.stop().await;
}
