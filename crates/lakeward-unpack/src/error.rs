//! Why a file could not be read to its end.

use std::io;

use crate::Packing;
use crate::meter::Meter;

/// Why a file, or the rest of it, could not be read. The [`Place`](crate::Place)
/// of the last block stays good.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Reading its bytes failed, which says nothing about them: the caller
    /// opens it again, behind the last block.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
    /// It is damaged, cut off, or nothing that can be read. Trying again
    /// changes nothing: the caller sets it aside.
    #[error("{}{at}: {problem}", of(.member.as_deref()))]
    Corrupt {
        /// The zip's member that it is about.
        member: Option<String>,
        /// `line 5`, `record 7` or `byte 1000`.
        at: String,
        /// What is wrong, for people.
        problem: String,
    },
    /// It is larger than [`Limits`](crate::Limits) allow: the caller sets it
    /// aside; a person may raise the limit.
    #[error("{}{problem}", of(.member.as_deref()))]
    Limit {
        /// The zip's member that it is about.
        member: Option<String>,
        /// The limit's name: `record_bytes_max`.
        limit: &'static str,
        /// What is too large, for people.
        problem: String,
    },
    /// It cannot be read as a stream: the caller stores it in a file first.
    #[error("{0:?} can only be read from a file, not from a stream")]
    NeedsFile(Packing),
}

/// The beginning of a message about a member.
fn of(member: Option<&str>) -> String {
    member.map(|name| format!("{name}: ")).unwrap_or_default()
}

/// What a reader inside found, before it is known whose fault it is and where
/// it lies.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A layer could not be read: the source failed, a limit was met, or the
    /// bytes are damaged. The meter knows which.
    Read(io::Error),
    /// The bytes are not what they should be.
    Broken(String),
    /// Something is too large.
    Limit(&'static str, String),
    /// It has to be in a file.
    NeedsFile(Packing),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl Fault {
    /// Says whose fault it is, and where.
    pub(crate) fn found(self, meter: &Meter, member: Option<String>, at: String) -> UnpackError {
        match self {
            Self::Read(error) if meter.source_failed() => UnpackError::Io(error),
            Self::Read(error) => match meter.over() {
                Some((limit, problem)) => UnpackError::Limit { member, limit, problem },
                None if error.kind() == io::ErrorKind::UnexpectedEof => {
                    UnpackError::Corrupt { member, at, problem: format!("it is cut off: {error}") }
                }
                None => UnpackError::Corrupt { member, at, problem: error.to_string() },
            },
            Self::Broken(problem) => UnpackError::Corrupt { member, at, problem },
            Self::Limit(limit, problem) => {
                UnpackError::Limit { member, limit, problem: format!("{at}: {problem}") }
            }
            Self::NeedsFile(packing) => UnpackError::NeedsFile(packing),
        }
    }
}
