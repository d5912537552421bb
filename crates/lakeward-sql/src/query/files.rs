//! What a file's path says: its format, and the values of its folders.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use lakeward_columnar::path::MISSING;
use lakeward_columnar::path::escape::EMPTY;
use lakeward_columnar::shape::{FileCompression, Output};
use object_store::path::Path;

use super::{CommittedFile, QueryError};

/// What Hive writes for a null, in the folders of others.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// How a file's bytes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Parquet,
    /// JSON objects: NDJSON, and records as received that happen to be JSON.
    Json(Packing),
    Csv(Packing),
}

/// How a whole file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// A file with all that its path says.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// Where it is in the store.
    pub(super) location: Path,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) kind: Kind,
    /// The keys of its folders, outermost first.
    pub(super) keys: Vec<String>,
    /// The values of its folders by key; of two folders with one key the last.
    pub(super) folders: BTreeMap<String, Folder>,
}

/// The value of a `k=v/` folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Folder {
    /// All of it.
    Value(String),
    /// There is none.
    Null,
    /// There was none, or it was no scalar: the file may have the column.
    Missing,
    /// Perhaps cut because it was long; then the file has the column.
    Cut(String),
}

impl Placed {
    pub(super) fn new(file: &CommittedFile, base: &Path, output: &Output) -> Result<Self, QueryError> {
        let path = file.path.as_str();
        let whole = if base.as_ref().is_empty() { path.to_string() } else { format!("{base}/{path}") };
        let location = Path::parse(whole).map_err(|error| QueryError::Data(format!("{path}: {error}")))?;
        let (mut keys, mut folders) = (Vec::new(), BTreeMap::new());
        let segments: Vec<&str> = path.split('/').collect();
        for (key, value) in segments[..segments.len() - 1].iter().filter_map(|s| s.split_once('=')) {
            if !key.is_empty() {
                keys.push(key.to_string());
                folders.insert(key.to_string(), Folder::of(value));
            }
        }
        let kind = Kind::of(path, output)?;
        Ok(Self { location, bytes: file.bytes, rows: file.rows, kind, keys, folders })
    }

    /// The keys of which the path alone says the value.
    pub(super) fn certain(&self) -> BTreeSet<&str> {
        let certain =
            self.folders.iter().filter(|(_, folder)| matches!(folder, Folder::Value(_) | Folder::Null));
        certain.map(|(key, _)| key.as_str()).collect()
    }
}

impl Folder {
    /// Reads what `lakeward_columnar::path::escape` wrote.
    fn of(text: &str) -> Self {
        if text == MISSING || text == HIVE_NULL {
            return Self::Missing;
        }
        if text == EMPTY {
            return Self::Value(String::new());
        }
        let value: Cow<'_, str> = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
        if ends_in_hash(text) { Self::Cut(value.into_owned()) } else { Self::Value(value.into_owned()) }
    }

    /// Of a column that no file has, the folder says all.
    pub(super) fn settle(&mut self) {
        *self = match std::mem::replace(self, Self::Null) {
            Self::Cut(value) => Self::Value(value),
            Self::Missing => Self::Null,
            settled => settled,
        };
    }

    /// The value as one of `ty`; `None` if it is not one.
    pub(super) fn scalar(&self, ty: &DataType) -> Option<ScalarValue> {
        let (Self::Value(text) | Self::Cut(text)) = self else { return ScalarValue::try_from(ty).ok() };
        match ty {
            DataType::Utf8 => Some(ScalarValue::Utf8(Some(text.clone()))),
            DataType::Int64 => text.parse().ok().map(|n| ScalarValue::Int64(Some(n))),
            DataType::Float64 => text.parse().ok().map(|n| ScalarValue::Float64(Some(n))),
            DataType::Boolean => text.parse().ok().map(|b| ScalarValue::Boolean(Some(b))),
            other => ScalarValue::try_from_string(text.clone(), other).ok(),
        }
    }
}

/// Whether this may be a value that was cut: `…-` and 16 hex digits.
fn ends_in_hash(text: &str) -> bool {
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.rsplit_once('-').is_some_and(|(_, end)| end.len() == 16 && end.as_bytes().iter().all(hex))
}

/// The type of a folder column that no schema knows.
pub(super) fn folder_type<'f>(folders: impl Iterator<Item = &'f Folder>) -> DataType {
    let mut any = false;
    for folder in folders {
        match folder {
            Folder::Missing | Folder::Null => {}
            Folder::Value(text) if is_plain_integer(text) => any = true,
            Folder::Value(_) | Folder::Cut(_) => return DataType::Utf8,
        }
    }
    if any { DataType::Int64 } else { DataType::Utf8 }
}

