//! The engine: the journal, the ledger and one task per pipeline.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use lakeward_columnar::shape::Lambda;
use lakeward_columnar::transform::{Transform, TransformError};
use lakeward_journal::Journal;
use lakeward_model::clock::{SharedClock, Stopwatch};
use lakeward_model::{Destination, Function, Offset, StreamName, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::catalog::{self, CatalogStatus, OpenCatalog, Registering};
use crate::control::{Control, ControlError};
use crate::folder::Folder;
use crate::intake::{AcceptError, Intake};
use crate::lambda::StreamArn;
use crate::ledger::{Ledger, LedgerError, Progress, Quarantined, ReplayAnswer};
use crate::lock::{LockError, StateLock};
use crate::pipeline::Pipeline;
use crate::retention::{self, Retention};
use crate::source::{SourceSpec, Sources};
use crate::spec::PipelineSpec;
use crate::status::{PipelineState, PipelineStatus};
use crate::streams::{StreamSpec, Streams};

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
}

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
        let journal_dir = options.state.join("journal");
        let retention = Arc::new(Retention::new(options.retention, options.journal.disk_bytes_max));
        let journal = Journal::open(&journal_dir, options.journal, Arc::clone(&options.clock))?;
        let ledger = Arc::new(Ledger::open(&options.state.join("ledger.redb"))?);
        let made = ledger.pipelines()?;
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
            sources: Sources::default(),
            draining: CancellationToken::new(),
        });
        shared.recover_streams(options.streams).await.map_err(OpenEngineError::Streams)?;
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
        shared.warn_of_orphans();
        // Last, so that nothing is trimmed before all its pipelines are known.
        shared.sources.start(&shared, options.sources);
        tokio::spawn(retention::sweep(Arc::downgrade(&shared), shared.draining.clone()));
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
        self.shared.sources.stop(grace).await;
        let grace = grace.saturating_sub(begun.elapsed());
        self.shared.draining.cancel();
        let tasks: Vec<Running> = std::mem::take(&mut *self.shared.running()).into_values().collect();
        let all = futures::future::join_all(tasks.into_iter().map(Running::finished));
        let done = match tokio::time::timeout(grace, all).await {
            Ok(ended) => ended.into_iter().all(|complete| complete),
            Err(_) => false,
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

impl Running {
    /// Waits for the task's own end; whether it delivered everything.
    async fn finished(mut self) -> bool {
        match self.task.take() {
            Some(task) => task.await.unwrap_or(false),
            None => true,
        }
    }
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
    connectors: Connectors,
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

    pub(crate) async fn create(&self, spec: PipelineSpec) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        if self.running().contains_key(&spec.name) {
            return Err(ControlError::Exists(spec.name));
        }
        self.check(&spec)?;
        let stored = spec.clone();
        self.on_ledger(move |ledger| ledger.put_pipeline(&stored)).await?;
        info!(pipeline = spec.name, stream = %spec.stream, "pipeline created");
        let progress = self.register(&spec).await?;
        self.start(spec, false, progress)
    }

    pub(crate) async fn update(&self, spec: PipelineSpec) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        self.check(&spec)?;
        let before = self.changeable(&spec.name)?;
        let stored = spec.clone();
        if before == (PipelineSpec { owner: before.owner.clone(), ..spec.clone() }) {
            // Only what the front door keeps with it: nothing that runs changes.
            self.on_ledger(move |ledger| ledger.put_pipeline(&stored)).await?;
            if let Some(running) = self.running().get_mut(&spec.name) {
                running.spec = spec;
            }
            return Ok(());
        }
        self.on_ledger(move |ledger| ledger.put_pipeline(&stored)).await?;
        self.stop(&spec.name).await;
        match self.register(&spec).await {
            Ok(progress) => self.start(spec, false, progress),
            Err(error) => {
                // The pipeline goes on as it was until the next start.
                let progress = self.register(&before).await?;
                self.start(before, false, progress)?;
                Err(error)
            }
        }
    }

    /// Lets records leave a pipeline's quarantine.
    pub(crate) async fn replay(
        &self,
        name: &str,
        mut records: Vec<Quarantined>,
    ) -> Result<ReplayAnswer, ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        // An arrival in the future would end the window of every dedup key.
        let now = self.clock.now();
        for record in &mut records {
            record.received_at = record.received_at.clamp(Timestamp(0), now);
        }
        if !self.running().contains_key(name) {
            return Err(ControlError::NotFound(name.to_string()));
        }
        let pipeline = name.to_string();
        let (answer, progress) =
            self.on_ledger(move |ledger| ledger.queue_replay(&pipeline, &records)).await?;
        if let Some(running) = self.running().get(name) {
            progress.announce(&running.replayed);
        }
        info!(pipeline = name, queued = answer.queued, already = answer.already, "records leave quarantine");
        Ok(answer)
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let spec = self.changeable(name)?;
        self.stop(name).await;
        // The stream goes first: if we die in between, the pipeline is there
        // without records, and is deleted again. The other way round a stream
        // made anew would find delivered records and deliver them again.
        let is_others = |other: &Running| other.spec.stream == spec.stream && other.spec.name != name;
        if !self.running().values().any(is_others) && !self.outlives_pipelines(&spec.stream).await? {
            self.remove_with_records(&spec.stream).await?;
        }
        let removed = name.to_string();
        self.on_ledger(move |ledger| ledger.remove_pipeline(&removed)).await?;
        Folder::new(&self.state, name).remove();
        self.running().remove(name);
        self.retention.forget(&spec.stream, name);
        info!(pipeline = name, stream = %spec.stream, "pipeline deleted");
        Ok(())
    }

    /// The settings of a pipeline that was made through an API.
    fn changeable(&self, name: &str) -> Result<PipelineSpec, ControlError> {
        match self.running().get(name) {
            None => Err(ControlError::NotFound(name.to_string())),
            Some(running) if running.configured => Err(ControlError::Configured(name.to_string())),
            Some(running) => Ok(running.spec.clone()),
        }
    }

    /// Stops a pipeline's task and waits for its end. The pipeline stays
    /// visible meanwhile.
    async fn stop(&self, name: &str) {
        let task = self.running().get_mut(name).and_then(|running| {
            running.stop.cancel();
            running.task.take()
        });
        if let Some(task) = task {
            task.await.unwrap_or(false);
        }
    }

    fn check(&self, spec: &PipelineSpec) -> Result<(), ControlError> {
        lakeward_columnar::build::check(&spec.shape)
            .map_err(|error| ControlError::Invalid(error.to_string()))?;
        if let Some(function) = &spec.shape.processing.lambda {
            (self.connectors.function)(&spec.name, function).map_err(ControlError::Invalid)?;
        }
        if let Some(sql) = &spec.shape.sql {
            (self.connectors.sql)(sql).map_err(|error| ControlError::Invalid(error.to_string()))?;
        }
        if let Some(catalog) = &spec.catalog {
            (self.connectors.catalog)(catalog, &spec.name).map_err(ControlError::Invalid)?;
        }
        (self.connectors.destination)(&spec.destination).map_err(ControlError::Invalid).map(drop)
    }

    /// Makes sure that the pipeline's stream exists and that the ledger knows
    /// where the pipeline stands in it.
    async fn register(&self, spec: &PipelineSpec) -> Result<Progress, ControlError> {
        let journal = self.journal.clone();
        let stream = spec.stream.clone();
        let incarnation = blocking(move || journal.create(&stream))
            .await?
            .map_err(|error| ControlError::Failed(error.to_string()))?
            .incarnation;
        // Nothing is trimmed from here on, until the pipeline says how far it is.
        self.retention.advance(&spec.stream, &spec.name, Offset(0));
        let start = self.journal.tail(&spec.stream).map_or_else(Offset::default, |tail| tail.start);
        let (name, stream) = (spec.name.clone(), spec.stream.clone());
        let (known, unfinished) =
            self.on_ledger(move |ledger| Ok((ledger.progress(&name)?, ledger.unfinished(&name)?))).await?;
        if let Some(known) = known {
            if known.stream != stream {
                return Err(ControlError::Invalid(format!(
                    "the pipeline delivered the stream {} until now; give the new one another name, so that nothing is delivered twice",
                    known.stream
                )));
            }
            // A replay's span is not of the stream.
            let planned = unfinished.filter(|plan| plan.replay.is_none()).map(|plan| plan.span.to);
            let needed = planned.unwrap_or(known.delivered_to);
            let end = self.journal.tail(&stream).map_or(Offset(0), |tail| tail.end);
            if known.incarnation == incarnation && end < needed {
                return Err(ControlError::Failed(format!(
                    "the journal of {stream} ends at {end}, but the ledger is at {needed}: the journal lost its end, or the two come from different backups; restore both from one"
                )));
            }
        }
        let (name, stream, no_catalog) = (spec.name.clone(), spec.stream.clone(), spec.catalog.is_none());
        let progress = self
            .on_ledger(move |ledger| {
                if no_catalog {
                    ledger.forget_catalog(&name)?;
                }
                ledger.register(&name, &stream, incarnation, start)
            })
            .await?;
        self.retention.advance(&spec.stream, &spec.name, progress.delivered_to);
        Ok(progress)
    }

    /// Starts a registered pipeline's task.
    fn start(&self, spec: PipelineSpec, configured: bool, progress: Progress) -> Result<(), ControlError> {
        let opened = (self.connectors.destination)(&spec.destination).map_err(ControlError::Invalid)?;
        let incarnation = progress.incarnation;
        let destination = opened.name.clone();
        let (progress_sender, progress) = watch::channel(progress);
        let (state_sender, state) = watch::channel(PipelineState::Idle);
        let stop = CancellationToken::new();
        let registering =
            catalog::start(&spec, &destination, &self.connectors, &self.ledger, &progress, &stop)?;
        let catalog = registering.as_ref().map(Registering::status);
        let pipeline = Pipeline {
            spec: Arc::new(spec.clone()),
            journal: self.journal.clone(),
            ledger: Arc::clone(&self.ledger),
            clock: Arc::clone(&self.clock),
            destination: opened,
            configured,
            connectors: self.connectors.clone(),
            sql: Mutex::default(),
            function: Mutex::default(),
            folder: Folder::new(&self.state, &spec.name),
            keys: OnceLock::new(),
            retention: Arc::clone(&self.retention),
            incarnation,
            draining: self.draining.clone(),
            stop: stop.clone(),
            progress: progress_sender.clone(),
            state: state_sender,
            blocking: TaskTracker::new(),
        };
        let task = Some(tokio::spawn(catalog::beside(pipeline.run(), registering)));
        self.add_stream(&spec.stream);
        let name = spec.name.clone();
        let running = Running {
            spec,
            configured,
            destination,
            progress,
            replayed: progress_sender,
            state,
            catalog,
            stop,
            task,
        };
        self.running().insert(name, running);
        Ok(())
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
