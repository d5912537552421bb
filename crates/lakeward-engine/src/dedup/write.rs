//! Writing a file of keys: durable and complete before it has its name.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::filter::FilterWriter;
use super::run::{BLOCK_BYTES, BLOCK_KEYS, HEADER_BYTES, Header, KEY_BYTES, Run, block_crc, fingerprint};
use super::{DedupError, Entry, high};

/// What unfinished files end with.
pub(super) const UNFINISHED: &str = ".tmp";

/// Takes keys in order. Memory: two buffers and 8 bytes for each block.
#[derive(Debug)]
pub(super) struct RunWriter {
    dir: PathBuf,
    name: String,
    unfinished: PathBuf,
    out: BufWriter<File>,
    block: Vec<u8>,
    fences: Vec<u64>,
    header: Header,
    last: Option<Entry>,
}

impl RunWriter {
    /// Begins a file whose times count from the second `base`.
    pub(super) fn create(dir: &Path, name: String, base: i64) -> Result<Self, DedupError> {
        let unfinished = dir.join(format!("{name}{UNFINISHED}"));
        let begin = || {
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(true).open(&unfinished)?;
            let mut out = BufWriter::with_capacity(1 << 18, file);
            out.write_all(&[0; HEADER_BYTES])?;
            Ok(out)
        };
        let out = begin().map_err(DedupError::io(&unfinished))?;
        let header = Header { keys: 0, base, min: i64::MAX, max: i64::MIN, fences_crc: 0, filter_crc: 0 };
        Ok(Self {
            dir: dir.to_path_buf(),
            name,
            unfinished,
            out,
            block: Vec::with_capacity(BLOCK_BYTES),
            fences: Vec::new(),
            header,
            last: None,
        })
    }

    /// Adds a key, unless it is the last one again.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), DedupError> {
        if self.last == Some(entry) {
            return Ok(());
        }
        assert!(self.last.is_none_or(|last| last < entry), "keys come in order");
        self.last = Some(entry);
        if self.block.is_empty() {
            self.fences.push(high(entry.fingerprint));
        }
        let since = entry.seconds.checked_sub(self.header.base).and_then(|since| u32::try_from(since).ok());
        let since = since.expect("the keys of a file lie within 100 years");
        self.block.extend_from_slice(&entry.fingerprint.to_be_bytes());
        self.block.extend_from_slice(&since.to_le_bytes());
        self.header.keys += 1;
        self.header.min = self.header.min.min(entry.seconds);
        self.header.max = self.header.max.max(entry.seconds);
        if self.block.len() == BLOCK_KEYS * KEY_BYTES {
            self.end_block().map_err(DedupError::io(&self.unfinished))?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let crc = block_crc(self.fences.len() - 1, &self.block);
        self.out.write_all(&self.block)?;
        self.out.write_all(&crc.to_le_bytes())?;
        self.block.clear();
        Ok(())
    }

    /// Ends the file, makes it durable and gives it its name. Writes over an
    /// older file of the same name. `None`, and no file, if there is no key.
    pub(super) fn finish(mut self) -> Result<Option<Run>, DedupError> {
        if self.header.keys == 0 {
            self.discard();
            return Ok(None);
        }
        let path = self.dir.join(&self.name);
        self.complete(&path).map_err(DedupError::io(&path))?;
        Run::open(&self.dir, &self.name).map(Some)
    }

    fn complete(&mut self, path: &Path) -> io::Result<()> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        for fence in &self.fences {
            let bytes = fence.to_le_bytes();
            self.header.fences_crc = crc32c::crc32c_append(self.header.fences_crc, &bytes);
            self.out.write_all(&bytes)?;
        }
        self.out.flush()?;
        self.header.filter_crc = self.write_filter()?;
        self.out.flush()?;
        let file = self.out.get_ref();
        file.write_all_at(&self.header.encode(), 0)?;
        file.sync_all()?;
        std::fs::rename(&self.unfinished, path)?;
        File::open(&self.dir)?.sync_all()
    }

    /// The filter's size follows from the number of keys, which a merge knows
    /// only now: the keys are read once more, so that neither they nor the
    /// filter are ever in memory.
    fn write_filter(&mut self) -> io::Result<u32> {
        let mut keys = BufReader::with_capacity(1 << 18, File::open(&self.unfinished)?);
        keys.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
        let mut writer = FilterWriter::new(self.header.keys, &mut self.out);
        let mut left = self.header.keys as usize;
        let mut block = [0; BLOCK_BYTES];
        while left > 0 {
            let count = left.min(BLOCK_KEYS);
            let block = &mut block[..count * KEY_BYTES + 4];
            keys.read_exact(block)?;
            for at in 0..count {
                writer.push(fingerprint(block, at))?;
            }
            left -= count;
        }
        writer.finish()
    }

    /// Removes the unfinished file.
    pub(super) fn discard(self) {
        if let Err(error) = std::fs::remove_file(&self.unfinished) {
            // The next open removes it.
            tracing::warn!(path = %self.unfinished.display(), %error, "an unfinished file of dedup keys stays");
        }
    }
}
