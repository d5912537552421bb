//! Walks over the frames of a segment file.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::SeekFrom;

use crate::frame::{self, ALIGN, HEADER_BYTES, Header, MAGIC, NoFrame, Seed};

/// What a walk finds at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame.
    Frame(u64, Header),
    /// Nothing was written from this position on, as far as a header reaches.
    End(u64),
    /// Something that is not a good frame.
    Bad(u64, &'static str),
}

/// How much of a frame a walk looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only the header; the body is jumped over.
    Headers,
    /// Header and body.
    Bodies,
}

/// A walk over the frames of one segment.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    bytes: Window<'a>,
    seed: Seed,
    depth: Depth,
    at: u64,
}

impl<'a> Walk<'a> {
    /// A walk over `file` from `at`, where a frame starts, to `until`.
    pub(crate) fn new(file: &'a File, seed: Seed, depth: Depth, at: u64, until: u64) -> Self {
        Self { bytes: Window { file, until, start: 0, held: Vec::new() }, seed, depth, at }
    }

    /// Goes to another position.
    pub(crate) fn go_to(&mut self, at: u64) {
        self.at = at;
    }

    /// Looks at the current position and moves behind the frame there, if it
    /// is good.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let at = self.at;
        let header = match self.header(at)? {
            Ok(header) => header,
            Err(NoFrame::Blank) => return Ok(Step::End(at)),
            Err(NoFrame::Short(_)) if self.is_zero(at)? => return Ok(Step::End(at)),
            Err(NoFrame::Short(_)) => return Ok(Step::Bad(at, "the file ends inside the frame")),
            Err(NoFrame::Bad(what)) => return Ok(Step::Bad(at, what)),
        };
        // The size is known to be in the file before memory is taken for it.
        if header.frame_bytes() > self.bytes.until - at {
            return Ok(Step::Bad(at, "the file ends inside the frame"));
        }
        if self.depth == Depth::Bodies {
            let frame = self.bytes.get(at, header.frame_bytes() as usize)?;
            if let Err(what) = frame::check_body(&header, frame) {
                return Ok(Step::Bad(at, what));
            }
        }
        self.at = at + header.frame_bytes();
        Ok(Step::Frame(at, header))
    }

    /// The bytes of a frame that [`Walk::step`] found, up to its body.
    pub(crate) fn lead(&mut self, at: u64, header: &Header) -> io::Result<&[u8]> {
        self.bytes.get(at, header.body_at())
    }

    fn header(&mut self, at: u64) -> io::Result<Result<Header, NoFrame>> {
        let decoded = frame::decode(self.seed, at, self.bytes.get(at, HEADER_BYTES)?);
        let Err(NoFrame::Short(bytes)) = decoded else { return Ok(decoded) };
        Ok(frame::decode(self.seed, at, self.bytes.get(at, bytes)?))
    }

    /// Whether the less than a header's bytes before the end are all zero.
    fn is_zero(&mut self, at: u64) -> io::Result<bool> {
        Ok(self.bytes.get(at, HEADER_BYTES)?.iter().all(|&b| b == 0))
    }

    /// The next position from `at` on where a frame's header is good, whatever
    /// lies between.
    pub(crate) fn find(&mut self, at: u64) -> io::Result<Option<(u64, Header)>> {
        let mut at = at.next_multiple_of(ALIGN);
        while let Some(written) = self.bytes.written(at)? {
            at = at.max(written.start & !(ALIGN - 1));
            while at < written.end {
                let chunk = self.bytes.get(at, SCAN_BYTES)?;
                let hit = chunk.chunks(ALIGN as usize).position(|word| word.starts_with(&MAGIC));
                let Some(hit) = hit else {
                    at += (chunk.len() as u64).next_multiple_of(ALIGN).max(ALIGN);
                    continue;
                };
                at += hit as u64 * ALIGN;
                if let Ok(header) = self.header(at)? {
                    return Ok(Some((at, header)));
                }
                at += ALIGN;
            }
        }
        Ok(None)
    }

    /// One past the last byte at or behind `at` that is not zero; `at` if all
    /// are.
    pub(crate) fn end_of_bytes(&mut self, at: u64) -> io::Result<u64> {
        let mut end = at;
        let mut from = at;
        while let Some(written) = self.bytes.written(from)? {
            from = from.max(written.start);
            while from < written.end {
                let chunk = self.bytes.get(from, SCAN_BYTES)?;
                if let Some(last) = chunk.iter().rposition(|&b| b != 0) {
                    end = from + last as u64 + 1;
                }
                from += chunk.len().max(1) as u64;
            }
        }
        Ok(end)
    }
}

const SCAN_BYTES: usize = 64 << 10;
const READ_AHEAD_BYTES: usize = 128 << 10;
const HEADER_READ_BYTES: usize = 4 << 10;

/// A stretch of a file that is held in memory.
#[derive(Debug)]
struct Window<'a> {
    file: &'a File,
    until: u64,
    start: u64,
    held: Vec<u8>,
}

impl Window<'_> {
    /// The bytes `[at, at + length)`, or fewer at the end of the file.
    fn get(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let length = length.min(usize::try_from(self.until.saturating_sub(at)).unwrap_or(usize::MAX));
        let held_until = self.start + self.held.len() as u64;
        if at < self.start || at + length as u64 > held_until {
            // After a jump over a large body the next one is likely large too.
            let jumped = at < self.start || at > held_until;
            let ahead = if jumped { HEADER_READ_BYTES } else { READ_AHEAD_BYTES };
            let wanted = (length.max(ahead) as u64).min(self.until.saturating_sub(at)) as usize;
            self.held.clear();
            self.start = at;
            read_at(self.file, at, wanted, &mut self.held)?;
        }
        let from = (at - self.start) as usize;
        Ok(&self.held[from.min(self.held.len())..(from + length).min(self.held.len())])
    }

    /// The next stretch from `at` on that was ever written. Preallocated room
    /// is jumped over, if the file system can tell.
    fn written(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        if at >= self.until {
            return Ok(None);
        }
        match rustix::fs::seek(self.file, SeekFrom::Data(at)) {
            Ok(start) if start >= self.until => Ok(None),
            Ok(start) => {
                let end = rustix::fs::seek(self.file, SeekFrom::Hole(start)).unwrap_or(self.until);
                Ok(Some(start..end.clamp(start + 1, self.until)))
            }
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(_) => Ok(Some(at..self.until)),
        }
    }
}

/// Reads `length` bytes at a position, or fewer at the end of the file, onto
/// the end of `out`.
pub(crate) fn read_at(file: &File, at: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let until = out.len() + length;
    let start = out.len();
    out.reserve_exact(length);
    while out.len() < until {
        let position = at + (out.len() - start) as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(out), position) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    out.truncate(until);
    Ok(())
}
