//! The ledger: how far each pipeline is, and everything that must move
//! together with that, in one transaction.
//!
//! Tables of `state/ledger.redb`; values are JSON, so that a person can read
//! them (`docs/formats/ledger.md`):
//!
//! | table       | key                        | value           |
//! |-------------|----------------------------|-----------------|
//! | `pipelines` | pipeline                   | `PipelineSpec` of those made through an API |
//! | `streams`   | stream                     | `StreamSpec` of those that something is kept of |
//! | `progress`  | pipeline                   | [`Progress`]    |
//! | `plans`     | pipeline                   | the unfinished [`Plan`], if any |
//! | `schemas`   | pipeline                   | `Schemas`       |
//! | `dedup`     | pipeline                   | [`DedupState`]  |
//! | `schema_versions` | pipeline, version    | `TableSchema`   |
//! | `batches`   | pipeline, incarnation or replay, first offset | [`BatchRecord`] |
//! | `replays`, `replay_records`, `replayed` | see [`replays`] | |
//! | `catalog`, `commits` | see [`catalog`] | |
//! | `slice_counts`, `batch_slices` | see [`slice_counts`] | |
//! | `slices`, `slice_totals`, `looks` | see [`slices`] | |
//! | `runs`, `run_slices` | see [`runs`] | |
//! | `replacements`, `replaced_batches`, `replaced_slices` | see [`replacements`] | |

pub mod catalog;
mod entries;
pub mod replacements;
mod replays;
pub mod runs;
mod slice_counts;
pub mod slices;

use std::ops::Bound;
use std::path::Path;

use lakeward_columnar::build::{Schemas, SliceCounts};
use lakeward_columnar::schema::TableSchema;
use lakeward_model::{Offset, SliceId, StreamName};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dedup::DedupState;
use crate::plan::Plan;
use crate::spec::PipelineSpec;
use crate::streams::StreamSpec;

pub use entries::{BatchKey, BatchRecord, Counts, Progress, Replays};
pub use replays::{Quarantined, QueuedReplay, ReplayAnswer};

type Documents = TableDefinition<'static, &'static str, &'static [u8]>;
const PIPELINES: Documents = TableDefinition::new("pipelines");
const STREAMS: Documents = TableDefinition::new("streams");
const PROGRESS: Documents = TableDefinition::new("progress");
const PLANS: Documents = TableDefinition::new("plans");
const SCHEMAS: Documents = TableDefinition::new("schemas");
const DEDUP: Documents = TableDefinition::new("dedup");
type Batches = TableDefinition<'static, (&'static str, u128, u64), &'static [u8]>;
const SCHEMA_VERSIONS: TableDefinition<'static, (&'static str, u64), &'static [u8]> =
    TableDefinition::new("schema_versions");
const BATCHES: Batches = TableDefinition::new("batches");

/// Everything that becomes true at once when a batch is done.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The batch, as it was planned.
    pub plan: &'a Plan,
    /// What lies where now.
    pub record: &'a BatchRecord,
    /// What became of the records of each slice, ascending by slice.
    pub slices: &'a [(SliceId, SliceCounts)],
    /// The columns after the batch, if they changed.
    pub schemas: Option<&'a Schemas>,
    /// The dedup keys after the batch, if the pipeline has any.
    pub dedup: Option<&'a DedupState>,
    /// The plan that follows, if it is known already: saves an fsync.
    pub next: Option<&'a Plan>,
}

/// The ledger could not be read or written. The pipeline stops: nothing may be
/// delivered without a durable plan.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed.
    #[error("the ledger failed: {0}")]
    Database(#[from] redb::Error),
    /// There is no such pipeline.
    #[error("there is no pipeline named {0}")]
    NoPipeline(String),
    /// A stored value does not parse: an older or newer release wrote it.
    #[error("the ledger holds a value in {table} that this release cannot read: {source}")]
    Value {
        /// The table.
        table: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for LedgerError {
            fn from(error: $error) -> Self {
                Self::Database(error.into())
            }
        }
    )*};
}
from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// See the module's documentation. Every method blocks; every write is durable
/// before it returns.
#[derive(Debug)]
pub struct Ledger {
    database: Database,
}

