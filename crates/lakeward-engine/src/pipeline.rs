//! One pipeline: wait, plan, build, deliver, commit, trim; for ever.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use lakeward_columnar::build::{self, Built};
use lakeward_columnar::schema::TableSchema;
use lakeward_journal::{Journal, ReadError};
use lakeward_model::clock::{SharedClock, Stopwatch};
use lakeward_model::{Batch, BatchId, Destination, Offset, Receipt, RecordBlock, Span};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::deliver::deliver;
use crate::engine::{OpenDestination, Opened, Watermarks};
use crate::ledger::{BatchRecord, Commit, Counts, Ledger, LedgerError, Progress};
use crate::plan::{Decision, Filling, Frame, Plan};
use crate::spec::PipelineSpec;
use crate::status::PipelineState;

/// How much of the journal is read at a time while a batch is built.
const READ_BYTES: usize = 4 << 20;
/// While a batch fills, the journal is looked at no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Everything a pipeline's task works with.
pub(crate) struct Pipeline {
    pub(crate) spec: Arc<PipelineSpec>,
    pub(crate) journal: Journal,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) clock: SharedClock,
    pub(crate) destination: Opened,
    /// How other destinations are opened: a batch that was begun for one is
    /// finished there. `None` for pipelines of the configuration file.
    pub(crate) reopen: Option<OpenDestination>,
    pub(crate) retention: Duration,
    pub(crate) incarnation: uuid::Uuid,
    pub(crate) watermarks: Arc<Watermarks>,
    pub(crate) draining: CancellationToken,
    /// Asks the task to end at the next point where nothing is half done.
    pub(crate) stop: CancellationToken,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) state: watch::Sender<PipelineState>,
}

/// A batch that is built and waits for its turn.
struct Prepared {
    plan: Plan,
    destination: Arc<dyn Destination>,
    batch: Batch,
    counts: Counts,
    /// The schema after this batch, and whether the batch changed it.
    schema: TableSchema,
    schema_changed: bool,
}

/// Why a pipeline stopped. Its records stay in the journal.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error("the ledger failed: {0}")]
    Ledger(#[from] LedgerError),
    #[error("the journal cannot be read: {0}; run `lakeward fsck`")]
    Journal(#[from] ReadError),
    #[error("the batch {batch} cannot be built: {reason}")]
    Build { batch: BatchId, reason: String },
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
            Self::Build { .. } => "LW-1003",
            Self::Destination { .. } => "LW-1004",
            Self::Task(_) => "LW-1005",
        }
    }
}

