//! The nouns that every Lakeward crate shares, and the traits at the
//! connector border.
//!
//! Nothing here does I/O. Arrow never appears here: a destination receives
//! encoded files, so that the version of Arrow stays inside `columnar`.

mod batch;
mod catalog;
pub mod clock;
pub mod dotted;
mod failure;
mod function;
pub mod ids;
pub mod kpl;
pub mod limits;
mod position;
mod record;
mod secret;
mod shard;
mod slice;
mod table;
pub mod units;

#[cfg(feature = "conformance")]
pub mod conformance;

use std::time::Duration;

pub use batch::{
    Batch, BatchId, ContentEncoding, DataFile, DeliveredFile, Format, LakePath, LakePathError, Receipt, Role,
};
pub use catalog::{Catalog, CatalogAnswer, Partition, Registered, Registration};
pub use failure::{Failure, FailureKind, UnfitRow, innermost};
pub use function::{FUNCTION_BYTES_MAX, Function, InvokeFailure, InvokeFailureKind};
pub use position::{Offset, Span, StreamName, StreamNameError, Timestamp};
pub use record::{Cursor, Keys, Origin, RecordBlock, Records, RequestKey};
pub use secret::Secret;
pub use shard::{SequenceNumber, Shard, ShardKey};
pub use slice::{
    Announcement, Announcements, Captured, CapturedValue, Chunk, Lineage, Slice, SliceFailure, SliceId,
    SlicePage, SliceReader, SlicedSource, Wanted,
};
pub use table::{
    BATCH_COLUMN, Change, ChangeKind, Column, ColumnType, FileCompression, KeyFormat, PartitionKey, RESCUED,
    ROW_COLUMN, TableDescription, TableFormat, TableSchema, TimeStep,
};

/// Where batches go. One method: a destination that has this batch already
/// answers success.
#[async_trait::async_trait]
pub trait Destination: Send + Sync + std::fmt::Debug {
    /// Makes every file of `batch` durable and visible, exactly once however
    /// often it is called with the same [`BatchId`].
    ///
    /// # Errors
    /// A [`Failure`] whose kind tells the engine what is known: see
    /// [`FailureKind`]. A lost reply or a timeout is always
    /// [`FailureKind::Unknown`].
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure>;
}

/// Where records are pulled from.
///
/// The caller stores each page's records and its cursor in one journal frame
/// and then asks for the page behind that cursor. It asks with the cursor that
/// the journal has last: one that differs from what was handed out last tells
/// the source that the page was not stored, and it starts again from there.
#[async_trait::async_trait]
pub trait Source: Send + std::fmt::Debug {
    /// Fetches the page that follows `cursor` (the start, if `None`). Answers
    /// within a few seconds also when there is nothing: then with no records
    /// and the same cursor.
    ///
    /// A source that must not lose its start hands out a first cursor without
    /// records. Dropping the future loses nothing that a poll with the last
    /// stored cursor would not bring back.
    ///
    /// # Errors
    /// A [`Failure`]; the caller asks again with the same cursor, after a pause.
    async fn poll(&mut self, cursor: Option<&Cursor>) -> Result<Page, Failure>;

    /// No poll comes any more, and every page that was handed out is stored:
    /// gives back what others could go on with. A source that is never closed
    /// loses nothing; others only wait longer.
    async fn close(&mut self);
}

/// What a [`Source`] answers: records, and the cursor that is stored in the
/// same journal frame.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records, possibly none.
    pub records: Records,
    /// Where the next page starts. Without records and equal to the cursor of
    /// the poll, nothing need be stored.
    pub next: Cursor,
    /// How far the slowest part of the source is behind its newest record, as
    /// far as it is known.
    pub behind: Option<Duration>,
    /// Something that a person should know although it goes on: records that
    /// are gone for good, one part that cannot be read.
    pub trouble: Option<String>,
}
