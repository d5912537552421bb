//! A batch: a planned span of a stream as the files that hold it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Column, Span, StreamName};

/// The identity of a batch. The same span of the same stream incarnation in
/// the same pipeline has the same id for ever, whoever builds it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub uuid::Uuid);

impl BatchId {
    /// Derives the id.
    ///
    /// `incarnation` is drawn when the journal first creates the stream. It is
    /// part of the id so that a stream that was deleted and made anew, whose
    /// offsets start at 0 again, never takes older files for its own.
    #[must_use]
    pub fn derive(incarnation: uuid::Uuid, stream: &StreamName, pipeline: &str, span: Span) -> Self {
        let mut text = Vec::with_capacity(96);
        text.extend_from_slice(incarnation.as_bytes());
        for part in [stream.as_str(), pipeline] {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        text.extend_from_slice(&span.from.0.to_le_bytes());
        text.extend_from_slice(&span.to.0.to_le_bytes());
        Self(uuid::Builder::from_custom_bytes(xxhash_rust::xxh3::xxh3_128(&text).to_be_bytes()).into_uuid())
    }

    /// An id for the `index`-th file of the batch, for object names that must
    /// be a uuid of their own.
    #[must_use]
    pub fn file(self, index: usize) -> uuid::Uuid {
        let mut text = [0_u8; 24];
        text[..16].copy_from_slice(self.0.as_bytes());
        text[16..].copy_from_slice(&(index as u64).to_le_bytes());
        uuid::Builder::from_custom_bytes(xxhash_rust::xxh3::xxh3_128(&text).to_be_bytes()).into_uuid()
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A planned span of a stream, built and encoded, ready to be delivered.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Which batch.
    pub id: BatchId,
    /// The records it covers.
    pub span: Span,
    /// Its files; empty if every record was filtered.
    pub files: Vec<DataFile>,
    /// The columns of its data files, in their order; none for verbatim ones.
    pub columns: Arc<[Column]>,
}

/// One encoded file of a batch.
#[derive(Clone)]
pub struct DataFile {
    /// Where it goes, below the destination's root.
    pub path: LakePath,
    /// What kind of data it holds.
    pub role: Role,
    /// How its bytes are laid out.
    pub format: Format,
    /// Value for the object's `Content-Encoding`, if the format asks for one.
    pub content_encoding: Option<ContentEncoding>,
    /// Rows (records, for verbatim files) in it.
    pub rows: u64,
    /// The bytes.
    pub body: Bytes,
}

impl fmt::Debug for DataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataFile({}, {} rows, {} bytes)", self.path, self.rows, self.body.len())
    }
}

/// Whether a file holds delivered rows or quarantined records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Rows for the user.
    Data,
    /// Records that could not be processed, with the reason.
    Quarantine,
}

/// How a file's bytes are laid out, before compression of the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// One JSON object per line.
    Ndjson,
    /// Comma-separated values (or another delimiter).
    Csv,
    /// ClickHouse's `RowBinaryWithNamesAndTypes`.
    RowBinary,
    /// The bytes as received.
    Verbatim,
}

/// The `Content-Encoding` values that Firehose writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentEncoding {
    /// `gzip`
    Gzip,
    /// `zip`
    Zip,
    /// `snappy-java`
    SnappyJava,
    /// `hadoop-snappy`
    HadoopSnappy,
}

impl ContentEncoding {
    /// The header's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zip => "zip",
            Self::SnappyJava => "snappy-java",
            Self::HadoopSnappy => "hadoop-snappy",
        }
    }
}

/// A path below a destination's root that cannot leave it: segments separated
/// by `/`, none of them empty, `.` or `..`; no control characters, no
/// backslash; at most 1,024 bytes (S3's key limit).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LakePath(String);

/// A path that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is not a path inside the lake: {reason}")]
pub struct LakePathError {
    /// The path, cut to 200 characters.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl LakePath {
    /// Checks and wraps a path.
    ///
    /// # Errors
    /// It breaks a rule above; the configuration or the template is at fault.
    pub fn new(path: impl Into<String>) -> Result<Self, LakePathError> {
        let path = path.into();
        let reason = if path.is_empty() {
            "it is empty"
        } else if path.len() > 1024 {
            "it is longer than 1,024 bytes"
        } else if path.chars().any(|c| c.is_control() || c == '\\') {
            "it has a control character or a backslash"
        } else if path.split('/').any(|s| s.is_empty()) {
            "it has an empty segment"
        } else if path.split('/').any(|s| s == "." || s == "..") {
            "it has a `.` or `..` segment"
        } else {
            return Ok(Self(path));
        };
        Err(LakePathError { path: path.chars().take(200).collect(), reason })
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LakePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for LakePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LakePath {
    type Error = LakePathError;
    fn try_from(path: String) -> Result<Self, Self::Error> {
        Self::new(path)
    }
}

impl From<LakePath> for String {
    fn from(path: LakePath) -> Self {
        path.0
    }
}

/// What a destination answers: the files that now lie there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// One entry per file of the batch, in its order.
    pub files: Vec<DeliveredFile>,
}

/// One file at the destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredFile {
    /// Where it lies.
    pub path: LakePath,
    /// What kind of data it holds.
    pub role: Role,
    /// Rows in it.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it lay there already from an earlier try.
    pub already_there: bool,
}
