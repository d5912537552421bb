//! The thread that writes a stream: gathers what waits, writes it with one
//! call, makes it durable with one fsync, and then answers.
//!
//! While one group is on its way to the disk, the next one gathers in the
//! queue: the slower the disk, the larger the groups.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakeward_model::clock::SharedClock;
use lakeward_model::{Offset, Origin, Timestamp};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::disk::{self, Disk};
use crate::error::AppendError;
use crate::frame::{self, MARKER_BYTES, Seed};
use crate::group::{Appended, FRAMES_MAX, Group, Place, Request};
use crate::options::{FIRST_SEGMENT_BYTES, Space};
use crate::recover::{self, Tail};
use crate::segment::{self, SegmentHeader};
use crate::state::{Segment, State};

/// What the writer shares with those who read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) incarnation: Uuid,
    pub(crate) state: Mutex<State>,
    /// The durable end.
    pub(crate) ends: watch::Sender<Offset>,
    /// Set once the writer is to stop.
    pub(crate) closing: AtomicBool,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// What the writer is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write this.
    Append(Request),
    /// Go on in a new segment, so that the last one can be trimmed.
    Roll,
    /// Look at `closing`.
    Wake,
}

/// What the writer needs besides the stream itself.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: SharedClock,
    pub(crate) space: Arc<Space>,
    pub(crate) segment_bytes: u64,
}

