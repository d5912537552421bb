//! Opens a stream: finds its acknowledged records, cuts a torn tail, and
//! stops at damage.
//!
//! A crash may leave any part of the last group of appends, of which nobody
//! was told anything: that is a torn tail. Everything below the `synced` of a
//! later frame or marker was durable and perhaps acknowledged: if it is bad,
//! it was damaged afterwards.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use lakeward_model::{Offset, Origin};
use uuid::Uuid;

use crate::disk::{self, Disk};
use crate::error::OpenError;
use crate::frame::{Header, Kind, Seed};
use crate::keys::Answer;
use crate::scan::{self, Depth, Step, Walk};
use crate::segment::{self, HEADER_BYTES_MAX, SegmentHeader};
use crate::state::{Frame, Segment, State};

/// The last segment, to go on writing.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) seed: Seed,
    /// Where the next frame goes.
    pub(crate) at: u64,
    /// Up to where an fsync has made the file durable: what frames say of it.
    /// A marker behind that is not part of it.
    pub(crate) synced: u64,
    /// The length of the file.
    pub(crate) capacity: u64,
    /// Whether what is before `at` is known to be durable by a marker.
    pub(crate) marked: bool,
}

/// The segments in a stream's folder, by their first offset, ascending.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        firsts.extend(entry?.file_name().to_str().and_then(segment::first_of));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Reads a segment's header; the inner error says what is wrong with it.
pub(crate) fn read_header(
    file: &File,
    incarnation: Uuid,
    first: u64,
) -> io::Result<Result<(SegmentHeader, u64), &'static str>> {
    let mut bytes = Vec::new();
    scan::read_at(file, 0, HEADER_BYTES_MAX, &mut bytes)?;
    Ok(SegmentHeader::decode(&bytes).and_then(|(header, frames_at)| {
        if header.incarnation != incarnation {
            Err("the segment belongs to another incarnation of the stream")
        } else if header.first != first {
            Err("the segment's name and its header name different offsets")
        } else {
            Ok((header, frames_at))
        }
    }))
}

/// Reads the stream in `dir` into `state`.
///
/// # Errors
/// See [`OpenError`]; nothing was changed unless a torn tail was cut.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    incarnation: Uuid,
    state: &mut State,
) -> Result<Option<Tail>, OpenError> {
    let firsts = segments(dir).map_err(OpenError::io(dir))?;
    let Some((&last, sealed)) = firsts.split_last() else { return Ok(None) };
    for (&first, next) in sealed.iter().zip(&firsts[1..]) {
        let found = Found::open(dir, incarnation, first, false)?;
        let stopped = found.read(Depth::Headers, state)?;
        found.must_be_whole(stopped, state.end == *next)?;
    }
    let found = Found::open(dir, incarnation, last, true)?;
    let stopped = found.read(Depth::Bodies, state)?;
    found.cut_torn_tail(disk, stopped, state).map(Some)
}

/// A segment file with a good header.
struct Found {
    file: File,
    path: PathBuf,
    header: SegmentHeader,
    frames_at: u64,
    seed: Seed,
    length: u64,
}

/// How the walk over a segment ended.
struct Stopped {
    at: u64,
    why: Option<&'static str>,
    /// Whether the last frame before it is a marker.
    marked: bool,
}

impl Found {
    fn open(dir: &Path, incarnation: Uuid, first: u64, write: bool) -> Result<Self, OpenError> {
        let path = segment::path(dir, first);
        let read = || -> io::Result<_> {
            let file = OpenOptions::new().read(true).write(write).open(&path)?;
            let length = file.metadata()?.len();
            let header = read_header(&file, incarnation, first)?;
            Ok((file, length, header))
        };
        let (file, length, header) = read().map_err(OpenError::io(&path))?;
        match header {
            Err(what) => Err(OpenError::Damaged { path, position: 0, what }),
            Ok((header, frames_at)) => {
                Ok(Self { file, path, header, frames_at, seed: Seed::new(incarnation, first), length })
            }
        }
    }

