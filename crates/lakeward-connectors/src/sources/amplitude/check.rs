//! Whether an archive that was fetched is whole: before it gets its name, and
//! before a record of it leaves.
//!
//! The central directory says which members there are, their checksums whether
//! they came as they were sent. A damaged file would otherwise give damaged
//! records before its end shows it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use lakeward_unpack::{Archive, Limits, UnpackError};
use zip::ZipArchive;

use super::failures::{self, Miss, Stage};
use super::hours::Window;
use super::members;

/// The most members of an archive: ten times what a day of a very large project
/// has.
const MEMBERS_MAX: usize = 100_000;
/// What a member may grow by without being a bomb, beyond the first 64 MiB.
const RATIO_MAX: u64 = 1_000;
const SMALL: u64 = 64 << 20;

/// What archives may be.
pub(super) fn limits() -> Limits {
    Limits { members_max: MEMBERS_MAX, ..Limits::default() }
}

/// Reads all of an archive once. Blocking.
pub(super) fn check(path: &Path, window: Window) -> Result<(), Miss> {
    let disk = |error: &io::Error| Miss::Failed(failures::spool(Stage::Read, error));
    let open = || File::open(path).map_err(|error| disk(&error));
    let archive = Archive::open(open()?, &limits()).map_err(|error| match error {
        UnpackError::Io(error) => disk(&error),
        UnpackError::Limit { limit, problem, .. } => Miss::TooLarge(format!(
            "the archive of {window} is beyond the limit {limit}: {problem}. Use Amplitude's S3 export and an \
             `objects` source for it"
        )),
        other => failures::corrupt(window, &other.to_string()),
    })?;
    if window.hours > 1
        && let Some(stranger) = members::stranger(window, archive.members())
    {
        return Err(failures::strange(window, stranger));
    }
    drop(archive);
    let mut zip = ZipArchive::new(BufReader::with_capacity(1 << 18, open()?))
        .map_err(|error| failures::corrupt(window, &error.to_string()))?;
    for index in 0..zip.len() {
        let member = zip.by_index(index).map_err(|error| failures::corrupt(window, &error.to_string()))?;
        let name = member.name().map(|name| name.into_owned()).unwrap_or_default();
        let most = SMALL.max(member.compressed_size().saturating_mul(RATIO_MAX));
        let read = io::copy(&mut member.take(most), &mut io::sink());
        read.map_err(|error| match error.raw_os_error() {
            Some(_) => disk(&error),
            None => failures::corrupt(window, &format!("{name}: {error}")),
        })?;
    }
    Ok(())
}
