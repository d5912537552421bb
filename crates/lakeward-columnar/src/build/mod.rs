//! Building a batch: process, decode, transform, fit, drop duplicates,
//! partition, encode. A pure function of the plan and of the keys that were
//! delivered before.
//!
//! A record ends in exactly one way. If any part of it fails, all of it goes to
//! quarantine, with its original bytes; else, if any row of it is left, it is
//! delivered; else, if any row of it was a duplicate, it is one; else it was
//! filtered.

mod arrive;
mod files;
mod origins;
mod rows;
mod slices;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod verbatim;

use lakeward_model::{BatchId, DataFile, LakePathError, Offset, RecordBlock, SliceId, StreamName, Timestamp};

use crate::decode::DecodeError;
use crate::dedup::{Key, Seen, SeenError};
use crate::encode::EncodeError;
use crate::path::{TemplateError, UnknownTimeZone};
use crate::process::{Outcome, ProcessingError};
use crate::schema::{Column, TableSchema};
use crate::shape::Shape;
use crate::transform::{Transform, TransformError};

use self::arrive::Arriving;
use self::files::Places;

pub use self::origins::Origins;
pub use self::slices::SliceCounts;

/// What a batch is built from, besides its records. All of it is pinned by the
/// plan or follows from the ledger, so that a rebuilt batch is the same batch.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The batch; names derive from it.
    pub batch: BatchId,
    /// The stream.
    pub stream: &'a StreamName,
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The pinned shape.
    pub shape: &'a Shape,
    /// The columns before this batch.
    pub schemas: &'a Schemas,
    /// When the batch was planned.
    pub planned_at: Timestamp,
    /// About how many bytes the records have, or 0: only for making room.
    pub expected_bytes: u64,
    /// The shape's SQL, compiled.
    pub sql: Option<&'a dyn Transform>,
    /// The keys that were delivered before, and the seed of their hashes.
    pub seen: Option<(&'a dyn Seen, u64)>,
    /// Records that the destination will never take, ascending by offset: they
    /// go to quarantine.
    pub refused: &'a [Refused],
}

/// A record that a destination will never take.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// Its place in the stream, or in its replay.
    pub offset: Offset,
    /// Why, in the destination's words.
    pub message: String,
}

/// What a pipeline knows of its columns between batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Schemas {
    /// The columns of the files.
    #[serde(flatten)]
    pub table: TableSchema,
    /// The columns of the records, where SQL makes others of them: those that
    /// it ever read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<TableSchema>,
}

/// A batch as files.
#[derive(Debug)]
pub struct Built {
    /// The files, data first; in the order of their names' indexes.
    pub files: Vec<DataFile>,
    /// The columns after this batch, if they changed.
    pub schemas: Option<Schemas>,
    /// What became of the records.
    pub counts: BuiltCounts,
    /// The same by slice, ascending by its id, for the records that came from
    /// one ([`lakeward_model::Lineage`]). Empty if none did.
    pub by_slice: Vec<(SliceId, SliceCounts)>,
    /// The dedup keys that the batch delivers.
    pub keys: Vec<Key>,
    /// The columns of the data files, in their order.
    pub columns: Vec<Column>,
    /// Which record each row of the data files is of, where a table may
    /// refuse some; else empty.
    pub origins: Origins,
}

/// What became of a batch's records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuiltCounts {
    /// Records with rows in the data files.
    pub delivered: u64,
    /// Records without any row: blank ones, or left out on purpose.
    pub filtered: u64,
    /// Records of which nothing but duplicates was left.
    pub duplicates: u64,
    /// Records in quarantine files.
    pub quarantined: u64,
    /// Rows in the data files.
    pub rows: u64,
    /// Values in `_rescued`.
    pub rescued: u64,
    /// Bytes of all records as received.
    pub source_bytes: u64,
}