impl Pipeline {
    /// Runs until the process drains and nothing is pending. Whether
    /// everything was delivered.
    pub(crate) async fn run(self) -> bool {
        let pipeline = Arc::new(self);
        match Arc::clone(&pipeline).deliver_all().await {
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
        let (recovered, from, schema) = self.recover().await?;
        let mut begun = recovered.is_some();
        let mut current = match recovered {
            Some(plan) => Some(Arc::clone(&self).build(plan, schema).await?),
            None => Arc::clone(&self).prepare(from, schema).await?,
        };
        while let Some(prepared) = current {
            if !begun {
                self.begin(&prepared.plan).await?;
            }
            self.state.send_replace(PipelineState::Delivering);
            let mut following = self.prepare_after(&prepared);
            let mut early = None;
            let clock = Stopwatch::start();
            let receipt = {
                let delivery = deliver(&self.spec.name, &*prepared.destination, &prepared.batch, &self.state);
                tokio::pin!(delivery);
                loop {
                    tokio::select! {
                        receipt = &mut delivery => break receipt,
                        () = self.stop.cancelled() => return Ok(false),
                        next = &mut following, if early.is_none() => early = Some(next),
                    }
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

    /// What an earlier process left: its unfinished plan, the offset to go on
    /// from, and the schema.
    async fn recover(&self) -> Result<(Option<Plan>, Offset, TableSchema), Halt> {
        let (ledger, name) = (Arc::clone(&self.ledger), self.spec.name.clone());
        let (plan, schema) = tokio::task::spawn_blocking(move || {
            Ok::<_, LedgerError>((ledger.unfinished(&name)?, ledger.schema(&name)?))
        })
        .await??;
        if let Some(plan) = &plan {
            info!(pipeline = self.spec.name, batch = %plan.batch, span = %plan.span, "finishing the batch that was begun before the restart");
        }
        Ok((plan, self.progress.borrow().delivered_to, schema))
    }

    fn prepare_after(
        self: &Arc<Self>,
        prepared: &Prepared,
    ) -> BoxFuture<'static, Result<Option<Prepared>, Halt>> {
        Box::pin(Arc::clone(self).prepare(prepared.plan.span.to, prepared.schema.clone()))
    }

    /// Waits until a batch from `from` on is due, plans it and builds it.
    /// `None` once the process drains and nothing is pending.
    async fn prepare(self: Arc<Self>, from: Offset, schema: TableSchema) -> Result<Option<Prepared>, Halt> {
        let Some((span, source_bytes)) = self.next_span(from).await? else { return Ok(None) };
        let plan = Plan {
            batch: BatchId::derive(self.incarnation, &self.spec.stream, &self.spec.name, span),
            span,
            shape: self.spec.shape.clone(),
            destination: self.destination.name.clone(),
            reopen: self.reopen.as_ref().map(|_| self.spec.destination.clone()),
            planned_at: self.clock.now(),
            source_bytes,
        };
        self.build(plan, schema).await.map(Some)
    }

    /// Waits until a batch from `from` on is due: its span and about how many
    /// bytes it has. `None` once the pipeline is to stop, or the process drains
    /// and nothing is pending.
    async fn next_span(&self, from: Offset) -> Result<Option<(Span, u64)>, Halt> {
        let mut ends = self.journal.watch(&self.spec.stream).ok_or(ReadError::UnknownStream)?;
        let mut filling = Filling::new(from, self.spec.batch);
        let mut since = None;
        let pause = LOOK_EVERY.min(self.spec.batch.age / 4);
        loop {
            let draining = self.draining.is_cancelled();
            let end = *ends.borrow_and_update();
            self.look(&mut filling, end)?;
            if filling.next() > from && since.is_none() {
                since = Some(Stopwatch::start());
            }
            // The wall clock may jump back; what we have seen ourselves does not.
            let seen = since.map_or(Duration::ZERO, Stopwatch::elapsed);
            let age = self.clock.now().since(filling.oldest()).max(seen);
            let wait = match filling.decide(age, draining) {
                Decision::Cut(span) => return Ok(Some((span, filling.bytes()))),
                Decision::Empty if draining => return Ok(None),
                Decision::Empty => Duration::MAX,
                Decision::Wait(wait) => wait,
            };
            let more = async {
                if ends.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(pause.min(wait)).await;
            };
            tokio::select! {
                () = more => {}
                () = sleep_at_most(wait) => {}
                () = self.draining.cancelled(), if !draining => {}
                () = self.stop.cancelled() => return Ok(None),
            }
        }
    }

    /// Adds the frames that came since the last look.
    fn look(&self, filling: &mut Filling, end: Offset) -> Result<(), ReadError> {
        while filling.next() < end && !filling.is_full() {
            for frame in self.journal.frames(&self.spec.stream, filling.next(), 1024)? {
                if filling.is_full() {
                    break;
                }
                filling.add(&Frame {
                    first: frame.first,
                    records: u64::from(frame.records),
                    bytes: frame.bytes,
                    received_at: frame.received_at,
                });
            }
        }
        Ok(())
    }

    /// The destination that the batch was planned for.
    fn destination_of(&self, plan: &Plan) -> Result<Arc<dyn Destination>, Halt> {
        if plan.destination == self.destination.name {
            return Ok(Arc::clone(&self.destination.destination));
        }
        let elsewhere = || Halt::Destination {
            planned: plan.destination.clone(),
            configured: self.destination.name.clone(),
        };
        match (&self.reopen, &plan.reopen) {
            (Some(open), Some(planned)) => {
                open(planned).map(|opened| opened.destination).map_err(|_| elsewhere())
            }
            _ => Err(elsewhere()),
        }
    }

    /// Builds a planned batch on a blocking thread.
    async fn build(self: Arc<Self>, plan: Plan, schema: TableSchema) -> Result<Prepared, Halt> {
        let destination = self.destination_of(&plan)?;
        tokio::task::spawn_blocking(move || {
            let input = build::Input {
                batch: plan.batch,
                stream: &self.spec.stream,
                pipeline: &self.spec.name,
                shape: &plan.shape,
                schema: &schema,
                planned_at: plan.planned_at,
                expected_bytes: plan.source_bytes,
            };
            let blocks = Blocks { journal: &self.journal, spec: &self.spec, at: plan.span.from, to: plan.span.to, read: Vec::new().into_iter() };
            let Built { files, schema: after, counts } = build::build(&input, blocks).map_err(|error| match error {
                build::BuildError::Read(error) => Halt::Journal(error),
                build::BuildError::Shape(reason) => Halt::Build { batch: plan.batch, reason: reason.to_string() },
            })?;
            debug!(pipeline = self.spec.name, batch = %plan.batch, span = %plan.span, files = files.len(), rows = counts.rows, "batch built");
            let schema_changed = after.is_some();
            Ok(Prepared {
                batch: Batch { id: plan.batch, span: plan.span, files },
                counts: Counts {
                    delivered: counts.delivered,
                    filtered: counts.filtered,
                    duplicates: 0,
                    quarantined: counts.quarantined,
                    rows: counts.rows,
                    rescued: counts.rescued,
                    files: 0,
                    bytes: 0,
                    source_bytes: counts.source_bytes,
                },
                schema: after.unwrap_or(schema),
                schema_changed,
                destination,
                plan,
            })
        })
        .await?
    }

    async fn begin(&self, plan: &Plan) -> Result<(), Halt> {
        let (ledger, name, plan) = (Arc::clone(&self.ledger), self.spec.name.clone(), plan.clone());
        Ok(tokio::task::spawn_blocking(move || ledger.begin(&name, &plan)).await??)
    }

    /// Commits what was delivered, together with the next plan if it is known,
    /// and trims the journal.
    async fn commit(
        &self,
        prepared: &Prepared,
        receipt: Receipt,
        next: Option<&Prepared>,
        clock: Stopwatch,
    ) -> Result<(), Halt> {
        let mut counts = prepared.counts;
        counts.files = receipt.files.len() as u64;
        counts.bytes = receipt.files.iter().map(|file| file.bytes).sum();
        let record = BatchRecord {
            pipeline: self.spec.name.clone(),
            incarnation: self.incarnation,
            destination: prepared.plan.destination.clone(),
            batch: prepared.plan.batch,
            span: prepared.plan.span,
            counts,
            files: receipt.files,
            committed_at: self.clock.now(),
        };
        let (ledger, name) = (Arc::clone(&self.ledger), self.spec.name.clone());
        let (plan, next) = (prepared.plan.clone(), next.map(|next| next.plan.clone()));
        let schema = prepared.schema_changed.then(|| prepared.schema.clone());
        let progress = tokio::task::spawn_blocking(move || {
            ledger.commit(
                &name,
                &Commit { plan: &plan, record: &record, schema: schema.as_ref(), next: next.as_ref() },
            )
        })
        .await??;
        let labels = [("pipeline", self.spec.name.clone())];
        metrics::counter!("lakeward_delivered_records_total", &labels).increment(counts.delivered);
        metrics::counter!("lakeward_quarantined_records_total", &labels).increment(counts.quarantined);
        metrics::counter!("lakeward_delivered_bytes_total", &labels).increment(counts.bytes);
        metrics::histogram!("lakeward_delivery_seconds", &labels).record(clock.elapsed().as_secs_f64());
        info!(pipeline = self.spec.name, batch = %prepared.plan.batch, span = %prepared.plan.span, rows = counts.rows, files = counts.files, bytes = counts.bytes, quarantined = counts.quarantined, "batch delivered");
        let settled = progress.delivered_to;
        self.progress.send_replace(progress);
        self.trim(settled).await
    }

    async fn trim(&self, settled: Offset) -> Result<(), Halt> {
        let before = self.watermarks.advance(&self.spec.stream, &self.spec.name, settled);
        let keep = i64::try_from(self.retention.as_micros()).unwrap_or(i64::MAX);
        let keep_after = lakeward_model::Timestamp(self.clock.now().micros().saturating_sub(keep));
        let (journal, stream) = (self.journal.clone(), self.spec.stream.clone());
        let trimmed = tokio::task::spawn_blocking(move || journal.trim(&stream, before, keep_after)).await?;
        if let Err(error) = trimmed {
            // Old segments cost disk, not correctness: the next trim removes them.
            error!(pipeline = self.spec.name, %error, "old journal segments could not be removed");
        }
        Ok(())
    }
}

async fn sleep_at_most(wait: Duration) {
    if wait == Duration::MAX {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(wait).await;
}

/// The planned records, read a few MiB at a time.
struct Blocks<'a> {
    journal: &'a Journal,
    spec: &'a PipelineSpec,
    at: Offset,
    to: Offset,
    read: std::vec::IntoIter<RecordBlock>,
}

impl Iterator for Blocks<'_> {
    type Item = Result<RecordBlock, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = Span::new(self.at, self.to)?;
        if self.read.as_slice().is_empty() {
            match self.journal.read(&self.spec.stream, self.at, READ_BYTES) {
                Ok(blocks) => self.read = blocks.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
        let block = self.read.next().and_then(|block| block.within(rest));
        let block = block.expect("the journal holds every record of a plan");
        assert_eq!(block.first, self.at, "the journal is gap-free");
        self.at = block.first.plus(block.records.len() as u64);
        Some(Ok(block))
    }
}
