//! Sources whose records come in slices. The source says which slices there are
//! and reads them; everything that makes each of their records come once is
//! here.
//!
//! Six things go on at the same time, in one task for each source, and share a
//! `Flow`: slices are chosen (`choose`, `announced`), opened and read (`read`),
//! appended and settled (`append`), for runs that verify, counted (`count`),
//! and for runs that replace, old files are removed (`replace`). What is under way is in the journal's cursor (`cursor`), what is
//! done in the ledger ([`crate::ledger::slices`]). A crash at any place is a
//! resume: what the cursor has and the ledger has not goes on behind its last
//! durable chunk.

mod admit;
mod again;
mod announced;
mod append;
mod choose;
mod control;
mod count;
mod cursor;
mod flow;
mod read;
mod readings;
mod replace;
pub(crate) mod runs;
mod spec;
mod tail;

use std::sync::Arc;

use futures::FutureExt;
use lakeward_journal::Journal;
use lakeward_model::{Announcements, SliceId, StreamName};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use uuid::Uuid;

pub use control::{SliceList, SliceState, SliceStatus, SlicesError};
pub(crate) use flow::Flow;
pub use readings::Reading;
pub use spec::SlicedSpec;

use crate::engine::Shared;
use crate::intake::Intake;
use crate::ledger::runs::{RunError, RunErrorKind, RunKind, RunState};
use crate::source::{SlicesStatus, SourceState, SourceStatus};
use append::Appender;
use cursor::Resumed;
use flow::{Flight, Parts, Queued};
use runs::{Ending, Runs};

/// The slices that are being taken into a stream, by its last cursor: those of
/// which something is there, and that may not be in the ledger.
pub(crate) fn under_way(journal: &Journal, stream: &StreamName) -> Vec<SliceId> {
    // A cursor of another kind of source has none.
    let resumed = journal.last_cursor(stream).and_then(|cursor| cursor::read(&cursor).ok());
    resumed.unwrap_or_default().into_iter().map(|resumed| resumed.id).collect()
}

/// Makes what a sliced source needs to run. It keeps the engine's state alive,
/// so only its task may hold it for long.
pub(crate) fn prepare(
    shared: &Arc<Shared>,
    runs: &Arc<Runs>,
    mut spec: SlicedSpec,
    stop: CancellationToken,
) -> (Arc<Flow>, Option<Box<dyn Announcements>>, watch::Receiver<SourceStatus>) {
    let (status, told) = watch::channel(SourceStatus {
        source: spec.name.clone(),
        kind: spec.kind.clone(),
        stream: spec.stream.clone(),
        state: SourceState::default(),
        behind_ms: None,
        records: 0,
        last_error: None,
        slices: Some(SlicesStatus::default()),
    });
    let announcements = spec.announcements.take();
    let incarnation = shared.journal.incarnation(&spec.stream).unwrap_or_default();
    let intake = Intake { shared: Arc::clone(shared) };
    let parts = Parts { spec, incarnation, intake, runs: Arc::clone(runs), status, stop };
    (Arc::new(Flow::new(parts)), announcements, told)
}

/// The task of a sliced source.
pub(crate) async fn run(flow: Arc<Flow>, announcements: Option<Box<dyn Announcements>>) {
    match flow.recover().await {
        Ok(true) => {
            info!(source = flow.name, stream = %flow.stream, open = flow.state().open.len(), "source started");
            let (sender, messages) = mpsc::channel(read::MESSAGES_MAX);
            let appender = Appender::new(Arc::clone(&flow), messages);
            let announced = match announcements {
                Some(announcements) => flow.announce(announcements).boxed(),
                None => futures::future::ready(()).boxed(),
            };
            let reads = Arc::clone(&flow).read(sender).boxed();
            let counts = flow.count_runs().boxed();
            let removals = flow.remove_replaced().boxed();
            let choices = flow.choose().boxed();
            tokio::join!(choices, announced, reads, counts, removals, appender.run().boxed());
        }
        Ok(false) => {}
        Err(problem) => {
            error!(source = flow.name, code = "LW-3001", error = problem, "the source cannot go on");
            flow.tell(|status| {
                status.state = SourceState::Refused;
                status.last_error = Some(problem.clone());
            });
            flow.refuse_runs(&problem).await;
        }
    }
    flow.tell(|status| status.state = SourceState::Stopped);
    info!(source = flow.name, "source stopped");
}

/// Ends the runs of sources that left the configuration: nobody else would.
pub(crate) fn end_runs_of_others(shared: &Arc<Shared>, runs: &Arc<Runs>, sources: &[String]) {
    for run in runs.of_others(sources) {
        let (shared, runs) = (Arc::clone(shared), Arc::clone(runs));
        tokio::spawn(async move {
            let message = format!("the source {} is not configured any more", run.source);
            let error = Some(RunError { kind: RunErrorKind::Refused, message });
            let ending = Ending { state: RunState::Failed, error, at: shared.clock.now(), stream_end: None };
            if let Err(error) = runs.end(&shared, run.id, ending).await {
                error!(source = run.source, run = %run.id, %error, "a run could not be ended");
            }
        });
    }
}

/// The task of a sliced source that answers what it has, and takes nothing.
pub(crate) async fn rest(flow: Arc<Flow>) {
    if let Err(problem) = flow.recover().await {
        error!(source = flow.name, code = "LW-3001", error = problem, "the source cannot go on");
    }
    flow.stop.cancelled().await;
}

impl Flow {
    /// Ends all runs, also those to come, as long as the process runs.
    async fn refuse_runs(&self, problem: &str) {
        loop {
            let next = self.until(|_| {
                let kinds = [RunKind::Take, RunKind::Count];
                kinds.into_iter().find_map(|kind| self.runs.first(&self.name, kind)).ok_or(None)
            });
            let Some(run) = next.await else { return };
            let error = RunError { kind: RunErrorKind::Refused, message: problem.to_string() };
            self.end(run.id, Some(error)).await;
        }
    }

    /// Finds what was under way; whether the process goes on.
    async fn recover(&self) -> Result<bool, String> {
        let cursor = self.intake.shared.journal.last_cursor(&self.stream);
        let resumed = cursor.as_ref().map(cursor::read).transpose()?.unwrap_or_default();
        let incarnation = self.incarnation;
        let asked: Vec<_> = resumed.iter().map(|it| (it.open.slice.name.clone(), it.id)).collect();
        let known = self.ledger(move |ledger| {
            let records = asked.iter().map(|(name, id)| ledger.slice(incarnation, name, *id));
            Ok((records.collect::<Result<Vec<_>, _>>()?, ledger.slice_totals(incarnation)?))
        });
        let Some((known, totals)) = known.await else { return Ok(false) };
        let open = self.change(|state| {
            for (Resumed { id, open, run }, known) in resumed.into_iter().zip(known) {
                // What was set aside, then tried again, and got further goes on.
                let is_settled = known.is_some_and(|record| {
                    record.set_aside.is_none() || record.chunks >= open.progress.chunks
                });
                if is_settled {
                    continue;
                }
                let run = run.filter(|run: &Uuid| self.runs.goes_on(*run));
                state.flights.insert(id, Flight { run, ..Flight::default() });
                if open.outcome.is_none() {
                    let progress = open.progress.clone();
                    state.queue.push_back(Queued { slice: open.slice.clone(), id, progress });
                }
                state.open.insert(id, open);
            }
            state.open.len()
        });
        self.tell(|status| {
            let (taken, set_aside) = (totals.taken, totals.set_aside);
            status.slices = Some(SlicesStatus { next_look: None, open: open as u64, taken, set_aside });
        });
        Ok(true)
    }
}
