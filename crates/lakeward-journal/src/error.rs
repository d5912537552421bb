//! What can go wrong, by what the caller does next.

use std::io;
use std::path::PathBuf;

use lakeward_model::Offset;

/// The journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused; the operator repairs permissions or disk.
    #[error("{path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Bytes that were acknowledged once cannot be read. Nothing was changed;
    /// the operator runs `lakeward fsck`.
    #[error(
        "{path}: damaged at byte {position}: {what}. Acknowledged records are affected, so the journal is not opened; \
         `lakeward fsck` tells which, and how to go on without them"
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// The byte offset of the damage in it.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
}

impl OpenError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// An append was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no such stream; the caller creates it or refuses the request.
    #[error("there is no such stream")]
    UnknownStream,
    /// No room, by the journal's limit or on the disk. Nothing was written;
    /// the caller tries again once records were trimmed.
    #[error("the journal is full")]
    Full,
    /// The append can never be taken; the caller refuses or divides it.
    #[error("an append takes at most {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The journal was closed or the stream removed. Nothing was written; the
    /// caller tries elsewhere or later.
    #[error("the journal is closed")]
    Closed,
    /// It is not known whether the records were written; the caller tries
    /// again, with the same request key.
    #[error("{0}")]
    Failed(String),
}

/// A stream was not created or removed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// The file system refused; the caller may try again.
    #[error("{path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

impl ChangeError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// Records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such stream.
    #[error("there is no such stream")]
    UnknownStream,
    /// The records were trimmed; the caller goes on from `start`.
    #[error("the records were trimmed; the stream starts at offset {start} now")]
    Trimmed {
        /// The oldest offset that can be read.
        start: Offset,
    },
    /// The records are damaged on disk; the operator runs `lakeward fsck`.
    #[error("{path}: damaged at byte {position}: {what}; `lakeward fsck` tells which records are affected")]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// The byte offset of the damage in it.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The file system refused; the caller may try again.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

impl ReadError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
