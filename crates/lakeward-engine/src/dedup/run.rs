//! A file of keys: sorted, never changed, checked block by block.
//!
//! ```text
//!  0         8         12    16     24     32    40    48       52       56
//!  ┌─────────┬─────────┬─────┬──────┬──────┬─────┬─────┬────────┬────────┬────────┐
//!  │ LWDEDUP │ version │ crc │ keys │ base │ min │ max │ fences │ filter │ filter │
//!  │         │         │     │      │      │     │     │ crc    │ crc    │ bytes  │
//!  ├─────────┴─────────┴─────┴──────┴──────┴─────┴─────┴────────┴────────┴────────┤
//!  │ blocks of 204 keys: each 16 bytes of fingerprint, 4 of time; then a crc      │
//!  ├──────────────────────────────────────────────────────────────────────────────┤
//!  │ fences: the first 8 bytes of each block's first key                          │
//!  ├──────────────────────────────────────────────────────────────────────────────┤
//!  │ filter                                                                       │
//!  └──────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::filter::{self, Filter};
use super::{DedupError, Entry, RunRef};

pub(super) const MAGIC: [u8; 8] = *b"LWDEDUP\0";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const KEY_BYTES: usize = 20;
pub(super) const BLOCK_KEYS: usize = 204;
/// A full block; the last one may be shorter.
pub(super) const BLOCK_BYTES: usize = BLOCK_KEYS * KEY_BYTES + 4;

/// What a file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) keys: u64,
    /// Times in the file count from this second.
    pub(super) base: i64,
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) fences_crc: u32,
    pub(super) filter_crc: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.keys.to_le_bytes());
        out[24..32].copy_from_slice(&self.base.to_le_bytes());
        out[32..40].copy_from_slice(&self.min.to_le_bytes());
        out[40..48].copy_from_slice(&self.max.to_le_bytes());
        out[48..52].copy_from_slice(&self.fences_crc.to_le_bytes());
        out[52..56].copy_from_slice(&self.filter_crc.to_le_bytes());
        out[56..64].copy_from_slice(&filter::bytes(self.keys).to_le_bytes());
        let crc = crc32c::crc32c(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let u32_at = |at: usize| bytes[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
        let u64_at = |at: usize| bytes[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        let i64_at = |at: usize| bytes[at..].first_chunk().copied().map_or(0, i64::from_le_bytes);
        if bytes[..8] != MAGIC {
            return Err("these are no dedup keys");
        }
        if u32_at(8) != VERSION {
            return Err("it is of a version that this release cannot read");
        }
        if u32_at(12) != crc32c::crc32c(&bytes[16..]) {
            return Err("the checksum of its header is wrong");
        }
        let header = Self {
            keys: u64_at(16),
            base: i64_at(24),
            min: i64_at(32),
            max: i64_at(40),
            fences_crc: u32_at(48),
            filter_crc: u32_at(52),
        };
        if header.keys == 0 || header.keys > 1 << 48 || u64_at(56) != filter::bytes(header.keys) {
            return Err("its header makes no sense");
        }
        Ok(header)
    }

    pub(super) fn blocks(&self) -> u64 {
        self.keys.div_ceil(BLOCK_KEYS as u64)
    }

    /// Where the fences start.
    fn fences(&self) -> u64 {
        HEADER_BYTES as u64 + self.keys * KEY_BYTES as u64 + self.blocks() * 4
    }

    /// Where the filter starts.
    fn filter(&self) -> u64 {
        self.fences() + self.blocks() * 8
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.filter() + filter::bytes(self.keys)
    }
}

/// The checksum of a block: its number counts, so that no block is taken for
/// another.
pub(super) fn block_crc(number: usize, keys: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&(number as u64).to_le_bytes()), keys)
}

/// An open file of keys. Can be read even after its name is gone.
#[derive(Debug)]
pub(super) struct Run {
    name: String,
    path: PathBuf,
    file: File,
    header: Header,
    /// The first 64 bits of each block's first key.
    fences: Vec<u64>,
}

