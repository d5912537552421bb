//! Where the rest of a half-read hour starts.

use lakeward_unpack::{Member, Place};

use super::members::fingerprint;

/// The layout's version.
const VERSION: u8 = 1;

/// A chunk's `resume`: a byte `1`, how many members were begun (4 bytes,
/// little-endian), their fingerprint (16), and the unpacker's own place. The
/// fingerprint says whether an archive that was fetched again starts with the
/// same members: only then does the place mean the same record.
#[derive(Debug)]
pub(super) struct Resume {
    begun: u32,
    fingerprint: u128,
    pub(super) place: Place,
}

impl Resume {
    pub(super) fn behind(begun: &[Member], place: Place) -> Self {
        let count = u32::try_from(begun.len()).expect("an archive has fewer members");
        Self { begun: count, fingerprint: fingerprint(begun), place }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.begun.to_le_bytes());
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        out.extend_from_slice(&self.place.to_bytes());
        out
    }

    /// `None` if it is something else, or of a later release.
    pub(super) fn read(stored: &[u8]) -> Option<Self> {
        let rest = stored.strip_prefix(&[VERSION])?;
        let (begun, rest) = rest.split_first_chunk()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let place = Place::from_bytes(rest)?;
        Some(Self {
            begun: u32::from_le_bytes(*begun),
            fingerprint: u128::from_le_bytes(*fingerprint),
            place,
        })
    }

    /// Whether it is a place in these members: whether those that were begun
    /// are the same.
    pub(super) fn fits(&self, members: &[Member]) -> bool {
        members.get(..self.begun as usize).is_some_and(|begun| fingerprint(begun) == self.fingerprint)
    }
}
