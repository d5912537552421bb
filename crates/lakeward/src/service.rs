//! The running service: engine and front doors together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lakeward_engine::{AutoPipeline, Control, Engine, EngineOptions, Holder, OpenEngineError, StreamSpec};
use lakeward_model::clock::SystemClock;
use lakeward_model::{Secret, ids};
use lakeward_server::{Backend, ServeError};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, SourceConfig, StreamConfig};
use crate::exit::{Code, coded};
use crate::notify::Notify;
use crate::queries::LakeQueries;
use crate::wiring;

/// A service that accepts and delivers.
pub(crate) struct Service {
    engine: Engine,
    doors: lakeward_server::Running,
    shutdown: CancellationToken,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
}

impl Service {
    /// Opens the state, starts the pipelines and the front doors.
    pub(crate) async fn start(config: &Config, auto: Option<AutoPipeline>) -> anyhow::Result<Self> {
        let specs = config.pipelines.iter().map(|p| p.spec()).collect::<anyhow::Result<Vec<_>>>()?;
        let open = auto.is_some();
        let named: Vec<_> = config.streams.iter().map(StreamConfig::spec).collect();
        let of_sources = config.sources.iter().map(SourceConfig::stream_spec);
        let of_sources = of_sources.collect::<anyhow::Result<Vec<_>>>()?;
        let is_new = |spec: &StreamSpec| named.iter().all(|known| known.name != spec.name);
        let of_sources: Vec<_> = of_sources.into_iter().filter(is_new).collect();
        let options = EngineOptions {
            state: config.state.clone(),
            journal: config.journal(),
            retention: config.journal.retention,
            streams: [named, of_sources].concat(),
            sources: wiring::sources(config)?,
            sliced: Vec::new(),
            clock: Arc::new(SystemClock),
            connectors: wiring::connectors(config),
            auto,
        };
        // Before the engine, whose sources count from the first moment.
        let metrics = metrics();
        let mut engine = Engine::open(options, specs).await.map_err(|error| match error {
            OpenEngineError::Lock(lock) => coded(Code::Unavailable, lock.to_string()),
            OpenEngineError::Pipeline { .. } => coded(Code::Configuration, error.to_string()),
            other => anyhow::Error::new(other),
        })?;
        let mut server = config.server();
        server.open = open;
        // `dev` takes what works here, whatever AWS would say.
        server.firehose_strict &= !open;
        let token = ids::fresh().simple().to_string();
        if server.names_somebody() {
            server.auth.bearer_tokens.push(Secret::new(token.clone()));
        }
        let shutdown = CancellationToken::new();
        let doors = lakeward_server::serve(
            server,
            Backend {
                intake: engine.intake(),
                control: engine.control(),
                streams: engine.streams(),
                clock: Arc::new(SystemClock),
                metrics,
                bucket_destination: Arc::new(wiring::bucket),
                queries: Some(Arc::new(LakeQueries::new(engine.control(), config)?)),
            },
            shutdown.clone(),
        )
        .await
        .map_err(|error| match error {
            ServeError::Listen { .. } => {
                coded(Code::Unavailable, format!("{error}; choose another with `listen` (or --listen)"))
            }
            other => coded(Code::Configuration, other.to_string()),
        })?;
        let addr = doors.addr();
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let holder = Holder {
            pid: std::process::id(),
            control: Some(format!("{scheme}://{addr}")),
            token: Some(token),
        };
        engine.lock().announce(&holder)?;
        Ok(Self { engine, doors, shutdown, addr, scheme })
    }

    pub(crate) fn control(&self) -> Control {
        self.engine.control()
    }

    /// Serves until a signal comes, then drains; a second signal stops at once.
    /// Either way nothing that was acknowledged is lost. `manager` hears of it.
    pub(crate) async fn until_stopped(self, mut signals: Signals, grace: Duration, manager: &Notify) -> Code {
        signals.next().await;
        manager.stopping();
        info!(grace = ?grace, "stopping: no new requests, delivering what is pending; a second signal stops at once");
        tokio::select! {
            complete = self.stop(grace) => if complete { Code::Done } else { Code::TryAgain },
            () = signals.next() => {
                warn!("stopped at once; what is pending stays in the journal");
                Code::TryAgain
            }
        }
    }

    /// Stops accepting, delivers what is pending within `grace`, and ends.
    /// Whether everything was delivered.
    pub(crate) async fn stop(self, grace: Duration) -> bool {
        self.shutdown.cancel();
        self.doors.finished().await;
        let complete = self.engine.drain(grace).await;
        if complete {
            info!("stopped: everything accepted is delivered");
        } else {
            warn!("stopped: what is pending stays in the journal for the next start");
        }
        complete
    }
}

/// SIGTERM and SIGINT. Made before the service starts, so that a signal that
/// comes with the first "listening" line drains too.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes both signals over from the operating system's default.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Starts to collect metrics; `None` if this process does so already.
fn metrics() -> Option<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().ok()
}
