//! The events door for LaunchDarkly's SDKs.

use std::io::Write;
use std::net::SocketAddr;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::{Reply, Server, Setup, send, start};

const KEY: (&str, &str) = ("Authorization", "sdk-one");

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn received(server: &Server, stream: &str) -> u64 {
    server.control.status().iter().find(|p| p.stream.as_str() == stream).unwrap().received
}

#[tokio::test]
async fn what_sdks_send_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"launchdarkly": {"stream": "events", "sdk_keys": ["sdk-one", "client-id"]}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let mut total = 0;
    let mut check = async |path: &str, headers: &[(&str, &str)], body: &[u8], records: u64| {
        let reply = send(server.addr, &format!("POST {path}"), headers, body).await;
        assert_eq!((reply.status, reply.body.as_slice()), (202, &b""[..]), "{path} {headers:?}");
        assert!(reply.header("date").is_some_and(|date| date.ends_with(" GMT")), "{}", reply.headers);
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.header("access-control-expose-headers"), Some("Date"));
        total += records;
        assert_eq!(received(&server, "events"), total, "{path} {headers:?}");
    };
    let two = b"[{\"kind\":\"feature\"}, {\"kind\":\"summary\"}]";
    let id = |id| ("X-LaunchDarkly-Payload-ID", id);
    check("/bulk", &[KEY], two, 2).await;
    check("/bulk", &[("Authorization", "api_key sdk-one")], two, 2).await;
    check("/mobile", &[KEY], two, 2).await;
    check("/mobile/events", &[KEY], two, 2).await;
    check("/mobile/events/bulk", &[KEY], two, 2).await;
    check("/events/bulk/client-id", &[], two, 2).await;
    check("/bulk", &[KEY, ("Content-Encoding", "gzip")], &gzip(two), 2).await;
    check("/bulk", &[KEY, id("p-1")], two, 2).await;
    check("/bulk", &[KEY, id("p-1")], two, 0).await;
    check("/bulk", &[KEY, id("p-2")], two, 2).await;
    check("/bulk", &[KEY, id("")], two, 2).await;
    check("/bulk", &[KEY, id("p-3")], b"[]", 0).await;
    let other = send(server.addr, "POST /v1/streams/events/records", &[KEY], b"{}").await;
    assert_eq!(other.status, 401, "an SDK key opens no other door, and its being there closes them");
    // By default diagnostics are nobody's.
    check("/diagnostic", &[KEY], b"{\"kind\":\"diagnostic-init\"}", 0).await;
    check("/mobile/events/diagnostic", &[KEY], b"{\"kind\":\"diagnostic\"}", 0).await;
    check("/events/diagnostic/client-id", &[], b"{\"kind\":\"diagnostic\"}", 0).await;
    server.stop().await;
}

#[tokio::test]
async fn diagnostics_have_a_stream_of_their_own_if_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"launchdarkly": {"stream": "events", "diagnostics": "other"}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let body = b"{\"kind\":\"diagnostic-init\"}";
    assert_eq!(send(server.addr, "POST /diagnostic", &[], body).await.status, 202);
    assert_eq!((received(&server, "events"), received(&server, "other")), (0, 1));
    server.stop().await;
}

fn refusal(reply: &Reply) -> (u16, Option<&str>) {
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "a page must see the status");
    (reply.status, reply.header("retry-after"))
}

/// A status that stops an SDK for ever is for its key alone.
#[tokio::test]
async fn what_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "launchdarkly": {"stream": "events", "sdk_keys": ["sdk-one"]},
        "limits": {"body_bytes": 1000, "decompressed_bytes": 2000, "records_per_request": 3},
    });
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let check = async |headers: &[(&str, &str)], body: &[u8], status: u16, after: Option<&str>| {
        let reply = send(server.addr, "POST /bulk", headers, body).await;
        assert_eq!(refusal(&reply), (status, after), "{headers:?}: {:?}", reply.json());
    };
    check(&[], b"[]", 401, None).await;
    check(&[("Authorization", "sdk-two")], b"[]", 401, None).await;
    check(&[("Authorization", "")], b"[]", 401, None).await;
    let unknown = send(server.addr, "POST /events/bulk/client-id", &[], b"[]").await;
    assert_eq!(refusal(&unknown), (401, None));
    check(&[KEY], b"[{\"a\":1}, {\"a\"", 400, None).await;
    check(&[KEY], b"hello", 400, None).await;
    check(&[KEY], b"[1,2,3,4]", 400, None).await;
    check(&[KEY], &[b' '; 1001], 400, None).await;
    check(&[KEY, ("Content-Encoding", "gzip")], &gzip(&[b' '; 2001]), 400, None).await;
    check(&[KEY, ("Content-Encoding", "gzip")], b"no gzip", 400, None).await;
    check(&[KEY, ("Content-Encoding", "br")], b"[]", 400, None).await;
    check(&[KEY, ("X-LaunchDarkly-Payload-ID", &"x".repeat(244))], b"[]", 400, None).await;
    assert_eq!(received(&server, "events"), 0, "what is refused adds nothing");
    server.stop().await;
}

