//! Files as blocks of lines, read as they are decoded: nothing is held but
//! the block at hand.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use lakeward_model::{Offset, RecordBlock, Records, Timestamp, limits};

/// How much is read at a time; a line may be longer.
const CHUNK: usize = 1 << 20;
/// The longest line.
const LINE_MAX: usize = 64 << 20;

/// Whether a file can be read from its middle.
pub(super) fn is_plain(file: &Path) -> bool {
    !matches!(file.extension().and_then(|e| e.to_str()), Some("gz" | "zst"))
}

/// A file's lines, from a position on.
pub(super) struct Lines {
    reader: Box<dyn Read>,
    /// What was read behind the last whole line.
    rest: Vec<u8>,
    /// The position, in unpacked bytes, of the first line that was not given.
    at: u64,
    /// Lines given so far.
    lines: u64,
    ended: bool,
    /// When the file was last written: its records' time of arrival.
    written_at: Timestamp,
}

impl Lines {
    /// The lines that start at `start` or later; `start` is 0 unless the file
    /// is plain.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn open(file: &Path, start: u64) -> io::Result<Self> {
        let mut reader = File::open(file)?;
        let meta = reader.metadata()?;
        if meta.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; name the files in it"));
        }
        let since = meta.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let written_at = Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let reader: Box<dyn Read> = match file.extension().and_then(|e| e.to_str()) {
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(reader)),
            Some("zst") => Box::new(zstd::Decoder::new(reader)?),
            _ => {
                // One byte earlier: a line starts at `start` if that byte ends one.
                reader.seek(SeekFrom::Start(start.saturating_sub(1)))?;
                Box::new(reader)
            }
        };
        let mut lines = Self {
            reader,
            rest: Vec::new(),
            at: start.saturating_sub(1),
            lines: 0,
            ended: false,
            written_at,
        };
        if start > 0 {
            lines.skip_line()?;
        }
        Ok(lines)
    }

    /// Whether every line was given.
    pub(super) fn is_ended(&self) -> bool {
        self.ended && self.rest.is_empty()
    }

    /// The position of the first line that was not given.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next block of whole lines, as long as its first one starts before
    /// `until`; its last one may end behind it.
    pub(super) fn next_block(&mut self, until: u64) -> io::Result<Option<RecordBlock>> {
        if self.at >= until {
            return Ok(None);
        }
        let within = usize::try_from(until - self.at).unwrap_or(usize::MAX);
        let Some(data) = self.whole_lines(within)? else { return Ok(None) };
        self.at += data.len() as u64;
        let records = split(data);
        let first = Offset(self.lines);
        self.lines += records.len() as u64;
        Ok(Some(RecordBlock { records, first, received_at: self.written_at }))
    }

    /// About [`CHUNK`] bytes of whole lines, none of which starts `within`
    /// bytes further on.
    fn whole_lines(&mut self, within: usize) -> io::Result<Option<Bytes>> {
        let mut data = std::mem::take(&mut self.rest);
        loop {
            if data.len() < CHUNK.min(within) || self.last_line_end(&data, within).is_none() {
                self.fill(&mut data)?;
            }
            let end = match self.last_line_end(&data, within) {
                Some(end) => end,
                None if self.ended => data.len(),
                None if data.len() > LINE_MAX => {
                    let problem = format!("the line at byte {} is longer than {LINE_MAX} bytes", self.at);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
                }
                None => continue,
            };
            self.rest = data[end..].to_vec();
            let data = Bytes::from(data).slice(..end);
            return Ok((!data.is_empty()).then_some(data));
        }
    }

    /// Where the last of the lines ends that start before `within`.
    fn last_line_end(&self, data: &[u8], within: usize) -> Option<usize> {
        if within < data.len() {
            // The line that holds the byte before `within` is the last one.
            let from = within - 1;
            return memchr::memchr(b'\n', &data[from..]).map(|at| from + at + 1);
        }
        memchr::memrchr(b'\n', data).map(|at| at + 1).filter(|&end| !self.ended || end == data.len())
    }

    fn skip_line(&mut self) -> io::Result<()> {
        let mut data = std::mem::take(&mut self.rest);
        loop {
            if let Some(end) = memchr::memchr(b'\n', &data) {
                self.rest = data[end + 1..].to_vec();
                self.at += end as u64 + 1;
                return Ok(());
            }
            self.at += data.len() as u64;
            data.clear();
            if self.ended {
                return Ok(());
            }
            self.fill(&mut data)?;
        }
    }

    fn fill(&mut self, data: &mut Vec<u8>) -> io::Result<()> {
        let before = data.len();
        data.reserve_exact(CHUNK + 64);
        limits::read_capped((&mut self.reader).take(CHUNK as u64), CHUNK as u64, data)?;
        self.ended = data.len() - before < CHUNK;
        Ok(())
    }
}

/// Lines as records; the newline stays with its line.
fn split(data: Bytes) -> Records {
    let end = |at: usize| u32::try_from(at).expect("a block is far below 4 GiB");
    let mut ends: Vec<u32> = memchr::memchr_iter(b'\n', &data).map(|at| end(at + 1)).collect();
    if ends.last().is_none_or(|&last| (last as usize) < data.len()) {
        ends.push(end(data.len()));
    }
    Records::new(data, ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(file: &Path, cuts: &[u64]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for range in cuts.windows(2) {
            let mut lines = Lines::open(file, range[0]).unwrap();
            while let Some(block) = lines.next_block(range[1]).unwrap() {
                all.extend(block.records.iter().map(<[u8]>::to_vec));
            }
        }
        all
    }

    /// Wherever a file is cut into pieces, each line is in exactly one.
    #[test]
    fn pieces_tile_the_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lines.ndjson");
        let mut text = Vec::new();
        for n in 0..200 {
            text.extend(std::iter::repeat_n(b'x', n % 17));
            text.push(b'\n');
        }
        for last in [&b""[..], b"without end"] {
            let whole = [&text[..], last].concat();
            std::fs::write(&file, &whole).unwrap();
            let size = whole.len() as u64;
            let expected: Vec<Vec<u8>> = whole.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            assert_eq!(lines_of(&file, &[0, u64::MAX]), expected);
            for cut in 1..size {
                assert_eq!(lines_of(&file, &[0, cut, u64::MAX]), expected, "cut at {cut}");
            }
        }
    }

    #[test]
    fn long_lines_and_packed_files_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = vec![b'a'; 3 * CHUNK];
        text.push(b'\n');
        text.extend(std::iter::repeat_n(b"bc\n", 2 * CHUNK / 3).flatten());
        let plain = dir.path().join("a.ndjson");
        std::fs::write(&plain, &text).unwrap();
        let packed = dir.path().join("a.ndjson.zst");
        std::fs::write(&packed, zstd::encode_all(&text[..], 1).unwrap()).unwrap();
        let expected: Vec<Vec<u8>> = text.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
        assert!(lines_of(&plain, &[0, u64::MAX]) == expected);
        assert!(lines_of(&packed, &[0, u64::MAX]) == expected);
    }
}
