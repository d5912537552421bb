//! A server on a free port and a client that sends bytes as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lakeward_engine::{
    BatchLimits, Connectors, Control, Engine, EngineOptions, Opened, PipelineSpec, SlicedSpec, StreamSpec,
};
use lakeward_model::StreamName;
use lakeward_model::clock::{SharedClock, SystemClock};
use lakeward_model::conformance::MemoryDestination;
use lakeward_server::{Backend, Queries, Running, ServerConfig, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// A running server.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) control: Control,
    pub(crate) shutdown: CancellationToken,
    running: Running,
    engine: Engine,
}

/// The settings of the engine that tests change.
pub(crate) struct Setup {
    pub(crate) config: Value,
    pub(crate) journal: lakeward_journal::Options,
    pub(crate) auto: bool,
    /// How old a batch gets before it is cut.
    pub(crate) age: Duration,
    /// Streams that the configuration names.
    pub(crate) streams: Vec<StreamSpec>,
    pub(crate) clock: SharedClock,
    pub(crate) queries: Option<Arc<dyn Queries>>,
    /// Sources whose records come in slices.
    pub(crate) sliced: Vec<SlicedSpec>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: json!({}),
            journal: lakeward_journal::Options::default(),
            auto: false,
            age: BatchLimits::default().age,
            streams: Vec::new(),
            clock: Arc::new(SystemClock),
            queries: None,
            sliced: Vec::new(),
        }
    }
}

/// A pipeline named like its stream.
pub(crate) fn pipeline(stream: &str) -> PipelineSpec {
    PipelineSpec {
        name: stream.to_owned(),
        stream: StreamName::new(stream).unwrap(),
        shape: lakeward_columnar::shape::Shape::default(),
        from_latest: false,
        batch: BatchLimits::default(),
        destination: json!({"type": "lake", "url": "s3://configured-bucket/"}),
        catalog: None,
        owner: None,
    }
}

/// A function that cannot be reached: these tests deliver nothing through it.
#[derive(Debug)]
struct Nobody;

#[async_trait::async_trait]
impl lakeward_model::Function for Nobody {
    async fn invoke(&self, _: bytes::Bytes) -> Result<bytes::Bytes, lakeward_model::InvokeFailure> {
        std::future::pending().await
    }
}

/// A server with the streams `events` and `other`, keeping its state in `dir`.
pub(crate) async fn start(dir: &std::path::Path, setup: Setup) -> Server {
    let options = EngineOptions {
        state: dir.to_owned(),
        journal: setup.journal,
        retention: Duration::from_secs(3600),
        streams: setup.streams,
        sources: Vec::new(),
        sliced: setup.sliced,
        clock: Arc::clone(&setup.clock),
        connectors: Connectors {
            destination: Arc::new(|_| {
                Ok(Opened {
                    destination: Arc::new(MemoryDestination::default()),
                    name: "memory".to_owned(),
                    remove: None,
                })
            }),
            function: Arc::new(|_, _| Ok(Arc::new(Nobody))),
            catalog: Arc::new(|_, _| unreachable!("there is no catalog here")),
            arn: lakeward_engine::lambda::StreamArn {
                region: "us-east-1".into(),
                account_id: "000000000000".into(),
            },
            sql: Arc::new(|_| unreachable!("there is no SQL here")),
        },
        auto: if setup.auto { Some(Arc::new(|stream| pipeline(stream.as_str()))) } else { None },
    };
    let mut specs = vec![pipeline("events"), pipeline("other")];
    for spec in &mut specs {
        spec.batch.age = setup.age;
    }
    let engine = Engine::open(options, specs).await.unwrap();
    let mut config: ServerConfig = serde_json::from_value(setup.config).unwrap();
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let backend = Backend {
        intake: engine.intake(),
        control: engine.control(),
        streams: engine.streams(),
        clock: setup.clock,
        metrics: None,
        bucket_destination: Arc::new(|bucket| json!({"type": "lake", "url": format!("s3://{bucket}/")})),
        queries: setup.queries,
    };
    let control = engine.control();
    let shutdown = CancellationToken::new();
    let running = serve(config, backend, shutdown.clone()).await.unwrap();
    Server { addr: running.addr(), control, shutdown, running, engine }
}

impl Server {
    /// Stops in good order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.finished().await;
        self.engine.drain(Duration::from_secs(10)).await;
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?} is not JSON"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(addr: SocketAddr, request: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut head = format!("{request} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Transfer-Encoding") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut connection = TcpStream::connect(addr).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body).await.unwrap();
    receive(connection).await
}

/// Reads a reply up to the end of the connection.
pub(crate) async fn receive(mut connection: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match connection.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    let split = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let headers = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let status = headers.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Reply { status, headers, body: bytes[split..].to_vec() }
}

/// Calls the Firehose API without a signature.
pub(crate) async fn call(addr: SocketAddr, operation: &str, input: &Value) -> Reply {
    let target = format!("Firehose_20150804.{operation}");
    let headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", target.as_str())];
    send(addr, "POST /", &headers, input.to_string().as_bytes()).await
}

/// Calls the Kinesis API without a signature.
pub(crate) async fn kinesis(addr: SocketAddr, operation: &str, input: &Value) -> Reply {
    kinesis_try(addr, operation, input, &[]).await
}

/// The same, with further headers.
pub(crate) async fn kinesis_try(
    addr: SocketAddr,
    operation: &str,
    input: &Value,
    more: &[(&str, &str)],
) -> Reply {
    let target = format!("Kinesis_20131202.{operation}");
    let mut headers = vec![("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", target.as_str())];
    headers.extend_from_slice(more);
    send(addr, "POST /", &headers, input.to_string().as_bytes()).await
}

/// The same, and the answer, which must be a success.
pub(crate) async fn ask(addr: SocketAddr, operation: &str, input: &Value) -> Value {
    let reply = kinesis(addr, operation, input).await;
    assert_eq!(reply.status, 200, "{operation} {input}: {}", String::from_utf8_lossy(&reply.body));
    if reply.body.is_empty() { json!({}) } else { reply.json() }
}

/// The same, which must be refused: exception and message.
pub(crate) async fn refused(addr: SocketAddr, operation: &str, input: &Value) -> (String, String) {
    let reply = kinesis(addr, operation, input).await;
    let text = |member: &str| reply.json()[member].as_str().unwrap_or_default().to_owned();
    assert_eq!(reply.status, 400, "{operation} {input}: {}", String::from_utf8_lossy(&reply.body));
    (text("__type"), text("message"))
}

/// A clock that is moved by hand, from the operating system's time on.
#[derive(Debug, Default)]
pub(crate) struct Hand(pub(crate) std::sync::atomic::AtomicI64);

impl Hand {
    pub(crate) fn forward(&self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).unwrap();
        self.0.fetch_add(micros, std::sync::atomic::Ordering::Relaxed);
    }
}

impl lakeward_model::clock::Clock for Hand {
    fn now(&self) -> lakeward_model::Timestamp {
        let ahead = self.0.load(std::sync::atomic::Ordering::Relaxed);
        lakeward_model::Timestamp(lakeward_model::clock::Clock::now(&SystemClock).0 + ahead)
    }
}
