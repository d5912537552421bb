//! What a connector says when it could not do what it was asked.

use std::fmt;
use std::time::Duration;

/// What is known about a failed delivery. The engine acts on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It certainly did not happen. The engine tries again after a pause.
    NotDone,
    /// It may have happened: a timeout, a lost reply. The engine tries the
    /// same batch again, which is safe because delivery is idempotent.
    Unknown,
    /// It will never happen as things are: no permission, no such bucket. The
    /// engine halts the pipeline, says what to do, and tries again slowly.
    Refused,
}

/// A connector's failure.
#[derive(Debug)]
pub struct Failure {
    /// What is known.
    pub kind: FailureKind,
    /// What happened, for a person; never holds a secret or a record's bytes.
    pub message: String,
    /// How long the other side asked us to wait.
    pub retry_after: Option<Duration>,
    /// The cause, for the log.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure of `kind` with a message and nothing more.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

impl FailureKind {
    /// What an HTTP status says about a request that was answered. One table
    /// for every HTTP connector; no status at all is [`FailureKind::Unknown`].
    #[must_use]
    pub fn from_http_status(status: u16) -> Self {
        match status {
            408 | 425 | 429 | 503 => Self::NotDone,
            400..=499 => Self::Refused,
            _ => Self::Unknown,
        }
    }
}
