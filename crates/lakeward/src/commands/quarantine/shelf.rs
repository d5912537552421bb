//! A pipeline's quarantine: the files that the ledger knows, and which of
//! their records left it again.

use anyhow::Context;
use futures::StreamExt;
use futures::stream::LocalBoxStream;
use lakeward_connectors::destinations::lake::Lake;
use lakeward_engine::{BatchRecord, PipelineStatus};
use lakeward_model::Role;

use crate::commands::target::{Inspected, unknown};
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::quarantine::{self, Record};
use crate::wiring::Place;

/// Batches whose files are fetched at the same time.
const BATCHES_AT_ONCE: usize = 4;

/// The quarantine of one pipeline at one instant.
pub(super) struct Shelf {
    /// The pipeline's numbers.
    pub(super) status: PipelineStatus,
    /// Batches that put records there, in the order of their keys.
    batches: Vec<BatchRecord>,
    /// Records whose files lie at a former destination; they cannot be read.
    pub(super) elsewhere: u64,
    lake: Lake,
}

/// What a batch put into quarantine, in the order of its files.
pub(super) struct Lines<'a> {
    /// The batch.
    pub(super) batch: &'a BatchRecord,
    /// Its lines.
    pub(super) held: Vec<Held>,
}

/// A line of a quarantine file.
pub(super) struct Held {
    /// What it says.
    pub(super) record: Record,
    /// Whether the record left quarantine since.
    pub(super) left: bool,
}

impl Shelf {
    /// The quarantine of every pipeline, or of the named one.
    pub(super) async fn all(
        inspected: &Inspected,
        config: &Config,
        only: Option<&str>,
    ) -> anyhow::Result<Vec<Self>> {
        let statuses = inspected.status().await?;
        if let Some(only) = only
            && !statuses.iter().any(|status| status.pipeline == only)
        {
            return Err(unknown(only, &statuses.iter().map(|status| &status.pipeline).collect::<Vec<_>>()));
        }
        let specs = inspected.pipelines(config).await?;
        let mut batches = inspected.batches().await?;
        batches.retain(|batch| batch.counts.quarantined > 0);
        let mut shelves = Vec::new();
        for status in statuses {
            if only.is_some_and(|only| only != status.pipeline) {
                continue;
            }
            let Some(spec) = specs.iter().find(|spec| spec.name == status.pipeline) else { continue };
            let Place { name: here, lake, .. } =
                Place::open(&config.firehose.buckets, &spec.destination).map_err(anyhow::Error::msg)?;
            let its = |batch: &&BatchRecord| {
                batch.pipeline == status.pipeline && batch.incarnation == status.incarnation
            };
            let (there, elsewhere): (Vec<BatchRecord>, Vec<BatchRecord>) =
                batches.iter().filter(its).cloned().partition(|batch| batch.destination == here);
            let elsewhere = elsewhere.iter().map(|batch| batch.counts.quarantined).sum();
            shelves.push(Self { status, batches: there, elsewhere, lake });
        }
        Ok(shelves)
    }

    /// The quarantine of one pipeline.
    pub(super) async fn of(inspected: &Inspected, config: &Config, pipeline: &str) -> anyhow::Result<Self> {
        let found = Self::all(inspected, config, Some(pipeline)).await?.pop();
        found.ok_or_else(|| {
            let message =
                format!("pipeline {pipeline} is in the ledger, but the configuration has none of that name");
            coded(Code::Usage, message)
        })
    }

    /// Lines that its files have.
    pub(super) fn count(&self) -> u64 {
        self.batches.iter().map(|batch| batch.counts.quarantined).sum()
    }

    /// Everything that every batch put into quarantine, batch by batch.
    pub(super) fn read<'a>(
        &'a self,
        inspected: &'a Inspected,
    ) -> LocalBoxStream<'a, anyhow::Result<Lines<'a>>> {
        let read = async |batch| Ok(Lines { batch, held: self.lines_of(inspected, batch).await? });
        futures::stream::iter(&self.batches).map(read).buffered(BATCHES_AT_ONCE).boxed_local()
    }

    async fn lines_of(&self, inspected: &Inspected, batch: &BatchRecord) -> anyhow::Result<Vec<Held>> {
        let left = if self.status.replayed > 0 {
            inspected.replayed(&self.status.pipeline, batch.source(), batch.span).await?
        } else {
            std::collections::HashSet::new()
        };
        let mut all = Vec::new();
        for file in batch.files.iter().filter(|file| file.role == Role::Quarantine) {
            let body = self.lake.get(&file.path, None).await;
            let body =
                body.with_context(|| format!("cannot read the quarantine file {}{}", self.lake, file.path))?;
            let damaged =
                |what: &str| coded(Code::Data, format!("the quarantine file {}: {what}", file.path));
            for record in quarantine::read(&body).map_err(|error| damaged(&error.to_string()))? {
                if record.offset.is_some_and(|offset| offset < batch.span.from || offset >= batch.span.to) {
                    return Err(damaged("a record is none of its batch's"));
                }
                let left = record.offset.is_some_and(|offset| left.contains(&offset));
                all.push(Held { record, left });
            }
        }
        Ok(all)
    }
}
