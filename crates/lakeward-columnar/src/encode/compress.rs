//! Compression of a whole file, as one more writer.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use super::EncodeError;
use super::snappy::{Framing, SnappyBlocks};
use super::zip::ZipEntry;
use crate::shape::FileCompression;

/// Deflate's effort for gzip and ZIP files, nearer to speed than to size.
pub(super) const DEFLATE_LEVEL: u32 = 3;

/// Zstandard's effort for whole files.
const ZSTD_LEVEL: i32 = 1;

/// A file that grows in memory, compressed as it is written.
pub(super) enum FileWriter {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// <https://github.com/google/snappy/blob/main/framing_format.txt>.
    SnappyFrames(Box<snap::write::FrameEncoder<Vec<u8>>>),
    SnappyBlocks(Box<SnappyBlocks>),
    Zip(Box<ZipEntry>),
}

impl FileWriter {
    pub(super) fn new(compression: FileCompression) -> Result<Self, EncodeError> {
        Ok(match compression {
            FileCompression::None => Self::Plain(Vec::new()),
            // The header holds neither a time nor a name: the same input gives the same bytes.
            FileCompression::Gzip => {
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(DEFLATE_LEVEL)))
            }
            FileCompression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            FileCompression::Snappy => {
                Self::SnappyFrames(Box::new(snap::write::FrameEncoder::new(Vec::new())))
            }
            FileCompression::Zip => Self::Zip(Box::new(ZipEntry::new())),
            FileCompression::SnappyJava => {
                Self::SnappyBlocks(Box::new(SnappyBlocks::new(Framing::SnappyJava)))
            }
            FileCompression::HadoopSnappy => Self::SnappyBlocks(Box::new(SnappyBlocks::new(Framing::Hadoop))),
        })
    }

    /// Ends the file.
    pub(super) fn finish(self) -> Result<Bytes, EncodeError> {
        Ok(Bytes::from(match self {
            Self::Plain(body) => body,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
            Self::SnappyFrames(encoder) => {
                encoder.into_inner().map_err(|e| EncodeError::failed(e.into_error()))?
            }
            Self::SnappyBlocks(blocks) => blocks.finish()?,
            Self::Zip(entry) => entry.finish()?,
        }))
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(body) => body.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::SnappyFrames(encoder) => encoder.write(bytes),
            Self::SnappyBlocks(blocks) => blocks.write(bytes),
            Self::Zip(entry) => entry.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
