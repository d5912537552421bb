//! The running service: engine and front doors together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lakeward_engine::{
    AutoPipeline, Control, Engine, EngineOptions, Holder, OpenEngineError, StateLock, StreamSpec,
};
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
use crate::remote::Remote;
use crate::wiring;

/// What sources may take to stop where it is known that they are at rest.
const SOURCES_MAX: Duration = Duration::from_secs(30);

/// A service that accepts and delivers.
pub(crate) struct Service {
    engine: Engine,
    doors: lakeward_server::Running,
    shutdown: CancellationToken,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    token: String,
}

/// Which sources a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pulls {
    /// Those of the configuration, each in its own time.
    All,
    /// Those that come in slices, which take only what they are asked for.
    Asked,
    /// Those that come in slices, to list what they have: nothing is taken and
    /// nothing delivered.
    Listed,
}

impl Service {
    /// Opens the state, starts the pipelines and the front doors.
    pub(crate) async fn start(config: &Config, auto: Option<AutoPipeline>) -> anyhow::Result<Self> {
        Self::open(config, auto, Pulls::All).await
    }

    /// A service for the time of one command: it listens on a loopback port of
    /// its own for nobody but this process and those that read its lock file,
    /// and has only the sources that come in slices, which take what they are
    /// asked for and do not look by themselves.
    ///
    /// # Errors
    /// A [`lakeward_engine::LockError`] if another process works on the state.
    pub(crate) async fn for_command(config: &Config) -> anyhow::Result<Self> {
        Self::open(&on_loopback(config), None, Pulls::Asked).await
    }

    /// The same for a command that only looks: nothing is taken and nothing
    /// delivered, not even what an earlier process left.
    ///
    /// # Errors
    /// A [`lakeward_engine::LockError`] if another process works on the state.
    pub(crate) async fn to_look(config: &Config) -> anyhow::Result<Self> {
        Self::open(&on_loopback(config), None, Pulls::Listed).await
    }

    async fn open(config: &Config, auto: Option<AutoPipeline>, pulls: Pulls) -> anyhow::Result<Self> {
        let specs = config.pipelines.iter().map(|p| p.spec()).collect::<anyhow::Result<Vec<_>>>()?;
        let open = auto.is_some();
        let named: Vec<_> = config.streams.iter().map(StreamConfig::spec).collect();
        let of_sources = config.sources.iter().map(SourceConfig::stream_spec);
        let of_sources = of_sources.collect::<anyhow::Result<Vec<_>>>()?;
        let is_new = |spec: &StreamSpec| named.iter().all(|known| known.name != spec.name);
        let of_sources: Vec<_> = of_sources.into_iter().filter(is_new).collect();
        // Before the sources, whose folders in the state are ours then.
        let lock = StateLock::take(&config.state)?;
        let options = EngineOptions {
            state: config.state.clone(),
            journal: config.journal(),
            retention: config.journal.retention,
            streams: [named, of_sources].concat(),
            sources: if pulls == Pulls::All { wiring::sources(config)? } else { Vec::new() },
            sliced: wiring::sliced(config, pulls == Pulls::All)?,
            clock: Arc::new(SystemClock),
            connectors: wiring::connectors(config),
            auto,
        };
        // Before the engine, whose sources count from the first moment.
        let metrics = metrics();
        let opened = match pulls {
            Pulls::All | Pulls::Asked => Engine::open_locked(lock, options, specs).await,
            Pulls::Listed => Engine::open_at_rest(lock, options, specs).await,
        };
        let mut engine = opened.map_err(|error| match error {
            OpenEngineError::Pipeline { .. } => coded(Code::Configuration, error.to_string()),
            other => anyhow::Error::new(other),
        })?;
        let mut server = config.server();
        server.open = open;
        // `dev` takes what works here, whatever AWS would say.
        server.firehose_strict &= !open;
        let token = ids::fresh().simple().to_string();
        if server.names_somebody() || pulls != Pulls::All {
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
            token: Some(token.clone()),
        };
        engine.lock().announce(&holder)?;
        Ok(Self { engine, doors, shutdown, addr, scheme, token })
    }

    /// Its control API, as another process would use it.
    pub(crate) fn remote(&self) -> anyhow::Result<Remote> {
        Remote::at(format!("{}://{}", self.scheme, self.addr), Some(self.token.clone()))
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
            _ = signals.next() => {
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
        say_stopped(self.engine.drain(grace).await)
    }

    /// Stops accepting, delivers what is pending until `enough`, and ends.
    /// [`Service::control`] knows how far the pipelines came.
    pub(crate) async fn stop_at(self, enough: impl Future<Output = ()>) -> bool {
        self.shutdown.cancel();
        self.doors.finished().await;
        say_stopped(self.engine.drain_until(SOURCES_MAX, enough).await)
    }
}

fn on_loopback(config: &Config) -> Config {
    let mut config = config.clone();
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.tls = None;
    config
}

fn say_stopped(complete: bool) -> bool {
    if complete {
        info!("stopped: everything accepted is delivered");
    } else {
        warn!("stopped: what is pending stays in the journal for the next start");
    }
    complete
}

/// Who stopped us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// SIGTERM.
    Terminated,
    /// SIGINT: Ctrl-C.
    Interrupted,
}

impl From<Stopped> for Code {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Terminated => Self::Terminated,
            Stopped::Interrupted => Self::Interrupted,
        }
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

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Stopped {
        tokio::select! {
            _ = self.terminate.recv() => Stopped::Terminated,
            _ = self.interrupt.recv() => Stopped::Interrupted,
        }
    }
}

/// Starts to collect metrics; `None` if this process does so already.
fn metrics() -> Option<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().ok()
}
