//! Rows as Arrow's IPC stream format: what pandas, polars and DuckDB take as
//! it is.

use std::fmt;

use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;

use super::QueryError;
use super::rows::Rows;

/// Writes the rows of one answer, piece by piece.
pub struct ArrowStream(StreamWriter<Vec<u8>>);

impl fmt::Debug for ArrowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrowStream").finish_non_exhaustive()
    }
}

impl ArrowStream {
    /// A stream of rows with the columns of `rows`, which are not written yet.
    ///
    /// # Errors
    /// A type has no form in Arrow's messages: a bug.
    pub fn new(rows: &Rows) -> Result<Self, QueryError> {
        StreamWriter::try_new(Vec::new(), &rows.batch().schema()).map(Self).map_err(failed)
    }

    /// The bytes of these rows; the first ones say the columns too.
    ///
    /// # Errors
    /// A bug.
    pub fn write(&mut self, rows: &Rows) -> Result<Vec<u8>, QueryError> {
        self.0.write(rows.batch()).map_err(failed)?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    /// The last bytes, which say that this is the end.
    ///
    /// # Errors
    /// A bug.
    pub fn finish(mut self) -> Result<Vec<u8>, QueryError> {
        self.0.finish().map_err(failed)?;
        Ok(std::mem::take(self.0.get_mut()))
    }
}

fn failed(error: ArrowError) -> QueryError {
    QueryError::Internal(error.to_string())
}