#[tokio::test]
async fn what_passes_is_503() {
    // No pipeline delivers the stream yet.
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let reply = send(server.addr, "POST /bulk", &[], b"[{}]").await;
    assert_eq!(refusal(&reply), (503, Some("1")));
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("launchdarkly-events"));
    server.stop().await;

    // Too many requests, too many bytes in flight.
    for limits in [json!({"requests_per_second": 1}), json!({"in_flight_bytes": 1024})] {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"launchdarkly": {"stream": "events"}, "limits": limits});
        let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
        let body = format!("[\"{}\"]", "x".repeat(900));
        let mut last = send(server.addr, "POST /bulk", &[], body.as_bytes()).await;
        if last.status == 202 {
            last = send(server.addr, "POST /bulk", &[], body.as_bytes()).await;
        }
        assert_eq!(refusal(&last), (503, Some("1")), "{limits}");
        server.stop().await;
    }

    // The journal is full.
    let dir = tempfile::tempdir().unwrap();
    let journal =
        lakeward_journal::Options { disk_bytes_max: 1 << 20, segment_bytes: 1 << 20, ..Default::default() };
    let config = json!({"launchdarkly": {"stream": "events"}});
    let server = start(dir.path(), Setup { config, journal, ..Setup::default() }).await;
    let body = format!("[\"{}\"]", "x".repeat(200_000));
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let reply = send(server.addr, "POST /bulk", &[], body.as_bytes()).await;
        statuses.push(reply.status);
        if reply.status != 202 {
            assert_eq!(refusal(&reply), (503, Some("1")));
        }
    }
    assert!(statuses.contains(&202) && statuses.contains(&503), "{statuses:?}");
    server.stop().await;
}

#[tokio::test]
async fn browsers_ask_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"launchdarkly": {"sdk_keys": ["sdk-one"]}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    for path in ["/events/bulk/client-id", "/events/diagnostic/client-id", "/bulk", "/mobile"] {
        let wish = "x-launchdarkly-payload-id,x-launchdarkly-something-new";
        let asked = [
            ("Origin", "https://shop.example"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", wish),
        ];
        let reply = send(server.addr, &format!("OPTIONS {path}"), &asked, b"").await;
        assert_eq!(reply.status, 204, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.header("access-control-allow-methods"), Some("OPTIONS, POST"));
        assert_eq!(reply.header("access-control-allow-headers"), Some(wish));
        let reply = send(server.addr, &format!("OPTIONS {path}"), &asked[..2], b"").await;
        let allowed = reply.header("access-control-allow-headers").unwrap();
        for name in ["Authorization", "X-LaunchDarkly-Payload-ID", "X-LaunchDarkly-Event-Schema"] {
            assert!(allowed.contains(name), "{allowed}");
        }
    }
    server.stop().await;
}

/// A server that answers with the statuses in turn, the last one for ever, and
/// gives what it was sent.
async fn launchdarkly(statuses: &'static [u16]) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (requests, received) = mpsc::channel(100);
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"]") {
                tokio::io::AsyncReadExt::read_buf(&mut connection, &mut bytes).await.unwrap();
            }
            let status = statuses.get(turn).or(statuses.last()).unwrap();
            let reply =
                format!("HTTP/1.1 {status} Because\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            connection.write_all(reply.as_bytes()).await.unwrap();
            requests.send(bytes).await.unwrap();
        }
    });
    (addr, received)
}

#[tokio::test]
async fn events_are_sent_on_with_their_headers_and_once_more_after_a_failure() {
    let (addr, mut sent) = launchdarkly(&[500, 202]).await;
    let dir = tempfile::tempdir().unwrap();
    let forward = format!("http://{addr}/prefix/");
    let config = json!({"launchdarkly": {"stream": "events", "forward": forward}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let headers = [
        KEY,
        ("X-LaunchDarkly-Payload-ID", "p-1"),
        ("X-LaunchDarkly-Event-Schema", "4"),
        ("User-Agent", "PythonClient/9"),
        ("Content-Type", "application/json"),
        ("X-Forwarded-For", "10.0.0.1"),
    ];
    let body = b"[{\"kind\":  \"feature\"}]";
    assert_eq!(send(server.addr, "POST /mobile/events/bulk", &headers, body).await.status, 202);
    for _ in 0..2 {
        let request = String::from_utf8(sent.recv().await.unwrap()).unwrap();
        let lower = request.to_ascii_lowercase();
        assert!(request.starts_with("POST /prefix/mobile/events/bulk HTTP/1.1\r\n"), "{request}");
        for (name, value) in &headers[..5] {
            let line = format!("\r\n{name}: {value}\r\n").to_ascii_lowercase();
            assert!(lower.contains(&line), "{name} is not in {request}");
        }
        assert!(!lower.contains("x-forwarded-for"), "{request}");
        assert!(request.as_bytes().ends_with(body), "the bytes as they came: {request}");
    }
    // The next one is free to go, whatever became of the first.
    assert_eq!(send(server.addr, "POST /bulk", &headers, b"[ ]").await.status, 202);
    assert!(sent.recv().await.unwrap().ends_with(b"[ ]"));
    server.stop().await;
}

/// LaunchDarkly hangs: nobody here waits for it, and the queue has an end.
#[tokio::test]
async fn a_hanging_launchdarkly_delays_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forward = format!("http://{}", listener.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"launchdarkly": {"stream": "events", "forward": forward}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let body = format!("[\"{}\"]", "x".repeat(3 << 20));
    let all = async {
        for _ in 0..15 {
            assert_eq!(send(server.addr, "POST /bulk", &[], body.as_bytes()).await.status, 202);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(9), all).await.expect("no reply waits");
    assert_eq!(received(&server, "events"), 15);
    // And nobody waits for it for long at the end.
    tokio::time::timeout(std::time::Duration::from_secs(9), server.stop()).await.expect("it stops");
    drop(listener);
}