impl Run {
    /// Opens a file and checks all of it but the keys and the filter.
    pub(super) fn open(dir: &Path, name: &str) -> Result<Self, DedupError> {
        let path = dir.join(name);
        let damaged = |what: &str| DedupError::Damaged { path: path.clone(), what: what.to_string() };
        let file = File::open(&path).map_err(DedupError::io(&path))?;
        let length = file.metadata().map_err(DedupError::io(&path))?.len();
        if length < HEADER_BYTES as u64 {
            return Err(damaged("it is cut short"));
        }
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(DedupError::io(&path))?;
        let header = Header::decode(&bytes).map_err(damaged)?;
        if length != header.file_bytes() {
            return Err(damaged("its length is not what its header says"));
        }
        // Bounded by the length of the file.
        let mut bytes = vec![0; header.blocks() as usize * 8];
        file.read_exact_at(&mut bytes, header.fences()).map_err(DedupError::io(&path))?;
        if crc32c::crc32c(&bytes) != header.fences_crc {
            return Err(damaged("the checksum of its fences is wrong"));
        }
        let fences = bytes.as_chunks().0.iter().map(|fence| u64::from_le_bytes(*fence)).collect();
        Ok(Self { name: name.to_string(), path, file, header, fences })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn fences(&self) -> &[u64] {
        &self.fences
    }

    /// What the ledger knows of it.
    pub(super) fn reference(&self) -> RunRef {
        let Header { keys, min, max, .. } = self.header;
        RunRef { file: self.name.clone(), keys, min, max, bytes: self.header.file_bytes() }
    }

    pub(super) fn filter(&self) -> Result<Filter, DedupError> {
        let mut bytes = vec![0; filter::bytes(self.header.keys) as usize];
        self.file.read_exact_at(&mut bytes, self.header.filter()).map_err(DedupError::io(&self.path))?;
        if crc32c::crc32c(&bytes) != self.header.filter_crc {
            return Err(self.damaged("the checksum of its filter is wrong"));
        }
        Ok(Filter::new(&bytes))
    }

    fn damaged(&self, what: impl Into<String>) -> DedupError {
        DedupError::Damaged { path: self.path.clone(), what: what.into() }
    }

    /// The bytes of a block in the file: where it starts, how many.
    fn block_at(&self, number: usize) -> (u64, usize) {
        let first = number * BLOCK_KEYS;
        let keys = (self.header.keys as usize).saturating_sub(first).min(BLOCK_KEYS);
        (HEADER_BYTES as u64 + number as u64 * BLOCK_BYTES as u64, keys * KEY_BYTES + 4)
    }
}

/// Reads the blocks of a file, some at a time.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    run: &'a Run,
    /// How many blocks are read at once.
    ahead: usize,
    /// The first block in the buffer.
    first: usize,
    /// How many follow it there.
    count: usize,
    buffer: Vec<u8>,
    checked: Option<usize>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(run: &'a Run, ahead: usize) -> Self {
        Self { run, ahead, first: 0, count: 0, buffer: Vec::new(), checked: None }
    }

    /// The keys of a block, 20 bytes each.
    pub(super) fn get(&mut self, number: usize) -> Result<&[u8], DedupError> {
        if !(self.first..self.first + self.count).contains(&number) {
            self.read(number)?;
        }
        let start = (number - self.first) * BLOCK_BYTES;
        let (_, length) = self.run.block_at(number);
        let block = &self.buffer[start..start + length];
        let (keys, crc) = block.split_at(length - 4);
        if self.checked != Some(number) {
            if crc.first_chunk().copied().map(u32::from_le_bytes) != Some(block_crc(number, keys)) {
                let (at, _) = self.run.block_at(number);
                return Err(self.run.damaged(format!("the checksum of the keys at byte {at} is wrong")));
            }
            self.checked = Some(number);
        }
        Ok(keys)
    }

    fn read(&mut self, number: usize) -> Result<(), DedupError> {
        let last = (number + self.ahead).min(self.run.fences.len()) - 1;
        let (start, _) = self.run.block_at(number);
        let (end, length) = self.run.block_at(last);
        self.count = 0;
        self.buffer.resize((end - start) as usize + length, 0);
        match self.run.file.read_exact_at(&mut self.buffer, start) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.run.damaged("it was cut short"));
            }
            other => other.map_err(DedupError::io(&self.run.path))?,
        }
        (self.first, self.count, self.checked) = (number, last + 1 - number, None);
        Ok(())
    }
}

/// The fingerprint of the `at`-th key of a block.
pub(super) fn fingerprint(keys: &[u8], at: usize) -> u128 {
    keys[at * KEY_BYTES..].first_chunk().copied().map_or(0, u128::from_be_bytes)
}

/// The seconds of the `at`-th key of a block.
pub(super) fn time(keys: &[u8], at: usize, base: i64) -> i64 {
    let since = keys[at * KEY_BYTES + 16..].first_chunk().copied().map_or(0, u32::from_le_bytes);
    base.saturating_add(i64::from(since))
}

/// All keys of a file, in order.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    run: &'a Run,
    blocks: Blocks<'a>,
    at: u64,
}

impl<'a> Entries<'a> {
    pub(super) fn new(run: &'a Run) -> Self {
        // 64 KiB at a time.
        Self { run, blocks: Blocks::new(run, 16), at: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry>, DedupError> {
        if self.at == self.run.header.keys {
            return Ok(None);
        }
        let (block, inside) = (self.at as usize / BLOCK_KEYS, self.at as usize % BLOCK_KEYS);
        let keys = self.blocks.get(block)?;
        self.at += 1;
        let seconds = time(keys, inside, self.run.header.base);
        Ok(Some(Entry { fingerprint: fingerprint(keys, inside), seconds }))
    }
}
