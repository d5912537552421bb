//! Records leave quarantine through the door, each once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, Setup, send, start};

const TOKEN: (&str, &str) = ("Authorization", "Bearer let-me-in");

async fn settled(server: &Server) -> lakeward_engine::PipelineStatus {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let status = server.control.status().into_iter().find(|s| s.pipeline == "events").unwrap();
        assert_eq!(status.received, status.counts.settled() + status.pending);
        if status.pending == 0 && status.received > 0 {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn get(server: &Server, path: &str) -> (u16, Value) {
    let reply = send(server.addr, &format!("GET {path}"), &[TOKEN], b"").await;
    (reply.status, reply.json())
}

async fn replay(server: &Server, body: &[u8]) -> (u16, Value) {
    let reply = send(server.addr, "POST /v1/pipelines/events/replay", &[TOKEN], body).await;
    (reply.status, reply.json())
}

fn body(records: &[(uuid::Uuid, u64, &[u8])]) -> Vec<u8> {
    let records: Vec<_> = records
        .iter()
        .map(|(source, offset, data)| {
            let data = base64_simd::STANDARD.encode_to_string(data);
            json!({"source": source, "offset": offset, "received_at": 1_700_000_000_000_000_i64, "data_base64": data})
        })
        .collect();
    json!({ "records": records }).to_string().into_bytes()
}

#[tokio::test]
async fn records_leave_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"auth": {"bearer_tokens": ["let-me-in"]}});
    let setup = Setup { config, age: Duration::from_millis(10), ..Setup::default() };
    let server = start(dir.path(), setup).await;
    let lines = b"{\"n\":1}\n{broken\n{\"n\":2}\n{again";
    assert_eq!(send(server.addr, "POST /v1/streams/events/records", &[TOKEN], lines).await.status, 200);
    let before = settled(&server).await;
    assert_eq!((before.counts.delivered, before.counts.quarantined), (2, 2));
    let source = before.incarnation;
    let offsets = format!("/v1/pipelines/events/replayed?source={source}");
    assert_eq!(get(&server, &offsets).await, (200, json!([])));

    let fixed = body(&[(source, 1, b"{\"n\":3}"), (source, 1, b"{\"n\":3}"), (source, 99, b"{}")]);
    let (status, first) = replay(&server, &fixed).await;
    assert_eq!(
        (status, &first["queued"], &first["already"], &first["unknown"]),
        (200, &json!(1), &json!(1), &json!(1))
    );
    let after = settled(&server).await;
    assert_eq!((after.counts.delivered, after.counts.quarantined, after.replayed), (3, 1, 1));
    let (status, second) = replay(&server, &fixed).await;
    assert_eq!((status, &second["queued"], &second["already"]), (200, &json!(0), &json!(2)));
    assert_eq!(second.get("replay"), None);
    assert_eq!(get(&server, &offsets).await, (200, json!([1])));
    assert_eq!(get(&server, &format!("{offsets}&from=2")).await, (200, json!([])));

    // What comes back into quarantine leaves it under its replay's name.
    let (_, third) = replay(&server, &body(&[(source, 3, b"{still")])).await;
    assert_eq!(settled(&server).await.counts.quarantined, 1);
    let its: uuid::Uuid = serde_json::from_value(third["replay"].clone()).unwrap();
    let (_, fourth) = replay(&server, &body(&[(its, 0, b"{\"n\":4}")])).await;
    assert_eq!(fourth["queued"], 1);
    let end = settled(&server).await;
    assert_eq!((end.received, end.counts.delivered, end.counts.quarantined), (4, 4, 0));

    // A record that was delivered is none of quarantine's, whatever is asked.
    let (_, never) = replay(&server, &body(&[(source, 0, b"{}"), (source, 2, b"{}")])).await;
    assert_eq!((&never["queued"], &never["unknown"]), (&json!(0), &json!(2)));
    server.stop().await;
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"auth": {"bearer_tokens": ["let-me-in"]}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let id = uuid::Uuid::nil();
    let check = async |path: &str, headers: &[(&str, &str)], body: &[u8], status: u16, words: &str| {
        let reply = send(server.addr, path, headers, body).await;
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains(words), "{}", reply.json());
    };
    let post = "POST /v1/pipelines/events/replay";
    let good = body(&[(id, 0, b"{}")]);
    check(post, &[], &good, 401, "bearer").await;
    check("POST /v1/pipelines/none/replay", &[TOKEN], &good, 404, "no pipeline named none").await;
    check(post, &[TOKEN], b"[", 400, "not a replay").await;
    let bad = br#"{"records":[{"source":"00000000-0000-0000-0000-000000000000","offset":0,"received_at":0,"data_base64":"?"}]}"#;
    check(post, &[TOKEN], bad, 400, "record 0").await;
    check(post, &[TOKEN], &body(&vec![(id, 0, &b""[..]); 10_001]), 413, "10000 records").await;
    let half = vec![b'x'; 5 << 20];
    check(post, &[TOKEN], &body(&[(id, 0, &half), (id, 1, &half)]), 413, "bytes of records").await;
    check("GET /v1/pipelines/events/replayed", &[TOKEN], b"", 400, "source").await;
    check("GET /v1/pipelines/none/schemas", &[TOKEN], b"", 404, "none").await;
    check("GET /v1/pipelines/events/schemas", &[], b"", 401, "bearer").await;
    assert_eq!(get(&server, "/v1/pipelines/events/schemas").await, (200, json!([])));
    server.stop().await;
}
