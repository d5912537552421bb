//! The intake: the one way in, for front doors and sources alike.

use std::sync::Arc;
use std::time::Duration;

use lakeward_journal::AppendError;
use lakeward_model::{Offset, Origin, Records, RequestKey, StreamName};

use crate::engine::Shared;

/// Takes records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    pub(crate) shared: Arc<Shared>,
}

/// Records that are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The offset of the first record.
    pub first: Offset,
    /// How many records there are.
    pub count: u32,
    /// Whether this is the answer to an earlier request with the same key;
    /// nothing was added.
    pub replayed: bool,
}

/// Why records were not taken. Nothing of the request was stored, except where
/// said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// There is no such stream: the client has the wrong name, or the stream or
    /// a pipeline that delivers it must be made or configured first.
    #[error("there is no stream {0}")]
    UnknownStream(StreamName),
    /// The journal has reached its limit: the client tries again later.
    #[error("the journal is full; try again later")]
    Full {
        /// How long the client should wait.
        retry_after: Duration,
    },
    /// The request is larger than an append may be: the client splits it.
    #[error("a request may hold at most {limit} bytes of records")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The process is stopping: the client tries again elsewhere or later.
    #[error("the server is shutting down")]
    Draining,
    /// The journal could not take the records; they may or may not appear
    /// after a restart, so the client tries again with the same key.
    #[error("the journal failed: {0}")]
    Failed(String),
}

impl Intake {
    /// Makes the records durable, then answers.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(
        &self,
        stream: &StreamName,
        records: Records,
        origin: Origin,
    ) -> Result<Accepted, AcceptError> {
        if self.shared.is_draining() {
            return Err(AcceptError::Draining);
        }
        if !self.shared.has_stream(stream) {
            self.shared.create_on_first_use(stream).await?;
        }
        let count = records.len() as u64;
        let bytes = records.data.len() as u64;
        match self.shared.journal.append(stream, records, origin).await {
            Ok(appended) => {
                if !appended.replayed {
                    let labels = [("stream", stream.to_string())];
                    metrics::counter!("lakeward_received_records_total", &labels).increment(count);
                    metrics::counter!("lakeward_received_bytes_total", &labels).increment(bytes);
                }
                Ok(Accepted { first: appended.first, count: appended.count, replayed: appended.replayed })
            }
            Err(AppendError::UnknownStream) => Err(AcceptError::UnknownStream(stream.clone())),
            Err(AppendError::Full) => Err(AcceptError::Full { retry_after: Duration::from_secs(1) }),
            Err(AppendError::TooLarge { limit }) => Err(AcceptError::TooLarge { limit }),
            Err(AppendError::Closed) => Err(AcceptError::Draining),
            Err(error) => Err(AcceptError::Failed(error.to_string())),
        }
    }

    /// The answer that a request with this key got, if that was within the
    /// journal's window for keys.
    #[must_use]
    pub fn answered(&self, stream: &StreamName, key: &RequestKey) -> Option<Accepted> {
        let answered = self.shared.journal.answered(stream, key)?;
        Some(Accepted { first: answered.first, count: answered.count, replayed: true })
    }

    /// The streams that records can be sent to now.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamName> {
        self.shared.streams()
    }

    /// Whether a pipeline delivers the stream.
    #[must_use]
    pub fn is_delivered(&self, stream: &StreamName) -> bool {
        self.shared.retention.is_delivered(stream)
    }

    /// Which incarnation of the stream offsets belong to, if it exists.
    #[must_use]
    pub fn incarnation(&self, stream: &StreamName) -> Option<uuid::Uuid> {
        self.shared.journal.incarnation(stream)
    }

    /// Whether new records can be taken: not draining, and the journal below
    /// its limit.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.shared.is_draining() && !self.shared.journal.is_full()
    }
}
