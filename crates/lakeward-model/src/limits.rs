//! Reading with a limit: the only way bytes from outside come in.

use std::io::{self, Read};

/// More bytes came than were allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} bytes")]
pub struct OverLimit {
    /// The limit, in bytes.
    pub limit: u64,
}

/// Reads `reader` to its end into `out`, at most `limit` bytes.
///
/// # Errors
/// The reader's own, or `InvalidData` with [`OverLimit`] inside once one byte
/// more than `limit` has come; `out` then holds no more than `limit + 1`.
#[allow(clippy::disallowed_methods, reason = "capped by take")]
pub fn read_capped(reader: impl Read, limit: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let before = out.len();
    reader.take(limit.saturating_add(1)).read_to_end(out)?;
    if (out.len() - before) as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, OverLimit { limit }));
    }
    Ok(())
}
