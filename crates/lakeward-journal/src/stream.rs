//! An open stream: its writer's queue and its durable state.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lakeward_model::{Offset, Origin, Records, StreamName, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::disk;
use crate::error::{AppendError, OpenError};
use crate::frame::ORIGIN_BYTES_MAX;
use crate::group::{Appended, Request};
use crate::keys::RequestKeys;
use crate::options::Options;
use crate::recover;
use crate::saved_keys;
use crate::segment;
use crate::state::State;
use crate::writer::{Command, Means, Shared, Writer};

/// The writer's stack; it keeps nothing large on it.
const STACK_BYTES: usize = 256 << 10;

/// An open stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) shared: Arc<Shared>,
    means: Means,
    queue: mpsc::Sender<Command>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held while segments are removed.
    trimming: Mutex<()>,
}

impl Stream {
    /// Opens the stream in `dir` and starts its writer.
    pub(crate) fn open(
        name: &StreamName,
        dir: PathBuf,
        incarnation: Uuid,
        options: &Options,
        means: Means,
    ) -> Result<Self, OpenError> {
        let mut keys = RequestKeys::new(options.request_key_window, options.request_keys_max);
        saved_keys::read(&dir, incarnation, &mut keys)?;
        let mut state = State::new(keys);
        let tail = recover::recover(&*means.disk, &dir, incarnation, &mut state)?;
        means.space.count(state.segments.iter().map(|segment| segment.file_bytes).sum());
        let (ends, _) = watch::channel(Offset(state.end));
        let shared = Arc::new(Shared {
            dir,
            incarnation,
            state: Mutex::new(state),
            ends,
            closing: AtomicBool::new(false),
        });
        let (queue, waiting) = mpsc::channel(options.queue_appends_max.max(1));
        let writer = Writer::new(Arc::clone(&shared), means.clone(), waiting, tail);
        let thread = std::thread::Builder::new()
            .name(format!("journal {name}"))
            .stack_size(STACK_BYTES)
            .spawn(move || writer.run())
            .map_err(OpenError::io(&shared.dir))?;
        Ok(Self { shared, means, queue, writer: Mutex::new(Some(thread)), trimming: Mutex::new(()) })
    }

    /// Appends; answers once the records are durable.
    pub(crate) async fn append(
        &self,
        records: Records,
        origin: Origin,
        frame_bytes_max: u64,
    ) -> Result<Appended, AppendError> {
        check_size(&records, &origin, frame_bytes_max)?;
        let (reply, answer) = oneshot::channel();
        let request = Request { records, origin, reply };
        self.queue.send(Command::Append(request)).await.map_err(|_| AppendError::Closed)?;
        match answer.await {
            Ok(answer) => answer,
            Err(_) if self.shared.is_closing() => Err(AppendError::Closed),
            Err(_) => {
                Err(AppendError::Failed("the journal's writer stopped; it is not known what it wrote".into()))
            }
        }
    }

    /// Removes whole segments below `before` whose records are all older than
    /// `keep_after`; answers how many bytes that gave back.
    pub(crate) fn trim(&self, before: Offset, keep_after: Timestamp) -> io::Result<u64> {
        let _one_at_a_time = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let (removable, start) = self.shared.state().removable(before.0, keep_after);
        let mut freed = 0;
        if removable > 0 {
            saved_keys::write(&self.shared, start)?;
        }
        for _ in 0..removable {
            let Some(segment) = self.shared.state().segments.pop_front() else { break };
            if let Err(error) = std::fs::remove_file(segment::path(&self.shared.dir, segment.first))
                && error.kind() != io::ErrorKind::NotFound
            {
                self.shared.state().segments.push_front(segment);
                return Err(error);
            }
            self.means.space.release(segment.file_bytes);
            freed += segment.file_bytes;
        }
        if removable > 0 {
            disk::sync_dir(&self.shared.dir)?;
        }
        if self.shared.state().is_idle(before.0, keep_after) {
            // The last segment goes with a later trim, once another follows it.
            // A full queue means that it is not idle any more.
            let _ = self.queue.try_send(Command::Roll);
        }
        Ok(freed)
    }

    /// Writes what waits, marks the end and stops the writer.
    pub(crate) fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // The writer looks at `closing` after every group: if the queue is
        // full, it is about to.
        let _ = self.queue.try_send(Command::Wake);
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(dir = %self.shared.dir.display(), "the journal's writer had stopped before the close");
        }
    }

    /// Removes the stream's folder. It must be closed.
    pub(crate) fn remove(&self, journal: &Path) -> io::Result<()> {
        // Renamed first: from then on the stream is gone, whenever a crash
        // comes. A name with `~` is never a stream's.
        let _one_at_a_time = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = journal.join(format!("~removed-{}", self.shared.incarnation));
        std::fs::rename(&self.shared.dir, &removed)?;
        disk::sync_dir(journal)?;
        let freed = {
            let mut state = self.shared.state();
            let freed = state.segments.iter().map(|segment| segment.file_bytes).sum();
            state.clear();
            freed
        };
        self.means.space.release(freed);
        std::fs::remove_dir_all(&removed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}

/// # Panics
/// If the ends of the records or of their keys do not ascend to the end of the
/// data, or there are not as many keys as records: the records could not be
/// read again.
fn check_size(records: &Records, origin: &Origin, frame_bytes_max: u64) -> Result<(), AppendError> {
    // Everything must be countable in 32 bits.
    let limit = frame_bytes_max.min(u64::from(u32::MAX));
    let (key_bytes, keys) = records.keys.as_ref().map_or((0, 0), |keys| (keys.data.len(), keys.ends.len()));
    let bytes = records.data.len() as u64 + key_bytes as u64;
    let ends = records.ends.len() as u64 + keys as u64;
    if bytes > limit || ends * 4 > limit.max(4 << 20) {
        return Err(AppendError::TooLarge { limit });
    }
    if let Origin::Pull(cursor) = origin
        && cursor.0.len() > ORIGIN_BYTES_MAX
    {
        return Err(AppendError::TooLarge { limit: ORIGIN_BYTES_MAX as u64 });
    }
    let sound = |ends: &[u32], data: &[u8]| {
        ends.is_sorted() && ends.last().map_or(0, |&end| end as usize) == data.len()
    };
    assert!(sound(&records.ends, &records.data), "the ends of records ascend to the end of their data");
    if let Some(keys) = &records.keys {
        assert!(sound(&keys.ends, &keys.data), "the ends of keys ascend to the end of their data");
        assert_eq!(keys.ends.len(), records.ends.len(), "every record has a key, or none has");
    }
    Ok(())
}
