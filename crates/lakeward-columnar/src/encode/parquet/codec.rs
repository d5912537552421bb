//! Compression of pages.

use std::io::Write;

use ::parquet::basic::CompressionCodec;
use zstd::zstd_safe::CParameter;

use crate::encode::EncodeError;
use crate::shape::ParquetCompression;

/// Zstandard's effort: the least that still codes literals, because this is
/// where most of the CPU time goes.
const ZSTD_LEVEL: i32 = 1;
const GZIP_LEVEL: u32 = 3;

/// A first page of fewer bytes stays as it is: the Huffman table that a
/// compressor would build for it costs more time than it saves bytes.
pub(super) const SMALLEST: usize = 512;

/// How far Zstandard looks for repetitions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// As far as its level goes.
    Wide,
    /// Only near by, which is where numbers repeat, and all that is to be
    /// found in random text: 562 MB/s of uuids instead of 428, in files 1 %
    /// larger; times become smaller, even.
    Near,
}

/// The hash table of [`Search::Near`] has 2^9 entries, one page of memory.
const NEAR_HASH_LOG: u32 = 9;

/// A compressor that is used again for every page.
pub(super) enum Codec {
    None,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
    Snappy(Box<snap::raw::Encoder>),
    Gzip,
}

impl Codec {
    pub(super) fn new(compression: ParquetCompression) -> Result<Self, EncodeError> {
        Ok(match compression {
            ParquetCompression::None => Self::None,
            ParquetCompression::Zstd => Self::Zstd(Box::new(zstd::bulk::Compressor::new(ZSTD_LEVEL)?)),
            ParquetCompression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            ParquetCompression::Gzip => Self::Gzip,
        })
    }

    /// What a column chunk that uses this says in its metadata.
    pub(super) fn name(&self) -> CompressionCodec {
        match self {
            Self::None => CompressionCodec::UNCOMPRESSED,
            Self::Zstd(_) => CompressionCodec::ZSTD,
            Self::Snappy(_) => CompressionCodec::SNAPPY,
            Self::Gzip => CompressionCodec::GZIP,
        }
    }

    /// Sets how pages are searched from now on.
    pub(super) fn search(&mut self, search: Search) -> Result<(), EncodeError> {
        if let Self::Zstd(compressor) = self {
            // 0 is what the level says.
            let log = if search == Search::Near { NEAR_HASH_LOG } else { 0 };
            compressor.set_parameter(CParameter::HashLog(log))?;
        }
        Ok(())
    }

    /// Replaces what is in `out` with `page`, compressed.
    pub(super) fn compress(&mut self, page: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.clear();
        match self {
            Self::None => out.extend_from_slice(page),
            Self::Zstd(compressor) => {
                out.reserve(zstd::zstd_safe::compress_bound(page.len()));
                compressor.compress_to_buffer(page, out)?;
            }
            Self::Snappy(encoder) => {
                out.resize(snap::raw::max_compress_len(page.len()), 0);
                let length = encoder.compress(page, out).map_err(EncodeError::failed)?;
                out.truncate(length);
            }
            Self::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                let mut encoder = flate2::write::GzEncoder::new(out, level);
                encoder.write_all(page)?;
                encoder.finish()?;
            }
        }
        Ok(())
    }
}
