//! Firehose's HTTP-endpoint delivery protocol, receiving.

use serde_json::{Value, json};

use crate::harness::{Setup, send, start};

const KEY: (&str, &str) = ("X-Amz-Firehose-Access-Key", "let-me-in");

fn body(id: &str, data: &[&[u8]]) -> Value {
    let records: Vec<_> =
        data.iter().map(|d| json!({"data": base64_simd::STANDARD.encode_to_string(d)})).collect();
    json!({"requestId": id, "timestamp": 1_578_090_901_599_u64, "records": records})
}

#[tokio::test]
async fn deliveries() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"auth": {"firehose_access_keys": ["let-me-in"]}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let check =
        async |path: &str, headers: &[(&str, &str)], body: &[u8], status: u16, words: Option<&str>| {
            let mut all =
                vec![("X-Amz-Firehose-Request-Id", "r-1"), ("X-Amz-Firehose-Protocol-Version", "1.0")];
            all.extend_from_slice(headers);
            let reply = send(server.addr, &format!("POST {path}"), &all, body).await;
            let json = reply.json();
            assert_eq!((reply.status, json["requestId"].as_str()), (status, Some("r-1")), "{json}");
            assert!(json["timestamp"].as_u64().is_some_and(|t| t > 1_700_000_000_000), "{json}");
            assert_eq!(reply.header("content-type"), Some("application/json"));
            match words {
                None => assert_eq!(json.get("errorMessage"), None),
                Some(words) => assert!(json["errorMessage"].as_str().unwrap().contains(words), "{json}"),
            }
        };
    let good = body("r-1", &[b"{\"a\":1}", b"{\"a\":2}"]).to_string();
    let good = good.as_bytes();
    check("/firehose/events", &[KEY], good, 200, None).await;
    check("/v1/streams/events/firehose", &[KEY], good, 200, None).await;
    let packed = zstd::encode_all(good, 1).unwrap();
    check("/firehose/events", &[KEY, ("Content-Encoding", "zstd")], &packed, 200, None).await;
    assert_eq!(server.control.status()[0].received, 2, "retries land once");
    check("/firehose/events", &[KEY], body("r-1", &[]).to_string().as_bytes(), 200, None).await;

    check("/firehose/events", &[], good, 401, Some("access key")).await;
    check("/firehose/events", &[(KEY.0, "let-me-out")], good, 401, Some("access key")).await;
    check("/firehose/none", &[KEY], good, 404, Some("no stream none")).await;
    check("/firehose/events", &[KEY], b"[]", 400, Some("not a Firehose delivery")).await;
    check("/firehose/events", &[KEY], body("r-2", &[]).to_string().as_bytes(), 400, Some("not the same"))
        .await;
    let bad = json!({"requestId": "r-1", "timestamp": 1, "records": [{"data": "YQ=="}, {"data": "Y"}]});
    check("/firehose/events", &[KEY], bad.to_string().as_bytes(), 400, Some("data of record 1")).await;
    let many = body("r-1", &vec![&b"x"[..]; 10_001]).to_string();
    check("/firehose/events", &[KEY], many.as_bytes(), 413, Some("more than 10000 records")).await;
    assert_eq!(server.control.status()[0].received, 2, "what is refused adds nothing");
    server.stop().await;
}
