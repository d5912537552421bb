//! The engine: the journal, the ledger and one task per pipeline.

mod changes;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use lakeward_columnar::shape::Lambda;
use lakeward_columnar::transform::{Transform, TransformError};
use lakeward_journal::Journal;
use lakeward_model::clock::{SharedClock, Stopwatch};
use lakeward_model::{Destination, Failure, Function, LakePath, StreamName};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::catalog::{CatalogStatus, OpenCatalog};
use crate::control::{Control, ControlError};
use crate::intake::{AcceptError, Intake};
use crate::lambda::StreamArn;
use crate::ledger::{Ledger, LedgerError, Progress};
use crate::lock::{LockError, StateLock};
use crate::retention::{self, Retention};
use crate::slices::SlicedSpec;
use crate::source::{SourceSpec, Sources};
use crate::spec::PipelineSpec;
use crate::status::{PipelineState, PipelineStatus};
use crate::streams::{StreamSpec, Streams};

/// How long a task may take to come to rest once it is told to.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Opens a destination from its configuration; the binary knows the kinds.
pub type OpenDestination = Arc<dyn Fn(&serde_json::Value) -> Result<Opened, String> + Send + Sync>;

/// Compiles a pipeline's SQL; the binary knows the engine that does it.
pub type CompileSql = Arc<dyn Fn(&str) -> Result<Arc<dyn Transform>, TransformError> + Send + Sync>;

/// Opens a pipeline's function, which its shape describes; the binary knows the
/// kinds, and the secrets that a shape does not hold.
pub type OpenFunction = Arc<dyn Fn(&str, &Lambda) -> Result<Arc<dyn Function>, String> + Send + Sync>;

/// What the binary knows and the engine does not: how things outside are
/// reached.
#[derive(Clone)]
pub struct Connectors {
    /// Destinations.
    pub destination: OpenDestination,
    /// Functions.
    pub function: OpenFunction,
    /// Catalogs.
    pub catalog: OpenCatalog,
    /// What functions are told about the streams.
    pub arn: StreamArn,
    /// SQL.
    pub sql: CompileSql,
}

/// An open destination and its name for people and for plans, without secrets.
pub struct Opened {
    /// Where batches go.
    pub destination: Arc<dyn Destination>,
    /// For instance `s3://bucket/prefix/`.
    pub name: String,
    /// How a delivered file is removed again, if that can be done.
    pub remove: Option<RemoveFile>,
}

/// Removes a file from a destination; one that is not there is removed.
pub type RemoveFile = Arc<dyn Fn(LakePath) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// What pipeline a stream gets that a client names before anybody configured
/// it; `lakeward dev` has one.
pub type AutoPipeline = Arc<dyn Fn(&StreamName) -> PipelineSpec + Send + Sync>;

/// How the engine is set up.
pub struct EngineOptions {
    /// The state directory: journal, ledger and lock.
    pub state: PathBuf,
    /// The journal's settings.
    pub journal: lakeward_journal::Options,
    /// How long delivered records are kept for re-reading while the journal
    /// has room. Default 24 h.
    pub retention: Duration,
    /// Where the time comes from.
    pub clock: SharedClock,
    /// Streams that exist whether or not a pipeline delivers them.
    pub streams: Vec<StreamSpec>,
    /// Where records are pulled from. Their streams are among `streams`.
    pub sources: Vec<SourceSpec>,
    /// Where records are pulled from slice by slice. Their streams are among
    /// `streams`.
    pub sliced: Vec<SlicedSpec>,
    /// How things outside are reached.
    pub connectors: Connectors,
    /// What to do about unknown streams; `None` refuses them.
    pub auto: Option<AutoPipeline>,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenEngineError {
    /// The state directory is taken or unusable.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journal is damaged or unusable: `lakeward fsck` explains.
    #[error(transparent)]
    Journal(#[from] lakeward_journal::OpenError),
    /// The ledger is damaged or unusable.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A stream cannot be made, or its removal not be finished.
    #[error(transparent)]
    Streams(ControlError),
    /// A pipeline cannot be started.
    #[error("pipeline {name}: {source}")]
    Pipeline {
        /// Which.
        name: String,
        /// Why.
        source: ControlError,
    },
}

/// A running engine.
pub struct Engine {
    shared: Arc<Shared>,
    lock: StateLock,
    _stops_sources: DropGuard,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("lock", &self.lock).finish_non_exhaustive()
    }
}

impl Engine {
    /// Takes the state directory, recovers what an earlier process left, and
    /// starts a task for every pipeline: those of `configured` and those that
    /// were made through an API.
    ///
    /// # Errors
    /// See [`OpenEngineError`].
    pub async fn open(
        options: EngineOptions,
        configured: Vec<PipelineSpec>,
    ) -> Result<Self, OpenEngineError> {
        let lock = StateLock::take(&options.state)?;
        Self::open_locked(lock, options, configured).await
    }

