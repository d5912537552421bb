//! What a function said of a batch, on disk: `docs/formats/replies.md`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lakeward_columnar::process::Outcome;
use lakeward_model::{BatchId, Timestamp};
use rustix::fs::{FlockOperation, flock};

use super::frame::{self, HEADER_BYTES, Identity, Kind};

const MAGIC: [u8; 8] = *b"LWREPLYS";
const VERSION: u32 = 1;
/// Bytes before the first frame: magic, version, crc, batch, planned at.
pub(super) const START: u64 = 40;
const ENDING: &str = ".replies";

/// A file of replies cannot be used. The batch waits; once the cause is gone,
/// opening it again goes on where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum RepliesError {
    /// The disk failed or is full.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A newer Lakeward wrote it; that one must finish the batch.
    #[error("{} was written by a newer version (format {version}); finish the batch with that version", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

/// The replies to a batch that are durable.
///
/// The file is locked while anything may still write it, so that a batch that
/// was abandoned and is begun anew waits for the last write of the former.
#[derive(Debug)]
pub struct Replies {
    path: PathBuf,
    file: Arc<File>,
    batch: BatchId,
    identity: Identity,
    /// Where the next frame goes; everything before is durable.
    end: u64,
    /// By the number of their first piece; they do not overlap.
    slots: BTreeMap<u64, Slot>,
    /// How many pieces the batch has, once everything is said.
    whole: Option<u64>,
}

/// Where the outcomes of some pieces lie.
#[derive(Debug, Clone, Copy)]
struct Slot {
    position: u64,
    length: usize,
    pieces: u32,
}

/// The outcomes of pieces that follow each other.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) outcomes: Vec<Outcome>,
}

impl Replies {
    /// Opens or creates the file of a batch in `dir`, the pipeline's own
    /// folder, and keeps what is whole in it. Blocks.
    ///
    /// `planned_at` tells plans apart: a span may be planned again, with
    /// another configuration, if its first plan never became durable. What was
    /// said for another plan is thrown away.
    ///
    /// # Errors
    /// See [`RepliesError`].
    pub fn open(dir: &Path, batch: BatchId, planned_at: Timestamp) -> Result<Self, RepliesError> {
        let path = dir.join(format!("{batch}{ENDING}"));
        let io = |source| RepliesError::Io { path: path.clone(), source };
        let file = open_file(dir, &path).map_err(io)?;
        let mut identity: Identity = [0; 24];
        identity[..16].copy_from_slice(batch.0.as_bytes());
        identity[16..].copy_from_slice(&planned_at.micros().to_le_bytes());
        let mut replies = Self {
            path: path.clone(),
            file: Arc::new(file),
            batch,
            identity,
            end: START,
            slots: BTreeMap::new(),
            whole: None,
        };
        match replies.read_start().map_err(io)? {
            Begun::Ours => replies.read_frames().map_err(io)?,
            Begun::Not => replies.begin().map_err(io)?,
            Begun::Newer(version) => return Err(RepliesError::Version { path, version }),
        }
        // A process that was killed may have written what no fsync covers yet.
        let settle = || {
            replies.file.set_len(replies.end)?;
            replies.file.sync_all()
        };
        settle().map_err(io)?;
        Ok(replies)
    }