/// Writes one stream.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    means: Means,
    queue: mpsc::Receiver<Command>,
    /// The segment that is written; `None` before the first append.
    tail: Option<Tail>,
    group: Group,
    /// When the last record was received.
    received_at: Timestamp,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        means: Means,
        queue: mpsc::Receiver<Command>,
        tail: Option<Tail>,
    ) -> Self {
        let received_at = shared.state().received_at;
        Self { shared, means, queue, tail, group: Group::default(), received_at }
    }

    /// Writes until the stream is closed.
    pub(crate) fn run(mut self) {
        self.mark();
        let mut waiting = Vec::with_capacity(FRAMES_MAX);
        while self.queue.blocking_recv_many(&mut waiting, FRAMES_MAX) > 0 {
            self.write(waiting.drain(..));
            if self.shared.is_closing() {
                break;
            }
            if self.queue.is_empty() {
                self.mark();
            }
        }
        self.close();
    }

    /// Writes what still waits and leaves a durable marker.
    fn close(mut self) {
        self.queue.close();
        while let Ok(command) = self.queue.try_recv() {
            self.write(std::iter::once(command));
        }
        self.mark();
        if let Some(tail) = &self.tail {
            self.means.disk.sync(&tail.file).unwrap_or_else(|error| disk::fatal("fsync", &tail.path, &error));
        }
    }

    fn write(&mut self, commands: impl Iterator<Item = Command>) {
        self.received_at = self.received_at.max(self.means.clock.now());
        for command in commands {
            match command {
                Command::Append(request) => self.append(request),
                Command::Roll => {
                    self.commit();
                    if !self.shared.state().last_is_empty() {
                        // Without room there is nothing to gain by it.
                        let _ = self.roll(MARKER_BYTES, FIRST_SEGMENT_BYTES);
                    }
                }
                Command::Wake => {}
            }
        }
        self.commit();
    }

    /// Puts a request into the group, or answers it at once if it adds
    /// nothing.
    fn append(&mut self, request: Request) {
        if let Some(answer) = self.replay(&request) {
            let _ = request.reply.send(Ok(answer));
            return;
        }
        let Some(request) = self.group.follow(request) else { return };
        if self.group.is_full() {
            self.commit();
        }
        let bytes = frame::frame_bytes(&request.records, &request.origin);
        if !self.fits(bytes) {
            self.commit();
            let next = self.tail.as_ref().map_or(FIRST_SEGMENT_BYTES, |tail| tail.capacity.saturating_mul(2));
            if let Err(error) = self.roll(bytes + MARKER_BYTES, next) {
                let _ = request.reply.send(Err(error));
                return;
            }
        }
        let tail = self.tail.as_ref().expect("there is a segment with room");
        let place = Place {
            seed: tail.seed,
            position: tail.at + self.group.bytes,
            synced: tail.synced,
            first: self.group.end(self.shared.state().end),
            received_at: self.received_at,
        };
        self.group.push(place, request);
    }

    /// The answer to a request that adds nothing: its key was seen, or it
    /// tells neither records nor a new cursor.
    fn replay(&self, request: &Request) -> Option<Appended> {
        let state = self.shared.state();
        let nothing = Appended { first: Offset(state.end), count: 0, replayed: false };
        match &request.origin {
            Origin::Push(Some(key)) => state.keys.get(key, self.received_at).map(Appended::replay),
            Origin::Push(None) => (request.records.is_empty() && self.group.is_empty()).then_some(nothing),
            Origin::Pull(cursor) => {
                let same = self.group.is_empty() && state.cursor.as_ref() == Some(cursor);
                (request.records.is_empty() && same).then_some(nothing)
            }
        }
    }

    /// Whether a frame of `bytes` fits behind the group, and a marker behind it.
    fn fits(&self, bytes: u64) -> bool {
        self.tail.as_ref().is_some_and(|tail| {
            let taken = tail.at + self.group.bytes + MARKER_BYTES;
            tail.capacity.checked_sub(taken).is_some_and(|rest| bytes <= rest)
        })
    }

    /// Writes the group, makes it durable, shows it to readers, answers.
    fn commit(&mut self) {
        if self.group.is_empty() {
            return;
        }
        let tail = self.tail.as_mut().expect("a group is put into a segment");
        let written = disk::write_all_at(&*self.means.disk, &tail.file, &mut self.group.buffers(), tail.at);
        match written {
            Err(error) if disk::is_no_room(&error) => {
                self.give_up_tail();
                self.group.refuse();
                return;
            }
            Err(error) => disk::fatal("write", &tail.path, &error),
            Ok(()) => {}
        }
        self.means.disk.sync(&tail.file).unwrap_or_else(|error| disk::fatal("fsync", &tail.path, &error));
        tail.at += self.group.bytes;
        tail.synced = tail.at;
        tail.marked = false;
        self.publish();
        self.group.acknowledge();
    }

    fn publish(&self) {
        let durable = self.tail.as_ref().map_or(0, |tail| tail.at);
        let end = {
            let mut state = self.shared.state();
            for (position, frame, origin) in self.group.frames() {
                state.push(position, frame);
                match origin {
                    Origin::Push(None) => {}
                    Origin::Push(Some(key)) => state.keys.remember(key, recover::answer(&frame)),
                    Origin::Pull(cursor) => state.cursor = Some(cursor.clone()),
                }
            }
            let segment = state.segments.back_mut().expect("a group is put into a segment");
            segment.durable = durable;
            state.end
        };
        self.shared.ends.send_replace(Offset(end));
    }

    /// Cuts what a full disk let through of a group, durably, because its
    /// callers are told that nothing was written; they would send it again.
    fn give_up_tail(&mut self) {
        let tail = self.tail.as_mut().expect("a group is put into a segment");
        let cut = tail.file.set_len(tail.at).and_then(|()| self.means.disk.sync(&tail.file));
        cut.unwrap_or_else(|error| disk::fatal("cutting", &tail.path, &error));
        self.means.space.refused(tail.capacity.saturating_sub(tail.at));
        // The next append gets a segment of its own, if the disk has room again.
        tail.capacity = tail.at;
        self.count_tail();
    }

    fn count_tail(&self) {
        let capacity = self.tail.as_ref().map_or(0, |tail| tail.capacity);
        if let Some(segment) = self.shared.state().segments.back_mut() {
            segment.file_bytes = capacity;
        }
    }

    /// Goes on in a new segment with room for `needed` bytes, of about
    /// `wanted` bytes.
    fn roll(&mut self, needed: u64, wanted: u64) -> Result<(), AppendError> {
        let (end, cursor, empty) = {
            let state = self.shared.state();
            (state.end, state.cursor.clone(), self.tail.is_some() && state.last_is_empty())
        };
        let wanted =
            wanted.clamp(FIRST_SEGMENT_BYTES.min(self.means.segment_bytes), self.means.segment_bytes);
        if empty {
            return self.grow(needed, wanted);
        }
        let header = SegmentHeader {
            incarnation: self.shared.incarnation,
            first: end,
            received_at: self.received_at,
            cursor,
        };
        let needed = needed + header.encode().len() as u64;
        let space = &self.means.space;
        let bytes = space.reserve(needed, wanted.max(needed)).ok_or(AppendError::Full)?;
        let new = match segment::create(&*self.means.disk, &self.shared.dir, &header, bytes) {
            Ok(new) => new,
            Err(error) if disk::is_no_room(&error) => {
                space.refused(bytes);
                tracing::warn!(dir = %self.shared.dir.display(), %error, "no room for a new segment");
                return Err(AppendError::Full);
            }
            Err(error) => disk::fatal("making a segment", &segment::path(&self.shared.dir, end), &error),
        };
        self.seal();
        let segment = Segment::new(end, new.frames_at, bytes, self.received_at);
        self.shared.state().segments.push_back(segment);
        self.tail = Some(Tail {
            file: new.file,
            path: new.path,
            seed: Seed::new(self.shared.incarnation, end),
            at: new.frames_at,
            synced: new.frames_at,
            capacity: bytes,
            marked: true,
        });
        Ok(())
    }

    /// Makes a segment without records larger; a second one would get the
    /// same name.
    fn grow(&mut self, needed: u64, wanted: u64) -> Result<(), AppendError> {
        let tail = self.tail.as_mut().expect("a segment without records is the last one");
        let least = (tail.at + needed).saturating_sub(tail.capacity);
        let more = wanted.saturating_sub(tail.capacity).max(least);
        let space = &self.means.space;
        let more = space.reserve(least, more).ok_or(AppendError::Full)?;
        let grown = self.means.disk.allocate(&tail.file, tail.capacity + more);
        match grown {
            Ok(()) => tail.capacity += more,
            Err(error) if disk::is_no_room(&error) => {
                space.refused(more);
                return Err(AppendError::Full);
            }
            Err(error) => disk::fatal("preallocation", &tail.path, &error),
        }
        self.count_tail();
        Ok(())
    }

    /// Gives the unused room of the last segment back. It need not be
    /// durable: zeros behind the last frame are as good as none.
    fn seal(&mut self) {
        let Some(mut tail) = self.tail.take() else { return };
        if let Err(error) = tail.file.set_len(tail.at) {
            tracing::warn!(path = %tail.path.display(), %error, "could not give back the unused room");
        } else {
            self.means.space.release(tail.capacity.saturating_sub(tail.at));
            tail.capacity = tail.at;
        }
        // A sealed segment must be whole, also its last marker.
        self.means.disk.sync(&tail.file).unwrap_or_else(|error| disk::fatal("fsync", &tail.path, &error));
        if let Some(segment) = self.shared.state().segments.back_mut() {
            segment.file_bytes = tail.capacity;
        }
    }

    /// Says in the log that all before is durable, for the next open: it tells
    /// damage from a torn tail by that. Not synced, as nothing depends on it.
    fn mark(&mut self) {
        let Some(tail) = &mut self.tail else { return };
        if tail.marked || tail.at + MARKER_BYTES > tail.capacity {
            return;
        }
        let marker = frame::marker(tail.seed, tail.at, self.shared.state().end, self.received_at);
        match disk::write_all_at(&*self.means.disk, &tail.file, &mut [IoSlice::new(&marker)], tail.at) {
            Ok(()) => {
                tail.at += MARKER_BYTES;
                tail.marked = true;
            }
            // The next frame goes over what was written of it.
            Err(error) if disk::is_no_room(&error) || error.kind() == io::ErrorKind::WriteZero => {}
            Err(error) => disk::fatal("write", &tail.path, &error),
        }
    }
}

#[cfg(test)]
mod tests;