    fn walk(&self, depth: Depth) -> Walk<'_> {
        Walk::new(&self.file, self.seed, depth, self.frames_at, self.length)
    }

    fn damaged(&self, position: u64, what: &'static str) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), position, what }
    }

    /// Takes the segment's frames into `state` up to the first bad one.
    fn read(&self, depth: Depth, state: &mut State) -> Result<Stopped, OpenError> {
        self.begin(state)?;
        let mut walk = self.walk(depth);
        let mut marked = false;
        let stopped = loop {
            match walk.step().map_err(OpenError::io(&self.path))? {
                Step::End(at) => break Stopped { at, why: None, marked },
                Step::Bad(at, why) => break Stopped { at, why: Some(why), marked },
                Step::Frame(at, header) if header.first != state.end => {
                    return Err(self.damaged(at, "the frame does not follow the one before it"));
                }
                Step::Frame(at, header) => {
                    marked = header.kind == Kind::Marker;
                    if !marked {
                        let lead = walk.lead(at, &header).map_err(OpenError::io(&self.path))?;
                        take(state, at, &header, lead);
                    }
                }
            }
        };
        if let Some(segment) = state.segments.back_mut() {
            segment.durable = stopped.at;
        }
        Ok(stopped)
    }

    fn begin(&self, state: &mut State) -> Result<(), OpenError> {
        let header = &self.header;
        if state.segments.is_empty() {
            state.end = header.first;
        } else if state.end != header.first {
            return Err(self.damaged(0, "the segment does not follow the one before it"));
        }
        state.received_at = state.received_at.max(header.received_at);
        state.cursor.clone_from(&header.cursor);
        state.segments.push_back(Segment::new(header.first, self.frames_at, self.length, header.received_at));
        Ok(())
    }

    /// A segment that another one follows was durable to its end.
    fn must_be_whole(&self, stopped: Stopped, reaches_next: bool) -> Result<(), OpenError> {
        match stopped.why {
            Some(why) => Err(self.damaged(stopped.at, why)),
            None if !reaches_next => {
                Err(self.damaged(stopped.at, "frames are missing between here and the next segment"))
            }
            None => Ok(()),
        }
    }

    fn cut_torn_tail(self, disk: &dyn Disk, stopped: Stopped, state: &mut State) -> Result<Tail, OpenError> {
        let torn =
            torn_bytes(&mut self.walk(Depth::Headers), stopped.at).map_err(OpenError::io(&self.path))?;
        let torn = torn.map_err(|()| {
            self.damaged(stopped.at, stopped.why.unwrap_or("zeros lie where a frame was acknowledged"))
        })?;
        let mut capacity = self.length;
        if torn > 0 {
            tracing::warn!(
                path = %self.path.display(), position = stopped.at, torn_bytes = torn, next_offset = state.end,
                "cut an unfinished append that was never acknowledged"
            );
            cut(disk, &self.file, stopped.at, &mut capacity).map_err(OpenError::io(&self.path))?;
        }
        // What was read may so far lie in the page cache only, from a process
        // that died between its write and its fsync.
        disk.sync(&self.file).unwrap_or_else(|error| disk::fatal("fsync", &self.path, &error));
        if let Some(segment) = state.segments.back_mut() {
            segment.file_bytes = capacity;
        }
        let Self { file, path, seed, .. } = self;
        Ok(Tail { file, path, seed, at: stopped.at, synced: stopped.at, capacity, marked: stopped.marked })
    }
}

/// How many bytes behind `at` are not zero and were never acknowledged;
/// `Err` if some of them were.
pub(crate) fn torn_bytes(walk: &mut Walk<'_>, at: u64) -> io::Result<Result<u64, ()>> {
    let mut from = at;
    while let Some((position, header)) = walk.find(from)? {
        if header.synced > at {
            return Ok(Err(()));
        }
        from = position + 1;
    }
    Ok(Ok(walk.end_of_bytes(at)? - at))
}

/// Cuts a segment's file and brings its room back, as zeros; a full disk
/// leaves it short.
fn cut(disk: &dyn Disk, file: &File, at: u64, capacity: &mut u64) -> io::Result<()> {
    file.set_len(at)?;
    match disk.allocate(file, *capacity) {
        Err(error) if disk::is_no_room(&error) => {
            *capacity = at;
            file.set_len(at)
        }
        other => other,
    }
}

/// Takes a good frame with records into `state`.
fn take(state: &mut State, position: u64, header: &Header, lead: &[u8]) {
    let frame = Frame {
        first: Offset(header.first),
        records: header.count,
        bytes: u64::from(header.data_length),
        received_at: header.received_at,
    };
    state.push(position, frame);
    match header.origin(lead) {
        Origin::Push(None) => {}
        Origin::Pull(cursor) => state.cursor = Some(cursor),
        Origin::Push(Some(key)) => state.keys.remember(&key, answer(&frame)),
    }
}

/// What the append that became `frame` was answered.
pub(crate) fn answer(frame: &Frame) -> Answer {
    Answer { first: frame.first, count: frame.records, received_at: frame.received_at }
}

#[cfg(test)]
mod tests;
