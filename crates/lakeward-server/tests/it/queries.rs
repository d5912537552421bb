//! The query door, with a scripted engine behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use lakeward_server::{Answer, Queries, QueryFailure, QueryFormat};
use serde_json::{Value, json};

use crate::harness::{Reply, Server, Setup, send, start};

/// Its SQL is what it shall do.
#[derive(Debug, Default)]
struct Scripted {
    /// Answers that are not ended or dropped.
    open: Arc<AtomicUsize>,
}

/// Counts an answer for as long as it is there.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Queries for Scripted {
    fn query(&self, sql: String, format: QueryFormat) -> Answer {
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.open));
        let (what, text) = sql.split_once(' ').unwrap_or((&sql, ""));
        let text = text.to_owned();
        let row = || Ok(Bytes::from(format!("{{\"format\":\"{format:?}\"}}\n")));
        let large = || Ok(Bytes::from(vec![b'x'; 700 << 10]));
        let pieces = match what {
            "wrong" => stream::iter([Err(QueryFailure::Wrong(text))]).boxed(),
            "memory" => stream::iter([Err(QueryFailure::Memory(text))]).boxed(),
            "data" => stream::iter([row(), Err(QueryFailure::Data(text))]).boxed(),
            "away" => stream::iter([Err(QueryFailure::Unavailable(text))]).boxed(),
            "bug" => stream::iter([Err(QueryFailure::Internal(text))]).boxed(),
            "late" => stream::iter([large(), large(), large(), Err(QueryFailure::Data(text))]).boxed(),
            "large" => stream::iter([large(), large(), large()]).boxed(),
            "for-ever" => stream::pending().boxed(),
            _ => stream::iter([row(), row()]).boxed(),
        };
        pieces.inspect(move |_| _ = &open).boxed()
    }

    fn tables(&self) -> BoxFuture<'static, Result<Value, QueryFailure>> {
        async { Ok(json!({"tables": [{"name": "events"}]})) }.boxed()
    }
}

async fn serving(dir: &std::path::Path) -> (Server, Arc<AtomicUsize>) {
    let scripted = Scripted::default();
    let open = Arc::clone(&scripted.open);
    let config = json!({"auth": {"bearer_tokens": ["let-me-in"]}});
    (start(dir, Setup { config, queries: Some(Arc::new(scripted)), ..Setup::default() }).await, open)
}

const TOKEN: (&str, &str) = ("Authorization", "Bearer let-me-in");

async fn ask(server: &Server, body: &Value) -> Reply {
    send(server.addr, "POST /v1/query", &[TOKEN], body.to_string().as_bytes()).await
}

#[tokio::test]
async fn an_answer_is_rows_and_a_refusal_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = serving(dir.path()).await;
    let reply = ask(&server, &json!({"sql": "rows"})).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(reply.body, b"{\"format\":\"Ndjson\"}\n{\"format\":\"Ndjson\"}\n");
    let reply = ask(&server, &json!({"sql": "rows", "format": "arrow"})).await;
    assert_eq!(reply.header("content-type"), Some("application/vnd.apache.arrow.stream"));

    let check = async |body: Value, status: u16, code: &str, message: &str| {
        let reply = ask(&server, &body).await;
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, error["code"].as_str()), (status, Some(code)), "{body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(message), "{body}: {error}");
    };
    check(json!({"sql": "wrong there is no table x"}), 400, "query", "there is no table x").await;
    check(json!({"sql": "memory more than it may"}), 422, "query_memory", "more than it may").await;
    // It failed behind its first row, which nobody has seen yet.
    check(json!({"sql": "data no number"}), 422, "query_data", "no number").await;
    check(json!({"sql": "away not now"}), 502, "lake_unavailable", "not now").await;
    check(json!({"sql": "bug oh"}), 500, "internal", "oh").await;
    check(json!({"sql": "rows", "format": "xml"}), 400, "bad_request", "SELECT").await;
    check(json!({"sqll": "rows"}), 400, "bad_request", "sqll").await;
    check(json!({"sql": "x".repeat(2 << 20)}), 413, "too_large", "longer").await;
    for (method, path) in [("POST", "/v1/query"), ("GET", "/v1/tables")] {
        assert_eq!(send(server.addr, &format!("{method} {path}"), &[], b"{}").await.status, 401);
    }
    let tables = send(server.addr, "GET /v1/tables", &[TOKEN], b"").await;
    assert_eq!(tables.json(), json!({"tables": [{"name": "events"}]}));
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_fails_half_way_never_looks_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (server, open) = serving(dir.path()).await;
    let end: &[u8] = b"0\r\n\r\n";
    let whole = ask(&server, &json!({"sql": "large"})).await;
    assert_eq!((whole.status, whole.header("transfer-encoding")), (200, Some("chunked")));
    assert!(whole.body.ends_with(end) && whole.body.len() > 3 * (700 << 10));
    let cut = ask(&server, &json!({"sql": "late no number"})).await;
    assert!(cut.status == 200 && !cut.body.ends_with(end), "{} bytes", cut.body.len());
    assert_eq!(open.load(Ordering::SeqCst), 0);
    server.stop().await;
}

#[tokio::test]
async fn places_are_few_and_come_back_when_the_client_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (server, open) = serving(dir.path()).await;
    let for_ever = json!({"sql": "for-ever"});
    {
        let one = ask(&server, &for_ever);
        let two = ask(&server, &for_ever);
        let third = async {
            while open.load(Ordering::SeqCst) < 2 {
                tokio::task::yield_now().await;
            }
            ask(&server, &json!({"sql": "rows"})).await
        };
        let refused = tokio::select! {
            _ = one => unreachable!("it has no end"),
            _ = two => unreachable!("it has no end"),
            refused = third => refused,
        };
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("2")));
    }
    // Both clients are gone, and with them their queries.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while open.load(Ordering::SeqCst) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "an abandoned query goes on");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(ask(&server, &json!({"sql": "rows"})).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_service_without_an_engine_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let reply = send(server.addr, "POST /v1/query", &[], b"{\"sql\":\"rows\"}").await;
    assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (501, json!("no_queries")));
    server.stop().await;
}
