//! The shape of a pipeline's output: everything that decides what a batch
//! looks like. A plan pins it, so that a rebuilt batch is the same batch.

mod column_mode;

use std::collections::BTreeMap;

pub use lakeward_model::FileCompression;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::column_mode::{ColumnMode, UnknownColumnMode};

/// What a pipeline's files look like and where they lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "snake_case")]
pub struct Shape {
    /// The file format, with its options.
    pub output: Output,
    /// Where files go: Firehose's prefix language plus `!{event:…}`.
    pub path: String,
    /// Where quarantined records go. Default: `<static start of path>!{firehose:error-output-type}/`…
    /// as Firehose has it.
    pub error_path: Option<String>,
    /// IANA time zone for `!{timestamp:…}` and `!{event:…}` patterns.
    pub time_zone: String,
    /// How objects are named below the path.
    pub naming: Naming,
    /// Per-column settings, by dotted path from the root (`context.attributes`):
    /// those of the records, so with SQL of what it reads.
    pub columns: BTreeMap<String, ColumnMode>,
    /// How many leaf columns a schema may grow to; what comes beyond goes to
    /// `_rescued`.
    pub column_limit: usize,
    /// What happens to records before they become columns.
    #[serde(skip_serializing_if = "Processing::is_nothing")]
    pub processing: Processing,
    /// What makes the rows of the files from those of the records (table
    /// `input`). Default none: the rows are the records'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Whether the columns may change.
    pub contract: Contract,
    /// What becomes of a record with a value that fits no column.
    pub on_mismatch: OnMismatch,
    /// Which rows are duplicates. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup>,
    /// Whether rows say where their record came from, for those of a sliced
    /// source: columns `_file`, `_line` and `_etag`. What a file's name says becomes
    /// columns in any case. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lineage: bool,
    /// Whether rows have the text of their record: column `_raw`. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
    /// What is different about files that are loaded into a table of a
    /// warehouse instead of being read where they lie. Default: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableFiles>,
}

/// Files that are loaded into a table. They have every column, whatever their
/// folders say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TableFiles {
    /// Whether rows have the columns [`lakeward_model::BATCH_COLUMN`] and [`lakeward_model::ROW_COLUMN`], by
    /// which a table knows them again.
    pub row_ids: bool,
    /// Most rows of a file. Default any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_per_file: Option<std::num::NonZeroU64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            output: Output::default(),
            path: String::from(
                "year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/hour=!{timestamp:HH}/",
            ),
            error_path: None,
            time_zone: String::from("UTC"),
            naming: Naming::default(),
            columns: BTreeMap::new(),
            column_limit: 1_000,
            processing: Processing::default(),
            sql: None,
            contract: Contract::default(),
            on_mismatch: OnMismatch::default(),
            dedup: None,
            lineage: false,
            raw: false,
            table: None,
        }
    }
}

impl Shape {
    /// Names this very shape in quarantine files, so that a record can be told
    /// from those that a later configuration refused.
    #[must_use]
    pub fn configuration(&self) -> String {
        let text = serde_json::to_vec(self).expect("a shape is plain data");
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&text))
    }
}

/// What happens to records before they become columns, in this order, which is
/// Firehose's (contract `aws-and-launchdarkly.md`, section 2.6).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Processing {
    /// Whether records are gzip and are inflated first. Default false.
    pub decompress: bool,
    /// How a record is taken apart into several. Default not at all.
    pub split: Option<Split>,
    /// A function that every record goes through. Default none.
    pub lambda: Option<Lambda>,
    /// A jq expression that gives an object of strings, for
    /// `!{partitionKeyFromQuery:…}`. Default none.
    pub partition_query: Option<String>,
    /// What is put behind every record. Default nothing.
    pub delimiter: Option<String>,
}

impl Processing {
    /// Whether records are left as they are.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// How a record is taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// JSON objects, one behind the other, with or without whitespace between.
    Json,
    /// At every occurrence of this text.
    Delimiter(String),
}

/// A function in Firehose's transform contract (section 3), as far as it
/// decides what a batch looks like. How it is reached is in
/// [`Lambda::function`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lambda {
    /// How the function is reached: only the binary knows what it means. It
    /// holds no secret.
    pub function: serde_json::Value,
    /// The function's name for people and error objects: its ARN, URL or
    /// command.
    pub name: String,
    /// Most bytes of records in one call. Default 1 MiB.
    pub bytes: u64,
    /// Most records in one call. Default 10,000.
    pub records: usize,
    /// Tries after the first. Default 3.
    pub retries: u32,
    /// Calls at the same time. Default 4.
    pub concurrency: usize,
    /// Whether records wait, however long, while the function cannot be
    /// reached; else they fail after the retries, as in Firehose.
    pub wait: bool,
}

