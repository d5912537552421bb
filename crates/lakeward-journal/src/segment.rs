//! A segment file: its name, its header and how it comes to be.
//!
//! ```text
//!  0          8         12    16            32             40
//!  ┌──────────┬─────────┬─────┬─────────────┬──────────────┬─────────────┐
//!  │ LWSEGMNT │ version │ crc │ incarnation │ first offset │ received at │
//!  ├──────────┴─────────┼─────┴─────────────┼──────────────┴─────────────┤
//!  │ 48 has cursor 0/1  │ 52 cursor length  │ 56 cursor, zeros up to 8   │
//!  └────────────────────┴───────────────────┴────────────────────────────┘
//! ```
//!
//! The crc covers everything behind it. `received at` and the cursor are
//! those of the stream when the segment was made, so that they outlive the
//! segments that are trimmed. A segment is made under another name and
//! renamed once it is durable: a `.seg` file always has its header.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakeward_model::{Cursor, Timestamp};
use uuid::Uuid;

use crate::disk::{self, Disk};
use crate::frame::{ALIGN, ORIGIN_BYTES_MAX};

const MAGIC: [u8; 8] = *b"LWSEGMNT";
/// The version of segments and frames that this release writes and reads.
pub(crate) const VERSION: u32 = 1;
const FIXED_BYTES: usize = 56;
/// No header is longer.
pub(crate) const HEADER_BYTES_MAX: usize = (FIXED_BYTES + ORIGIN_BYTES_MAX).next_multiple_of(ALIGN as usize);

/// What a segment starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) incarnation: Uuid,
    /// The offset of the first record in it.
    pub(crate) first: u64,
    /// When the record before it was received.
    pub(crate) received_at: Timestamp,
    /// The stream's last cursor before it.
    pub(crate) cursor: Option<Cursor>,
}

impl SegmentHeader {
    /// The header as stored; the first frame follows directly.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let cursor: &[u8] = self.cursor.as_ref().map_or(&[], |cursor| &cursor.0);
        let mut out = Vec::with_capacity(FIXED_BYTES + cursor.len() + ALIGN as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.incarnation.as_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.received_at.0.to_le_bytes());
        out.extend_from_slice(&u32::from(self.cursor.is_some()).to_le_bytes());
        let length = u32::try_from(cursor.len()).expect("the length of a cursor was checked");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(cursor);
        out.resize(out.len().next_multiple_of(ALIGN as usize), 0);
        let crc = crc32c::crc32c(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `bytes` is the start of the file. Answers also where
    /// the first frame starts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u64), &'static str> {
        let fixed = bytes.get(..FIXED_BYTES).ok_or("the segment's header is cut short")?;
        let u32_at = |at: usize| fixed[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
        let u64_at = |at: usize| fixed[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        if fixed[..8] != MAGIC {
            return Err("this is not a segment of a journal");
        }
        let version = u32_at(8);
        if version != VERSION {
            return Err("the segment is of a version that this release cannot read");
        }
        let length = u32_at(52) as usize;
        if length > ORIGIN_BYTES_MAX {
            return Err("the segment's header has an impossible length");
        }
        let end = (FIXED_BYTES + length).next_multiple_of(ALIGN as usize);
        let covered = bytes.get(16..end).ok_or("the segment's header is cut short")?;
        if u32_at(12) != crc32c::crc32c(covered) {
            return Err("the checksum of the segment's header is wrong");
        }
        let cursor = Bytes::copy_from_slice(&bytes[FIXED_BYTES..FIXED_BYTES + length]);
        let header = Self {
            incarnation: Uuid::from_slice(&fixed[16..32]).unwrap_or_default(),
            first: u64_at(32),
            received_at: Timestamp(u64_at(40).cast_signed()),
            cursor: (u32_at(48) == 1).then_some(Cursor(cursor)),
        };
        Ok((header, end as u64))
    }
}

/// The file of the segment that starts with record `first`.
pub(crate) fn path(stream: &Path, first: u64) -> PathBuf {
    stream.join(format!("{first:020}.seg"))
}

/// The first offset in a segment's file name, if it is one.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct NewSegment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Where its first frame goes.
    pub(crate) frames_at: u64,
}

/// Makes a durable segment of `bytes` (with its header) in the stream's
/// folder.
///
/// # Errors
/// Those of the file system, before the segment got its name; the unfinished
/// file is gone. A failure to make the name durable ends the process.
pub(crate) fn create(
    disk: &dyn Disk,
    stream: &Path,
    header: &SegmentHeader,
    bytes: u64,
) -> io::Result<NewSegment> {
    let path = path(stream, header.first);
    let unfinished = path.with_extension("tmp");
    let encoded = header.encode();
    let make = || -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
        disk.allocate(&file, bytes)?;
        disk::write_all_at(disk, &file, &mut [IoSlice::new(&encoded)], 0)?;
        disk.sync(&file)?;
        Ok(file)
    };
    let made = make().and_then(|file| std::fs::rename(&unfinished, &path).map(|()| file));
    match made {
        Ok(file) => {
            disk::sync_dir(stream).unwrap_or_else(|error| disk::fatal("fsync", stream, &error));
            Ok(NewSegment { file, path, frames_at: encoded.len() as u64 })
        }
        Err(error) => {
            let _ = std::fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        for cursor in [None, Some(""), Some("c"), Some("a longer cursor of a source")] {
            let header = SegmentHeader {
                incarnation: lakeward_model::ids::fresh(),
                first: 77,
                received_at: Timestamp(-5),
                cursor: cursor.map(|c| Cursor(Bytes::from_static(c.as_bytes()))),
            };
            let bytes = header.encode();
            assert_eq!(SegmentHeader::decode(&bytes), Ok((header, bytes.len() as u64)));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert!(SegmentHeader::decode(&bad).is_err(), "byte {at}");
                assert!(SegmentHeader::decode(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn names() {
        let check = |name: &str, expect| assert_eq!(first_of(name), expect, "{name}");
        check("00000000000000000042.seg", Some(42));
        check("18446744073709551615.seg", Some(u64::MAX));
        check("18446744073709551616.seg", None);
        check("42.seg", None);
        check("0000000000000000004x.seg", None);
        check("00000000000000000042.tmp", None);
        assert_eq!(path(Path::new("s"), 7), Path::new("s/00000000000000000007.seg"));
    }
}
