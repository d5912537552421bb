//! The nouns that every Lakeward crate shares, and the traits at the
//! connector border.
//!
//! Nothing here does I/O. Arrow never appears here: a destination receives
//! encoded files, so that the version of Arrow stays inside `columnar`.

mod batch;
pub mod clock;
mod failure;
mod function;
pub mod ids;
pub mod kpl;
pub mod limits;
mod position;
mod record;
mod secret;
mod shard;
pub mod units;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use batch::{
    Batch, BatchId, ContentEncoding, DataFile, DeliveredFile, Format, LakePath, LakePathError, Receipt, Role,
};
pub use failure::{Failure, FailureKind};
pub use function::{FUNCTION_BYTES_MAX, Function, InvokeFailure, InvokeFailureKind};
pub use position::{Offset, Span, StreamName, StreamNameError, Timestamp};
pub use record::{Cursor, Keys, Origin, RecordBlock, Records, RequestKey};
pub use secret::Secret;
pub use shard::{SequenceNumber, Shard, ShardKey};

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
#[async_trait::async_trait]
pub trait Source: Send + std::fmt::Debug {
    /// Fetches the page that follows `cursor` (the start, if `None`).
    ///
    /// # Errors
    /// A [`Failure`]; the caller asks again with the same cursor.
    async fn poll(&mut self, cursor: Option<&Cursor>) -> Result<Page, Failure>;
}

/// What a [`Source`] answers: records, and the cursor that is stored in the
/// same journal frame.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records, possibly none.
    pub records: Records,
    /// Where the next page starts.
    pub next: Cursor,
}
