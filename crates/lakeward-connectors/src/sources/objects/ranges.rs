//! Reading an object of a bucket piece by piece, as a blocking reader.
//!
//! Each piece is a request of its own: however long whoever reads waits in
//! between, no connection is held, and one that breaks costs one piece.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use lakeward_model::{Failure, FailureKind, SliceFailure};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::bucket::Bucket;

/// The bytes of a piece.
pub(super) const PIECE: u64 = 4 << 20;

/// Why reading failed, for those who are told of it through an `io::Error`
/// that went through several hands.
pub(super) type Met = Arc<Mutex<Option<SliceFailure>>>;

/// Reads an object from some byte to its end. While a piece is read the next
/// one is fetched. It blocks: not for async threads.
pub(super) struct RangeReader {
    bucket: Bucket,
    name: String,
    version: String,
    runtime: Handle,
    current: Bytes,
    /// Where the piece behind the one that is fetched starts.
    next: u64,
    end: u64,
    fetching: Option<Fetching>,
    met: Met,
}

struct Fetching {
    answer: oneshot::Receiver<Result<Bytes, SliceFailure>>,
    task: AbortHandle,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RangeReader {
    /// `first` are the bytes at `at`, which are there already; the object has
    /// `end` bytes.
    pub(super) fn new(
        bucket: Bucket,
        (name, version): (&str, &str),
        first: Bytes,
        at: u64,
        end: u64,
    ) -> Self {
        let mut reader = Self {
            bucket,
            name: name.into(),
            version: version.into(),
            runtime: Handle::current(),
            next: at.saturating_add(first.len() as u64),
            current: first,
            end,
            fetching: None,
            met: Met::default(),
        };
        reader.fetch();
        reader
    }

    /// Where to look after an error.
    pub(super) fn met(&self) -> Met {
        Arc::clone(&self.met)
    }

    fn fetch(&mut self) {
        let Some(range) = piece(self.next, self.end) else { return };
        self.next = range.end;
        let (sender, answer) = oneshot::channel();
        let (bucket, name, version) = (self.bucket.clone(), self.name.clone(), self.version.clone());
        let task = self.runtime.spawn(async move {
            // Nobody may wait any more.
            let _ = sender.send(bucket.get(&name, &version, Some(range)).await);
        });
        self.fetching = Some(Fetching { answer, task: task.abort_handle() });
    }

    fn failed(&self, failure: SliceFailure) -> io::Error {
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        io::Error::other("the object could not be read further")
    }
}

impl Read for RangeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(mut fetching) = self.fetching.take() else { return Ok(0) };
            let (_, unused) = oneshot::channel();
            match std::mem::replace(&mut fetching.answer, unused).blocking_recv() {
                Ok(Ok(bytes)) => {
                    self.current = bytes;
                    self.fetch();
                }
                Ok(Err(failure)) => return Err(self.failed(failure)),
                Err(_) => {
                    let stopped = Failure::new(FailureKind::Unknown, "the process is being stopped");
                    return Err(self.failed(SliceFailure::Source(stopped)));
                }
            }
        }
        let count = out.len().min(self.current.len());
        self.current.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

/// The piece at `at` of an object of `end` bytes.
pub(super) fn piece(at: u64, end: u64) -> Option<Range<u64>> {
    (at < end).then(|| at..end.min(at.saturating_add(PIECE)))
}
