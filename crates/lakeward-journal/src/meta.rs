//! The `stream` file: what makes a folder a stream of this journal.
//!
//! ```text
//!  0          8         12    16            32
//!  ┌──────────┬─────────┬─────┬─────────────┐
//!  │ LWSTREAM │ version │ crc │ incarnation │     the crc covers the
//!  └──────────┴─────────┴─────┴─────────────┘     incarnation
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lakeward_model::limits::read_capped;
use uuid::Uuid;

const MAGIC: [u8; 8] = *b"LWSTREAM";
const BYTES: usize = 32;

/// The metadata file of the stream in folder `dir`.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("stream")
}

fn encode(incarnation: Uuid) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&crate::segment::VERSION.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(incarnation.as_bytes()).to_le_bytes());
    out.extend_from_slice(incarnation.as_bytes());
    out
}

/// Reads the file's bytes.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn decode(bytes: &[u8]) -> Result<Uuid, &'static str> {
    let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| "the stream's metadata has a wrong length")?;
    let u32_at = |at: usize| bytes[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
    if bytes[..8] != MAGIC {
        return Err("this is not the metadata of a stream");
    }
    if u32_at(8) != crate::segment::VERSION {
        return Err("the stream is of a version that this release cannot read");
    }
    if u32_at(12) != crc32c::crc32c(&bytes[16..]) {
        return Err("the checksum of the stream's metadata is wrong");
    }
    Uuid::from_slice(&bytes[16..]).map_err(|_| "the stream's incarnation is no uuid")
}

/// Reads the metadata of the stream in folder `dir`; the inner error says
/// what is wrong with the bytes.
pub(crate) fn read(dir: &Path) -> io::Result<Result<Uuid, &'static str>> {
    let mut bytes = Vec::with_capacity(BYTES + 1);
    match read_capped(File::open(path(dir))?, BYTES as u64, &mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
        other => other?,
    }
    Ok(decode(&bytes))
}

/// Writes the metadata of the stream in folder `dir` durably, in one step.
pub(crate) fn write(dir: &Path, incarnation: Uuid) -> io::Result<()> {
    let unfinished = dir.join("stream.tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(&encode(incarnation))?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path(dir))?;
    crate::disk::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let incarnation = lakeward_model::ids::fresh();
        let bytes = encode(incarnation);
        assert_eq!(decode(&bytes), Ok(incarnation));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
