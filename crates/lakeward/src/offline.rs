//! The state directory of a process that does not run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakeward_columnar::schema::TableSchema;
use lakeward_engine::{
    BatchKey, BatchRecord, CatalogState, CatalogStatus, Ledger, PipelineState, PipelineStatus, Quarantined,
    ReplayAnswer, Run, SlicesStatus, SourceState, SourceStatus, StateLock,
};
use lakeward_journal::Journal;
use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Offset, StreamName};

use crate::config::SourceConfig;

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
            let catalog = self.catalog(&pipeline)?;
            let idle = PipelineState::Idle;
            let status = PipelineStatus::new(pipeline, String::new(), &progress, end, lag, idle);
            Ok(PipelineStatus { catalog, ..status })
        });
        status.collect()
    }

    /// What is known of a source whose records come in slices; nothing before it
    /// first took any.
    pub(crate) fn sliced(&self, source: &SourceConfig) -> anyhow::Result<Option<SourceStatus>> {
        let stream = StreamName::new(source.stream())?;
        let Some(incarnation) = self.journal.incarnation(&stream) else { return Ok(None) };
        let totals = self.ledger.slice_totals(incarnation)?;
        let slices =
            SlicesStatus { taken: totals.taken, set_aside: totals.set_aside, ..SlicesStatus::default() };
        Ok(Some(SourceStatus {
            source: source.name().to_string(),
            kind: source.kind().to_string(),
            stream,
            state: SourceState::Stopped,
            behind_ms: None,
            records: 0,
            last_error: None,
            slices: Some(slices),
        }))
    }

    /// The runs of a source, the newest first.
    pub(crate) fn runs(&self, source: &str) -> anyhow::Result<Vec<Run>> {
        let pipelines = self.status()?;
        let runs = self.ledger.runs()?.into_iter().filter(|run| run.source == source);
        let delivered = |run: Run| {
            let delivered = run.stream_end.is_some_and(|end| {
                let mut its = pipelines.iter().filter(|it| it.incarnation == end.incarnation);
                its.all(|it| it.delivered_to >= end.offset)
            });
            Run { delivered, ..run }
        };
        Ok(runs.map(delivered).collect())
    }

    /// How far the pipeline's catalog is, if it has one.
    fn catalog(&self, pipeline: &str) -> anyhow::Result<Option<CatalogStatus>> {
        let Some(place) = self.ledger.catalog(pipeline)? else { return Ok(None) };
        let batches = self.ledger.catalog_behind(pipeline, &place)?;
        let state = if batches == 0 { CatalogState::UpToDate } else { CatalogState::Behind { batches } };
        Ok(Some(CatalogStatus { name: place.catalog, state, notes: Vec::new() }))
    }

    /// Committed batches, those behind `after`.
    pub(crate) fn batches(&self, after: Option<&BatchKey>, limit: usize) -> anyhow::Result<Vec<BatchRecord>> {
        Ok(self.ledger.batches(after, limit)?)
    }

    /// Pipelines that were made through an API.
    pub(crate) fn made(&self) -> anyhow::Result<Vec<lakeward_engine::PipelineSpec>> {
        Ok(self.ledger.pipelines()?)
    }

    /// Up to `limit` offsets of a source that left quarantine, from `from` on.
    pub(crate) fn replayed(
        &self,
        name: &str,
        source: uuid::Uuid,
        from: Offset,
        limit: usize,
    ) -> anyhow::Result<Vec<Offset>> {
        Ok(self.ledger.replayed(name, source, from, limit)?)
    }

    /// Lets records leave quarantine; they are delivered at the next start.
    pub(crate) fn replay(&self, name: &str, records: &[Quarantined]) -> anyhow::Result<ReplayAnswer> {
        Ok(self.ledger.queue_replay(name, records)?.0)
    }

    /// Every version of a pipeline's columns.
    pub(crate) fn schema_versions(&self, name: &str) -> anyhow::Result<Vec<TableSchema>> {
        Ok(self.ledger.schema_versions(name)?)
    }
}