impl BuiltCounts {
    /// All records of the batch.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.delivered + self.filtered + self.duplicates + self.quarantined
    }

    /// Adds another batch's.
    pub fn add(&mut self, more: &Self) {
        self.delivered += more.delivered;
        self.filtered += more.filtered;
        self.duplicates += more.duplicates;
        self.quarantined += more.quarantined;
        self.rows += more.rows;
        self.rescued += more.rescued;
        self.source_bytes += more.source_bytes;
    }
}

/// Why a batch was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError<E: std::error::Error + 'static> {
    /// The records could not be read.
    #[error(transparent)]
    Read(E),
    /// The keys that were delivered could not be read.
    #[error(transparent)]
    Seen(SeenError),
    /// The shape does not fit; the configuration must change.
    #[error(transparent)]
    Shape(ShapeError),
}

impl<E: std::error::Error + 'static> From<ShapeError> for BuildError<E> {
    fn from(error: ShapeError) -> Self {
        Self::Shape(error)
    }
}

/// Why a shape cannot be used, or not for these records.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// The path template is wrong.
    #[error("{0}")]
    Path(TemplateError),
    /// The error path template is wrong.
    #[error("{0}")]
    ErrorPath(TemplateError),
    /// The time zone is unknown.
    #[error(transparent)]
    TimeZone(#[from] UnknownTimeZone),
    /// Verbatim files are not decoded, so there are no columns.
    #[error("verbatim output has no columns, so {what} cannot be used; choose another format")]
    Verbatim {
        /// The setting that needs columns.
        field: &'static str,
        /// What it has that does.
        what: &'static str,
    },
    /// A processor is wrong.
    #[error(transparent)]
    Processing(#[from] ProcessingError),
    /// The SQL cannot be used on the columns that there are.
    #[error("{0}")]
    Sql(TransformError),
    /// A record does not fit the columns, and the pipeline is to stop then.
    #[error("the record at offset {offset} does not fit the columns: {message}")]
    Mismatch {
        /// Which record.
        offset: Offset,
        /// Which values.
        message: String,
    },
    /// An object's name came out as no path.
    #[error(transparent)]
    Name(#[from] LakePathError),
    /// The batch is too large for columns; a smaller `batch.size` helps.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The columns do not fit the format.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A computation on columns failed.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

impl ShapeError {
    /// The setting at fault.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::Name(_) => "path",
            Self::ErrorPath(_) => "error_path",
            Self::TimeZone(_) => "time_zone",
            Self::Verbatim { field, .. } => field,
            Self::Decode(_) | Self::Encode(_) | Self::Arrow(_) => "format",
            Self::Processing(error) => error.field,
            Self::Sql(_) => "sql",
            Self::Mismatch { .. } => "schema",
        }
    }
}

/// Checks everything about a shape that does not depend on records, except its
/// SQL, which needs an engine.
///
/// # Errors
/// What is wrong with it; the configuration must change.
pub fn check(shape: &Shape) -> Result<(), ShapeError> {
    Places::of(shape).map(drop)
}

/// Builds the batch whose records `blocks` yields. `outcomes` has one for each
/// piece of a record that goes through the shape's Lambda function, in order.
/// `again` yields the same blocks once more, in case a record fails late.
///
/// # Errors
/// See [`BuildError`]; nothing was done, and the same input fails again.
pub fn build<E, B>(
    input: &Input<'_>,
    blocks: B,
    outcomes: &mut dyn Iterator<Item = Outcome>,
    again: impl FnOnce() -> B,
) -> Result<Built, BuildError<E>>
where
    E: std::error::Error + 'static,
    B: Iterator<Item = Result<RecordBlock, E>>,
{
    let places = Places::of(input.shape)?;
    if places.is_verbatim() {
        return verbatim::build(input, &places, blocks, outcomes);
    }
    let mut arriving = Arriving::new(input, &places)?;
    for block in blocks {
        arriving.take(&block.map_err(BuildError::Read)?, outcomes)?;
    }
    let (decoded, mut arrived) = arriving.finish();
    let shaped = rows::shape(input, decoded, &mut arrived)?;
    arrived.read_late_failures(again)?;
    files::build(input, &places, shaped, &arrived).map_err(BuildError::Shape)
}
