//! PutRecord and PutRecordBatch.

use serde_json::{Value, json};

use crate::harness::{Setup, call, send, start};

fn b64(data: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(data)
}

#[tokio::test]
async fn records_are_taken_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let put = json!({"DeliveryStreamName": "events", "Record": {"Data": b64(b"{\"a\":1}\n")}});
    let reply = call(server.addr, "PutRecord", &put).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-amz-json-1.1")));
    assert!(reply.header("x-amzn-requestid").is_some_and(|id| id.len() == 36));
    assert_eq!(reply.json()["Encrypted"], json!(false));
    assert_eq!(reply.json()["RecordId"].as_str().map(str::len), Some(32));

    let entries: Vec<_> = (0..500).map(|i| json!({"Data": b64(format!("{i}").as_bytes())})).collect();
    let batch = json!({"DeliveryStreamName": "events", "Records": entries});
    let reply = call(server.addr, "PutRecordBatch", &batch).await.json();
    assert_eq!(reply["FailedPutCount"], json!(0));
    let ids: std::collections::BTreeSet<_> =
        reply["RequestResponses"].as_array().unwrap().iter().map(|r| r["RecordId"].to_string()).collect();
    assert_eq!(ids.len(), 500);
    assert_eq!(server.control.status()[0].received, 501);
    server.stop().await;
}

#[tokio::test]
async fn refusals_have_the_apis_shape() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let check = async |operation: &str, input: Value, status: u16, expect: Value| {
        let reply = call(server.addr, operation, &input).await;
        assert_eq!((reply.status, reply.json()), (status, expect), "{operation} {input:.100}");
        assert_eq!(reply.header("content-type"), Some("application/x-amz-json-1.1"));
    };
    let record = json!({"Data": "YQ=="});
    check(
        "PutRecord",
        json!({"DeliveryStreamName": "none", "Record": record}),
        400,
        json!({"__type": "ResourceNotFoundException", "message": "Firehose none under account 000000000000 not found."}),
    )
    .await;
    check(
        "PutRecordBatch",
        json!({"DeliveryStreamName": "none", "Records": [record]}),
        400,
        json!({"__type": "ResourceNotFoundException", "message": "Firehose none under account 000000000000 not found."}),
    )
    .await;
    check(
        "PutRecordBatch",
        json!({"DeliveryStreamName": "events", "Records": vec![record; 501]}),
        400,
        json!({"__type": "ValidationException", "message": "1 validation error detected: Value at 'records' failed \
               to satisfy constraint: Member must have length less than or equal to 500"}),
    )
    .await;
    check(
        "PutRecord",
        json!({"DeliveryStreamName": "events", "Record": {"Data": b64(&vec![0; 1_024_001])}}),
        400,
        json!({"__type": "ValidationException", "message": "1 validation error detected: Value at 'record.data' \
               failed to satisfy constraint: Member must have length less than or equal to 1024000"}),
    )
    .await;
    check("Nothing", json!({}), 400, json!({"__type": "UnknownOperationException", "message": ""})).await;
    check(
        "PutRecord",
        json!({"DeliveryStreamName": "x".repeat(9 << 20)}),
        413,
        json!({"__type": "RequestEntityTooLargeException", "message": "The request is larger than 8388608 bytes."}),
    )
    .await;
    let untargeted = send(server.addr, "POST /", &[], b"{}").await;
    assert_eq!(
        (untargeted.status, untargeted.json()["__type"].clone()),
        (400, json!("UnknownOperationException"))
    );
    assert_eq!(send(server.addr, "GET /", &[], b"").await.status, 405);
    server.stop().await;
}

#[tokio::test]
async fn a_full_journal_says_slow_down() {
    let dir = tempfile::tempdir().unwrap();
    let journal = lakeward_journal::Options { disk_bytes_max: 1, ..Default::default() };
    let server = start(dir.path(), Setup { journal, ..Setup::default() }).await;
    let record = json!({"Data": b64(&vec![b'x'; 500_000])});
    let (mut one, mut batch, mut plain) = (None, None, None);
    for _ in 0..40 {
        let put = json!({"DeliveryStreamName": "events", "Record": record});
        one = Some(call(server.addr, "PutRecord", &put).await);
        let put = json!({"DeliveryStreamName": "events", "Records": [record, record]});
        batch = Some(call(server.addr, "PutRecordBatch", &put).await);
        plain = Some(send(server.addr, "POST /v1/streams/events/records", &[], &vec![b'x'; 500_000]).await);
        if one.as_ref().is_some_and(|r| r.status != 200) {
            break;
        }
    }
    let (one, batch, plain) = (one.unwrap(), batch.unwrap(), plain.unwrap());
    assert_eq!(one.status, 503);
    assert_eq!(one.json(), json!({"__type": "ServiceUnavailableException", "message": "Slow down."}));
    assert!(one.header("retry-after").is_some());
    let failed = json!({"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."});
    let expect = json!({"FailedPutCount": 2, "Encrypted": false, "RequestResponses": [failed, failed]});
    assert_eq!((batch.status, batch.json()), (200, expect));
    assert_eq!((plain.status, plain.json()["error"]["code"].clone()), (429, json!("journal_full")));
    assert_eq!(send(server.addr, "GET /readyz", &[], b"").await.status, 503);
    assert_eq!(send(server.addr, "GET /healthz", &[], b"").await.status, 200);
    server.stop().await;
}

/// SDKs repeat a call under the same invocation id after a lost reply.
#[tokio::test]
async fn a_repeated_invocation_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let put = async |id: &str, data: &str| {
        let body =
            json!({"DeliveryStreamName": "events", "Record": {"Data": b64(data.as_bytes())}}).to_string();
        let headers = [("X-Amz-Target", "Firehose_20150804.PutRecord"), ("amz-sdk-invocation-id", id)];
        send(server.addr, "POST /", &headers, body.as_bytes()).await.json()["RecordId"].clone()
    };
    let first = put("id-1", "a").await;
    assert_eq!(put("id-1", "a").await, first);
    assert_ne!(put("id-1", "b").await, first);
    assert_ne!(put("id-2", "a").await, first);
    assert_eq!(server.control.status()[0].received, 3);
    server.stop().await;
}

#[tokio::test]
async fn dev_makes_streams_on_first_use() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup { auto: true, ..Setup::default() }).await;
    let put = json!({"DeliveryStreamName": "fresh", "Record": {"Data": b64(b"{}")}});
    assert_eq!(call(server.addr, "PutRecord", &put).await.status, 200);
    let listed = call(server.addr, "ListDeliveryStreams", &json!({})).await.json();
    assert_eq!(
        listed,
        json!({"DeliveryStreamNames": ["events", "fresh", "other"], "HasMoreDeliveryStreams": false})
    );
    server.stop().await;
}