/// An `i64` that is written in the one usual way.
fn is_plain_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|n| n.to_string() == text)
}

impl Kind {
    fn of(path: &str, output: &Output) -> Result<Self, QueryError> {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let (stem, packing) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Packing::Gzip),
            Some((stem, "zst")) => (stem, Packing::Zstd),
            Some((_, ending @ ("sz" | "snappy" | "zip"))) => {
                return Err(QueryError::Data(format!("{path}: files in .{ending} cannot be queried")));
            }
            _ => (name, Packing::None),
        };
        let known = match stem.rsplit_once('.') {
            Some((_, "parquet")) => Some(Self::Parquet),
            Some((_, "ndjson" | "jsonl" | "json")) => Some(Self::Json(packing)),
            Some((_, "csv")) => Some(Self::Csv(packing)),
            _ => None,
        };
        // A Firehose stream may name its objects as it likes.
        known.map_or_else(|| Self::of_output(path, packing, output), Ok)
    }

    fn of_output(path: &str, found: Packing, output: &Output) -> Result<Self, QueryError> {
        let packing = |written: FileCompression| match (found, written) {
            (Packing::Gzip | Packing::Zstd, _) | (_, FileCompression::None) => Ok(found),
            (_, FileCompression::Gzip) => Ok(Packing::Gzip),
            (_, FileCompression::Zstd) => Ok(Packing::Zstd),
            _ => Err(QueryError::Data(format!("{path}: files in Snappy or ZIP cannot be queried"))),
        };
        match output {
            Output::Parquet(_) => Ok(Self::Parquet),
            Output::Ndjson { compression } | Output::Verbatim { compression, .. } => {
                packing(*compression).map(Self::Json)
            }
            Output::Csv(options) => packing(options.compression).map(Self::Csv),
            Output::RowBinary => {
                Err(QueryError::Data(format!("{path}: row_binary files cannot be queried here")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(path: &str) -> Result<Kind, String> {
        Kind::of(path, &Output::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_tell_the_format() {
        for (path, expect) in [
            ("a/b.parquet", Kind::Parquet),
            ("a.b/c", Kind::Parquet),
            ("b.ndjson", Kind::Json(Packing::None)),
            ("b.ndjson.gz", Kind::Json(Packing::Gzip)),
            ("x.y/b.csv.zst", Kind::Csv(Packing::Zstd)),
        ] {
            assert_eq!(kind(path), Ok(expect), "{path}");
        }
        assert!(kind("b.ndjson.snappy").is_err());
        let verbatim = Output::Verbatim { compression: FileCompression::Gzip, newline: Default::default() };
        assert_eq!(Kind::of("b.gz", &verbatim).ok(), Some(Kind::Json(Packing::Gzip)));
        assert_eq!(Kind::of("b", &verbatim).ok(), Some(Kind::Json(Packing::Gzip)));
    }

    #[test]
    fn folders_are_read_back() {
        use lakeward_columnar::path::escape;
        for value in ["plain", "", "a/b=c", "..", "100%", "Zürich 東京", "{a}[b]^#?*'\"", "\u{85}"] {
            let mut text = String::new();
            assert!(escape::append(value, escape::MAX_VALUE, &mut text));
            assert_eq!(Folder::of(&text), Folder::Value(value.into()), "{text}");
        }
        let mut cut = String::new();
        assert!(!escape::append(&"long".repeat(100), escape::MAX_VALUE, &mut cut));
        assert!(matches!(Folder::of(&cut), Folder::Cut(_)), "{cut}");
        assert_eq!(Folder::of(MISSING), Folder::Missing);
    }

    #[test]
    fn folders_have_types() {
        let check = |values: &[&str], expect: DataType| {
            let folders: Vec<Folder> = values.iter().map(|value| Folder::of(value)).collect();
            assert_eq!(folder_type(folders.iter()), expect, "{values:?}");
        };
        check(&["2023", "2024"], DataType::Int64);
        check(&["10", "11", "01"], DataType::Utf8);
        check(&["0", "-5", MISSING], DataType::Int64);
        check(&["1", "a"], DataType::Utf8);
        check(&["1", ""], DataType::Utf8);
        check(&["+1"], DataType::Utf8);
        check(&["99999999999999999999"], DataType::Utf8);
        check(&[MISSING], DataType::Utf8);
    }
}