    /// Removes the file of a batch that is committed.
    ///
    /// # Errors
    /// It costs disk, not correctness: log it and go on.
    pub fn remove(dir: &Path, batch: BatchId) -> io::Result<()> {
        match fs::remove_file(dir.join(format!("{batch}{ENDING}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes, at start, the files in `dir` of all batches but `keep`: the
    /// unfinished one.
    ///
    /// # Errors
    /// The folder cannot be read or a file not removed. They cost disk, not
    /// correctness: log it and go on.
    pub fn remove_others(dir: &Path, keep: &[BatchId]) -> io::Result<()> {
        let keep: Vec<String> = keep.iter().map(|batch| format!("{batch}{ENDING}")).collect();
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(ENDING) && !keep.contains(&name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether something is said of every piece of the batch: nothing needs to
    /// be asked any more.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// The batch.
    #[must_use]
    pub fn batch(&self) -> BatchId {
        self.batch
    }

    /// The outcomes of all pieces, in their order, read a frame at a time.
    ///
    /// # Panics
    /// If [`Self::is_whole`] is false; and the iterator, if the disk fails
    /// where it was read before: what was said is then not known any more.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        assert!(self.is_whole(), "the replies to {} are not whole", self.batch);
        Outcomes {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            identity: self.identity,
            slots: self.slots.iter().map(|(first, slot)| (*first, *slot)).collect::<Vec<_>>().into_iter(),
            read: Vec::new().into_iter(),
        }
    }

    /// Those of the pieces `range` of which nothing is known yet.
    pub(super) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let before = self.slots.range(..range.start).next_back();
        let mut missing = Vec::new();
        let mut at = range.start;
        for (first, slot) in before.into_iter().chain(self.slots.range(range.clone())) {
            if *first > at {
                missing.push(at..*first);
            }
            at = at.max(first + u64::from(slot.pieces));
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }

    /// Whether nothing is known of any of these pieces.
    fn is_new(&self, range: &Range<u64>) -> bool {
        self.missing(range.clone()).first() == Some(range)
    }

    /// Makes parts durable, and with `end` that they are all.
    ///
    /// # Errors
    /// The disk failed or is full; nothing of them is kept.
    pub(super) async fn store(&mut self, parts: Vec<Part>, end: Option<u64>) -> Result<(), RepliesError> {
        let (file, path, identity, start) =
            (Arc::clone(&self.file), self.path.clone(), self.identity, self.end);
        let stored = super::call::blocking(move || {
            let (frames, slots) = frames(&identity, start, &parts, end);
            let written = file.write_all_at(&frames, start).and_then(|()| file.sync_data());
            if let Err(source) = written {
                forget(&file, &path, start);
                return Err(RepliesError::Io { path, source });
            }
            Ok((start + frames.len() as u64, slots))
        });
        let (end_at, slots) = stored.await?;
        self.end = end_at;
        for (first, slot) in slots {
            let range = first..first + u64::from(slot.pieces);
            assert!(
                self.missing(range.clone()) == [range],
                "the pieces from {first} on of {} were asked twice",
                self.batch
            );
            self.slots.insert(first, slot);
        }
        if let Some(pieces) = end {
            assert!(self.missing(0..pieces).is_empty(), "something is said of every piece");
            self.whole = Some(pieces);
        }
        Ok(())
    }

    fn read_start(&self) -> io::Result<Begun> {
        let mut start = [0; START as usize];
        match self.file.read_exact_at(&mut start, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Begun::Not),
            result => result?,
        }
        let number = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
        if start[..8] != MAGIC || number(12) != crc32c::crc32c(&start[16..]) {
            return Ok(Begun::Not);
        }
        Ok(match number(8) {
            VERSION if start[16..] == self.identity => Begun::Ours,
            VERSION => Begun::Not,
            version => Begun::Newer(version),
        })
    }

    fn begin(&self) -> io::Result<()> {
        let mut start = Vec::with_capacity(START as usize);
        start.extend_from_slice(&MAGIC);
        start.extend_from_slice(&VERSION.to_le_bytes());
        start.extend_from_slice(&crc32c::crc32c(&self.identity).to_le_bytes());
        start.extend_from_slice(&self.identity);
        self.file.set_len(0)?;
        self.file.write_all_at(&start, 0)
    }

    /// Takes the frames up to the first that is not whole.
    fn read_frames(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        while self.whole.is_none() {
            let Some((header, payload)) = read_frame(&self.file, &self.identity, self.end, length)? else {
                break;
            };
            let position = self.end;
            match header.kind {
                Kind::End { pieces } if self.missing(0..pieces).is_empty() => self.whole = Some(pieces),
                Kind::Outcomes { first, pieces } => {
                    let Some(until) = first.checked_add(u64::from(pieces)) else { break };
                    if !self.is_new(&(first..until)) || frame::decode(&payload, pieces).is_none() {
                        break;
                    }
                    self.slots.insert(first, Slot { position, length: header.length, pieces });
                }
                Kind::End { .. } => break,
            }
            self.end = position + (HEADER_BYTES + header.length) as u64;
        }
        Ok(())
    }
}

/// What a file starts with.
enum Begun {
    Ours,
    Not,
    Newer(u32),
}

fn open_file(dir: &Path, path: &Path) -> io::Result<File> {
    let new_folder = !dir.exists();
    fs::create_dir_all(dir)?;
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    // The names must be durable before the replies are relied on.
    let folders = dir.ancestors().take(if new_folder { 3 } else { 1 });
    for folder in folders.filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

/// The frame at `position`, if it is whole.
fn read_frame(
    file: &File,
    identity: &Identity,
    position: u64,
    length: u64,
) -> io::Result<Option<(frame::Header, Bytes)>> {
    let mut bytes = [0; HEADER_BYTES];
    let rest = length.saturating_sub(position);
    if rest < HEADER_BYTES as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, position)?;
    let Some(header) = frame::header(&bytes) else { return Ok(None) };
    if rest - (HEADER_BYTES as u64) < header.length as u64 {
        return Ok(None);
    }
    let mut payload = vec![0; header.length];
    file.read_exact_at(&mut payload, position + HEADER_BYTES as u64)?;
    let whole = frame::is_whole(identity, position, &header, &bytes, &payload);
    Ok(whole.then(|| (header, payload.into())))
}

/// The frames of `parts` from `start` on, and where each will lie.
fn frames(identity: &Identity, start: u64, parts: &[Part], end: Option<u64>) -> (Vec<u8>, Vec<(u64, Slot)>) {
    let mut out = Vec::new();
    let mut slots = Vec::new();
    for part in parts {
        let position = start + out.len() as u64;
        let pieces = u32::try_from(part.outcomes.len()).expect("a call has far fewer pieces");
        let payload = frame::encode(&part.outcomes);
        frame::write(identity, position, Kind::Outcomes { first: part.first, pieces }, &payload, &mut out);
        slots.push((part.first, Slot { position, length: payload.len(), pieces }));
    }
    if let Some(pieces) = end {
        frame::write(identity, start + out.len() as u64, Kind::End { pieces }, &[], &mut out);
    }
    (out, slots)
}

/// After a failed write: what lies behind `end` may be read and yet not be
/// durable, so it must go, or the whole file.
fn forget(file: &File, path: &Path, end: u64) {
    let cut = file.set_len(end).and_then(|()| file.sync_all());
    if cut.is_err() {
        let removed = fs::remove_file(path);
        assert!(removed.is_ok(), "{} can be neither written, cut nor removed: {removed:?}", path.display());
    }
}

/// See [`Replies::outcomes`].
#[derive(Debug)]
pub struct Outcomes {
    path: PathBuf,
    file: Arc<File>,
    identity: Identity,
    slots: std::vec::IntoIter<(u64, Slot)>,
    read: std::vec::IntoIter<Outcome>,
}

impl Iterator for Outcomes {
    type Item = Outcome;

    fn next(&mut self) -> Option<Outcome> {
        loop {
            if let Some(outcome) = self.read.next() {
                return Some(outcome);
            }
            let (first, slot) = self.slots.next()?;
            let length = slot.position + (HEADER_BYTES + slot.length) as u64;
            let frame = read_frame(&self.file, &self.identity, slot.position, length);
            let outcomes = match frame {
                Ok(Some((header, payload)))
                    if header.kind == (Kind::Outcomes { first, pieces: slot.pieces }) =>
                {
                    frame::decode(&payload, slot.pieces)
                }
                Ok(_) => None,
                Err(error) => panic!("{} cannot be read any more: {error}", self.path.display()),
            };
            let outcomes = outcomes.unwrap_or_else(|| {
                panic!("{} changed at {} while it was read", self.path.display(), slot.position)
            });
            self.read = outcomes.into_iter();
        }
    }
}
