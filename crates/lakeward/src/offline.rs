//! The state directory of a process that does not run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakeward_columnar::schema::TableSchema;
use lakeward_engine::{BatchKey, BatchRecord, Ledger, PipelineState, PipelineStatus, StateLock};
use lakeward_journal::Journal;
use lakeward_model::clock::{Clock, SystemClock};

/// A state directory, held while it is looked at.
pub(crate) struct Offline {
    _lock: StateLock,
    journal: Journal,
    ledger: Ledger,
}

impl Offline {
    /// Takes the state directory.
    pub(crate) fn open(state: &Path, options: lakeward_journal::Options) -> anyhow::Result<Self> {
        let lock = StateLock::take(state)?;
        let journal = Journal::open(&state.join("journal"), options, Arc::new(SystemClock))?;
        let ledger = Ledger::open(&state.join("ledger.redb"))?;
        Ok(Self { _lock: lock, journal, ledger })
    }

    /// Every pipeline's numbers, as the running process would give them.
    pub(crate) fn status(&self) -> anyhow::Result<Vec<PipelineStatus>> {
        let all = self.ledger.all_progress()?;
        let status = all.into_iter().map(|(pipeline, progress)| {
            let end = match self.journal.tail(&progress.stream) {
                Some(tail) if self.journal.incarnation(&progress.stream) == Some(progress.incarnation) => {
                    tail.end
                }
                _ => progress.delivered_to,
            };
            let pending = end.0 > progress.delivered_to.0;
            let oldest =
                pending.then(|| self.journal.received_at(&progress.stream, progress.delivered_to)).flatten();
            let lag = oldest.map_or(Duration::ZERO, |oldest| SystemClock.now().since(oldest));
            PipelineStatus::new(pipeline, String::new(), &progress, end, lag, PipelineState::Idle)
        });
        Ok(status.collect())
    }

    /// Committed batches, those behind `after`.
    pub(crate) fn batches(&self, after: Option<&BatchKey>, limit: usize) -> anyhow::Result<Vec<BatchRecord>> {
        Ok(self.ledger.batches(after, limit)?)
    }

    /// The columns of a pipeline's files so far.
    pub(crate) fn schema(&self, pipeline: &str) -> anyhow::Result<TableSchema> {
        Ok(self.ledger.schemas(pipeline)?.table)
    }

    /// Pipelines that were made through an API.
    pub(crate) fn made(&self) -> anyhow::Result<Vec<lakeward_engine::PipelineSpec>> {
        Ok(self.ledger.pipelines()?)
    }
}
