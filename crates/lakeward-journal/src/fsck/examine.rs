//! Looks at a segment beyond its first bad frame.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use lakeward_model::Origin;
use uuid::Uuid;

use super::{Carried, Damage, FsckError, SegmentReport};
use crate::frame::{Header, Kind, Seed};
use crate::recover;
use crate::scan::{Depth, Step, Walk};
use crate::segment::{self, SegmentHeader};

/// What a segment is made of, in order of the records.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// The start: what the segment's header says, or should say.
    Start(&'a SegmentHeader),
    /// A good frame with records, here in the file.
    Frame(u64, &'a Header),
    /// Records that cannot be read any more, `[from, to)`.
    Lost(u64, u64),
    /// The end; the file is good up to this byte, if all was good.
    End(u64),
}

/// A segment that is being looked at.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) seed: Seed,
    incarnation: Uuid,
    first: u64,
    /// The first offset of the segment behind it.
    next: Option<u64>,
    length: u64,
}

/// The walk over a segment so far.
struct Progress {
    report: SegmentReport,
    /// The next offset, if all is well.
    expected: u64,
    /// A bad place behind which no good frame was seen yet.
    bad: Option<(u64, &'static str)>,
}

type Visit<'a> = &'a mut dyn FnMut(Piece<'_>) -> io::Result<()>;

impl Examined {
    pub(super) fn open(
        dir: &Path,
        incarnation: Uuid,
        first: u64,
        next: Option<u64>,
    ) -> Result<Self, FsckError> {
        let path = segment::path(dir, first);
        let open = || {
            let file = File::open(&path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = open().map_err(FsckError::at(&path))?;
        Ok(Self { file, path, seed: Seed::new(incarnation, first), incarnation, first, next, length })
    }

    /// Walks over all pieces and reports what was seen.
    pub(super) fn run(&self, carried: &mut Carried, visit: Visit<'_>) -> Result<SegmentReport, FsckError> {
        self.walk(carried, visit).map_err(FsckError::at(&self.path))
    }

    fn walk(&self, carried: &mut Carried, visit: Visit<'_>) -> io::Result<SegmentReport> {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut seen =
            Progress { report: SegmentReport::new(file, self.first), expected: self.first, bad: None };
        let mut walk = Walk::new(&self.file, self.seed, Depth::Bodies, 0, self.length);
        self.start(&mut walk, carried, &mut seen, visit)?;
        let end = loop {
            match walk.step()? {
                Step::Frame(at, header) if header.first < seen.expected => {
                    seen.bad(at, "the frame does not follow the one before it");
                }
                Step::Frame(at, header) => {
                    if header.first > seen.expected {
                        seen.lost(at, header.first, visit)?;
                    }
                    seen.settle();
                    let lead = walk.lead(at, &header)?;
                    seen.take(at, &header, lead, carried, visit)?;
                }
                Step::Bad(at, why) => match self.beyond(&mut walk, at, &mut seen, why)? {
                    Some(next) => walk.go_to(next),
                    None => break at,
                },
                Step::End(at) => match self.stray(&mut walk, at, &mut seen)? {
                    Some(next) => walk.go_to(next),
                    None => break at,
                },
            }
        };
        if let Some(next) = self.next.filter(|next| *next > seen.expected) {
            seen.lost(end, next, visit)?;
        } else if self.next.is_some_and(|next| next < seen.expected) {
            seen.bad(end, "the segment overlaps the next one");
        }
        seen.settle();
        visit(Piece::End(end))?;
        seen.report.end = seen.expected;
        Ok(seen.report)
    }

    /// The header, or what can be said in place of a bad one.
    fn start(
        &self,
        walk: &mut Walk<'_>,
        carried: &mut Carried,
        seen: &mut Progress,
        visit: Visit<'_>,
    ) -> io::Result<()> {
        match recover::read_header(&self.file, self.incarnation, self.first)? {
            Ok((header, frames_at)) => {
                visit(Piece::Start(&header))?;
                (carried.received_at, carried.cursor) = (header.received_at, header.cursor);
                walk.go_to(frames_at);
            }
            Err(what) => {
                let header = SegmentHeader {
                    incarnation: self.incarnation,
                    first: self.first,
                    received_at: carried.received_at,
                    cursor: carried.cursor.clone(),
                };
                visit(Piece::Start(&header))?;
                seen.report.damage.push(Damage { position: 0, what, lost: None });
                let first = walk.find(0)?;
                walk.go_to(first.map_or(self.length, |(at, _)| at));
            }
        }
        Ok(())
    }

    /// Where to go on behind a bad frame; `None` at the end or a torn tail.
    fn beyond(
        &self,
        walk: &mut Walk<'_>,
        at: u64,
        seen: &mut Progress,
        why: &'static str,
    ) -> io::Result<Option<u64>> {
        if self.next.is_none()
            && let Ok(torn) = recover::torn_bytes(walk, at)?
        {
            seen.report.torn_bytes = torn;
            return Ok(None);
        }
        seen.bad(at, why);
        Ok(walk.find(at + 1)?.map(|(next, _)| next))
    }

    /// Where to go on behind zeros; `None` if nothing comes.
    fn stray(&self, walk: &mut Walk<'_>, at: u64, seen: &mut Progress) -> io::Result<Option<u64>> {
        if self.next.is_none() || walk.find(at)?.is_some() {
            return self.beyond(walk, at, seen, "zeros lie where a frame was acknowledged");
        }
        Ok(None)
    }
}

impl Progress {
    fn bad(&mut self, at: u64, what: &'static str) {
        self.bad.get_or_insert((at, what));
    }

    /// The bad place cost no records: it was a marker.
    fn settle(&mut self) {
        if let Some((position, what)) = self.bad.take() {
            self.report.damage.push(Damage { position, what, lost: None });
        }
    }

    /// The records up to `to` are missing.
    fn lost(&mut self, at: u64, to: u64, visit: Visit<'_>) -> io::Result<()> {
        let (position, what) = self.bad.take().unwrap_or((at, "frames are missing before here"));
        self.report.damage.push(Damage { position, what, lost: Some((self.expected, to)) });
        visit(Piece::Lost(self.expected, to))?;
        self.expected = to;
        Ok(())
    }

    fn take(
        &mut self,
        at: u64,
        header: &Header,
        lead: &[u8],
        carried: &mut Carried,
        visit: Visit<'_>,
    ) -> io::Result<()> {
        match header.kind {
            Kind::Marker => return Ok(()),
            Kind::Lost => self.report.given_up += u64::from(header.count),
            Kind::Records | Kind::Keyed => {
                self.report.frames += 1;
                self.report.records += u64::from(header.count);
                self.report.bytes += u64::from(header.data_length);
            }
        }
        if let Origin::Pull(cursor) = header.origin(lead) {
            carried.cursor = Some(cursor);
        }
        carried.received_at = header.received_at;
        self.expected = header.end();
        visit(Piece::Frame(at, header))
    }
}
