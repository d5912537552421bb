//! Compressed bodies: unpacked in steps, each paid for, up to a limit.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use lakeward_model::limits::read_capped;

use crate::body::{BodyError, Reservation};

/// Unpacked bytes of the first step; each further one doubles what there is,
/// up to `STEP_MAX`. The budget grows before each step.
const STEP_MIN: usize = 32 << 10;
const STEP_MAX: usize = 4 << 20;
/// Bodies longer than this are unpacked off the I/O threads.
const INLINE_BYTES: usize = 64 << 10;
/// Largest zstd window (64 MiB), so that a header alone cannot take memory.
const ZSTD_WINDOW_LOG: u32 = 26;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 1950, or RFC 1951 bare as some clients send it.
    Deflate,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// Reads a `Content-Encoding` value; `None` if we don't know it.
    pub(crate) fn parse(value: Option<&[u8]>) -> Option<Self> {
        let value = value.unwrap_or(b"").trim_ascii();
        let is = |name: &[u8]| value.eq_ignore_ascii_case(name);
        if value.is_empty() || is(b"identity") {
            Some(Self::Identity)
        } else if is(b"gzip") || is(b"x-gzip") {
            Some(Self::Gzip)
        } else if is(b"deflate") {
            Some(Self::Deflate)
        } else if is(b"zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// Why a body could not be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    /// It is too long when unpacked, or there is no memory for it now.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The bytes are not what the header says.
    #[error("the body is not valid {0}")]
    Malformed(&'static str),
}

/// Unpacks `body` to at most `limit` bytes.
///
/// # Errors
/// Nothing of the body may be used. See [`InflateError`].
pub(crate) async fn inflate(
    encoding: Encoding,
    body: Bytes,
    limit: u64,
    mut reservation: Reservation,
) -> Result<(Bytes, Reservation), InflateError> {
    if encoding == Encoding::Identity {
        return Ok((body, reservation));
    }
    if body.len() <= INLINE_BYTES {
        let bytes = unpack(encoding, &body, limit, &mut reservation)?;
        return Ok((bytes, reservation));
    }
    let job = move || {
        let bytes = unpack(encoding, &body, limit, &mut reservation)?;
        Ok((bytes, reservation))
    };
    tokio::task::spawn_blocking(job).await.expect("unpacking does not panic")
}

fn unpack(
    encoding: Encoding,
    body: &[u8],
    limit: u64,
    reservation: &mut Reservation,
) -> Result<Bytes, InflateError> {
    match encoding {
        Encoding::Identity => Ok(Bytes::copy_from_slice(body)),
        Encoding::Gzip => drain(MultiGzDecoder::new(body), "gzip", body.len(), limit, reservation),
        Encoding::Deflate if is_zlib(body) => {
            drain(ZlibDecoder::new(body), "deflate", body.len(), limit, reservation)
        }
        Encoding::Deflate => drain(DeflateDecoder::new(body), "deflate", body.len(), limit, reservation),
        Encoding::Zstd => {
            let malformed = |_| InflateError::Malformed("zstd");
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(malformed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(malformed)?;
            drain(decoder, "zstd", body.len(), limit, reservation)
        }
    }
}

/// RFC 1950 §2.2: method 8, and the first two bytes divide by 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flg, ..] if cmf & 15 == 8 && (u16::from(*cmf) << 8 | u16::from(*flg)) % 31 == 0)
}

fn drain(
    mut reader: impl Read,
    name: &'static str,
    packed: usize,
    limit: u64,
    reservation: &mut Reservation,
) -> Result<Bytes, InflateError> {
    let mut out = Vec::new();
    loop {
        let step = out.len().clamp(STEP_MIN, STEP_MAX);
        reservation.grow(packed + out.capacity().max(out.len() + step))?;
        out.reserve_exact(step);
        let before = out.len();
        read_capped((&mut reader).take(step as u64), step as u64, &mut out)
            .map_err(|_| InflateError::Malformed(name))?;
        if out.len() as u64 > limit {
            return Err(BodyError::TooLarge(limit).into());
        }
        if out.len() == before {
            return Ok(Bytes::from(out));
        }
    }
}

#[cfg(test)]
mod tests;
