//! What sliced sources hold, taken and counted through the door.

use std::sync::Arc;
use std::time::Duration;

use lakeward_engine::SlicedSpec;
use lakeward_model::conformance::{MemorySlices, plain_slice};
use lakeward_model::{Captured, Failure, FailureKind, Slice, SliceFailure, StreamName, Timestamp, Wanted};
use serde_json::{Value, json};

use crate::harness::{Server, Setup, send, start};

const TOKEN: (&str, &str) = ("Authorization", "Bearer let-me-in");
const HOUR: i64 = 3_600_000_000;

fn source() -> MemorySlices {
    let source = MemorySlices::default();
    for hour in 0..5 {
        let slice = Slice {
            date: Some(Timestamp(hour * HOUR)),
            bytes: Some(100),
            ready_at: (hour == 4).then_some(Timestamp(i64::MAX / 2)),
            captured: vec![Captured::new("section_id", &(hour % 2).to_string(), true)],
            ..plain_slice(&format!("hour/{hour}"))
        };
        let count = if hour == 3 { 0 } else { 2 };
        source.add(slice, (0..count).map(|n| json!({"n": hour * 10 + n}).to_string()).collect());
    }
    source
}

async fn serve(dir: &std::path::Path, source: &MemorySlices) -> Server {
    let spec = SlicedSpec {
        name: "hours".into(),
        stream: StreamName::new("events").unwrap(),
        kind: "memory".into(),
        source: Arc::new(source.clone()),
        announcements: None,
        parallel: 2,
        every: Duration::from_secs(3_600),
        schedule: None,
        growing: None,
        wanted: Wanted::default(),
        looks: false,
    };
    let config = json!({"auth": {"bearer_tokens": ["let-me-in"]}});
    let setup = Setup { config, age: Duration::from_millis(10), sliced: vec![spec], ..Setup::default() };
    start(dir, setup).await
}

async fn call(server: &Server, line: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let reply = send(server.addr, line, &[TOKEN], body.as_bytes()).await;
    (reply.status, reply.json())
}

