//! The journal: all streams of a directory.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use lakeward_model::clock::SharedClock;
use lakeward_model::{Cursor, Offset, Origin, RecordBlock, Records, RequestKey, StreamName, Timestamp, ids};
use tokio::sync::watch;
use uuid::Uuid;

use crate::disk::{self, Disk, OsDisk};
use crate::error::{AppendError, ChangeError, OpenError, ReadError};
use crate::group::Appended;
use crate::meta;
use crate::options::{Options, Space};
use crate::state::Frame;
use crate::stream::Stream;
use crate::writer::Means;

/// All streams of a directory. Clones are handles to the same journal; it
/// closes when the last one is dropped, or by [`Journal::close`].
///
/// Invariant: one process at a time opens a directory. The engine's lock sees
/// to that.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    options: Options,
    means: Means,
    streams: RwLock<HashMap<StreamName, Arc<Stream>>>,
    /// Held while a stream is created or removed.
    changing: Mutex<()>,
    closed: AtomicBool,
}

/// What is known of a stream that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: StreamName,
    /// Drawn when it was created; another one after it was removed and
    /// created anew.
    pub incarnation: Uuid,
}

/// The two ends of a stream at one instant, and what lies between.
#[derive(Debug, Clone)]
pub struct Tail {
    /// The oldest offset that can be read.
    pub start: Offset,
    /// The offset of the next record; everything before it is durable.
    pub end: Offset,
    stream: Arc<Stream>,
}

impl Tail {
    /// Bytes of the records from `from` on, exact to about 64 KiB.
    #[must_use]
    pub fn bytes(&self, from: Offset) -> u64 {
        self.stream.shared.state().bytes_from(from.0)
    }

    /// When the record at `from` was received; `None` if it does not exist,
    /// was trimmed or cannot be read. May read from disk.
    #[must_use]
    pub fn oldest(&self, from: Offset) -> Option<Timestamp> {
        self.stream.shared.received_at(from)
    }
}

