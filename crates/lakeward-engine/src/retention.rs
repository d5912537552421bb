//! How long the journal keeps records: until every pipeline has settled them,
//! and then for re-reading, as far as there is room.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lakeward_journal::Journal;
use lakeward_model::{Offset, StreamName, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::engine::Shared;

/// Streams that nothing is delivered from are looked at this often.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Above this part of the journal's limit, settled records go early.
const PRESSED: (u64, u64) = (3, 4);

/// What keeps the records of every stream.
#[derive(Debug)]
pub(crate) struct Retention {
    /// How long settled records are kept where nobody said otherwise.
    default: Duration,
    disk_bytes_max: u64,
    streams: Mutex<HashMap<StreamName, Kept>>,
    /// Held while something is trimmed.
    trimming: Mutex<()>,
}

/// What keeps the records of a stream.
#[derive(Debug, Default)]
struct Kept {
    /// How far each pipeline is.
    pipelines: BTreeMap<String, Offset>,
    /// How long readers were promised the records, whatever room there is.
    promised: Option<Duration>,
}

impl Retention {
    pub(crate) fn new(default: Duration, disk_bytes_max: u64) -> Self {
        Self { default, disk_bytes_max, streams: Mutex::default(), trimming: Mutex::default() }
    }

    /// Lets nothing of the stream go from here on, until `pipeline` says how
    /// far it is. Answers the stream's oldest record and the next one to come.
    /// Blocks while something is trimmed.
    pub(crate) fn join(&self, journal: &Journal, stream: &StreamName, pipeline: &str) -> (Offset, Offset) {
        let _nothing_goes = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        self.advance(stream, pipeline, Offset(0));
        journal.tail(stream).map_or_else(Default::default, |tail| (tail.start, tail.end))
    }

    /// Whether a pipeline delivers the stream.
    pub(crate) fn is_delivered(&self, stream: &StreamName) -> bool {
        self.streams().get(stream).is_some_and(|kept| !kept.pipelines.is_empty())
    }

    /// Notes that `pipeline` has settled everything before `to`.
    pub(crate) fn advance(&self, stream: &StreamName, pipeline: &str, to: Offset) {
        self.streams().entry(stream.clone()).or_default().pipelines.insert(pipeline.to_string(), to);
    }

    /// Notes that the pipeline is gone.
    pub(crate) fn forget(&self, stream: &StreamName, pipeline: &str) {
        if let Some(kept) = self.streams().get_mut(stream) {
            kept.pipelines.remove(pipeline);
        }
    }

    /// Notes how long readers were promised the stream's records; `None` if
    /// nobody was.
    pub(crate) fn promise(&self, stream: &StreamName, promised: Option<Duration>) {
        self.streams().entry(stream.clone()).or_default().promised = promised;
    }

    /// Notes that the stream is gone.
    pub(crate) fn remove(&self, stream: &StreamName) {
        self.streams().remove(stream);
    }

    /// The streams that may be trimmed.
    pub(crate) fn known(&self) -> Vec<StreamName> {
        self.streams().keys().cloned().collect()
    }

    /// Removes what nothing keeps any more. Blocks.
    ///
    /// # Errors
    /// The file system's; the next trim tries again.
    pub(crate) fn trim(&self, journal: &Journal, stream: &StreamName, now: Timestamp) -> io::Result<u64> {
        let _one_at_a_time = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tail) = journal.tail(stream) else { return Ok(0) };
        let (settled, promised) = match self.streams().get(stream) {
            // Nobody asked for these records yet: a pipeline may be configured.
            None => return Ok(0),
            Some(kept) => (kept.pipelines.values().min().copied().unwrap_or(tail.end), kept.promised),
        };
        let (part, whole) = PRESSED;
        let pressed =
            journal.is_full() || journal.disk_bytes() / whole > self.disk_bytes_max / whole.pow(2) * part;
        let keep = match promised {
            Some(promised) => promised,
            None if pressed => Duration::ZERO,
            None => self.default,
        };
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        journal.trim(stream, settled, Timestamp(now.micros().saturating_sub(keep)))
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<StreamName, Kept>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Trims streams that no batch makes a pipeline trim, until the process drains
/// or the engine is gone.
pub(crate) async fn sweep(engine: Weak<Shared>, draining: CancellationToken) {
    while tokio::time::timeout(SWEEP_EVERY, draining.cancelled()).await.is_err() {
        let Some(shared) = engine.upgrade() else { return };
        let swept = tokio::task::spawn_blocking(move || {
            // The door may have left a promise for a stream that is no longer
            // configured: its records stay until somebody asks for them.
            for stream in shared.retention.known().into_iter().filter(|stream| shared.has_stream(stream)) {
                if let Err(error) = shared.retention.trim(&shared.journal, &stream, shared.clock.now()) {
                    error!(%stream, %error, "old journal segments could not be removed");
                }
            }
        });
        if let Err(error) = swept.await {
            error!(%error, "old journal segments were not looked for");
        }
    }
}