    /// The same with the state's lock in hand: for options that may only be made
    /// by the process that has it, such as sources with folders in the state.
    ///
    /// # Errors
    /// See [`OpenEngineError`].
    pub async fn open_locked(
        lock: StateLock,
        options: EngineOptions,
        configured: Vec<PipelineSpec>,
    ) -> Result<Self, OpenEngineError> {
        Self::open_as(lock, options, configured, false).await
    }

    /// The same for somebody who only looks: nothing is taken and nothing
    /// delivered, and what an earlier process left waits for the next one that
    /// works.
    ///
    /// # Errors
    /// See [`OpenEngineError`].
    pub async fn open_at_rest(
        lock: StateLock,
        options: EngineOptions,
        configured: Vec<PipelineSpec>,
    ) -> Result<Self, OpenEngineError> {
        Self::open_as(lock, options, configured, true).await
    }

    async fn open_as(
        lock: StateLock,
        options: EngineOptions,
        configured: Vec<PipelineSpec>,
        rests: bool,
    ) -> Result<Self, OpenEngineError> {
        let journal_dir = options.state.join("journal");
        let retention = Arc::new(Retention::new(options.retention, options.journal.disk_bytes_max));
        let frame_bytes_max = options.journal.frame_bytes_max;
        let journal = Journal::open(&journal_dir, options.journal, Arc::clone(&options.clock))?;
        let ledger = Arc::new(Ledger::open(&options.state.join("ledger.redb"))?);
        let made = ledger.pipelines()?;
        let sources = Sources::default();
        sources.runs.recover(&ledger)?;
        let shared = Arc::new(Shared {
            journal,
            ledger,
            clock: options.clock,
            state: options.state,
            retention,
            connectors: options.connectors,
            auto: options.auto,
            pipelines: Mutex::default(),
            streams: RwLock::default(),
            configured_streams: RwLock::default(),
            changes: tokio::sync::Mutex::default(),
            kept_of_streams: tokio::sync::Mutex::default(),
            sources,
            frame_bytes_max,
            rests,
            draining: CancellationToken::new(),
        });
        let kept = shared.recover_streams(options.streams).await.map_err(OpenEngineError::Streams)?;
        let names: HashSet<String> = configured.iter().map(|spec| spec.name.clone()).collect();
        let made = made.into_iter().filter(|spec| !names.contains(&spec.name)).map(|spec| (spec, false));
        let all: Vec<_> = configured.into_iter().map(|spec| (spec, true)).chain(made).collect();
        // Every pipeline is registered before the first one runs, so that none
        // trims what another still needs.
        let mut registered = Vec::with_capacity(all.len());
        for (spec, configured) in all {
            let name = spec.name.clone();
            let progress =
                shared.register(&spec).await.map_err(|source| OpenEngineError::Pipeline { name, source })?;
            registered.push((spec, configured, progress));
        }
        for (spec, configured, progress) in registered {
            let name = spec.name.clone();
            shared
                .start(spec, configured, progress)
                .map_err(|source| OpenEngineError::Pipeline { name, source })?;
        }
        shared.promise_again(&kept);
        shared.warn_of_orphans();
        // Last, so that nothing is trimmed before all its pipelines are known.
        shared.sources.start_sliced(&shared, options.sliced);
        if !rests {
            shared.sources.start(&shared, options.sources);
            tokio::spawn(retention::sweep(Arc::downgrade(&shared), shared.draining.clone()));
        }
        let _stops_sources = shared.sources.stopped_on_drop();
        Ok(Self { shared, lock, _stops_sources })
    }

