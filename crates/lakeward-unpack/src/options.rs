//! What is read, and how.

use std::fmt;
use std::fs::File;
use std::io::Read;

/// Where a file's bytes come from.
pub enum Input {
    /// In order, from a network: enough for everything but zips and Parquet.
    Stream(Box<dyn Read + Send>),
    /// From a disk; always the whole file, wherever its cursor stands.
    File(File),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream(_) => "Stream",
            Self::File(_) => "File",
        })
    }
}

/// How a file is read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the unpacked bytes are.
    pub format: Format,
    /// How CSV is read.
    pub csv: Csv,
    /// What ends a reading that would never end by itself.
    pub limits: Limits,
}

/// What the unpacked bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// By the bytes: Parquet by its magic bytes; [`Format::Json`] if they start
    /// with `[`, or with an object that goes on over several lines or has
    /// another one behind it on its line; else [`Format::Ndjson`]. CSV only by a name that
    /// ends in `.csv`, behind which `.gz`, `.zst` and `.zip` may follow.
    #[default]
    Auto,
    /// One record per line. Lines end in `\n` or `\r\n`, the last one may end
    /// with the file; blank lines are no records but count as lines. Whether a
    /// line is JSON is not looked at.
    Ndjson,
    /// Any number of JSON documents, one behind the other. Each element of an
    /// array is a record, as is each document that is no array. A record is
    /// its raw bytes, with its line breaks turned into spaces; one within a
    /// string, where JSON has none, stays, and the record is quarantined.
    Json,
    /// Rows as JSON objects of strings, see [`Csv`].
    Csv,
    /// Rows as JSON objects; nulls are written out.
    Parquet,
}

/// How CSV is read. Each row becomes a JSON object of strings in the order of
/// the columns; an empty field is the empty string `""`. Fields may be quoted
/// with `"`, which is doubled inside. Blank lines are no rows. A row with more or
/// fewer fields than there are columns, or that is not UTF-8, is handed on as
/// its own text, which is not a JSON object: so it is quarantined as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    /// What separates fields; `,` by default.
    pub delimiter: u8,
    /// Whether the first row names the columns; true by default. Names that are
    /// empty or occur twice are refused.
    pub header: bool,
    /// The names of the columns where there is no header; if there are none,
    /// they are called `column_1`, `column_2` …, as many as the first row has.
    pub columns: Vec<String>,
}

impl Default for Csv {
    fn default() -> Self {
        Self { delimiter: b',', header: true, columns: Vec::new() }
    }
}

/// What ends a reading that would never end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest record, in bytes; 16 MiB by default, 1 GiB at most.
    pub record_bytes_max: usize,
    /// How many bytes a file may become, all its layers together; 1 TiB by
    /// default. Files that are not packed have no limit.
    pub unpacked_bytes_max: u64,
    /// How many times its packed size it may become, which is looked at beyond
    /// 64 MiB; 1000 by default. Not for Parquet, whose encodings do more.
    pub ratio_max: u64,
    /// How many members a zip may have; 1,000,000 by default.
    pub members_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record_bytes_max: 16 << 20,
            unpacked_bytes_max: 1 << 40,
            ratio_max: 1000,
            members_max: 1_000_000,
        }
    }
}

impl Limits {
    /// The largest record that both the limit and a block's ends can hold.
    pub(crate) fn record(&self) -> usize {
        self.record_bytes_max.min(1 << 30)
    }
}
