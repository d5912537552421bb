//! JSON documents and arrays of any length, cut into records without being
//! understood: strings and brackets are all that is looked at.

use std::io::BufRead;

use memchr::memchr2;

use super::{Records, too_large};
use crate::error::Fault;
use crate::window::Window;

/// Where in a value its bytes were looked at up to.
#[derive(Debug, Default, Clone, Copy)]
struct Scan {
    /// Bytes that were looked at.
    at: usize,
    /// Open brackets and braces.
    depth: u32,
    in_string: bool,
    /// A backslash was the last byte looked at, in a string.
    escaped: bool,
}

impl Scan {
    /// Looks at more of a value that starts where `bytes` do. Gives its length
    /// once its end is seen; turns line breaks outside strings into spaces.
    fn go_on(&mut self, bytes: &mut [u8]) -> Option<usize> {
        while self.at < bytes.len() {
            if self.in_string {
                if self.string(bytes) && self.depth == 0 {
                    return Some(self.at);
                }
                continue;
            }
            let first = self.at == 0;
            match bytes[self.at] {
                b'"' if self.depth == 0 && !first => return Some(self.at),
                b'"' => self.in_string = true,
                b'{' | b'[' if self.depth == 0 && !first => return Some(self.at),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x1e if self.depth == 0 => {
                    return Some(self.at);
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.at += 1;
                        return Some(self.at);
                    }
                }
                b'\n' | b'\r' => bytes[self.at] = b' ',
                _ => {}
            }
            self.at += 1;
        }
        None
    }

    /// Looks at more of a string; true once its end is passed.
    fn string(&mut self, bytes: &[u8]) -> bool {
        if self.escaped {
            self.escaped = false;
            self.at += 1;
        }
        match memchr2(b'"', b'\\', &bytes[self.at..]) {
            None => self.at = bytes.len(),
            Some(found) => {
                self.at += found + 1;
                if bytes[self.at - 1] == b'"' {
                    self.in_string = false;
                } else {
                    self.escaped = true;
                }
            }
        }
        !self.in_string
    }
}

/// Where between the values one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    /// Between documents.
    Documents,
    /// Behind `[`.
    FirstElement,
    /// Behind a comma of an array.
    Element,
    /// Behind an element.
    BehindElement,
}

/// Elements of arrays, and documents that are none.
pub(crate) struct Documents {
    window: Window,
    around: Around,
    /// The number of the next record, from 1.
    number: u64,
    record_bytes_max: usize,
    scan: Scan,
    found: Option<usize>,
}

impl Documents {
    pub(crate) fn new(window: Window, record_bytes_max: usize) -> Self {
        let (around, scan) = (Around::Documents, Scan::default());
        Self { window, around, number: 1, record_bytes_max, scan, found: None }
    }

    /// Goes to the first byte of the next value; false at the end.
    fn next_value(&mut self) -> Result<bool, Fault> {
        loop {
            let Some(&byte) = self.window.fill_buf()?.first() else {
                return match self.around {
                    Around::Documents => Ok(false),
                    _ => Err(Fault::Broken("it is cut off: an array is not closed".into())),
                };
            };
            self.around = match (byte, self.around) {
                (b' ' | b'\t' | b'\n' | b'\r', around) => around,
                // The separator of RFC 7464.
                (0x1e, Around::Documents) => Around::Documents,
                (b'[', Around::Documents) => Around::FirstElement,
                (b']', Around::FirstElement | Around::BehindElement) => Around::Documents,
                (b',', Around::BehindElement) => Around::Element,
                (b',' | b':' | b'}' | b']' | 0x1e, _) | (_, Around::BehindElement) => {
                    let problem =
                        format!("there is `{}` where no JSON has it", char::from(byte).escape_default());
                    return Err(Fault::Broken(problem));
                }
                _ => return Ok(true),
            };
            self.window.consume(1);
        }
    }
}

impl Records for Documents {
    fn find(&mut self) -> Result<bool, Fault> {
        if self.found.is_some() {
            return Ok(true);
        }
        if self.scan.at == 0 && !self.next_value()? {
            return Ok(false);
        }
        let length = loop {
            if let Some(length) = self.scan.go_on(self.window.held_mut()) {
                break length;
            }
            if self.scan.at > self.record_bytes_max {
                return Err(too_large(self.record_bytes_max));
            }
            if !self.window.more()? {
                let Scan { at, depth: 0, in_string: false, .. } = self.scan else {
                    return Err(Fault::Broken(
                        "it is cut off: an object, an array or a string is not closed".into(),
                    ));
                };
                break at;
            }
        };
        if length > self.record_bytes_max {
            return Err(too_large(self.record_bytes_max));
        }
        self.found = Some(length);
        Ok(true)
    }

    fn found(&self) -> (&[u8], u64) {
        (&self.window.held()[..self.found.unwrap_or(0)], self.number)
    }

    fn pass(&mut self) {
        if let Some(length) = self.found.take() {
            self.window.consume(length);
            self.number += 1;
            self.scan = Scan::default();
            if self.around != Around::Documents {
                self.around = Around::BehindElement;
            }
        }
    }
}

/// Whether a text that starts so is an array or documents that are not one to a
/// line; else its lines are its records.
pub(crate) fn looks_like_documents(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    match head.first() {
        Some(b'[' | 0x1e) => return true,
        Some(b'{') => {}
        _ => return false,
    }
    let line_end = memchr::memchr(b'\n', head);
    let mut line = head[..line_end.unwrap_or(head.len())].trim_ascii_end().to_vec();
    let mut scan = Scan::default();
    match scan.go_on(&mut line) {
        // As Firehose writes it: one behind the other.
        Some(length) => matches!(line[length..].trim_ascii_start().first(), Some(b'{' | b'[')),
        // As people write it: over several lines.
        None => {
            line_end.is_some() && !scan.in_string && matches!(line.last(), Some(b'{' | b'[' | b',' | b':'))
        }
    }
}
