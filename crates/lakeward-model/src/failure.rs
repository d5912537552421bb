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
    /// The rows at fault, if a table will never take the batch because of
    /// them; the caller builds it anew without their records. Said only while
    /// it is certain that nothing of the batch is stored.
    pub unfit: Vec<UnfitRow>,
    /// The cause, for the log.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure of `kind` with a message and nothing more.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, unfit: Vec::new(), source: None }
    }

    /// Nothing of the batch is stored, and never will be with these rows.
    #[must_use]
    pub fn unfit(message: impl Into<String>, rows: Vec<UnfitRow>) -> Self {
        Self { unfit: rows, ..Self::new(FailureKind::Refused, message) }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// What the innermost cause of an error says, at most 500 characters: clients
/// put every layer into their own texts, and addresses with them.
#[must_use]
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().chars().filter(|c| !c.is_control()).take(500).collect()
}

/// A row of a batch that a table will never take as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitRow {
    /// The index of its file in the batch.
    pub file: usize,
    /// Its index in the file, from 0.
    pub row: u64,
    /// Why, for a person: goes into quarantine with the record.
    pub message: String,
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
