//! Listening: connections, their limits and timeouts, TLS, and the way out.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use lakeward_engine::{Control, Intake, Streams};
use lakeward_model::clock::{SharedClock, Stopwatch};
use metrics_exporter_prometheus::PrometheusHandle;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::{ServerConfig, TlsConfig};
use crate::doors::Doors;
use crate::firehose::BucketDestination;
use crate::launchdarkly::{self, EventsDoor};
use crate::query::Queries;
use crate::xapi::{self, XapiDoor};

/// How long a connection may stay open between requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Largest read, and largest head of an HTTP/1 request.
const READ_BYTES_MAX: usize = 128 << 10;
const HEADER_BYTES_MAX: u32 = 32 << 10;
const CONCURRENT_STREAMS: u32 = 64;
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a stop waits for what is to be sent on.
const FORWARD_GRACE: Duration = Duration::from_secs(3);
/// Pause after the operating system refused us a connection, for instance
/// because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the doors lead to.
pub struct Backend {
    /// Where records go.
    pub intake: Intake,
    /// Where the Firehose API makes pipelines.
    pub control: Control,
    /// Where the Kinesis API makes and reads streams.
    pub streams: Streams,
    /// The clock.
    pub clock: SharedClock,
    /// What `/metrics` shows.
    pub metrics: Option<PrometheusHandle>,
    /// The destination that a bucket's name stands for.
    pub bucket_destination: BucketDestination,
    /// What answers SQL on what was delivered, if anything does.
    pub queries: Option<Arc<dyn Queries>>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

/// Why the server did not start. The configuration must change.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration breaks its rules.
    #[error("{path}: {problem}")]
    Config {
        /// Which value.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        cause: io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("tls: {0}")]
    Tls(String),
}

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    /// The address that it listens on, with the port that was free.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until the server has stopped: after the shutdown token was
    /// cancelled and requests in flight have ended, or their grace has.
    pub async fn finished(self) {
        self.task.await.expect("the accept loop does not panic");
    }
}

/// Starts to listen. Cancelling `shutdown` stops accepting connections and
/// lets requests in flight end within the configured grace.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    config: ServerConfig,
    backend: Backend,
    shutdown: CancellationToken,
) -> Result<Running, ServeError> {
    if let Some((path, problem)) = config.problems().into_iter().next() {
        return Err(ServeError::Config { path, problem });
    }
    let tls = config.tls.as_ref().map(acceptor).transpose()?;
    let address = config.listen;
    let listen = |cause| ServeError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let addr = listener.local_addr().map_err(listen)?;
    let (events, forward) = EventsDoor::open(&config.launchdarkly)
        .map_err(|(path, problem)| ServeError::Config { path: format!("launchdarkly.{path}"), problem })?;
    let xapi = XapiDoor::new(&config.xapi, backend.streams.clone())
        .map_err(|error| ServeError::Config { path: "xapi.stream".into(), problem: error.to_string() })?;
    let router = Doors::new(&config, backend, (events, xapi), shutdown.clone()).router();
    let front = Front {
        router: TowerToHyperService::new(router),
        tls,
        connections: Arc::new(Semaphore::new(config.limits.connections)),
        header_read_timeout: config.limits.header_read_timeout,
        kill: CancellationToken::new(),
    };
    let task = tokio::spawn(async move {
        front.run(listener, shutdown, config.grace).await;
        // With the last connection the doors are gone, and with them what
        // feeds the queue.
        if let Some(forward) = forward
            && tokio::time::timeout(FORWARD_GRACE, forward).await.is_err()
        {
            tracing::warn!("not everything was sent on to LaunchDarkly; it is safe here");
        }
    });
    Ok(Running { addr, task })
}

fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, ServeError> {
    let bad = |e: &dyn fmt::Display| ServeError::Tls(e.to_string());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&config.cert).map_err(|e| bad(&e))?.collect();
    let chain = chain.map_err(|e| bad(&e))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|e| bad(&e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&e))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| bad(&e))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// What every connection needs.
#[derive(Clone)]
struct Front {
    router: TowerToHyperService<axum::Router>,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
    header_read_timeout: Duration,
    /// Cuts off what is still there after the grace.
    kill: CancellationToken,
}

impl Front {
    async fn run(self, listener: TcpListener, shutdown: CancellationToken, grace: Duration) {
        let graceful = GracefulShutdown::new();
        loop {
            let next = async {
                let slot = Arc::clone(&self.connections).acquire_owned().await;
                let slot = slot.expect("the semaphore is never closed");
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                next = next => next,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().connection(stream, slot, graceful.watcher()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still in flight after the grace; they are cut off");
        }
        self.kill.cancel();
    }

    async fn connection(self, stream: TcpStream, slot: OwnedSemaphorePermit, watcher: Watcher) {
        // Small replies must not wait for more; if it fails they only come later.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.http(stream, watcher).await,
            Some(tls) => {
                let handshake = tokio::time::timeout(self.header_read_timeout, tls.accept(stream));
                let handshake = tokio::select! {
                    done = handshake => done,
                    () = self.kill.cancelled() => return,
                };
                match handshake {
                    Ok(Ok(stream)) => self.http(stream, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
            }
        }
        drop(slot);
    }

    async fn http(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, watcher: Watcher) {
        let begun = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let (begun, router) = (Arc::clone(&begun), self.router.clone());
            move |request| {
                begun.store(true, Ordering::Relaxed);
                answer(router.clone(), request)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(KEEP_ALIVE).max_buf_size(READ_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(CONCURRENT_STREAMS)
            .max_header_list_size(HEADER_BYTES_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        // A connection that sends no complete head in time is dropped, whether
        // it is silent, drips a head, or leaves open which protocol it speaks.
        let silent = async {
            tokio::time::sleep(self.header_read_timeout).await;
            if begun.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = watcher.watch(connection) => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection broke");
                }
            }
            () = silent => tracing::debug!("a connection sent no request in time"),
            () = self.kill.cancelled() => {}
        }
    }
}

/// Answers one request, with its id and its measure.
async fn answer(
    router: TowerToHyperService<axum::Router>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let watch = Stopwatch::start();
    let (door, id_header) = door(&request);
    let mut response = router.call(request).await?;
    let id = lakeward_model::ids::fresh();
    let mut text = uuid::Uuid::encode_buffer();
    if let Ok(value) = HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut text)) {
        response.headers_mut().insert(id_header, value);
    }
    let status = response.status().as_u16().to_string();
    metrics::counter!("lakeward_http_requests_total", "door" => door, "status" => status).increment(1);
    metrics::histogram!("lakeward_http_request_seconds", "door" => door)
        .record(watch.elapsed().as_secs_f64());
    Ok(response)
}

/// A request's door, for metrics, and the header that its id goes into.
fn door(request: &Request<Incoming>) -> (&'static str, HeaderName) {
    const AMAZON: HeaderName = HeaderName::from_static("x-amzn-requestid");
    const OURS: HeaderName = HeaderName::from_static("x-request-id");
    let target = || request.headers().get("x-amz-target").map(HeaderValue::as_bytes);
    match request.uri().path() {
        "/" if target().is_some_and(|t| t.starts_with(crate::kinesis::TARGET_PREFIX)) => ("kinesis", AMAZON),
        "/" => ("firehose", AMAZON),
        path if launchdarkly::is_ours(path) => ("launchdarkly", OURS),
        path if xapi::is_ours(path) => ("xapi", OURS),
        path if path.ends_with("/records") => ("events", OURS),
        path if path.starts_with("/firehose/") || path.ends_with("/firehose") => ("delivery", OURS),
        _ => ("operations", OURS),
    }
}