#[cfg(test)]
impl Lambda {
    /// A function `f` that is called with one record at a time.
    pub(crate) fn one_at_a_time() -> Self {
        Self {
            function: serde_json::Value::Null,
            name: "f".into(),
            bytes: 1,
            records: 1,
            retries: 3,
            concurrency: 1,
            wait: false,
        }
    }
}

/// Whether a pipeline's columns may change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contract {
    /// New fields become columns.
    #[default]
    Evolve,
    /// The columns stay as they are (as the first batch has them, where none
    /// are declared); a new field is a mismatch.
    Freeze,
    /// The columns stay as they are; new fields are left out on purpose.
    DiscardUnknown,
}

/// What becomes of a record with a value that fits no column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMismatch {
    /// The value goes to `_rescued`.
    #[default]
    Rescue,
    /// The record goes to quarantine.
    Quarantine,
    /// The pipeline stops before anything of the batch is delivered.
    Fail,
}

/// Which rows are duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dedup {
    /// What a duplicate has in common with the first.
    pub key: DedupKey,
    /// How long a key is remembered.
    pub window: std::time::Duration,
    /// The column whose time counts for the window. Default the arrival.
    pub time: Option<String>,
}

/// What a duplicate has in common with the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DedupKey {
    /// The values of these columns of the output; a row in which all of them
    /// are null is never a duplicate.
    Columns(Vec<String>),
    /// Every byte of the record as received, but for line ends behind it.
    Content,
}

/// How objects are named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case", tag = "style", deny_unknown_fields)]
pub enum Naming {
    /// `<batch id>-<index><ext>`.
    #[default]
    Batch,
    /// `<stream>-<version>-<yyyy-MM-dd-HH-mm-ss>-<uuid><ext>`, as Firehose
    /// names objects.
    Firehose {
        /// The delivery stream's name.
        stream: String,
        /// Its version id.
        version: u64,
        /// Replaces the extension, if set.
        #[serde(default)]
        extension: Option<String>,
    },
}

/// A file format with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum Output {
    /// Apache Parquet.
    Parquet(ParquetOptions),
    /// One JSON object per line, re-encoded from columns.
    Ndjson {
        /// Compression of the whole file.
        #[serde(default)]
        compression: FileCompression,
    },
    /// Delimited text.
    Csv(CsvOptions),
    /// ClickHouse's `RowBinaryWithNamesAndTypes`.
    RowBinary,
    /// The bytes as received.
    Verbatim {
        /// Compression of the whole file.
        #[serde(default)]
        compression: FileCompression,
        /// Whether to end every record with a newline.
        #[serde(default)]
        newline: Newline,
    },
}

impl Default for Output {
    fn default() -> Self {
        Self::Parquet(ParquetOptions::default())
    }
}

/// Options of Parquet output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "snake_case")]
pub struct ParquetOptions {
    /// Compression of the pages. Default zstd (level 1).
    pub compression: ParquetCompression,
    /// The most rows in a row group. Default 1,048,576.
    pub row_group_rows: usize,
    /// Whether columns may be dictionary-encoded where it pays. Default true.
    pub dictionary: bool,
    /// Whether to write column statistics. Default true.
    pub statistics: bool,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self {
            compression: ParquetCompression::Zstd,
            row_group_rows: 1 << 20,
            dictionary: true,
            statistics: true,
        }
    }
}

/// Compression of Parquet pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum ParquetCompression {
    /// Zstandard, level 1.
    #[default]
    Zstd,
    /// Snappy.
    Snappy,
    /// Gzip.
    Gzip,
    /// None.
    None,
}

/// Options of CSV output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "snake_case")]
pub struct CsvOptions {
    /// Compression of the whole file.
    pub compression: FileCompression,
    /// One ASCII character between fields. Default `,`.
    pub delimiter: char,
    /// When fields are quoted. Default `minimal`.
    pub quote: CsvQuote,
    /// Whether the first line names the columns. Default true.
    pub header: bool,
    /// What stands for a missing value. Default the empty, unquoted field.
    pub null: String,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            compression: FileCompression::None,
            delimiter: ',',
            quote: CsvQuote::Minimal,
            header: true,
            null: String::new(),
        }
    }
}

/// When CSV fields are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum CsvQuote {
    /// Where the content needs it (and an empty string, to tell it from null).
    #[default]
    Minimal,
    /// Every field that is not null.
    All,
}

/// What verbatim output does about newlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum Newline {
    /// Adds one to a record that does not end with one.
    #[default]
    Ensure,
    /// Leaves the bytes as they are, as Firehose does.
    AsIs,
}
