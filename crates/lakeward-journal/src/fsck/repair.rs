//! Repairs what can be repaired, and gives up what cannot, if told so.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakeward_model::{Origin, Records, Timestamp};
use uuid::Uuid;

use super::examine::{Examined, Piece};
use super::{Carried, FsckError, Report, SegmentReport, Stream, StreamReport, folders};
use crate::disk::sync_dir;
use crate::frame::{self, Frame, Header, Kind, LOST_RECORDS_MAX, Seed};
use crate::{meta, saved_keys, scan, segment};

/// Repairs the journal in `dir`; no process may have it open. Cuts torn ends
/// and writes a stream's metadata anew if its segments tell it.
///
/// With `give_up_damaged` it also writes damaged segments anew from their good
/// frames. Lost records keep their offsets and read as empty from then on, so
/// that pipelines go on and count them; the damaged file is kept in the
/// folder `damaged` of its stream. Without it, damage stays as it is.
///
/// Answers what was found, with what was repaired of it.
///
/// # Errors
/// See [`FsckError`]; what was repaired before stays repaired.
pub fn repair(dir: &Path, give_up_damaged: bool) -> Result<Report, FsckError> {
    let mut streams = Vec::new();
    for folder in folders(dir)? {
        streams.push(Stream::look(&folder)?.repair(give_up_damaged)?);
    }
    Ok(Report { streams })
}

impl Stream {
    fn repair(&self, give_up_damaged: bool) -> Result<StreamReport, FsckError> {
        let mut report = self.report();
        let Some(incarnation) = self.incarnation else { return Ok(report) };
        for file in &mut report.segments {
            file.repaired = self.repair_other(&file.file, incarnation, give_up_damaged)?;
        }
        let mut carried = Carried { received_at: Timestamp(i64::MIN), cursor: None };
        for (first, next) in self.segments() {
            let segment = Examined::open(&self.dir, incarnation, first, next)?;
            let before = carried.clone();
            let mut end = 0;
            let mut found = segment.run(&mut carried, &mut |piece| {
                if let Piece::End(at) = piece {
                    end = at;
                }
                Ok(())
            })?;
            if found.damage.is_empty() {
                self.cut_torn(&segment, &mut found, end)?;
            } else if give_up_damaged && next.is_none_or(|next| next >= found.end) {
                self.rewrite(&segment, incarnation, first, before)?;
                found.repaired = true;
            }
            report.segments.push(found);
        }
        Ok(report)
    }

    /// Repairs the metadata or the saved request keys.
    fn repair_other(&self, file: &str, incarnation: Uuid, give_up: bool) -> Result<bool, FsckError> {
        if file == "stream" {
            meta::write(&self.dir, incarnation).map_err(FsckError::at(&meta::path(&self.dir)))?;
            return Ok(true);
        }
        if give_up {
            let path = saved_keys::path(&self.dir);
            let aside = || {
                keep(&self.dir, &path)?;
                std::fs::remove_file(&path)?;
                sync_dir(&self.dir)
            };
            aside().map_err(FsckError::at(&path))?;
        }
        Ok(give_up)
    }

    fn cut_torn(&self, segment: &Examined, found: &mut SegmentReport, end: u64) -> Result<(), FsckError> {
        if found.torn_bytes == 0 {
            return Ok(());
        }
        let cut = || {
            let file = OpenOptions::new().write(true).open(&segment.path)?;
            file.set_len(end)?;
            file.sync_all()
        };
        cut().map_err(FsckError::at(&segment.path))?;
        found.repaired = true;
        Ok(())
    }

    /// Puts a new segment of the good frames in the place of a damaged one.
    fn rewrite(
        &self,
        old: &Examined,
        incarnation: Uuid,
        first: u64,
        mut carried: Carried,
    ) -> Result<(), FsckError> {
        let unfinished = segment::path(&self.dir, first).with_extension("tmp");
        let mut write = || -> io::Result<()> {
            let file = File::create(&unfinished)?;
            let seed = Seed::new(incarnation, first);
            let mut new = Rewriting { old, file, seed, at: 0, received_at: carried.received_at };
            old.run(&mut carried, &mut |piece| new.write(piece)).map_err(|error| error.source)?;
            new.file.sync_all()?;
            keep(&self.dir, &old.path)?;
            std::fs::rename(&unfinished, &old.path)?;
            sync_dir(&self.dir)
        };
        write().map_err(FsckError::at(&old.path))
    }
}

/// Keeps a damaged file under a second name in the folder `damaged`.
fn keep(dir: &Path, file: &Path) -> io::Result<()> {
    let kept = dir.join("damaged");
    std::fs::create_dir_all(&kept)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    for number in 1.. {
        let target: PathBuf = kept.join(format!("{name}.{number}"));
        match std::fs::hard_link(file, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => {
                other?;
                break;
            }
        }
    }
    sync_dir(&kept)
}

/// A segment that is written anew.
struct Rewriting<'a> {
    old: &'a Examined,
    file: File,
    seed: Seed,
    at: u64,
    received_at: Timestamp,
}

impl Rewriting<'_> {
    fn write(&mut self, piece: Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Start(header) => {
                self.received_at = header.received_at;
                self.put(&header.encode())
            }
            Piece::Frame(at, header) => self.copy(at, header),
            Piece::Lost(from, to) => {
                let mut first = from;
                while first < to {
                    let count = u32::try_from(to - first).unwrap_or(u32::MAX).min(LOST_RECORDS_MAX);
                    self.frame(Kind::Lost, first, count, &Origin::Push(None), &Records::default())?;
                    first += u64::from(count);
                }
                Ok(())
            }
            Piece::End(_) => Ok(()),
        }
    }

    fn copy(&mut self, at: u64, header: &Header) -> io::Result<()> {
        let mut bytes = Vec::new();
        scan::read_at(&self.old.file, at, header.frame_bytes() as usize, &mut bytes)?;
        let bytes = Bytes::from(bytes);
        let origin = header.origin(&bytes);
        self.received_at = header.received_at;
        let records = match header.kind {
            Kind::Records | Kind::Keyed => frame::records(header, &bytes).map_err(io::Error::other)?,
            Kind::Lost | Kind::Marker => Records::default(),
        };
        self.frame(header.kind, header.first, header.count, &origin, &records)
    }

    fn frame(
        &mut self,
        kind: Kind,
        first: u64,
        count: u32,
        origin: &Origin,
        records: &Records,
    ) -> io::Result<()> {
        let frame = Frame {
            kind,
            first,
            received_at: self.received_at,
            // All of the file is made durable before it gets its name.
            synced: self.at,
            origin,
            count,
            ends: &records.ends,
            data: &records.data,
            keys: records.keys.as_ref(),
        };
        let mut lead = Vec::new();
        let padding = frame::encode(self.seed, self.at, &frame, &mut lead);
        self.put(&lead)?;
        self.put(&records.data)?;
        self.put(records.keys.as_ref().map_or(&[], |keys| &keys.data))?;
        self.put(&[0; frame::ALIGN as usize][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}
