//! Says for most keys that a file does not have them, from memory: a Bloom
//! filter in blocks of a cache line.
//!
//! The block goes by the key's first 64 bits, in the order of the keys: a file
//! is written and a sorted batch is looked up from one end of it to the other.
//! The seven bits inside go by the last 64.

use std::io::{self, Write};

/// A cache line.
const BLOCK_BITS: u64 = 512;
pub(super) const BLOCK_BYTES: u64 = BLOCK_BITS / 8;
const BITS_PER_KEY: u64 = 12;
const PROBES: u32 = 7;

/// How many bytes the filter of this many keys has.
pub(super) fn bytes(keys: u64) -> u64 {
    keys.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1).saturating_mul(BLOCK_BYTES)
}

/// The block of a key among `blocks`.
fn place(fingerprint: u128, blocks: u64) -> u64 {
    ((u128::from(super::high(fingerprint)) * u128::from(blocks)) >> 64) as u64
}

/// The word and the mask of each of a key's bits.
fn bits(fingerprint: u128) -> impl Iterator<Item = (usize, u64)> {
    let low = fingerprint as u64;
    (0..PROBES).map(move |probe| {
        let bit = low >> (9 * probe) & (BLOCK_BITS - 1);
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

/// A filter in memory.
#[derive(Debug)]
pub(super) struct Filter {
    blocks: Vec<[u64; 8]>,
}

impl Filter {
    /// From the bytes of the file: a whole number of blocks, at least one.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let block = |words: &[[u8; 8]; 8]| words.each_ref().map(word);
        let (words, _) = bytes.as_chunks::<8>();
        Self { blocks: words.as_chunks::<8>().0.iter().map(block).collect() }
    }

    /// Whether the file may have the key. Never wrong about one that it has;
    /// says so of about 1 in 200 that it has not.
    #[inline]
    pub(super) fn may_have(&self, fingerprint: u128) -> bool {
        let block = &self.blocks[place(fingerprint, self.blocks.len() as u64) as usize];
        bits(fingerprint).all(|(word, mask)| block[word] & mask != 0)
    }
}

/// Writes a filter of ascending keys, one block in memory at a time.
#[derive(Debug)]
pub(super) struct FilterWriter<W> {
    out: W,
    block: [u64; 8],
    at: u64,
    blocks: u64,
    crc: u32,
}

impl<W: Write> FilterWriter<W> {
    pub(super) fn new(keys: u64, out: W) -> Self {
        Self { out, block: [0; 8], at: 0, blocks: bytes(keys) / BLOCK_BYTES, crc: 0 }
    }

    pub(super) fn push(&mut self, fingerprint: u128) -> io::Result<()> {
        let place = place(fingerprint, self.blocks);
        while self.at < place {
            self.flush_block()?;
        }
        for (word, mask) in bits(fingerprint) {
            self.block[word] |= mask;
        }
        Ok(())
    }

    fn flush_block(&mut self) -> io::Result<()> {
        let mut bytes = [0; BLOCK_BYTES as usize];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.block) {
            *to = word.to_le_bytes();
        }
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        self.out.write_all(&bytes)?;
        self.block = [0; 8];
        self.at += 1;
        Ok(())
    }

    /// Writes the rest; answers the checksum of it all.
    pub(super) fn finish(mut self) -> io::Result<u32> {
        while self.at < self.blocks {
            self.flush_block()?;
        }
        Ok(self.crc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_key_and_few_others() {
        let key = |n: u64| xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes());
        let mut keys: Vec<u128> = (0..50_000).map(key).collect();
        keys.sort_unstable();
        let mut out = Vec::new();
        let mut writer = FilterWriter::new(keys.len() as u64, &mut out);
        for key in &keys {
            writer.push(*key).unwrap();
        }
        let crc = writer.finish().unwrap();
        assert_eq!(crc, crc32c::crc32c(&out));
        assert_eq!(out.len() as u64, bytes(keys.len() as u64));
        let filter = Filter::new(&out);
        assert!(keys.iter().all(|key| filter.may_have(*key)));
        let wrong = (50_000..150_000).filter(|n| filter.may_have(key(*n))).count();
        assert!(wrong < 1_000, "{wrong} of 100,000");
    }
}
