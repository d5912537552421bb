//! `POST /v1/streams/{stream}/records`.

use std::io::Write;

use serde_json::{Value, json};

use crate::harness::{Reply, Setup, call, send, start};

const POST: &str = "POST /v1/streams/events/records";

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn error(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["error"]["code"].clone())
}

#[tokio::test]
async fn what_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let mut offset = 0;
    let mut check = async |headers: &[(&str, &str)], body: &[u8], records: u64| {
        let reply = send(server.addr, POST, headers, body).await;
        let expect =
            json!({"stream": "events", "first_offset": offset, "records": records, "replayed": false});
        assert_eq!((reply.status, reply.json()), (200, expect), "{headers:?}");
        assert!(reply.header("x-request-id").is_some());
        assert_eq!(reply.header("content-type"), Some("application/json"));
        offset += records;
    };
    let json_type = ("Content-Type", "application/json");
    check(&[], b"{\"a\":1}\n{\"a\":2}\n", 2).await;
    check(&[("Content-Type", "application/x-ndjson; charset=utf-8")], b"{\"a\":1}\r\n\r\n", 1).await;
    check(&[("Content-Type", "text/plain")], b"this is no JSON\n{\"neither\": is this\n", 2).await;
    check(&[json_type], b"[{\"a\":1}, {\"a\":2}, 3]", 3).await;
    check(&[json_type], b"{\n  \"a\": 1\n}\n", 1).await;
    check(&[json_type], b"{\"a\":1}\n{\"a\":2}\n", 2).await;
    check(&[("Content-Encoding", "gzip")], &gzip(b"{\"a\":1}\n{\"a\":2}"), 2).await;
    check(&[("Content-Encoding", "zstd")], &zstd::encode_all(&b"{}\n"[..], 1).unwrap(), 1).await;
    check(&[("Content-Encoding", "gzip"), json_type], &gzip(b"[1,2,3,4]"), 4).await;
    check(&[("Transfer-Encoding", "chunked")], b"4\r\n{}\n{\r\n3\r\n}\n\n\r\n0\r\n\r\n", 2).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"limits": {
        "body_bytes": 1000, "decompressed_bytes": 2000, "records_per_request": 10,
    }});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let check =
        async |request: &str, headers: &[(&str, &str)], body: &[u8], status: u16, code: &str, words: &str| {
            let reply = send(server.addr, request, headers, body).await;
            assert_eq!(error(&reply), (status, json!(code)), "{request} {headers:?}");
            let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(words), "{request} {headers:?}: {message}");
            assert!(reply.header("x-request-id").is_some());
        };
    let json_type = &[("Content-Type", "application/json")];
    let gzipped = &[("Content-Encoding", "gzip")];
    check(POST, &[], b"", 400, "bad_request", "holds no record").await;
    check(POST, &[], b"\n \n", 400, "bad_request", "holds no record").await;
    check(POST, json_type, b"[{\"a\":1}, {\"a\"", 400, "bad_request", "byte 14: the value is cut short")
        .await;
    check(POST, json_type, b"hello", 400, "bad_request", "byte 0: expected `{` or `[`").await;
    check(POST, gzipped, b"no gzip", 400, "bad_request", "not valid gzip").await;
    check(POST, &[("Idempotency-Key", "")], b"{}", 400, "bad_request", "1 to 256 bytes").await;
    check("POST /v1/streams/none/records", &[], b"{}", 404, "unknown_stream", "no stream none").await;
    check("POST /v1/streams/a%20b/records", &[], b"{}", 404, "unknown_stream", "no stream a b").await;
    check("POST /v1/streams/%ff/records", &[], b"{}", 404, "unknown_stream", "no stream").await;
    check("POST /v1/streams/../records", &[], b"{}", 404, "unknown_stream", "no stream ..").await;
    check("POST /v1/nothing", &[], b"{}", 404, "not_found", "nothing here").await;
    check("PUT /v1/streams/events/records", &[], b"", 405, "method_not_allowed", "").await;
    check(POST, &[], &[b'x'; 1001], 413, "too_large", "longer than 1000 bytes").await;
    check(POST, gzipped, &gzip(&[b'x'; 2001]), 413, "too_large", "longer than 2000 bytes").await;
    check(POST, &[], b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11", 413, "too_large", "more than 10 records").await;
    check(POST, &[("Content-Type", "text/csv")], b"a,b", 415, "unsupported_media_type", "x-ndjson").await;
    check(POST, &[("Content-Encoding", "br")], b"x", 415, "unsupported_encoding", "gzip").await;
    check(POST, &[("Content-Encoding", "gzip, zstd")], b"x", 415, "unsupported_encoding", "gzip").await;
    server.stop().await;
}

#[tokio::test]
async fn memory_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"limits": {"in_flight_bytes": "48KiB"}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let check = async |headers: &[(&str, &str)], body: &[u8], expect: u16| {
        let reply = send(server.addr, POST, headers, body).await;
        assert_eq!(reply.status, expect, "{:?}", reply.json());
        if expect == 429 {
            assert_eq!((error(&reply).1, reply.header("retry-after")), (json!("busy"), Some("1")));
        }
    };
    let gzipped = &[("Content-Encoding", "gzip")];
    check(&[], &[b'x'; 48 << 10], 200).await;
    check(&[], &[b'x'; 49 << 10], 429).await;
    check(gzipped, &gzip(&[b'x'; 10_000]), 200).await;
    check(gzipped, &gzip(&[b'x'; 100_000]), 429).await;
    let put = json!({"DeliveryStreamName": "events", "Record": {"Data": "YWFh".repeat(10_000)}});
    let reply = call(server.addr, "PutRecord", &put).await;
    assert_eq!((reply.status, reply.json()["__type"].clone()), (503, json!("ServiceUnavailableException")));
    server.stop().await;
}

#[tokio::test]
async fn a_key_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let key = &[("Idempotency-Key", "3f2a")];
    let first = send(server.addr, POST, key, b"{\"a\":1}\n{\"a\":2}\n").await.json();
    let again = send(server.addr, POST, key, b"{\"a\":1}\n{\"a\":2}\n").await.json();
    assert_eq!(first["replayed"], json!(false));
    assert_eq!(again, json!({"stream": "events", "first_offset": 0, "records": 2, "replayed": true}));
    let other = send(server.addr, "POST /v1/streams/other/records", key, b"{}").await.json();
    assert_eq!((&other["first_offset"], &other["replayed"]), (&json!(0), &json!(false)));
    server.stop().await;
}

#[tokio::test]
async fn tokens_rates_and_a_full_journal() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "auth": {"bearer_tokens": ["sesame"]}, "limits": {"requests_per_second": 2},
    });
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let bearer = &[("Authorization", "Bearer sesame")];
    assert_eq!(error(&send(server.addr, POST, &[], b"{}").await), (401, json!("unauthorized")));
    assert_eq!(error(&send(server.addr, "GET /v1/status", &[], b"").await), (401, json!("unauthorized")));
    assert_eq!(send(server.addr, "GET /v1/status", bearer, b"").await.status, 200);
    assert_eq!(send(server.addr, "GET /metrics", bearer, b"").await.status, 200);
    assert_eq!(
        call(server.addr, "ListDeliveryStreams", &json!({})).await.json()["__type"],
        "MissingAuthenticationTokenException"
    );
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let reply = send(server.addr, POST, bearer, b"{}").await;
        if reply.status == 429 {
            assert_eq!((error(&reply).1, reply.header("retry-after")), (json!("rate_limited"), Some("1")));
        }
        statuses.push(reply.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    server.stop().await;
}
