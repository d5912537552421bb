//! Registering what was delivered in a catalog: one task per pipeline that has
//! one, beside the pipeline's own, which never waits for it.
//!
//! The ledger has the truth: which batches are committed, and how far the
//! catalog is. A step reads some batches behind that place, registers their
//! partitions and the columns, and moves the place. A death anywhere in it means
//! that the same is registered again, which changes nothing.

mod status;
mod work;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lakeward_model::{Catalog, Failure, FailureKind, Partition, Registered, Registration, TableDescription};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::control::ControlError;
use crate::deliver::pause_after;
use crate::engine::Connectors;
use crate::ledger::catalog::CatalogProgress;
use crate::ledger::{Ledger, LedgerError, Progress};
use crate::spec::PipelineSpec;
pub use status::{CatalogState, CatalogStatus};

/// Opens a pipeline's catalog from its configuration; the binary knows the
/// kinds.
pub type OpenCatalog = Arc<dyn Fn(&serde_json::Value, &str) -> Result<OpenedCatalog, String> + Send + Sync>;

/// An open catalog and its name for people and for the ledger, without secrets:
/// another name is another catalog, which learns of everything from the start.
pub struct OpenedCatalog {
    /// Where tables are registered.
    pub catalog: Arc<dyn Catalog>,
    /// For instance `glue database.table`.
    pub name: String,
}

/// The most batches of a step.
const BATCHES: usize = 500;
/// Partitions that a catalog is told of in one call: as many as Glue takes.
const AT_ONCE: usize = 100;
/// Partitions that need not be registered again are remembered up to here.
const KNOWN_MAX: usize = 10_000;
/// How long the last step may take when the process drains: what it does not
/// do is done after the next start.
const LAST: Duration = Duration::from_secs(5);

/// A catalog's task, for the pipeline that it serves.
#[derive(Debug)]
pub(crate) struct Registering {
    task: JoinHandle<()>,
    status: watch::Receiver<CatalogStatus>,
    /// Says that no more batches will come.
    last: CancellationToken,
}

impl Registering {
    /// What it is doing.
    pub(crate) fn status(&self) -> watch::Receiver<CatalogStatus> {
        self.status.clone()
    }

    /// Lets it register what was delivered last, if it can do so soon.
    async fn finish(mut self) {
        self.last.cancel();
        if tokio::time::timeout(LAST, &mut self.task).await.is_err() {
            // Whatever it was about is done again.
            self.task.abort();
        }
    }
}

/// Starts the task, if the pipeline has a catalog.
pub(crate) fn start(
    spec: &PipelineSpec,
    destination: &str,
    connectors: &Connectors,
    ledger: &Arc<Ledger>,
    progress: &watch::Receiver<Progress>,
    stop: &CancellationToken,
) -> Result<Option<Registering>, ControlError> {
    let Some(config) = &spec.catalog else { return Ok(None) };
    let opened = (connectors.catalog)(config, &spec.name).map_err(ControlError::Invalid)?;
    let last = CancellationToken::new();
    let (sender, status) = watch::channel(CatalogStatus::new(opened.name.clone()));
    let task = Task {
        spec: spec.clone(),
        destination: destination.into(),
        opened,
        ledger: Arc::clone(ledger),
        status: sender,
        known: HashSet::new(),
        table: None,
        advanced: false,
    };
    let task = tokio::spawn(task.run(progress.clone(), stop.clone(), last.clone()));
    Ok(Some(Registering { task, status, last }))
}

/// Runs a pipeline, and gives its catalog a last chance behind it.
pub(crate) async fn beside(pipeline: impl Future<Output = bool>, registering: Option<Registering>) -> bool {
    let delivered = pipeline.await;
    if let Some(registering) = registering {
        registering.finish().await;
    }
    delivered
}