impl Journal {
    /// Opens the journal in `dir`, which is created if need be. Blocks while
    /// it reads the headers of all frames.
    ///
    /// # Errors
    /// See [`OpenError`]: the operator acts.
    pub fn open(dir: &Path, options: Options, clock: SharedClock) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(OsDisk), dir, options, clock)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        clock: SharedClock,
    ) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir).map_err(OpenError::io(dir))?;
        let space = Arc::new(Space::new(options.disk_bytes_max));
        let means = Means { disk, clock, space, segment_bytes: options.segment_bytes };
        let mut streams = HashMap::new();
        for name in folders(dir).map_err(OpenError::io(dir))? {
            let folder = dir.join(name.as_str());
            let metadata = meta::path(&folder);
            let incarnation = match meta::read(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err("the stream's metadata is missing")
                }
                other => other.map_err(OpenError::io(&metadata))?,
            };
            let incarnation =
                incarnation.map_err(|what| OpenError::Damaged { path: metadata, position: 0, what })?;
            let stream = Stream::open(&name, folder, incarnation, &options, means.clone())?;
            streams.insert(name, Arc::new(stream));
        }
        let inner = Inner {
            dir: dir.to_path_buf(),
            options,
            means,
            streams: RwLock::new(streams),
            changing: Mutex::new(()),
            closed: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn stream(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.inner.streams.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The streams, in order of their names.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamName> {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = streams.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Creates a stream durably, unless there is one of that name.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn create(&self, name: &StreamName) -> Result<StreamInfo, ChangeError> {
        let _one_at_a_time = self.changing()?;
        if let Some(incarnation) = self.incarnation(name) {
            return Ok(StreamInfo { name: name.clone(), incarnation });
        }
        let incarnation = ids::fresh();
        let folder = self.inner.dir.join(name.as_str());
        create_folder(&self.inner.dir, &folder, incarnation).map_err(ChangeError::io(&folder))?;
        let (options, means) = (&self.inner.options, self.inner.means.clone());
        let stream =
            Stream::open(name, folder, incarnation, options, means).map_err(|error| match error {
                OpenError::Io { path, source } => ChangeError::Io { path, source },
                OpenError::Damaged { path, what, .. } => {
                    ChangeError::Io { path, source: io::Error::other(what) }
                }
            })?;
        let mut streams = self.inner.streams.write().unwrap_or_else(PoisonError::into_inner);
        streams.insert(name.clone(), Arc::new(stream));
        Ok(StreamInfo { name: name.clone(), incarnation })
    }

    /// Removes a stream with all its records; answers whether there was one.
    /// Appends that wait are answered first.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn remove(&self, name: &StreamName) -> Result<bool, ChangeError> {
        let _one_at_a_time = self.changing()?;
        let removed = self.inner.streams.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(stream) = removed else { return Ok(false) };
        stream.close();
        stream.remove(&self.inner.dir).map_err(ChangeError::io(&stream.shared.dir))?;
        Ok(true)
    }

    fn changing(&self) -> Result<MutexGuard<'_, ()>, ChangeError> {
        let guard = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.closed.load(Ordering::Acquire) { Err(ChangeError::Closed) } else { Ok(guard) }
    }

    /// Which incarnation of the stream there is, if any.
    #[must_use]
    pub fn incarnation(&self, name: &StreamName) -> Option<Uuid> {
        Some(self.stream(name)?.shared.incarnation)
    }

    /// Appends records as one frame; answers once they are durable. The same
    /// request key within its window gets the first answer again, whatever
    /// the records.
    ///
    /// Once the future was polled, dropping it does not take the append back.
    ///
    /// # Errors
    /// See [`AppendError`].
    ///
    /// # Panics
    /// If the records' ends do not ascend to the end of their data.
    pub async fn append(
        &self,
        name: &StreamName,
        records: Records,
        origin: Origin,
    ) -> Result<Appended, AppendError> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(AppendError::Closed);
        }
        let stream = self.stream(name).ok_or(AppendError::UnknownStream)?;
        stream.append(records, origin, self.inner.options.frame_bytes_max).await
    }

    /// What a durable append with this request key was answered, if that was
    /// within the window for keys.
    #[must_use]
    pub fn answered(&self, name: &StreamName, key: &RequestKey) -> Option<Appended> {
        let stream = self.stream(name)?;
        let answer = stream.shared.state().keys.get(key, self.inner.means.clock.now())?;
        Some(Appended::replay(answer))
    }

    /// Reads durable records from `from` on: the rest of the frame that holds
    /// it, then whole frames, up to `bytes_max` bytes of records but at least
    /// one frame. Empty if there is nothing from `from` on yet. Blocks.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(
        &self,
        name: &StreamName,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<RecordBlock>, ReadError> {
        self.stream(name).ok_or(ReadError::UnknownStream)?.shared.read(from, bytes_max)
    }

    /// The appends from the one that holds `from` on, at most `frames_max`,
    /// without their records. The last thousand are known without reading
    /// from disk. Fewer than `frames_max` do not mean that these were all.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn frames(
        &self,
        name: &StreamName,
        from: Offset,
        frames_max: usize,
    ) -> Result<Vec<Frame>, ReadError> {
        self.stream(name).ok_or(ReadError::UnknownStream)?.shared.frames(from, frames_max)
    }

    /// When the record at `offset` was received; `None` if it does not exist,
    /// was trimmed or cannot be read. May read from disk.
    #[must_use]
    pub fn received_at(&self, name: &StreamName, offset: Offset) -> Option<Timestamp> {
        self.stream(name)?.shared.received_at(offset)
    }

    /// The ends of a stream, if there is one of that name.
    #[must_use]
    pub fn tail(&self, name: &StreamName) -> Option<Tail> {
        let stream = self.stream(name)?;
        let (start, end) = {
            let state = stream.shared.state();
            (Offset(state.start()), Offset(state.end))
        };
        Some(Tail { start, end, stream })
    }

    /// Tells every change of a stream's durable end; its sender goes away with
    /// the stream.
    #[must_use]
    pub fn watch(&self, name: &StreamName) -> Option<watch::Receiver<Offset>> {
        Some(self.stream(name)?.shared.ends.subscribe())
    }

    /// The last cursor that was appended to a stream.
    #[must_use]
    pub fn last_cursor(&self, name: &StreamName) -> Option<Cursor> {
        self.stream(name)?.shared.state().cursor.clone()
    }

    /// Removes whole segments that lie below `before` and whose records were
    /// all received before `keep_after`; answers how many bytes that gave
    /// back. The last segment stays: an idle stream's is closed, and goes with
    /// a later trim. Blocks.
    ///
    /// # Errors
    /// The file system's. What is left behind costs disk, not correctness; the
    /// next trim tries again.
    pub fn trim(&self, name: &StreamName, before: Offset, keep_after: Timestamp) -> io::Result<u64> {
        self.stream(name).map_or(Ok(0), |stream| stream.trim(before, keep_after))
    }

    /// What the segment files take of the disk, with preallocated room.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.inner.means.space.used()
    }

    /// Whether the last segment that was needed could not be had, so that
    /// appends are being refused; over once one can be had or bytes were
    /// trimmed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inner.means.space.is_full()
    }

    /// Writes what waits, leaves a clean end and refuses appends from then on.
    /// Reads go on. Blocks.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let streams: Vec<_> =
            self.streams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for stream in streams {
            stream.close();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The streams' folders in a journal. Folders of streams that were being
/// created or removed at a crash go away.
fn folders(dir: &Path) -> io::Result<Vec<StreamName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("~removed-") || name.starts_with("~new-") {
            std::fs::remove_dir_all(entry.path())?;
        } else if let Ok(name) = StreamName::new(&name)
            && entry.file_type()?.is_dir()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Makes a stream's folder appear with its metadata in one durable step.
fn create_folder(journal: &Path, folder: &Path, incarnation: Uuid) -> io::Result<()> {
    let unfinished = journal.join(format!("~new-{incarnation}"));
    std::fs::create_dir(&unfinished)?;
    meta::write(&unfinished, incarnation)?;
    std::fs::rename(&unfinished, folder)?;
    disk::sync_dir(journal)
}
