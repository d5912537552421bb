//! Connections that misbehave, HTTP/2, and the way out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, Setup, receive, send, start};

/// Whether the server closes the connection by itself within 5 s.
async fn is_closed(connection: &mut TcpStream) -> bool {
    let mut sink = [0; 1024];
    let reading = async { while !matches!(connection.read(&mut sink).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(Duration::from_secs(5), reading).await.is_ok()
}

#[tokio::test]
async fn slow_heads_and_half_bodies_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"limits": {
        "header_read_timeout": "300ms", "body_read_timeout": "300ms", "in_flight_bytes": "4MiB",
    }});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    for head in ["", "P", "PRI * HT", "POST /v1/streams/events/records HTTP/1.1\r\nX-Slow: "] {
        let mut connection = TcpStream::connect(server.addr).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        assert!(is_closed(&mut connection).await, "{head:?}");
    }
    let mut half = TcpStream::connect(server.addr).await.unwrap();
    let head = "POST /v1/streams/events/records HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 50000000\r\n\r\n{\"a\":1}\n";
    half.write_all(head.as_bytes()).await.unwrap();
    let reply = receive(half).await;
    assert_eq!((reply.status, reply.json()["error"]["code"].clone()), (408, json!("timeout")));

    // Clients that announce much and send little leave room.
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut connection = TcpStream::connect(server.addr).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        idle.push(connection);
    }
    assert_eq!(send(server.addr, "POST /v1/streams/events/records", &[], b"{}").await.status, 200);
    let mut gone = TcpStream::connect(server.addr).await.unwrap();
    gone.write_all(
        b"POST /v1/streams/events/records HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{\"a\":1}\n",
    )
    .await
    .unwrap();
    drop(gone);
    for mut connection in idle {
        assert!(is_closed(&mut connection).await);
    }
    assert_eq!(server.control.status()[0].received, 1, "half a body adds nothing");
    server.stop().await;
}

#[tokio::test]
async fn too_many_connections_wait() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"limits": {"connections": 1}});
    let server = start(dir.path(), Setup { config, ..Setup::default() }).await;
    let mut first = TcpStream::connect(server.addr).await.unwrap();
    ask_again(&mut first).await;
    let second = tokio::spawn(send_static(server.addr));
    // The server answers the first connection for as long as it likes, and the
    // second not at all.
    for _ in 0..50 {
        ask_again(&mut first).await;
        assert!(!second.is_finished());
    }
    drop(first);
    assert_eq!(second.await.unwrap(), 200);
    server.stop().await;
}

/// One request and its answer on a connection that stays open.
async fn ask_again(connection: &mut TcpStream) {
    connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0, "the connection stays open");
    }
}

async fn send_static(addr: std::net::SocketAddr) -> u16 {
    send(addr, "GET /healthz", &[], b"").await.status
}

#[tokio::test]
async fn http2_with_prior_knowledge() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let stream = TcpStream::connect(server.addr).await.unwrap();
    post_over_http2(&server, stream).await;
    server.stop().await;
}

#[tokio::test]
async fn tls_speaks_http2_and_http1() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = json!({"tls": {"cert": cert, "key": key}});
    let server = start(&dir.path().join("state"), Setup { config, ..Setup::default() }).await;
    let connect = async |protocol: &[u8]| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        stream
    };
    post_over_http2(&server, connect(b"h2").await).await;
    let mut one = connect(b"http/1.1").await;
    one.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut line = [0; 15];
    one.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 200 OK");
    // Plain HTTP on the TLS port gets no answer.
    assert_eq!(send(server.addr, "GET /healthz", &[], b"").await.status, 0);
    server.stop().await;
}

/// Posts three times over one HTTP/2 connection.
async fn post_over_http2(server: &Server, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    for first in 0..3 {
        let body = Full::new(Bytes::from_static(b"{\"a\":1}\n"));
        let uri = format!("http://{}/v1/streams/events/records", server.addr);
        let request = axum::http::Request::post(uri).body(body).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let reply = response.into_body().collect().await.unwrap().to_bytes();
        let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply["first_offset"], json!(first));
    }
    drop(client);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_in_flight_ends_after_shutdown_and_nothing_new_begins() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let mut slow = TcpStream::connect(server.addr).await.unwrap();
    let head = "POST /v1/streams/events/records HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body, so the request is in flight.
    let mut word = [0; 25];
    slow.read_exact(&mut word).await.unwrap();
    assert!(word.starts_with(b"HTTP/1.1 100"));
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();

    server.shutdown.cancel();
    assert!(is_closed(&mut idle).await);
    slow.write_all(b"{\"a\":1}\n").await.unwrap();
    assert_eq!(receive(slow).await.status, 200);
    assert_eq!(server.control.status()[0].received, 1);
    let addr = server.addr;
    server.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn the_grace_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup { config: json!({"grace": "200ms"}), ..Setup::default() }).await;
    let mut half = TcpStream::connect(server.addr).await.unwrap();
    let head = "POST /v1/streams/events/records HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\n";
    half.write_all(head.as_bytes()).await.unwrap();
    let mut word = [0; 25];
    half.read_exact(&mut word).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), server.stop()).await.unwrap();
    assert!(is_closed(&mut half).await);
}
