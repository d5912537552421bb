//! Looks at a journal that is not open: what it holds, what is wrong with it,
//! and how to go on.

mod examine;
mod repair;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakeward_model::{Cursor, StreamName, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::keys::RequestKeys;
use crate::segment::{HEADER_BYTES_MAX, SegmentHeader};
use crate::{meta, recover, saved_keys, scan, segment};

pub use repair::repair;

/// What a journal holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its streams, in order of their names.
    pub streams: Vec<StreamReport>,
}

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// Its name.
    pub stream: String,
    /// Its incarnation, if any file still tells.
    pub incarnation: Option<Uuid>,
    /// Its segments, oldest first, and before them its other files if they are
    /// damaged.
    pub segments: Vec<SegmentReport>,
}

/// What a segment, or another file of a stream, holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// The file's name in the stream's folder.
    pub file: String,
    /// Its first record.
    pub first: u64,
    /// One past its last record.
    pub end: u64,
    /// Good frames with records.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Records that an earlier repair gave up; they read as empty.
    pub given_up: u64,
    /// Bytes of the records.
    pub bytes: u64,
    /// Bytes of an append that was not finished, and never acknowledged.
    pub torn_bytes: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Whether what is said here was repaired.
    pub repaired: bool,
}

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The byte offset in the file.
    pub position: u64,
    /// What is wrong there.
    pub what: &'static str,
    /// The records that are lost by it, `[from, to)`.
    pub lost: Option<(u64, u64)>,
}

impl Report {
    /// Whether nothing is damaged, or all of it was repaired. A torn end is no
    /// damage.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut segments = self.streams.iter().flat_map(|stream| &stream.segments);
        segments.all(|segment| segment.damage.is_empty() || segment.repaired)
    }
}

impl SegmentReport {
    fn new(file: String, first: u64) -> Self {
        Self {
            file,
            first,
            end: first,
            frames: 0,
            records: 0,
            given_up: 0,
            bytes: 0,
            torn_bytes: 0,
            damage: Vec::new(),
            repaired: false,
        }
    }

    /// What was found, in one line for a person.
    #[must_use]
    pub fn finding(&self) -> String {
        let mut parts: Vec<String> = self.damage.iter().map(Damage::text).collect();
        if self.torn_bytes > 0 {
            parts.push("an unfinished append, never acknowledged".into());
        }
        if self.given_up > 0 {
            parts.push(format!("{} records given up by an earlier repair", self.given_up));
        }
        if parts.is_empty() {
            return "sound".into();
        }
        parts.join("; ") + if self.repaired { " (repaired)" } else { "" }
    }
}

impl Damage {
    fn text(&self) -> String {
        let lost =
            self.lost.map_or_else(String::new, |(from, to)| format!(", records [{from}, {to}) are lost"));
        format!("damaged at byte {}: {}{lost}", self.position, self.what)
    }
}

/// A file could not be looked at or repaired; the operator sees to the disk.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FsckError {
    /// Which file or folder.
    pub path: PathBuf,
    /// What the file system said.
    pub source: io::Error,
}

impl FsckError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { path, source }
    }
}

/// Looks at every byte of every segment of the journal in `dir` and changes
/// nothing. No process may have the journal open.
///
/// # Errors
/// See [`FsckError`].
pub fn check(dir: &Path) -> Result<Report, FsckError> {
    let mut streams = Vec::new();
    for folder in folders(dir)? {
        streams.push(Stream::look(&folder)?.check()?);
    }
    Ok(Report { streams })
}

/// The folders of streams, in order of their names.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, FsckError> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(FsckError::at(dir))? {
        let path = entry.map_err(FsckError::at(dir))?.path();
        let named =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| StreamName::new(name).is_ok());
        if named && path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort_unstable();
    Ok(folders)
}

/// A stream's folder and what is known before its segments are looked at.
struct Stream {
    dir: PathBuf,
    incarnation: Option<Uuid>,
    metadata: Result<Uuid, &'static str>,
    keys: Result<(), &'static str>,
    firsts: Vec<u64>,
}

/// What goes on from one segment to the next.
#[derive(Debug, Clone)]
struct Carried {
    received_at: Timestamp,
    cursor: Option<Cursor>,
}

impl Stream {
    fn look(dir: &Path) -> Result<Self, FsckError> {
        let metadata = match meta::read(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err("the stream's metadata is missing"),
            other => other.map_err(FsckError::at(&meta::path(dir)))?,
        };
        let firsts = recover::segments(dir).map_err(FsckError::at(dir))?;
        let incarnation = match metadata {
            Ok(incarnation) => Some(incarnation),
            Err(_) => incarnation_of(dir, &firsts)?,
        };
        let keys = match incarnation {
            Some(incarnation) => saved_keys_of(dir, incarnation)?,
            None => Ok(()),
        };
        Ok(Self { dir: dir.to_path_buf(), incarnation, metadata, keys, firsts })
    }

    fn report(&self) -> StreamReport {
        let stream = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut segments = Vec::new();
        for (file, state) in [("stream", self.metadata.map(drop)), ("keys", self.keys)] {
            if let Err(what) = state {
                let mut report = SegmentReport::new(file.into(), 0);
                report.damage.push(Damage { position: 0, what, lost: None });
                segments.push(report);
            }
        }
        StreamReport { stream, incarnation: self.incarnation, segments }
    }

    fn check(&self) -> Result<StreamReport, FsckError> {
        let mut report = self.report();
        let Some(incarnation) = self.incarnation else { return Ok(report) };
        let mut carried = Carried { received_at: Timestamp(i64::MIN), cursor: None };
        for (first, next) in self.segments() {
            let examined = examine::Examined::open(&self.dir, incarnation, first, next)?;
            report.segments.push(examined.run(&mut carried, &mut |_| Ok(()))?);
        }
        Ok(report)
    }

    /// The segments' first offsets, each with that of the next one.
    fn segments(&self) -> impl Iterator<Item = (u64, Option<u64>)> {
        let nexts = self.firsts.iter().skip(1).copied().map(Some).chain([None]);
        self.firsts.iter().copied().zip(nexts)
    }
}

/// The incarnation that a stream's segments name, if one has a good header.
fn incarnation_of(dir: &Path, firsts: &[u64]) -> Result<Option<Uuid>, FsckError> {
    for &first in firsts {
        let path = segment::path(dir, first);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| scan::read_at(&file, 0, HEADER_BYTES_MAX, &mut bytes));
        read.map_err(FsckError::at(&path))?;
        if let Ok((header, _)) = SegmentHeader::decode(&bytes) {
            return Ok(Some(header.incarnation));
        }
    }
    Ok(None)
}

/// Whether the stream's saved request keys, if any, are good.
fn saved_keys_of(dir: &Path, incarnation: Uuid) -> Result<Result<(), &'static str>, FsckError> {
    let path = saved_keys::path(dir);
    let bytes = match saved_keys::bytes(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        other => other.map_err(FsckError::at(&path))?,
    };
    let mut keys = RequestKeys::new(std::time::Duration::MAX, 0);
    Ok(saved_keys::decode(Bytes::from(bytes), incarnation, &mut keys))
}
