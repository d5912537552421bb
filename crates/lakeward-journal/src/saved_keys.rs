//! The `keys` file: request keys whose frames were trimmed within their
//! window, so that they are known after a restart too.
//!
//! ```text
//!  0         8         12    16            32
//!  ┌─────────┬─────────┬─────┬─────────────┬──────────────────────────────┐
//!  │ LWKEYS  │ version │ crc │ incarnation │ entries to the end of file   │
//!  └─────────┴─────────┴─────┴─────────────┴──────────────────────────────┘
//!  entry:
//!  ┌─────────┬───────────────┬─────────┬──────────────┬──────┐
//!  │ 0 first │ 8 received at │ 16 count│ 20 length, 2 │ key  │
//!  └─────────┴───────────────┴─────────┴──────────────┴──────┘
//! ```
//!
//! The crc covers everything behind it. Rewritten before segments are
//! removed, and then holds every remembered key of records before the new
//! start of the stream.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use lakeward_model::limits::read_capped;
use lakeward_model::{Offset, RequestKey, Timestamp};
use uuid::Uuid;

use crate::disk;
use crate::error::OpenError;
use crate::keys::{Answer, RequestKeys};
use crate::segment::VERSION;
use crate::writer::Shared;

const MAGIC: [u8; 8] = *b"LWKEYS\0\0";
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 22;
/// Far above what the default number of keys takes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The saved keys of the stream in folder `dir`.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("keys")
}

/// Writes the remembered keys of records below `start`, durably and in one
/// step.
pub(crate) fn write(shared: &Shared, start: u64) -> io::Result<()> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(shared.incarnation.as_bytes());
    // A request without records lies between two: at the end of what goes it
    // goes too, though its offset is that of the new start.
    let goes = |answer: &Answer| answer.first.0 + u64::from(answer.count) <= start;
    for (key, answer) in shared.state().keys.iter().take_while(|(_, answer)| goes(answer)) {
        out.extend_from_slice(&answer.first.0.to_le_bytes());
        out.extend_from_slice(&answer.received_at.0.to_le_bytes());
        out.extend_from_slice(&answer.count.to_le_bytes());
        // A key has at most 256 bytes.
        out.extend_from_slice(&(key.as_bytes().len() as u16).to_le_bytes());
        out.extend_from_slice(key.as_bytes());
    }
    let path = path(&shared.dir);
    if out.len() == HEADER_BYTES && !path.try_exists()? {
        return Ok(());
    }
    let crc = crc32c::crc32c(&out[16..]);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    let unfinished = shared.dir.join("keys.tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(&out)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, &path)?;
    disk::sync_dir(&shared.dir)
}

/// The bytes of the file `path`.
pub(crate) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_capped(File::open(path)?, FILE_BYTES_MAX, &mut bytes)?;
    Ok(bytes)
}

/// Remembers the keys that were saved in the stream's folder.
pub(crate) fn read(dir: &Path, incarnation: Uuid, keys: &mut RequestKeys) -> Result<(), OpenError> {
    let path = path(dir);
    let bytes = match bytes(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(OpenError::io(&path))?,
    };
    decode(Bytes::from(bytes), incarnation, keys).map_err(|what| OpenError::Damaged {
        path,
        position: 0,
        what,
    })
}

/// Remembers the keys in the file's bytes.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn decode(
    mut bytes: Bytes,
    incarnation: Uuid,
    keys: &mut RequestKeys,
) -> Result<(), &'static str> {
    if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
        return Err("these are not the saved request keys of a stream");
    }
    let crc = crc32c::crc32c(&bytes[16..]);
    bytes.advance(8);
    if bytes.get_u32_le() != VERSION {
        return Err("the saved request keys are of a version that this release cannot read");
    }
    if bytes.get_u32_le() != crc {
        return Err("the checksum of the saved request keys is wrong");
    }
    if bytes.split_to(16) != incarnation.as_bytes()[..] {
        return Err("the saved request keys belong to another incarnation of the stream");
    }
    while bytes.has_remaining() {
        if bytes.remaining() < ENTRY_BYTES {
            return Err("the saved request keys are cut short");
        }
        let (first, received_at) = (Offset(bytes.get_u64_le()), Timestamp(bytes.get_i64_le()));
        let (count, length) = (bytes.get_u32_le(), usize::from(bytes.get_u16_le()));
        if bytes.remaining() < length {
            return Err("the saved request keys are cut short");
        }
        let key =
            RequestKey::new(bytes.split_to(length)).ok_or("a saved request key has an impossible length")?;
        keys.remember(&key, Answer { first, count, received_at });
    }
    Ok(())
}
