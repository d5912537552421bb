//! The two Snappy containers that Firehose writes. Neither is Snappy's own
//! framing format.
//!
//! - `Snappy`: the stream of snappy-java (xerial), `SnappyOutputStream` and
//!   `SnappyCodec` of <https://github.com/xerial/snappy-java>: a 16-byte
//!   header (magic, version 1, lowest compatible version 1), then blocks of
//!   32 KiB, each a big-endian length and raw Snappy.
//! - `HADOOP_SNAPPY`: `BlockCompressorStream` with `SnappyCodec` of
//!   <https://github.com/apache/hadoop>: blocks of 256 KiB
//!   (`io.compression.codec.snappy.buffersize`), each the big-endian length
//!   before compression, then a big-endian length and raw Snappy.

use std::io::{self, Write};

use super::EncodeError;

/// Which container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    SnappyJava,
    Hadoop,
}

impl Framing {
    fn block_bytes(self) -> usize {
        match self {
            Self::SnappyJava => 32 * 1024,
            // Hadoop takes from its buffer what Snappy may add in the worst
            // case: 256 KiB / 6 + 32; a block of it never outgrows the buffer.
            Self::Hadoop => 256 * 1024 - (256 * 1024 / 6 + 32),
        }
    }
}

/// Magic, version and lowest compatible version (`SnappyCodec.java`).
const SNAPPY_JAVA_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];

/// A file of Snappy blocks.
pub(super) struct SnappyBlocks {
    framing: Framing,
    pending: Vec<u8>,
    compressed: Vec<u8>,
    body: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl SnappyBlocks {
    pub(super) fn new(framing: Framing) -> Self {
        let body = match framing {
            Framing::SnappyJava => SNAPPY_JAVA_HEADER.to_vec(),
            Framing::Hadoop => Vec::new(),
        };
        let pending = Vec::with_capacity(framing.block_bytes());
        Self { framing, pending, compressed: Vec::new(), body, encoder: snap::raw::Encoder::new() }
    }

    fn close_block(&mut self) -> io::Result<()> {
        self.compressed.resize(snap::raw::max_compress_len(self.pending.len()), 0);
        let length = self.encoder.compress(&self.pending, &mut self.compressed)?;
        if self.framing == Framing::Hadoop {
            self.body.extend_from_slice(&be32(self.pending.len()));
        }
        self.body.extend_from_slice(&be32(length));
        self.body.extend_from_slice(&self.compressed[..length]);
        self.pending.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        if !self.pending.is_empty() {
            self.close_block()?;
        }
        Ok(self.body)
    }
}

fn be32(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a block is at most 256 KiB").to_be_bytes()
}

impl Write for SnappyBlocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.framing.block_bytes() - self.pending.len();
        let taken = bytes.len().min(room);
        self.pending.extend_from_slice(&bytes[..taken]);
        if taken == room {
            self.close_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