    /// The way in for records.
    #[must_use]
    pub fn intake(&self) -> Intake {
        Intake { shared: Arc::clone(&self.shared) }
    }

    /// The way in for changes and questions.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { shared: Arc::clone(&self.shared) }
    }

    /// The way in for those who make and read streams.
    #[must_use]
    pub fn streams(&self) -> Streams {
        Streams { shared: Arc::clone(&self.shared) }
    }

    /// The lock, to announce where the process listens.
    pub fn lock(&mut self) -> &mut StateLock {
        &mut self.lock
    }

    /// Stops accepting, cuts and delivers what is pending, and stops. What is
    /// not delivered within `grace` stays in the journal for the next start.
    ///
    /// Returns whether everything was delivered.
    pub async fn drain(self, grace: Duration) -> bool {
        let begun = Stopwatch::start();
        // Their last pages are delivered too, but one that hangs leaves time.
        self.shared.sources.stop(grace / 3).await;
        let left = grace.saturating_sub(begun.elapsed());
        self.deliver_until(tokio::time::sleep(left)).await
    }

    /// The same for somebody who knows what is worth waiting for: deliveries
    /// go on until `enough`, and sources have `grace` to stop. What the
    /// pipelines do can be asked of [`Control::status`] meanwhile and
    /// afterwards.
    ///
    /// Returns whether everything was delivered.
    pub async fn drain_until(self, grace: Duration, enough: impl Future<Output = ()>) -> bool {
        self.shared.sources.stop(grace).await;
        self.deliver_until(enough).await
    }

    async fn deliver_until(self, enough: impl Future<Output = ()>) -> bool {
        self.shared.draining.cancel();
        // They stay known: somebody may want to hear how they ended.
        let (stops, tasks): (Vec<_>, Vec<_>) = self
            .shared
            .running()
            .values_mut()
            .filter_map(|running| Some((running.stop.clone().drop_guard(), running.task.take()?)))
            .unzip();
        let mut all = futures::future::join_all(tasks);
        let ended = tokio::select! {
            ended = &mut all => Some(ended),
            () = enough => None,
        };
        drop(stops);
        let done = match ended {
            Some(ended) => ended.into_iter().all(|complete| complete.unwrap_or(false)),
            None => {
                // A commit that has begun is seen through, if the disk lets it.
                let _ = tokio::time::timeout(STOP_MAX, all).await;
                false
            }
        };
        let journal = self.shared.journal.clone();
        let closed = tokio::task::spawn_blocking(move || journal.close()).await;
        done && closed.is_ok()
    }
}

/// A pipeline's task and what is known of it.
#[derive(Debug)]
struct Running {
    spec: PipelineSpec,
    configured: bool,
    destination: String,
    progress: watch::Receiver<Progress>,
    /// Tells the task of replays.
    replayed: watch::Sender<Progress>,
    state: watch::Receiver<PipelineState>,
    catalog: Option<watch::Receiver<CatalogStatus>>,
    stop: CancellationToken,
    /// `None` once somebody waits for its end.
    task: Option<JoinHandle<bool>>,
}

