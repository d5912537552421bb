//! NDJSON: one record per line.

use std::io::BufRead;

use memchr::memchr;

use super::{Records, too_large};
use crate::error::Fault;
use crate::window::Window;

/// The lines of a text that are not blank.
pub(crate) struct Lines {
    window: Window,
    /// The unpacked bytes before the window.
    passed: u64,
    /// The number of the line at the window's start, from 1.
    line: u64,
    record_bytes_max: usize,
    /// How much of the window has no line break.
    searched: usize,
    /// The record's length, and with its line break.
    found: Option<(usize, usize)>,
}

impl Lines {
    /// From this byte of the text on, which is the start of this line; the
    /// window starts there.
    pub(crate) fn new(window: Window, passed: u64, line: u64, record_bytes_max: usize) -> Self {
        Self { window, passed, line, record_bytes_max, searched: 0, found: None }
    }

    /// The unpacked byte and the line where the next record, or the blank
    /// lines before it, start.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.passed, self.line)
    }

    /// How many bytes are likely to be left for a block. Of a stream that was
    /// not begun nothing is known: most are short, and a block that waits for
    /// its turn takes all the room that was made for it.
    pub(crate) fn expected(&self) -> usize {
        match (self.window.is_ended(), self.passed) {
            (true, _) => self.window.held().len(),
            (false, 0) => 0,
            (false, _) => 4 << 20,
        }
    }

    fn pass_bytes(&mut self, bytes: usize) {
        self.window.consume(bytes);
        self.passed += bytes as u64;
        self.line += 1;
        self.searched = 0;
        self.found = None;
    }
}

/// A line without its `\r`, if it is more than blanks.
fn content(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let blank = line.first().is_none_or(u8::is_ascii_whitespace) && line.iter().all(u8::is_ascii_whitespace);
    (!blank).then_some(line.len())
}

impl Records for Lines {
    fn find(&mut self) -> Result<bool, Fault> {
        while self.found.is_none() {
            let held = self.window.held();
            let (line, whole) = match memchr(b'\n', &held[self.searched..]) {
                Some(at) => (&held[..self.searched + at], self.searched + at + 1),
                None => {
                    self.searched = held.len();
                    // One more for its `\r`.
                    if held.len() > self.record_bytes_max + 1 {
                        return Err(too_large(self.record_bytes_max));
                    }
                    if self.window.more()? {
                        continue;
                    }
                    let held = self.window.held();
                    if held.is_empty() {
                        return Ok(false);
                    }
                    (held, held.len())
                }
            };
            match content(line) {
                None => self.pass_bytes(whole),
                Some(length) if length > self.record_bytes_max => {
                    return Err(too_large(self.record_bytes_max));
                }
                Some(length) => self.found = Some((length, whole)),
            }
        }
        Ok(true)
    }

    fn found(&self) -> (&[u8], u64) {
        let length = self.found.map_or(0, |(length, _)| length);
        (&self.window.held()[..length], self.line)
    }

    fn pass(&mut self) {
        if let Some((_, whole)) = self.found {
            self.pass_bytes(whole);
        }
    }
}
