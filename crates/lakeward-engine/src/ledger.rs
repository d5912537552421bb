//! The ledger: how far each pipeline is, and everything that must move
//! together with that, in one transaction.
//!
//! Tables of `state/ledger.redb`; values are JSON, so that a person can read
//! them (`docs/formats/ledger.md`):
//!
//! | table       | key                        | value           |
//! |-------------|----------------------------|-----------------|
//! | `pipelines` | pipeline                   | `PipelineSpec` of those made through an API |
//! | `progress`  | pipeline                   | [`Progress`]    |
//! | `plans`     | pipeline                   | the unfinished [`Plan`], if any |
//! | `schemas`   | pipeline                   | `TableSchema`   |
//! | `batches`   | pipeline, incarnation, first offset | [`BatchRecord`] |

use std::ops::Bound;
use std::path::Path;

use lakeward_columnar::schema::TableSchema;
use lakeward_model::{BatchId, DeliveredFile, Offset, Span, StreamName, Timestamp};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::spec::PipelineSpec;

type Documents = TableDefinition<'static, &'static str, &'static [u8]>;
const PIPELINES: Documents = TableDefinition::new("pipelines");
const PROGRESS: Documents = TableDefinition::new("progress");
const PLANS: Documents = TableDefinition::new("plans");
const SCHEMAS: Documents = TableDefinition::new("schemas");
type Batches = TableDefinition<'static, (&'static str, u128, u64), &'static [u8]>;
const BATCHES: Batches = TableDefinition::new("batches");

/// How far a pipeline is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The stream it delivers.
    pub stream: StreamName,
    /// Which incarnation of the stream the offsets below belong to.
    pub incarnation: uuid::Uuid,
    /// The first record it was ever responsible for.
    pub start: Offset,
    /// Everything before this is settled.
    pub delivered_to: Offset,
    /// What became of the records in `[start, delivered_to)`.
    pub counts: Counts,
}

/// What became of records. The first four add up to the records settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records whose rows lie at the destination.
    pub delivered: u64,
    /// Records that gave no row: left out by SQL, or blank.
    pub filtered: u64,
    /// Records dropped because their dedup key was known.
    pub duplicates: u64,
    /// Records kept in quarantine.
    pub quarantined: u64,
    /// Rows at the destination; differs from `delivered` where a record holds
    /// several documents.
    pub rows: u64,
    /// Values that lie in `_rescued` instead of a column.
    pub rescued: u64,
    /// Files at the destination.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Bytes of the records as received.
    pub source_bytes: u64,
}

impl Counts {
    /// Records that are settled, one way or another.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.delivered + self.filtered + self.duplicates + self.quarantined
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        Self {
            delivered: self.delivered + more.delivered,
            filtered: self.filtered + more.filtered,
            duplicates: self.duplicates + more.duplicates,
            quarantined: self.quarantined + more.quarantined,
            rows: self.rows + more.rows,
            rescued: self.rescued + more.rescued,
            files: self.files + more.files,
            bytes: self.bytes + more.bytes,
            source_bytes: self.source_bytes + more.source_bytes,
        }
    }
}

/// A committed batch: what `lakeward audit` compares with the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// The pipeline that delivered it.
    pub pipeline: String,
    /// The incarnation of the stream that `span` belongs to.
    pub incarnation: uuid::Uuid,
    /// Which batch.
    pub batch: BatchId,
    /// Where it lies: the destination's name.
    pub destination: String,
    /// The records it settled.
    pub span: Span,
    /// What became of them.
    pub counts: Counts,
    /// The files that hold it.
    pub files: Vec<DeliveredFile>,
    /// When it was committed.
    pub committed_at: Timestamp,
}

/// A batch's place among the committed ones: they are ordered by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchKey {
    /// The pipeline.
    pub pipeline: String,
    /// The incarnation of its stream.
    pub incarnation: uuid::Uuid,
    /// The first offset.
    pub from: Offset,
}

impl BatchRecord {
    /// Its place among the committed batches.
    #[must_use]
    pub fn key(&self) -> BatchKey {
        BatchKey { pipeline: self.pipeline.clone(), incarnation: self.incarnation, from: self.span.from }
    }
}

/// Everything that becomes true at once when a batch is done.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The batch, as it was planned.
    pub plan: &'a Plan,
    /// What lies where now.
    pub record: &'a BatchRecord,
    /// The schema after the batch, if it changed.
    pub schema: Option<&'a TableSchema>,
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
        for table in [PIPELINES, PROGRESS, PLANS, SCHEMAS] {
            write.open_table(table)?;
        }
        write.open_table(BATCHES)?;
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
            for table in [PIPELINES, PROGRESS, PLANS, SCHEMAS] {
                write.open_table(table)?.remove(name)?;
            }
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
        };
        self.write(|write| {
            write.open_table(PLANS)?.remove(name)?;
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

    /// The pipeline's schema; empty before its first batch.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn schema(&self, name: &str) -> Result<TableSchema, LedgerError> {
        Ok(self.get(SCHEMAS, "schemas", name)?.unwrap_or_default())
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
        let progress: Option<Progress> = self.get(PROGRESS, "progress", name)?;
        let delivered_to = progress.map(|p| p.delivered_to);
        assert_eq!(delivered_to, Some(plan.span.from), "a plan starts where its pipeline stands");
        assert!(self.unfinished(name)?.is_none_or(|p| p == *plan), "one plan in flight per pipeline");
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
        let before: Progress = self.get(PROGRESS, "progress", name)?.expect("a pipeline is registered first");
        let span = commit.plan.span;
        assert_eq!(before.delivered_to, span.from, "batches are committed in order");
        assert_eq!(
            before.incarnation, commit.record.incarnation,
            "a batch is of the stream that the pipeline delivers"
        );
        assert_eq!(
            commit.record.counts.settled(),
            span.records(),
            "every record of a batch is accounted for"
        );
        let after =
            Progress { delivered_to: span.to, counts: before.counts.plus(&commit.record.counts), ..before };
        self.write(|write| {
            put(write, PROGRESS, name, &after)?;
            if let Some(schema) = commit.schema {
                put(write, SCHEMAS, name, schema)?;
            }
            match commit.next {
                Some(next) => {
                    assert_eq!(next.span.from, span.to, "plans tile the stream");
                    put(write, PLANS, name, next)?;
                }
                None => {
                    write.open_table(PLANS)?.remove(name)?;
                }
            }
            let value = render("batches", commit.record)?;
            let key = (name, commit.record.incarnation.as_u128(), span.from.0);
            write.open_table(BATCHES)?.insert(key, value.as_slice())?;
            Ok(())
        })?;
        Ok(after)
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
            Some(key) => Bound::Excluded((key.pipeline.as_str(), key.incarnation.as_u128(), key.from.0)),
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