async fn ended(server: &Server, id: &str, delivered: bool) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let (status, run) = call(server, &format!("GET /v1/runs/{id}"), &Value::Null).await;
        assert_eq!(status, 200);
        if !run["ended_at"].is_null() && (!delivered || run["delivered"] == true) {
            return run;
        }
        assert!(tokio::time::Instant::now() < deadline, "{run}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn states(list: &Value) -> Vec<(&str, &str)> {
    let slices = list["slices"].as_array().expect("slices");
    slices.iter().map(|it| (it["name"].as_str().unwrap(), it["state"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn slices_are_listed_taken_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let source = source();
    source.script(|s| {
        s.read_failures.insert("hour/1".into(), [SliceFailure::Broken("no gzip".into())].into());
    });
    let server = serve(dir.path(), &source).await;
    let (status, list) =
        call(&server, "GET /v1/sources/hours/slices?to=1970-01-01T01:00:00Z", &Value::Null).await;
    assert_eq!((status, states(&list)), (200, vec![("hour/0", "new")]));
    assert_eq!(list["dates"], "the date that the test gave it");
    let first = &list["slices"][0];
    assert_eq!((&first["date"], &first["bytes"]), (&json!("1970-01-01T00:00:00Z"), &json!(100)));
    assert_eq!((&first["captured"], &first["pipelines"]), (&json!({"section_id": 0}), &json!({})));
    let (_, page) =
        call(&server, "GET /v1/sources/hours/slices?limit=2&where=section_id=0", &Value::Null).await;
    assert_eq!((states(&page).len(), &page["next"]), (2, &json!("hour/2")));
    let (_, rest) = call(&server, "GET /v1/sources/hours/slices?after=hour/2", &Value::Null).await;
    assert_eq!((states(&rest), rest.get("next")), (vec![("hour/3", "new"), ("hour/4", "not_ready")], None));

    let asked = json!({"kind": "take", "wanted": {"from": "1970-01-01T01:00:00+00:00"}});
    let (status, run) = call(&server, "POST /v1/sources/hours/runs", &asked).await;
    assert_eq!((status, &run["source"], &run["again"]), (202, &json!("hours"), &json!(false)));
    let run = ended(&server, run["id"].as_str().unwrap(), true).await;
    let seen = |run: &Value, keys: &[&str]| keys.iter().map(|key| run[*key].clone()).collect::<Vec<_>>();
    let counts = ["slices", "slices_done", "slices_empty", "slices_not_ready", "slices_set_aside", "records"];
    assert_eq!(seen(&run, &counts), [4, 1, 1, 1, 1, 2].map(Value::from), "{run}");
    assert_eq!((&run["state"], &run["expected_bytes"]), (&json!("done"), &json!(300)));
    let id = run["id"].as_str().unwrap();
    let (_, of_run) = call(&server, &format!("GET /v1/runs/{id}/slices"), &Value::Null).await;
    let expect =
        vec![("hour/1", "failed"), ("hour/2", "exported"), ("hour/3", "empty"), ("hour/4", "not_ready")];
    assert_eq!(states(&of_run), expect);
    assert_eq!((&of_run["slices"][0]["reason"], &of_run["next"]), (&json!("no gzip"), &Value::Null));
    let (_, page) =
        call(&server, &format!("GET /v1/runs/{id}/slices?after=hour/1&limit=1"), &Value::Null).await;
    assert_eq!((states(&page), &page["next"]), (vec![("hour/2", "exported")], &json!("hour/2")));

    let (_, list) = call(&server, "GET /v1/sources/hours/slices", &Value::Null).await;
    let expect = ["new", "set_aside", "taken", "taken", "not_ready"];
    assert_eq!(states(&list).iter().map(|(_, state)| *state).collect::<Vec<_>>(), expect);
    let (_, status) = call(&server, "GET /v1/status", &Value::Null).await;
    let told = &status["sources"][0];
    assert_eq!(
        seen(told, &["taken", "set_aside", "open", "next_look"]),
        [json!(2), json!(1), json!(0), Value::Null]
    );

    let (_, count) = call(&server, "POST /v1/sources/hours/runs", &json!({"kind": "count"})).await;
    let count = ended(&server, count["id"].as_str().unwrap(), false).await;
    assert_eq!(seen(&count, &counts), [5, 3, 1, 1, 0, 6].map(Value::from), "{count}");
    let (_, runs) = call(&server, "GET /v1/runs?source=hours", &Value::Null).await;
    assert_eq!(runs.as_array().unwrap().len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_run_is_begun_once_and_can_be_ended() {
    let dir = tempfile::tempdir().unwrap();
    let source = source();
    source.script(|s| {
        s.list_failures = (0..100_000).map(|_| Failure::new(FailureKind::NotDone, "busy")).collect();
    });
    let server = serve(dir.path(), &source).await;
    let asked = json!({"kind": "take"});
    let (_, run) = call(&server, "POST /v1/sources/hours/runs", &asked).await;
    let (status, same) = call(&server, "POST /v1/sources/hours/runs", &asked).await;
    assert_eq!((status, &same["id"]), (202, &run["id"]));
    let line = format!("DELETE /v1/runs/{}", run["id"].as_str().unwrap());
    let (status, cancelled) = call(&server, &line, &Value::Null).await;
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")));
    assert_eq!(call(&server, &line, &Value::Null).await.1["state"], "cancelled");
    let (_, other) = call(&server, "POST /v1/sources/hours/runs", &asked).await;
    assert_ne!(other["id"], run["id"]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = source();
    let server = serve(dir.path(), &source).await;
    let check = async |line: &str, body: Value, status: u16, code: &str| {
        let (seen, answer) = call(&server, line, &body).await;
        assert_eq!((seen, &answer["error"]["code"]), (status, &json!(code)), "{line}: {answer}");
    };
    check("GET /v1/sources/none/slices", Value::Null, 404, "unknown_source").await;
    check("GET /v1/sources/hours/slices?from=now", Value::Null, 400, "bad_request").await;
    check("POST /v1/sources/none/runs", json!({"kind": "take"}), 404, "unknown_source").await;
    check("POST /v1/sources/hours/runs", json!({"kind": "eat"}), 400, "bad_request").await;
    check("POST /v1/sources/hours/runs", json!({"kind": "take", "wanted": {"form": 1}}), 400, "bad_request")
        .await;
    let replace = json!({"kind": "take", "again": true, "replace": "events"});
    check("POST /v1/sources/hours/runs", replace, 400, "bad_request").await;
    let nil = uuid::Uuid::nil();
    check(&format!("GET /v1/runs/{nil}"), Value::Null, 404, "unknown_run").await;
    check(&format!("DELETE /v1/runs/{nil}"), Value::Null, 404, "unknown_run").await;
    check("GET /v1/runs/x/slices", Value::Null, 404, "unknown_run").await;
    source.script(|s| {
        let refuse = |kind| Failure::new(kind, "no permission to list");
        s.list_failures = [refuse(FailureKind::Refused), refuse(FailureKind::NotDone)].into();
    });
    check("GET /v1/sources/hours/slices", Value::Null, 502, "source_refused").await;
    check("GET /v1/sources/hours/slices", Value::Null, 502, "source_unavailable").await;
    for line in ["GET /v1/sources/hours/slices", "POST /v1/sources/hours/runs", "GET /v1/runs"] {
        assert_eq!(send(server.addr, line, &[], b"").await.status, 401, "{line}");
    }
    source.script(|s| s.list_failures = [Failure::new(FailureKind::Refused, "no permission to list")].into());
    let (_, run) = call(&server, "POST /v1/sources/hours/runs", &json!({"kind": "take"})).await;
    let run = ended(&server, run["id"].as_str().unwrap(), false).await;
    assert_eq!((&run["state"], &run["error"]["kind"]), (&json!("failed"), &json!("refused")));
    assert_eq!(run["error"]["message"], "no permission to list");
    server.stop().await;
}
