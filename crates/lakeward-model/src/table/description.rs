//! What a reader that knows nothing of us needs to be told about a table.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Column, ColumnType};

/// A pipeline's lake as a table: what a catalog registers, and what
/// `lakeward ddl` writes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDescription {
    /// The pipeline that writes it.
    pub pipeline: String,
    /// The folder that all its files lie in, an address that ends in `/`:
    /// `s3://bucket/prefix/`, or a local path.
    pub location: String,
    /// The columns of its files, in their order, without partition keys.
    pub columns: Vec<Column>,
    /// The columns of CSV files whose own name a partition key has: by the name
    /// that they have in `columns`, their own. There they are only so that what
    /// is read by position keeps its place; a reader of headers leaves them out.
    pub hidden: BTreeMap<String, String>,
    /// What the folders say, in their order.
    pub partition_keys: Vec<PartitionKey>,
    /// The folders below the location, with a trailing `/` and `${key}` for the
    /// value of a key: `year=${year}/month=${month}/`. Empty if there are none.
    pub folders: String,
    /// How many more folders lie between those and a file; nobody needs their
    /// names.
    pub deeper: usize,
    /// How the files are to be read.
    pub format: TableFormat,
}

/// A partition key: a column that lies in the folders' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionKey {
    /// Its name.
    pub name: String,
    /// What it holds. Text if in doubt: `01` is not `1`.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// What its values look like.
    pub format: KeyFormat,
    /// Whether the folder is `name=value`; else it is the value alone.
    pub hive: bool,
    /// Whether a value may be missing: the folder is then `__missing__`, which
    /// only text can hold where the folder's name is read.
    pub optional: bool,
    /// How many folders a value makes: 1, or more where it has slashes
    /// (`2026/11/21/17`).
    pub depth: usize,
}

/// What the values of a partition key look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFormat {
    /// Points in time.
    Time {
        /// As a pattern of Java's `DateTimeFormatter`.
        pattern: String,
        /// What one value is from the next.
        step: TimeStep,
    },
    /// Numbers of a small range: the month of a year.
    Number {
        /// The first.
        from: u32,
        /// The last.
        to: u32,
        /// How many digits each has, with zeros in front; 1 is without.
        digits: usize,
    },
    /// Anything.
    Any,
}

/// Units of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeStep {
    /// A year.
    Year,
    /// A month.
    Month,
    /// A day.
    Day,
    /// An hour.
    Hour,
    /// A minute.
    Minute,
    /// A second.
    Second,
}

/// How the files of a table are to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// Apache Parquet.
    Parquet {
        /// The pages' compression, for people: `zstd`, `snappy`, `gzip`, `none`.
        compression: String,
    },
    /// One JSON object per line.
    Ndjson {
        /// Compression of the whole file.
        compression: FileCompression,
    },
    /// Delimited text.
    Csv {
        /// Compression of the whole file.
        compression: FileCompression,
        /// Between fields.
        delimiter: char,
        /// Whether the first line names the columns.
        header: bool,
        /// What stands for a missing value.
        null: String,
    },
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

impl TableDescription {
    /// The partition key of this name, whatever its case.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&PartitionKey> {
        self.partition_keys.iter().find(|key| crate::dotted::collide(&key.name, name))
    }

    /// A name for the column at this place (from 0) that cannot have its own:
    /// `column_2` for the second, with `_` behind it where others are called so.
    #[must_use]
    pub fn name_of_place(&self, at: usize) -> String {
        let mut name = format!("column_{}", at + 1);
        let is_taken = |name: &str| {
            self.key(name).is_some()
                || self.columns.iter().any(|other| crate::dotted::collide(&other.name, name))
        };
        while is_taken(&name) {
            name.push('_');
        }
        name
    }

    /// A glob for all its files, below the location: `year=*/month=*/*.parquet`.
    /// It leaves out what lies elsewhere below the location, such as
    /// quarantine.
    #[must_use]
    pub fn glob(&self) -> String {
        let mut folders = self.folders.clone();
        for key in &self.partition_keys {
            folders = folders.replace(&format!("${{{}}}", key.name), &vec!["*"; key.depth].join("/"));
        }
        format!("{folders}{}*{}", "*/".repeat(self.deeper), self.format.extension())
    }
}

impl PartitionKey {
    /// What it holds for a reader of folder names, who does not know that
    /// `__missing__` is none.
    #[must_use]
    pub fn name_type(&self) -> ColumnType {
        if self.optional { ColumnType::Utf8 } else { self.ty.clone() }
    }
}

impl TableFormat {
    /// How the files' names end.
    #[must_use]
    pub fn extension(&self) -> String {
        match self {
            Self::Parquet { .. } => String::from(".parquet"),
            Self::Ndjson { compression } => format!(".ndjson{}", compression.extension()),
            Self::Csv { compression, .. } => format!(".csv{}", compression.extension()),
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Parquet { .. } => "Parquet",
            Self::Ndjson { .. } => "JSON",
            Self::Csv { .. } => "CSV",
        }
    }

    /// The compression of whole files; none for Parquet, which has its own.
    #[must_use]
    pub fn compression(&self) -> FileCompression {
        match self {
            Self::Parquet { .. } => FileCompression::None,
            Self::Ndjson { compression } | Self::Csv { compression, .. } => *compression,
        }
    }
}

impl FileCompression {
    /// What it puts behind a file's name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
            Self::Snappy => ".sz",
            Self::Zip => ".zip",
            Self::SnappyJava | Self::HadoopSnappy => ".snappy",
        }
    }

    /// Its name for people: `zstd`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
            Self::Zip => "zip",
            Self::SnappyJava => "snappy-java",
            Self::HadoopSnappy => "hadoop-snappy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_has_a_star_for_every_folder() {
        let key = |name: &str, hive, depth| PartitionKey {
            name: name.into(),
            ty: ColumnType::Utf8,
            format: KeyFormat::Any,
            hive,
            optional: true,
            depth,
        };
        let mut table = TableDescription {
            pipeline: "p".into(),
            location: "s3://b/".into(),
            columns: Vec::new(),
            hidden: BTreeMap::new(),
            partition_keys: vec![key("area", true, 1), key("datehour", false, 4)],
            folders: "area=${area}/v1/${datehour}/".into(),
            deeper: 0,
            format: TableFormat::Ndjson { compression: FileCompression::Gzip },
        };
        assert_eq!(table.glob(), "area=*/v1/*/*/*/*/*.ndjson.gz");
        table.deeper = 1;
        table.folders = String::new();
        table.format = TableFormat::Parquet { compression: "zstd".into() };
        assert_eq!(table.glob(), "*/*.parquet");
    }
}