struct Task {
    spec: PipelineSpec,
    destination: String,
    opened: OpenedCatalog,
    ledger: Arc<Ledger>,
    status: watch::Sender<CatalogStatus>,
    /// Partitions that this task registered.
    known: HashSet<Partition>,
    /// The table as this task registered it last: the first step always looks
    /// whether it is there.
    table: Option<u64>,
    /// Whether this step registered partitions, however it ended.
    advanced: bool,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Catalog(Failure),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl StepError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Catalog(failure) => failure.kind,
            Self::Ledger(_) | Self::Task(_) => FailureKind::NotDone,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Catalog(failure) => failure.retry_after,
            Self::Ledger(_) | Self::Task(_) => None,
        }
    }
}

/// Whether there was more to do.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    More,
    Nothing,
}

impl Task {
    async fn run(
        mut self,
        mut progress: watch::Receiver<Progress>,
        stop: CancellationToken,
        last: CancellationToken,
    ) {
        let mut attempts = 0_u32;
        let mut place = None;
        loop {
            // Seen before the ledger is read: what comes later wakes us again.
            progress.borrow_and_update();
            self.advanced = false;
            let is_last = last.is_cancelled();
            let found = tokio::select! {
                found = self.step(&mut place) => found,
                () = stop.cancelled() => return,
            };
            let pause = match found {
                Ok(found) => {
                    attempts = 0;
                    if found == Found::More {
                        continue;
                    }
                    None
                }
                Err(error) => {
                    // What failed after some of it was done starts counting anew.
                    attempts = if self.advanced { 1 } else { attempts.saturating_add(1) };
                    let pause = pause_after(error.kind(), attempts, error.retry_after());
                    self.failed(&error, attempts, pause, place.as_ref()).await;
                    Some(pause)
                }
            };
            if is_last {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = last.cancelled() => {}
                changed = progress.changed(), if pause.is_none() => if changed.is_err() { return },
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Registers the next batches. If we die after any line of it, the place in
    /// the ledger is before them, and they are registered again.
    async fn step(&mut self, place: &mut Option<CatalogProgress>) -> Result<Found, StepError> {
        let name = self.spec.name.clone();
        let at = match place {
            Some(at) => at.clone(),
            None => {
                let catalog = self.opened.name.clone();
                self.on_ledger(move |ledger| ledger.begin_catalog(&name, &catalog)).await?
            }
        };
        *place = Some(at.clone());
        let (name, from) = (self.spec.name.clone(), at.clone());
        let work = self.on_ledger(move |ledger| ledger.catalog_work(&name, &from, BATCHES)).await?;
        let plan = work::plan(&self.spec, &self.destination, work, &self.known)
            .map_err(|error| StepError::Catalog(Failure::new(FailureKind::Refused, error.to_string())))?;
        if plan.skipped > 0 {
            warn!(
                pipeline = self.spec.name,
                files = plan.skipped,
                "files lie outside the folders of the pipeline's path and are in no partition"
            );
        }
        let mut to = plan.to;
        let new_table = plan.fingerprint != self.table;
        if let Some(table) = plan.table
            && (new_table || !plan.partitions.is_empty())
        {
            if !self.register(table, plan.partitions, !at.registered).await? {
                warn!(
                    pipeline = self.spec.name,
                    catalog = self.opened.name,
                    "the table is gone from the catalog; it is made anew with everything"
                );
                let (name, catalog) = (self.spec.name.clone(), self.opened.name.clone());
                self.known.clear();
                self.table = None;
                *place = Some(self.on_ledger(move |l| l.restart_catalog(&name, &catalog)).await?);
                return Ok(Found::More);
            }
            to.registered = true;
            to.schema_version = plan.schema_version;
            self.table = plan.fingerprint;
        }
        if to == at {
            self.tell(CatalogState::UpToDate, 0);
            return Ok(Found::Nothing);
        }
        let (name, from, moved) = (self.spec.name.clone(), at, to.clone());
        let behind = self
            .on_ledger(move |ledger| {
                let is_ours = ledger.move_catalog(&name, &from, &moved)?;
                is_ours.then(|| ledger.catalog_behind(&name, &moved)).transpose()
            })
            .await?;
        let Some(behind) = behind else {
            // The pipeline began anew behind our back: so do we.
            *place = None;
            return Ok(Found::More);
        };
        *place = Some(to);
        self.tell(
            if behind == 0 { CatalogState::UpToDate } else { CatalogState::Behind { batches: behind } },
            behind,
        );
        Ok(Found::More)
    }

    /// Registers the table and partitions of it, a few at a time: what is done
    /// is remembered, so that a failure costs only those that were with it.
    /// False if the table is missing.
    async fn register(
        &mut self,
        table: TableDescription,
        partitions: Vec<Partition>,
        from_the_start: bool,
    ) -> Result<bool, StepError> {
        let mut registration = Registration { table, partitions: Vec::new(), from_the_start };
        let mut rest = partitions.into_iter();
        loop {
            registration.partitions = rest.by_ref().take(AT_ONCE).collect();
            match self.opened.catalog.register(&registration).await.map_err(StepError::Catalog)? {
                Registered::TableMissing => return Ok(false),
                Registered::Done { notes } => {
                    self.registered(std::mem::take(&mut registration.partitions), notes);
                }
            }
            if rest.len() == 0 {
                return Ok(true);
            }
        }
    }

    fn registered(&mut self, partitions: Vec<Partition>, notes: Vec<String>) {
        if !partitions.is_empty() {
            self.advanced = true;
            let (pipeline, catalog) = (&self.spec.name, &self.opened.name);
            info!(pipeline, catalog, partitions = partitions.len(), "partitions are registered");
        }
        let labels = [("pipeline", self.spec.name.clone())];
        metrics::counter!("lakeward_catalog_partitions_total", &labels).increment(partitions.len() as u64);
        if self.known.len() + partitions.len() > KNOWN_MAX {
            self.known.clear();
        }
        self.known.extend(partitions);
        let is_news = self.status.borrow().notes != notes;
        if is_news {
            for note in &notes {
                warn!(pipeline = self.spec.name, catalog = self.opened.name, "{note}");
            }
            self.status.send_modify(|status| status.notes = notes);
        }
    }

    async fn failed(
        &self,
        failure: &StepError,
        attempts: u32,
        pause: Duration,
        place: Option<&CatalogProgress>,
    ) {
        let labels = [("pipeline", self.spec.name.clone())];
        metrics::counter!("lakeward_catalog_failures_total", &labels).increment(1);
        let mut behind = 0;
        if let Some(place) = place.cloned() {
            let name = self.spec.name.clone();
            behind = self.on_ledger(move |l| l.catalog_behind(&name, &place)).await.unwrap_or_default();
        }
        let (pipeline, catalog) = (&self.spec.name, &self.opened.name);
        if failure.kind() == FailureKind::Refused {
            error!(pipeline, catalog, code = "LW-2201", error = %failure, retry_in = ?pause, "the catalog refuses the table; delivery goes on");
        } else {
            warn!(pipeline, catalog, attempts, error = %failure, retry_in = ?pause, "the catalog failed; trying again, delivery goes on");
        }
        let error = failure.to_string();
        self.tell(CatalogState::Failing { attempts, error, batches: behind }, behind);
    }

    fn tell(&self, state: CatalogState, behind: u64) {
        let labels = [("pipeline", self.spec.name.clone())];
        #[allow(clippy::cast_precision_loss, reason = "it is at most 1,000")]
        metrics::gauge!("lakeward_catalog_behind_batches", &labels).set(behind as f64);
        self.status.send_if_modified(|status| {
            let is_news = status.state != state;
            status.state = state;
            is_news
        });
    }

    async fn on_ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, StepError> {
        let ledger = Arc::clone(&self.ledger);
        Ok(tokio::task::spawn_blocking(move || work(&ledger)).await??)
    }
}
