//! Zip archives, by their central directory (PKWARE's APPNOTE 6.3.10). Own code:
//! the libraries keep one of several members of the same name, and search so
//! long for a directory that they may find another zip's.

mod directory;
mod member;

use std::fs::File;

use crate::bulk::Bulk;
use crate::error::Fault;
use crate::meter::Meter;
use crate::{Limits, UnpackError};

/// A member of a zip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its place in the central directory, from 0; folders count too.
    pub index: usize,
    /// Its name as it is, whatever is in it; names need not differ.
    pub name: String,
    /// The CRC-32 of its unpacked bytes.
    pub crc32: u32,
    /// Its bytes in the archive.
    pub packed: u64,
    /// Its unpacked bytes.
    pub unpacked: u64,
}

/// How a member is stored.
#[derive(Debug, Clone, Copy)]
struct Storage {
    /// Where its local header lies.
    header: u64,
    method: u16,
    encrypted: bool,
    /// The length of its name in bytes.
    name: u16,
}

/// A zip whose central directory is whole.
#[derive(Debug)]
pub struct Archive {
    bulk: Bulk,
    members: Vec<Member>,
    storage: Vec<Storage>,
    /// Where the central directory starts: all members lie before it.
    directory: u64,
}

impl Archive {
    /// Reads its central directory and checks that it is whole: what is cut
    /// off at its end has none.
    ///
    /// # Errors
    /// See [`UnpackError`]; more members than [`Limits::members_max`], or a
    /// directory of more than 256 MiB, are a limit.
    pub fn open(file: File, limits: &Limits) -> Result<Self, UnpackError> {
        let meter = Meter::new(limits);
        let opened = Bulk::file(file, &meter).map_err(Fault::from).and_then(|bulk| Self::of(bulk, limits));
        opened.map_err(|fault| fault.found(&meter, None, "the zip's directory".into()))
    }

    /// Its members without folders, in the order of the central directory.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The position in [`Archive::members`] of the member with this index.
    pub(crate) fn position(&self, index: usize) -> Option<usize> {
        self.members.binary_search_by_key(&index, |member| member.index).ok()
    }
}
