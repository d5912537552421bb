//! The shape of a pipeline's output: everything that decides what a batch
//! looks like. A plan pins it, so that a rebuilt batch is the same batch.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Per-column settings, by dotted path from the root (`context.attributes`).
    pub columns: BTreeMap<String, ColumnMode>,
    /// How many leaf columns a schema may grow to; what comes beyond goes to
    /// `_rescued`.
    pub column_limit: usize,
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
        }
    }
}

/// How one column is read, whatever its values look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnMode {
    /// The value's JSON text in a string column: for free-form maps and mixed
    /// types.
    Json,
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

/// Compression of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum FileCompression {
    /// None.
    #[default]
    None,
    /// Gzip: `.gz`.
    Gzip,
    /// Zstandard: `.zst`.
    Zstd,
    /// Snappy's framing format: `.sz`.
    Snappy,
    /// Firehose's ZIP: one deflated entry, `.zip`.
    Zip,
    /// Firehose's Snappy: snappy-java's (xerial's) stream, `.snappy`.
    SnappyJava,
    /// Firehose's HADOOP_SNAPPY: Hadoop's block format, `.snappy`.
    HadoopSnappy,
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
