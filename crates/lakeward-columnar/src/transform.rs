//! What a SQL engine does for a batch: rows in, rows out. The engine lives in
//! a crate of its own, at the edge; a batch only knows this.

use std::fmt;

use arrow::array::RecordBatch;
use lakeward_model::{BatchId, Timestamp};

/// A stateless transform of rows, compiled once.
pub trait Transform: Send + Sync + fmt::Debug {
    /// The top-level columns that it reads; `None` is all of them. More than it
    /// really needs does no harm.
    fn reads(&self) -> Option<&[String]>;

    /// Makes the output rows. A pure function of its arguments.
    ///
    /// Columns that it reads and `rows` does not have are NULL.
    ///
    /// # Errors
    /// The transform cannot be used on columns of these types at all; a row on
    /// which it fails is in [`Transformed::failed`] instead.
    fn apply(&self, rows: &RecordBatch, pinned: &Pinned) -> Result<Transformed, TransformError>;
}

/// What stands for the clock and for chance, so that a rebuilt batch is the
/// same batch.
#[derive(Debug, Clone, Copy)]
pub struct Pinned {
    /// What `now()` gives.
    pub now: Timestamp,
    /// What `random()` and `uuid()` derive from, besides the row.
    pub batch: BatchId,
}

/// Rows out.
#[derive(Debug)]
pub struct Transformed {
    /// The rows, in the order of their sources. A column of type `Null` has no
    /// type yet.
    pub rows: RecordBatch,
    /// For each output row the input row that it comes from, ascending.
    pub sources: Vec<u32>,
    /// Input rows on which an expression failed, ascending; they have no output.
    pub failed: Vec<FailedRow>,
}

/// An input row on which an expression failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRow {
    /// Which.
    pub row: u32,
    /// Why, for a person.
    pub message: String,
}

/// The transform cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TransformError {
    /// What is wrong and what to do about it.
    pub message: String,
    /// Where in the SQL text, from 1, if it is known.
    pub place: Option<Place>,
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// A place in a text, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The character in the line.
    pub column: u64,
}
