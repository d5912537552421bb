//! One pipeline: wait, plan, build, deliver, commit, trim; for ever.

mod blocks;
mod build;
mod builder;
mod commit;
mod function;
mod next;
mod recover;
mod refused;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use lakeward_columnar::build::{Origins, Schemas, ShapeError, SliceCounts};
use lakeward_columnar::dedup::SeenError;
use lakeward_columnar::shape::Lambda;
use lakeward_columnar::transform::Transform;
use lakeward_journal::{Journal, ReadError};
use lakeward_model::clock::{SharedClock, Stopwatch};
use lakeward_model::{Batch, BatchId, Destination, Function, Offset, SliceId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

pub(crate) use self::builder::Builder;
use crate::dedup::{DedupError, KeyStore, Pending};
use crate::deliver::{Delivered, deliver};
use crate::engine::{Connectors, Opened};
use crate::folder::Folder;
use crate::lambda::RepliesError;
use crate::ledger::{Counts, Ledger, LedgerError, Progress};
use crate::plan::Plan;
use crate::retention::Retention;
use crate::spec::PipelineSpec;
use crate::status::PipelineState;

/// How long to wait for room on a full disk.
const PAUSE: Duration = Duration::from_secs(5);

/// Everything a pipeline's task works with.
pub(crate) struct Pipeline {
    pub(crate) spec: Arc<PipelineSpec>,
    pub(crate) journal: Journal,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) clock: SharedClock,
    pub(crate) destination: Opened,
    /// Whether it comes from the configuration file; else a batch that was
    /// begun for another destination is finished there.
    pub(crate) configured: bool,
    pub(crate) connectors: Connectors,
    /// The SQL that was compiled last.
    pub(crate) sql: Mutex<Option<(String, Arc<dyn Transform>)>>,
    /// The function that was opened last.
    pub(crate) function: Mutex<Option<(Lambda, Arc<dyn Function>)>>,
    /// The pipeline's folder in the state directory.
    pub(crate) folder: Folder,
    /// The dedup keys, once the task runs, if there are any.
    pub(crate) keys: OnceLock<KeyStore>,
    pub(crate) retention: Arc<Retention>,
    pub(crate) incarnation: uuid::Uuid,
    pub(crate) draining: CancellationToken,
    /// Asks the task to end at the next point where nothing is half done.
    pub(crate) stop: CancellationToken,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) state: watch::Sender<PipelineState>,
    /// What reads or writes for this task on other threads: it goes on when
    /// nobody waits for it any more.
    pub(crate) blocking: TaskTracker,
    /// The thread that builds its batches.
    pub(crate) builder: Builder,
}

/// Where the next batch starts, and what it builds upon.
#[derive(Debug, Clone)]
struct Standing {
    /// The first record of the stream that is not planned.
    offset: Offset,
    /// The first replay that is not planned.
    replay: u64,
    schemas: Schemas,
    /// The dedup keys of the batch before, while it is not committed.
    in_flight: Option<Pending>,
}

/// A batch that is built and waits for its turn.
struct Prepared {
    plan: Plan,
    destination: Arc<dyn Destination>,
    batch: Batch,
    counts: Counts,
    /// The same for each slice that the records came from.
    slices: Arc<[(SliceId, SliceCounts)]>,
    /// What it was built upon.
    before: Standing,
    /// Where the batch after this one starts.
    after: Standing,
    /// Whether the batch changed the columns.
    schemas_changed: bool,
    /// Which record each of its rows is of.
    origins: Origins,
}

/// Why a pipeline stopped. Its records stay in the journal.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error("the ledger failed: {0}")]
    Ledger(#[from] LedgerError),
    #[error("the journal cannot be read: {0}; run `lakeward fsck`")]
    Journal(#[from] ReadError),
    #[error("the batch {batch} cannot be built: {reason}")]
    Build { batch: BatchId, reason: ShapeError },
    #[error(transparent)]
    Replies(#[from] RepliesError),
    #[error(transparent)]
    Seen(SeenError),
    #[error(transparent)]
    Keys(#[from] DedupError),
    #[error(
        "a batch was begun for {planned}, but the pipeline now delivers to {configured}; start once with the former destination so that it is finished there"
    )]
    Destination { planned: String, configured: String },
    #[error("a task of the pipeline failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Halt {
    /// The page in `docs/errors/` that says what to do.
    fn code(&self) -> &'static str {
        match self {
            Self::Ledger(_) => "LW-1001",
            Self::Journal(_) => "LW-1002",
            Self::Build { reason: ShapeError::Sql(_), .. } => "LW-1006",
            Self::Build { reason: ShapeError::Mismatch { .. }, .. } => "LW-1007",
            Self::Build { .. } => "LW-1003",
            Self::Replies(_) => "LW-1009",
            Self::Seen(_) | Self::Keys(_) => "LW-1008",
            Self::Destination { .. } => "LW-1004",
            Self::Task(_) => "LW-1005",
        }
    }

    /// Whether it may work another time without anybody's doing: a full disk.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Keys(DedupError::Io { .. }) | Self::Replies(RepliesError::Io { .. }))
    }
}

