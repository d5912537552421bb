//! A piece of a stream of bytes that can be looked at before it is passed.

use std::io::{self, BufRead, Read};

/// The buffer's first size; it grows to hold what has to be seen at once.
const FIRST: usize = 128 << 10;

/// Bytes of a stream from a position on, as many as were asked for.
pub(crate) struct Window {
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl Window {
    pub(crate) fn new(source: impl Read + Send + 'static) -> Self {
        Self { source: Box::new(source), buffer: Vec::new(), start: 0, end: 0, ended: false }
    }

    /// What was read and not passed.
    pub(crate) fn held(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The same, to be changed in place.
    pub(crate) fn held_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Whether all of the stream was read.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Reads more behind what is held; false at the stream's end.
    pub(crate) fn more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        // Reads of a few bytes each would be slow.
        if self.buffer.len() - self.end <= self.buffer.len() / 4 {
            let held = self.end - self.start;
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
            // Growing before it is full keeps the copying below the reading.
            if held >= self.buffer.len() / 2 {
                self.buffer.resize((self.buffer.len() * 2).max(FIRST), 0);
            }
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next bytes, this many, fewer only at the end of the stream.
    pub(crate) fn peek(&mut self, bytes: usize) -> io::Result<&[u8]> {
        while self.end - self.start < bytes && self.more()? {}
        let held = self.held();
        Ok(&held[..held.len().min(bytes)])
    }

    /// What was read and not passed, to keep.
    pub(crate) fn into_held(mut self) -> Vec<u8> {
        self.buffer.truncate(self.end);
        self.buffer.drain(..self.start);
        self.buffer.shrink_to_fit();
        self.buffer
    }

    /// Passes this many bytes, read or not; false if there are not so many.
    pub(crate) fn skip(&mut self, mut bytes: u64) -> io::Result<bool> {
        loop {
            let held = self.held().len();
            if let Ok(left) = usize::try_from(bytes)
                && left <= held
            {
                self.consume(left);
                return Ok(true);
            }
            bytes -= held as u64;
            self.consume(held);
            if !self.more()? {
                return Ok(false);
            }
        }
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let held = self.fill_buf()?;
        let bytes = held.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&held[..bytes]);
        self.consume(bytes);
        Ok(bytes)
    }
}

impl BufRead for Window {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.more()?;
        }
        Ok(self.held())
    }

    fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }
}
