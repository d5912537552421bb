//! SQL over what pipelines have delivered.
//!
//! A [`Table`] is a list of committed files; exactly these are read, nothing is
//! listed. Columns are united by name: a file without a column has nulls in it,
//! integers widen to floats, structs gain fields. The keys of `k=v/` folders are
//! columns too; files whose folders a filter excludes are not opened.
//!
//! A folder's value is text, or `Int64` if every value of its column is an
//! integer without a leading zero (so `year=2024` is a number, `month=01` is
//! text), or what the table's schema says of the column.
//!
//! Names are taken as they are written: nothing is folded to lower case, since
//! two JSON keys that differ only in case are two columns.

mod arrow_stream;
mod error;
mod files;
mod inflate;
mod provider;
mod rows;
mod schema;
mod session;
mod text;

use std::sync::Arc;

use lakeward_columnar::schema::TableSchema;
use lakeward_columnar::shape::Output;
use lakeward_model::LakePath;
use object_store::ObjectStore;
use object_store::path::Path;

pub use arrow_stream::ArrowStream;
pub use error::QueryError;
pub use rows::{Column, Rows};
pub use session::{Answer, Session};

/// The memory that a query may take, by default: 1 GiB.
pub const DEFAULT_MEMORY: usize = 1 << 30;

/// What a pipeline has delivered.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name in SQL, exactly as it is written there.
    pub name: String,
    /// Where the files lie.
    pub store: Arc<dyn ObjectStore>,
    /// The folder in `store` that the files' paths start from.
    pub base: Path,
    /// The files.
    pub files: Vec<CommittedFile>,
    /// The columns of the rows, those in folders included, if they are known.
    /// Without, the files are looked into when a query first names the table.
    pub schema: Option<TableSchema>,
    /// How the pipeline writes files: says what a name without a telling
    /// extension holds, and how CSV is laid out.
    pub output: Output,
}

/// A file that a committed batch delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedFile {
    /// Its path below the table's base.
    pub path: LakePath,
    /// Its size in bytes.
    pub bytes: u64,
    /// The rows in it.
    pub rows: u64,
}
