//! The door for learning software: what its limits answer. What statements may
//! be, and how ids make them count once, is in `tests/test_xapi.py`, with a
//! client of others'.

use serde_json::json;

use crate::harness::{Reply, Server, Setup, send, start};

const STATEMENT: &[u8] =
    br#"{"actor":{"mbox":"mailto:a@b"},"verb":{"id":"http://v"},"object":{"id":"http://o"},"timestamp":"2026-03-01T00:00:00Z"}"#;

fn received(server: &Server) -> u64 {
    server.control.status().iter().map(|pipeline| pipeline.received).sum()
}

/// Whatever is answered, a page's script can read it, and knows the version.
fn told(reply: &Reply) -> (u16, Option<&str>) {
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert_eq!(reply.header("x-experience-api-version"), Some("1.0.3"));
    (reply.status, reply.header("retry-after"))
}

#[tokio::test]
async fn statements_are_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"xapi": {"stream": "events"}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let mut ids = Vec::new();
    for path in ["/xAPI/statements", "/xapi/statements/", "/xAPI/statements?"] {
        let reply = send(server.addr, &format!("POST {path}"), &[], STATEMENT).await;
        assert_eq!(told(&reply), (200, None), "{path}: {:?}", reply.json());
        ids.push(reply.json());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "the same bytes have the same id: {ids:?}");
    assert_eq!(received(&server), 1);
    let array = [b"[", STATEMENT, b"]"].concat();
    assert_eq!(send(server.addr, "POST /xAPI/statements", &[], &array).await.json(), ids[0]);
    assert_eq!(received(&server), 1);
    let nothing = send(server.addr, "POST /xAPI/statements", &[], b"[]").await;
    assert_eq!((nothing.status, nothing.json()), (200, json!([])));
    server.stop().await;
}

#[tokio::test]
async fn limits_answer_in_the_protocols_words() {
    let check = async |limits: serde_json::Value, body: &[u8], expect: (u16, Option<&str>)| {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"xapi": {"stream": "events"}, "limits": limits});
        let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
        let reply = send(server.addr, "POST /xAPI/statements", &[], body).await;
        assert_eq!(told(&reply), expect, "{limits}: {:?}", reply.json());
        assert_eq!(received(&server), 0, "what is refused adds nothing");
        server.stop().await;
    };
    check(json!({"body_bytes": 50}), STATEMENT, (413, None)).await;
    let two = [b"[", STATEMENT, b",", STATEMENT, b"]"].concat();
    check(json!({"records_per_request": 1}), &two, (413, None)).await;
    check(json!({"in_flight_bytes": 1}), &[STATEMENT, &[b' '; 2000]].concat(), (429, Some("1"))).await;
    let deep = [b"{\"actor\":".as_slice(), &b"[".repeat(100_000), b"}"].concat();
    check(json!({}), &deep, (400, None)).await;
}

#[tokio::test]
async fn a_stream_without_a_pipeline_is_a_state_that_passes() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let reply = send(server.addr, "POST /xAPI/statements", &[], STATEMENT).await;
    assert_eq!(told(&reply), (503, Some("1")));
    server.stop().await;
}