impl Ledger {
    /// Opens the ledger at `path`, creating it if need be.
    ///
    /// # Errors
    /// The file is damaged or in use; the process cannot start.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let database = Database::builder().set_cache_size(16 << 20).create(path)?;
        let write = database.begin_write()?;
        for table in [PIPELINES, STREAMS, PROGRESS, PLANS, SCHEMAS, DEDUP] {
            write.open_table(table)?;
        }
        write.open_table(BATCHES)?;
        write.open_table(SCHEMA_VERSIONS)?;
        replays::make_tables(&write)?;
        catalog::make_tables(&write)?;
        slice_counts::make_tables(&write)?;
        slices::make_tables(&write)?;
        runs::make_tables(&write)?;
        replacements::make_tables(&write)?;
        write.commit()?;
        Ok(Self { database })
    }

    /// The pipelines that were made through an API.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn pipelines(&self) -> Result<Vec<PipelineSpec>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(PIPELINES)?;
        table.iter()?.map(|entry| parse("pipelines", entry?.1.value())).collect()
    }

    /// Stores a pipeline that was made through an API.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn put_pipeline(&self, spec: &PipelineSpec) -> Result<(), LedgerError> {
        self.write(|write| put(write, PIPELINES, &spec.name, spec))
    }

    /// Forgets a pipeline, its progress and its plan. Its committed batches
    /// stay for `lakeward audit`.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn remove_pipeline(&self, name: &str) -> Result<(), LedgerError> {
        self.write(|write| {
            for table in [PIPELINES, PROGRESS, PLANS, SCHEMAS, DEDUP] {
                write.open_table(table)?.remove(name)?;
            }
            write.open_table(SCHEMA_VERSIONS)?.retain_in((name, 0)..=(name, u64::MAX), |_, _| false)?;
            catalog::forget(write, name)?;
            slice_counts::forget(write, name)?;
            replacements::forget_pipeline(write, name)?;
            replays::forget(write, name)
        })
    }

    /// What is kept of streams.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn streams(&self) -> Result<Vec<StreamSpec>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(STREAMS)?;
        table.iter()?.map(|entry| parse("streams", entry?.1.value())).collect()
    }

    /// What is kept of a stream, if anything is.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn stream(&self, name: &StreamName) -> Result<Option<StreamSpec>, LedgerError> {
        self.get(STREAMS, "streams", name.as_str())
    }

    /// Stores what is kept of a stream.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn put_stream(&self, spec: &StreamSpec) -> Result<(), LedgerError> {
        self.write(|write| put(write, STREAMS, spec.name.as_str(), spec))
    }

    /// Forgets what is kept of a stream.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn remove_stream(&self, name: &StreamName) -> Result<(), LedgerError> {
        self.write(|write| {
            write.open_table(STREAMS)?.remove(name.as_str())?;
            Ok(())
        })
    }

    /// Makes sure that the pipeline has a progress entry for this incarnation
    /// of its stream, beginning at `start`.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn register(
        &self,
        name: &str,
        stream: &StreamName,
        incarnation: uuid::Uuid,
        start: Offset,
    ) -> Result<Progress, LedgerError> {
        if let Some(progress) = self.progress(name)?
            && progress.incarnation == incarnation
            && progress.stream == *stream
        {
            return Ok(progress);
        }
        let progress = Progress {
            stream: stream.clone(),
            incarnation,
            start,
            delivered_to: start,
            counts: Counts::default(),
            replays: Replays::default(),
            revision: 0,
        };
        self.write(|write| {
            write.open_table(PLANS)?.remove(name)?;
            replays::forget(write, name)?;
            catalog::restarted(write, name)?;
            slice_counts::forget(write, name)?;
            put(write, PROGRESS, name, &progress)
        })?;
        Ok(progress)
    }

    /// How far the pipeline is, if it was ever registered.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn progress(&self, name: &str) -> Result<Option<Progress>, LedgerError> {
        self.get(PROGRESS, "progress", name)
    }

    /// The progress of every pipeline, by name.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn all_progress(&self) -> Result<Vec<(String, Progress)>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(PROGRESS)?;
        table
            .iter()?
            .map(|entry| {
                let (name, value) = entry?;
                Ok((name.value().to_string(), parse("progress", value.value())?))
            })
            .collect()
    }

    /// The plan that was begun and not committed, if any.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn unfinished(&self, name: &str) -> Result<Option<Plan>, LedgerError> {
        self.get(PLANS, "plans", name)
    }

    /// The columns of a version of the pipeline's files, for those that there
    /// were.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn schema_versions(&self, name: &str) -> Result<Vec<TableSchema>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(SCHEMA_VERSIONS)?;
        let versions = table.range((name, 0)..=(name, u64::MAX))?;
        versions.map(|entry| parse("schema_versions", entry?.1.value())).collect()
    }

    /// What the pipeline knows of its columns; nothing before its first batch.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn schemas(&self, name: &str) -> Result<Schemas, LedgerError> {
        Ok(self.get(SCHEMAS, "schemas", name)?.unwrap_or_default())
    }

    /// The pipeline's dedup keys, if it has any.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn dedup(&self, name: &str) -> Result<Option<DedupState>, LedgerError> {
        self.get(DEDUP, "dedup", name)
    }

    /// Begins to keep a pipeline's dedup keys, or forgets them.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn set_dedup(&self, name: &str, state: Option<&DedupState>) -> Result<(), LedgerError> {
        self.write(|write| match state {
            Some(state) => put(write, DEDUP, name, state),
            None => {
                write.open_table(DEDUP)?.remove(name)?;
                Ok(())
            }
        })
    }

    /// Stores a plan before anything is done about it.
    ///
    /// # Panics
    /// If the plan does not start where the pipeline stands, or another plan is
    /// unfinished: delivering it would lose or double records.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn begin(&self, name: &str, plan: &Plan) -> Result<(), LedgerError> {
        let progress = self.progress(name)?.expect("a pipeline is registered first");
        assert!(continues(plan, &progress), "a plan starts where its pipeline stands");
        assert!(self.unfinished(name)?.is_none_or(|p| p == *plan), "one plan in flight per pipeline");
        self.write(|write| put(write, PLANS, name, plan))
    }

    /// Stores that a plan leaves out more records than it did.
    ///
    /// # Panics
    /// If it is not the plan that is unfinished.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed.
    pub fn amend(&self, name: &str, plan: &Plan) -> Result<(), LedgerError> {
        let begun = self.unfinished(name)?.expect("a plan is begun before it is delivered");
        assert!(Plan { refused: plan.refused.clone(), ..begun } == *plan, "only what it leaves out changes");
        self.write(|write| put(write, PLANS, name, plan))
    }

    /// Commits a delivered batch, and with it everything that moves with
    /// `delivered_to`.
    ///
    /// # Panics
    /// If the plan does not start where the pipeline stands, or the counts do
    /// not add up to the span: promise 2 would be broken.
    ///
    /// # Errors
    /// See [`LedgerError`]; nothing changed, and the batch is delivered again
    /// after the next start, which changes nothing at the destination.
    pub fn commit(&self, name: &str, commit: &Commit<'_>) -> Result<Progress, LedgerError> {
        let Commit { plan, record, .. } = *commit;
        assert_eq!(record.counts.settled(), plan.span.records(), "every record of a batch is accounted for");
        let mut after = None;
        self.write(|write| {
            let before: Progress = {
                let table = write.open_table(PROGRESS)?;
                let value = table.get(name)?.expect("a pipeline is registered first");
                parse("progress", value.value())?
            };
            assert!(continues(plan, &before), "batches are committed in order");
            assert_eq!(
                before.incarnation, record.incarnation,
                "a batch is of the stream that the pipeline delivers"
            );
            let mut now = Progress {
                counts: before.counts.plus(&record.counts),
                revision: before.revision + 1,
                ..before
            };
            match plan.replay {
                None => now.delivered_to = plan.span.to,
                Some(replay) => {
                    now.replays.settled += 1;
                    now.replays.records_settled += plan.span.records();
                    replays::settle(write, name, replay.number)?;
                }
            }
            put(write, PROGRESS, name, &now)?;
            if let Some(schemas) = commit.schemas {
                put(write, SCHEMAS, name, schemas)?;
                let value = render("schema_versions", &schemas.table)?;
                write.open_table(SCHEMA_VERSIONS)?.insert((name, schemas.table.version), value.as_slice())?;
            }
            if let Some(dedup) = commit.dedup {
                put(write, DEDUP, name, dedup)?;
            }
            match commit.next {
                Some(next) => {
                    assert!(continues(next, &now), "plans tile the stream");
                    put(write, PLANS, name, next)?;
                }
                None => {
                    write.open_table(PLANS)?.remove(name)?;
                }
            }
            let value = render("batches", record)?;
            let key = (name, record.source().as_u128(), record.span.from.0);
            write.open_table(BATCHES)?.insert(key, value.as_slice())?;
            catalog::committed(write, name, now.revision, record)?;
            slice_counts::committed(write, name, record, commit.slices)?;
            after = Some(now);
            Ok(())
        })?;
        Ok(after.expect("it was made above"))
    }

    /// Up to `limit` committed batches of all pipelines that ever were, in the
    /// order of their keys, those behind `after`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn batches(&self, after: Option<&BatchKey>, limit: usize) -> Result<Vec<BatchRecord>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(BATCHES)?;
        let start = match after {
            Some(key) => Bound::Excluded((key.pipeline.as_str(), key.source.as_u128(), key.from.0)),
            None => Bound::Unbounded,
        };
        table
            .range::<(&str, u128, u64)>((start, Bound::Unbounded))?
            .take(limit)
            .map(|entry| parse("batches", entry?.1.value()))
            .collect()
    }

    fn get<T: DeserializeOwned>(
        &self,
        table: Documents,
        table_name: &'static str,
        key: &str,
    ) -> Result<Option<T>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(table)?;
        table.get(key)?.map(|value| parse(table_name, value.value())).transpose()
    }

    fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let write = self.database.begin_write()?;
        change(&write)?;
        write.commit()?;
        Ok(())
    }
}

/// Whether a plan starts where its pipeline stands.
fn continues(plan: &Plan, progress: &Progress) -> bool {
    match plan.replay {
        None => plan.span.from == progress.delivered_to,
        Some(replay) => replay.number == progress.replays.settled,
    }
}

fn put<T: Serialize>(
    write: &WriteTransaction,
    table: Documents,
    key: &str,
    value: &T,
) -> Result<(), LedgerError> {
    let value = render("a table", value)?;
    write.open_table(table)?.insert(key, value.as_slice())?;
    Ok(())
}

fn parse<T: DeserializeOwned>(table: &'static str, value: &[u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(value).map_err(|source| LedgerError::Value { table, source })
}

fn render<T: Serialize>(table: &'static str, value: &T) -> Result<Vec<u8>, LedgerError> {
    serde_json::to_vec(value).map_err(|source| LedgerError::Value { table, source })
}
