//! Reads durable records.

use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakeward_model::{Offset, RecordBlock, Records, Span, Timestamp};

use crate::error::ReadError;
use crate::frame::{self, HEADER_BYTES, Header, Kind, NoFrame, Seed};
use crate::scan::{self, Depth, Step, Walk};
use crate::segment;
use crate::state::{Frame, Located};
use crate::writer::Shared;

/// A frame may start this far behind its index entry, which is read along.
const READ_AROUND_BYTES: u64 = 64 << 10;

impl Shared {
    /// Whole frames from the one that holds `from`, cut to start there.
    pub(crate) fn read(&self, from: Offset, bytes_max: usize) -> Result<Vec<RecordBlock>, ReadError> {
        let mut blocks = Vec::new();
        let mut next = from.0;
        let mut left = bytes_max as u64;
        while let Some(located) = self.locate(next)? {
            let file = match self.open(&located) {
                Ok(file) => file,
                Err(error) => match self.locate(next) {
                    // It was trimmed after it was located.
                    Err(trimmed) if blocks.is_empty() => return Err(trimmed),
                    Err(_) => break,
                    Ok(_) => return Err(error),
                },
            };
            let mut reader = Reader {
                file,
                seed: Seed::new(self.incarnation, located.segment),
                next,
                left,
                blocks: &mut blocks,
            };
            let more = reader.read(&located)?;
            (next, left) = (reader.next, reader.left);
            if !more {
                break;
            }
        }
        Ok(blocks)
    }

    /// Where record `from` lies; `None` if it does not exist yet.
    fn locate(&self, from: u64) -> Result<Option<Located>, ReadError> {
        let state = self.state();
        if from < state.start() {
            return Err(ReadError::Trimmed { start: Offset(state.start()) });
        }
        Ok(state.locate(from))
    }

    fn open(&self, located: &Located) -> Result<Segmented, ReadError> {
        let path = segment::path(&self.dir, located.segment);
        let file = File::open(&path).map_err(ReadError::io(&path))?;
        Ok(Segmented { file, path })
    }

    /// The appends from the one that holds `from` on, without their records.
    pub(crate) fn frames(&self, from: Offset, frames_max: usize) -> Result<Vec<Frame>, ReadError> {
        if let Some(frames) = self.state().recent(from.0, frames_max) {
            return Ok(frames);
        }
        let Some(located) = self.locate(from.0)? else { return Ok(Vec::new()) };
        let opened = match self.open(&located) {
            Ok(opened) => opened,
            Err(error) => return self.locate(from.0).and(Err(error)),
        };
        let seed = Seed::new(self.incarnation, located.segment);
        let mut walk = Walk::new(&opened.file, seed, Depth::Headers, located.position, located.durable);
        let mut frames = Vec::new();
        while frames.len() < frames_max {
            match walk.step().map_err(ReadError::io(&opened.path))? {
                Step::Frame(_, header) if header.count > 0 && header.end() > from.0 => {
                    frames.push(Frame {
                        first: Offset(header.first),
                        records: header.count,
                        bytes: u64::from(header.data_length),
                        received_at: header.received_at,
                    });
                }
                Step::Frame(..) => {}
                Step::End(_) => break,
                Step::Bad(at, what) => return Err(opened.damaged(at, what)),
            }
        }
        Ok(frames)
    }

    /// When the record at `offset` was received.
    pub(crate) fn received_at(&self, offset: Offset) -> Option<Timestamp> {
        Some(self.frames(offset, 1).ok()?.first()?.received_at)
    }
}

/// An open segment and its name.
#[derive(Debug)]
struct Segmented {
    file: File,
    path: PathBuf,
}

impl Segmented {
    fn damaged(&self, position: u64, what: &'static str) -> ReadError {
        damaged(&self.path, position, what)
    }
}

fn damaged(path: &Path, position: u64, what: &'static str) -> ReadError {
    ReadError::Damaged { path: path.to_path_buf(), position, what }
}

