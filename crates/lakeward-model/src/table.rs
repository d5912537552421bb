//! A table as every reader sees it: its columns and their types.

mod describe;
mod description;

use serde::{Deserialize, Serialize};

pub use self::describe::{Change, ChangeKind};
pub use self::description::{
    FileCompression, KeyFormat, PartitionKey, TableDescription, TableFormat, TimeStep,
};

/// The column that keeps what fits nowhere else: a JSON object of dotted path
/// to original value, null for most rows.
pub const RESCUED: &str = "_rescued";
/// The column with the id of a row's batch, as text, in tables that know their
/// rows again.
pub const BATCH_COLUMN: &str = "_lakeward_batch";
/// The column with a row's place in its batch, from 0.
pub const ROW_COLUMN: &str = "_lakeward_row";

/// The columns of a table, as its files have them. Its JSON form is stored in
/// the ledger and stays readable by later releases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableSchema {
    /// Counts changes; 0 is the empty schema that nothing was written with.
    pub version: u64,
    /// The columns, in the order of the files.
    pub columns: Vec<Column>,
}

/// A named column, or a field of a struct. No new name differs from another in
/// the same place only in case: readers that do not tell them apart (DuckDB,
/// Spark, Athena) would mix the two up, so the later one is rescued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The JSON key, unescaped, otherwise exactly as it came.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub ty: ColumnType,
}

/// What a column holds. Every column is nullable; a JSON null and an absent
/// key are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// 64-bit signed integers.
    Int64,
    /// 64-bit IEEE floats.
    Float64,
    /// Text.
    Utf8,
    /// Any JSON value, as its text.
    Json,
    /// A date and a time of day, in microseconds, in no zone (or in UTC, where
    /// what came had a zone).
    Timestamp,
    /// An instant, in microseconds.
    #[serde(rename = "timestamptz")]
    TimestampTz,
    /// A day of the calendar.
    Date,
    /// Exact numbers: how many digits (1 to 38), and how many of them behind
    /// the point.
    Decimal(u8, u8),
    /// Bytes.
    Binary,
    /// An object with these fields; never empty.
    Struct(Vec<Column>),
    /// An array of values of one type.
    List(Box<ColumnType>),
}

impl TableSchema {
    /// Whether it has no column but, perhaps, `_rescued`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.iter().all(|column| column.name == RESCUED)
    }

    /// The column with this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl ColumnType {
    /// How many columns a file has for it, a struct's fields each on its own.
    #[must_use]
    pub fn leaves(&self) -> usize {
        match self {
            Self::Struct(columns) => columns.iter().map(|column| column.ty.leaves()).sum(),
            Self::List(item) => item.leaves(),
            _ => 1,
        }
    }
}