impl Pipeline {
    /// Runs until the process drains and nothing is pending. Whether
    /// everything was delivered.
    pub(crate) async fn run(self) -> bool {
        let pipeline = Arc::new(self);
        let ended = Arc::clone(&pipeline).deliver_all().await;
        // The next task of this pipeline must be alone with its files.
        pipeline.blocking.close();
        pipeline.blocking.wait().await;
        match ended {
            Ok(complete) => complete,
            Err(halt) => {
                error!(pipeline = pipeline.spec.name, code = halt.code(), error = %halt, "the pipeline stops; its records stay in the journal");
                pipeline.state.send_replace(PipelineState::Halted {
                    code: halt.code().to_string(),
                    error: halt.to_string(),
                });
                false
            }
        }
    }

    /// The pipeline loop. One plan is in flight; the next batch is planned and
    /// built meanwhile, but its plan becomes durable, and its files leave the
    /// process, only with or after the commit before it.
    ///
    /// Whether it ended because everything is delivered, not because it was
    /// asked to stop. It stops only while it waits: a commit that has begun is
    /// seen through, so that the next task finds the ledger at rest.
    async fn deliver_all(self: Arc<Self>) -> Result<bool, Halt> {
        let Some((recovered, standing)) = self.recover_patiently().await? else { return Ok(false) };
        let mut begun = recovered.is_some();
        let mut current = match recovered {
            Some(plan) => Arc::clone(&self).build_patiently(plan, standing).await?,
            None => Arc::clone(&self).prepare(standing).await?,
        };
        while let Some(prepared) = current {
            if !begun {
                self.begin(&prepared.plan).await?;
            }
            self.state.send_replace(PipelineState::Delivering);
            let mut following = self.prepare_after(&prepared);
            let mut early = None;
            let clock = Stopwatch::start();
            let delivered = {
                let delivery = deliver(&self.spec.name, &*prepared.destination, &prepared.batch, &self.state);
                tokio::pin!(delivery);
                loop {
                    tokio::select! {
                        delivered = &mut delivery => break delivered,
                        () = self.stop.cancelled() => return Ok(false),
                        next = &mut following, if early.is_none() => early = Some(next),
                    }
                }
            };
            let receipt = match delivered {
                Delivered::Stored(receipt) => receipt,
                Delivered::Unfit(rows) => {
                    // What was built upon this batch is built upon another now.
                    drop((following, early));
                    current = Arc::clone(&self).without(prepared, &rows).await?;
                    begun = true;
                    continue;
                }
            };
            // A following batch that cannot be built does not stop this one.
            let next = early.as_ref().and_then(|next| next.as_ref().ok()).and_then(Option::as_ref);
            self.commit(&prepared, receipt, next, clock).await?;
            drop(prepared);
            begun = next.is_some();
            current = match early {
                Some(next) => next?,
                None => {
                    self.state.send_replace(PipelineState::Idle);
                    following.await?
                }
            };
        }
        self.state.send_replace(PipelineState::Idle);
        Ok(!self.stop.is_cancelled())
    }

    fn prepare_after(
        self: &Arc<Self>,
        prepared: &Prepared,
    ) -> BoxFuture<'static, Result<Option<Prepared>, Halt>> {
        Box::pin(Arc::clone(self).prepare(prepared.after.clone()))
    }

    /// Waits until a batch is due, plans it and builds it. `None` once the
    /// process drains and nothing is pending.
    async fn prepare(self: Arc<Self>, standing: Standing) -> Result<Option<Prepared>, Halt> {
        let Some(mut plan) = self.next_plan(&standing).await? else { return Ok(None) };
        loop {
            match Arc::clone(&self).build_patiently(plan.clone(), standing.clone()).await {
                // Records can become more than was received: unpacked, or by a
                // function. The plan is not durable yet, so it may change.
                Err(Halt::Build { reason: ShapeError::Decode(_), .. })
                    if plan.replay.is_none() && plan.span.records() > 1 =>
                {
                    plan = self.first_half(&plan);
                    debug!(pipeline = self.spec.name, span = %plan.span, "the batch became too large and is halved");
                }
                ended => return ended,
            }
        }
    }

    /// Builds a planned batch, again and again while only the disk is in the
    /// way. `None` once the pipeline is to stop.
    async fn build_patiently(
        self: Arc<Self>,
        plan: Plan,
        standing: Standing,
    ) -> Result<Option<Prepared>, Halt> {
        self.patiently(|| Arc::clone(&self).build(plan.clone(), standing.clone())).await
    }

    async fn recover_patiently(self: &Arc<Self>) -> Result<Option<(Option<Plan>, Standing)>, Halt> {
        self.patiently(|| Arc::clone(self).recover()).await
    }

    /// Does what may fail because of the disk, again and again. `None` once the
    /// pipeline is to stop.
    async fn patiently<T, F: Future<Output = Result<T, Halt>>>(
        &self,
        work: impl Fn() -> F,
    ) -> Result<Option<T>, Halt> {
        for attempts in 1.. {
            let done = tokio::select! {
                done = work() => done,
                () = self.stop.cancelled() => return Ok(None),
            };
            match done {
                Err(halt) if halt.is_passing() => {
                    warn!(pipeline = self.spec.name, error = %halt, "the disk is in the way; trying again");
                    self.state.send_replace(PipelineState::Retrying { attempts, error: halt.to_string() });
                }
                done => return done.map(Some),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.stop.cancelled() => return Ok(None),
            }
        }
        unreachable!("attempts are endless")
    }

    async fn begin(&self, plan: &Plan) -> Result<(), Halt> {
        let (ledger, name, plan) = (Arc::clone(&self.ledger), self.spec.name.clone(), plan.clone());
        Ok(tokio::task::spawn_blocking(move || ledger.begin(&name, &plan)).await??)
    }
}
