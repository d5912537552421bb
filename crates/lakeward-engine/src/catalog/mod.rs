//! Registering what was delivered in a catalog: one task per pipeline that has
//! one, beside the pipeline's own, which never waits for it.
//!
//! The ledger has the truth: which batches are committed, and how far the
//! catalog is. A step reads some batches behind that place, registers their
//! partitions and the columns, and moves the place. A death anywhere in it means
//! that the same is registered again, which changes nothing.

mod status;
mod work;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lakeward_model::{Catalog, CatalogAnswer, Failure, FailureKind, Partition, Registered, Registration};
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
/// Partitions that the catalog has elsewhere are asked for again up to here.
const ELSEWHERE_MAX: usize = AT_ONCE;
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
        elsewhere: BTreeMap::new(),
        table: None,
        told: None,
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
    /// Partitions that the catalog has elsewhere, and where. They are asked for
    /// again with everything that is new, as somebody may put them right.
    elsewhere: BTreeMap<Partition, String>,
    /// The table as this task registered it last: the first step always looks
    /// whether it is there.
    table: Option<u64>,
    /// The table that has what this task registered: see
    /// [`CatalogAnswer::made`]. The ledger says it only once a step is done.
    told: Option<Option<String>>,
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
            let mut partitions = plan.partitions;
            let again = self.elsewhere.keys().filter(|one| !partitions.contains(one)).cloned();
            partitions.extend(again.collect::<Vec<_>>());
            let registration = Registration {
                table,
                partitions,
                from_the_start: !at.registered && self.told.is_none(),
                made: self.told.clone().unwrap_or_else(|| at.made.clone()),
            };
            let Some(made) = self.register(registration).await? else {
                warn!(
                    pipeline = self.spec.name,
                    catalog = self.opened.name,
                    "the table is gone from the catalog, or another is in its place; it learns of everything anew"
                );
                let (name, catalog) = (self.spec.name.clone(), self.opened.name.clone());
                self.known.clear();
                self.elsewhere.clear();
                self.told = None;
                self.table = None;
                *place = Some(self.on_ledger(move |l| l.restart_catalog(&name, &catalog)).await?);
                return Ok(Found::More);
            };
            to.registered = true;
            to.made = made;
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
    /// Tells which table it is; `None` if it is missing.
    async fn register(
        &mut self,
        mut registration: Registration,
    ) -> Result<Option<Option<String>>, StepError> {
        let mut rest = std::mem::take(&mut registration.partitions).into_iter();
        loop {
            registration.partitions = rest.by_ref().take(AT_ONCE).collect();
            match self.opened.catalog.register(&registration).await.map_err(StepError::Catalog)? {
                Registered::TableMissing => return Ok(None),
                Registered::Done(answer) => {
                    // What was registered now is in this table only.
                    registration.from_the_start = false;
                    registration.made.clone_from(&answer.made);
                    self.told = Some(answer.made.clone());
                    self.registered(std::mem::take(&mut registration.partitions), answer);
                }
            }
            if rest.len() == 0 {
                return Ok(Some(registration.made));
            }
        }
    }

    fn registered(&mut self, mut partitions: Vec<Partition>, answer: CatalogAnswer) {
        let CatalogAnswer { mut notes, elsewhere, .. } = answer;
        partitions.retain(|one| {
            self.elsewhere.remove(one);
            !elsewhere.iter().any(|(other, _)| other == one)
        });
        let room = ELSEWHERE_MAX.saturating_sub(self.elsewhere.len());
        self.elsewhere.extend(elsewhere.into_iter().take(room));
        notes.extend(self.note_of_elsewhere());
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

    /// What a person should know of partitions that are elsewhere: one of them
    /// is told, the first.
    fn note_of_elsewhere(&self) -> Option<String> {
        let (partition, there) = self.elsewhere.first_key_value()?;
        let count = match self.elsewhere.len() {
            1 => String::from("a partition is another folder in the catalog"),
            count @ 2..ELSEWHERE_MAX => format!("{count} partitions are other folders in the catalog"),
            count => format!("{count} or more partitions are other folders in the catalog"),
        };
        let values: Vec<&str> = partition.values.iter().map(|v| v.as_deref().unwrap_or("null")).collect();
        Some(format!(
            "{count}, so its engines do not see this pipeline's files there: {} is {there} and the files are in {}; \
             put all files into one folder, then delete the partition (it is registered anew with the next one) \
             or set its location, or name another table",
            values.join("/"),
            partition.location
        ))
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