/// Reads the frames of one segment.
#[derive(Debug)]
struct Reader<'a> {
    file: Segmented,
    seed: Seed,
    /// The first record that is wanted.
    next: u64,
    /// Bytes of records that may still be read.
    left: u64,
    blocks: &'a mut Vec<RecordBlock>,
}

/// What came of looking for a frame in a buffer.
enum Outcome {
    /// It was taken or is not wanted; the next one starts so many bytes on.
    Taken(u64),
    /// It goes on behind the buffer; so many bytes of it are needed.
    Longer(u64),
    /// Enough was read.
    Enough,
}

impl Reader<'_> {
    /// Reads the segment's durable frames from the located one on. Answers
    /// whether there is room for more from the next segment.
    fn read(&mut self, located: &Located) -> Result<bool, ReadError> {
        let mut at = located.position;
        let mut wanted = self.left.saturating_add(READ_AROUND_BYTES);
        while at < located.durable {
            let length = wanted.min(located.durable - at) as usize;
            let mut buffer = Vec::new();
            scan::read_at(&self.file.file, at, length, &mut buffer)
                .map_err(ReadError::io(&self.file.path))?;
            if buffer.len() < length {
                return Err(self.file.damaged(at + buffer.len() as u64, "the file is shorter than it was"));
            }
            let buffer = Bytes::from(buffer);
            let start = at;
            loop {
                match self.take(at, buffer.slice((at - start) as usize..))? {
                    Outcome::Taken(bytes) => at += bytes,
                    Outcome::Enough => return Ok(false),
                    Outcome::Longer(bytes) if at == located.durable => {
                        debug_assert!(bytes > 0, "no frame is empty");
                        return Ok(true);
                    }
                    Outcome::Longer(bytes) if bytes > located.durable - at => {
                        return Err(self.file.damaged(at, "the frame goes on behind the durable end"));
                    }
                    Outcome::Longer(bytes) => {
                        wanted = bytes.max(self.left.saturating_add(READ_AROUND_BYTES));
                        break;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Takes the frame that `bytes` start with, if it is wanted.
    fn take(&mut self, at: u64, bytes: Bytes) -> Result<Outcome, ReadError> {
        let header = match frame::decode(self.seed, at, &bytes) {
            Ok(header) => header,
            Err(NoFrame::Short(needed)) => return Ok(Outcome::Longer(needed as u64)),
            Err(NoFrame::Blank) => {
                return Err(self.file.damaged(at, "zeros lie where a frame was acknowledged"));
            }
            Err(NoFrame::Bad(what)) => return Err(self.file.damaged(at, what)),
        };
        let frame_bytes = header.frame_bytes();
        if header.end() <= self.next || header.kind == Kind::Marker {
            return Ok(Outcome::Taken(frame_bytes));
        }
        if header.first > self.next {
            return Err(self.file.damaged(at, "the frame does not follow the one before it"));
        }
        if !self.blocks.is_empty() && u64::from(header.data_length) > self.left {
            return Ok(Outcome::Enough);
        }
        if (bytes.len() as u64) < frame_bytes {
            return Ok(Outcome::Longer(frame_bytes));
        }
        let frame = bytes.slice(..frame_bytes as usize);
        let records = frame::records(&header, &frame).map_err(|what| self.file.damaged(at, what))?;
        self.left = self.left.saturating_sub(u64::from(header.data_length));
        self.blocks.extend(self.block(&header, records));
        self.next = header.end();
        Ok(Outcome::Taken(frame_bytes))
    }

    fn block(&self, header: &Header, records: Records) -> Option<RecordBlock> {
        let block = RecordBlock { records, first: Offset(header.first), received_at: header.received_at };
        let wanted = Span::new(Offset(self.next), Offset(header.end()))?;
        if header.first == self.next { Some(block) } else { block.within(wanted) }
    }
}

const _: () = assert!(READ_AROUND_BYTES as usize > HEADER_BYTES, "a read takes at least a header");