impl Drop for Running {
    /// Dropping is a way to stop: a planned batch is finished by the next task.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the handles share.
pub(crate) struct Shared {
    pub(crate) journal: Journal,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) clock: SharedClock,
    state: PathBuf,
    pub(crate) retention: Arc<Retention>,
    pub(crate) connectors: Connectors,
    auto: Option<AutoPipeline>,
    pipelines: Mutex<BTreeMap<String, Running>>,
    /// The streams that records can be sent to.
    streams: RwLock<HashSet<StreamName>>,
    /// Those of them that the configuration names for themselves.
    pub(crate) configured_streams: RwLock<HashMap<StreamName, Option<Duration>>>,
    /// Held while pipelines and streams are made, changed or removed: one at a
    /// time.
    pub(crate) changes: tokio::sync::Mutex<()>,
    /// Held while what is kept of a stream changes, and for no longer than that
    /// takes: `changes` waits for pipelines, and puts wait for this one.
    pub(crate) kept_of_streams: tokio::sync::Mutex<()>,
    pub(crate) sources: Sources,
    /// Most bytes of records in one append.
    pub(crate) frame_bytes_max: u64,
    /// Whether nothing is taken and nothing delivered.
    pub(crate) rests: bool,
    draining: CancellationToken,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    pub(crate) fn has_stream(&self, stream: &StreamName) -> bool {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).contains(stream)
    }

    pub(crate) fn streams(&self) -> Vec<StreamName> {
        let mut all: Vec<_> =
            self.streams.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        all.sort();
        all
    }

    pub(crate) fn add_stream(&self, stream: &StreamName) {
        self.streams.write().unwrap_or_else(PoisonError::into_inner).insert(stream.clone());
    }

    pub(crate) fn drop_stream(&self, stream: &StreamName) {
        self.streams.write().unwrap_or_else(PoisonError::into_inner).remove(stream);
    }

    pub(crate) fn spec(&self, name: &str) -> Option<PipelineSpec> {
        self.running().get(name).map(|running| running.spec.clone())
    }

    pub(crate) fn specs(&self) -> Vec<PipelineSpec> {
        self.running().values().map(|running| running.spec.clone()).collect()
    }

    pub(crate) fn made(&self) -> Vec<PipelineSpec> {
        self.running()
            .values()
            .filter(|running| !running.configured)
            .map(|running| running.spec.clone())
            .collect()
    }

    pub(crate) fn status(&self) -> Vec<PipelineStatus> {
        self.running().values().map(|running| self.status_of(running)).collect()
    }

    fn status_of(&self, running: &Running) -> PipelineStatus {
        let progress = running.progress.borrow().clone();
        let state = running.state.borrow().clone();
        let tail = self.journal.tail(&running.spec.stream);
        let end = tail.as_ref().map_or(progress.delivered_to, |tail| tail.end.max(progress.delivered_to));
        let oldest = (end > progress.delivered_to)
            .then(|| self.journal.received_at(&progress.stream, progress.delivered_to))
            .flatten();
        let lag = oldest.map_or(Duration::ZERO, |oldest| self.clock.now().since(oldest));
        let (name, destination) = (running.spec.name.clone(), running.destination.clone());
        let mut status = PipelineStatus::new(name, destination, &progress, end, lag, state);
        status.catalog = running.catalog.as_ref().map(|catalog| catalog.borrow().clone());
        status
    }

    /// `lakeward dev`: a stream exists as soon as somebody names it.
    pub(crate) async fn create_on_first_use(&self, stream: &StreamName) -> Result<(), AcceptError> {
        let Some(auto) = &self.auto else { return Err(AcceptError::UnknownStream(stream.clone())) };
        match self.create(auto(stream)).await {
            Ok(()) | Err(ControlError::Exists(_)) => Ok(()),
            Err(error) => Err(AcceptError::Failed(error.to_string())),
        }
    }

    /// Runs a question or a change on the ledger, off the async threads.
    pub(crate) async fn on_ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let ledger = Arc::clone(&self.ledger);
        blocking(move || work(&ledger)).await?.map_err(|error| ControlError::Failed(error.to_string()))
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ControlError::Failed(error.to_string()))
}
