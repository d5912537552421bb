//! CSV: rows as JSON objects of strings.

use std::collections::HashSet;
use std::io::{self, Cursor, Read};

use super::{Records, too_large};
use crate::Csv;
use crate::error::Fault;
use crate::window::Window;

/// What is read behind the end, between line breaks: a row of one field that is
/// seen as such unless a quoted field was not closed. `STAND_IN` is in it
/// instead of the delimiter.
const TAIL: [u8; 5] = *b"\0\x01\x02\x03\0";
const STAND_IN: u8 = 4;
/// How much of the text is read at a time.
const CHUNK: usize = 64 << 10;

/// The text and its tail, in pieces of which one row must not take too many.
struct Text {
    window: Window,
    tail: Cursor<Vec<u8>>,
    /// What may be read for the row at hand.
    left: usize,
    used_up: bool,
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.used_up = true;
            return Err(io::Error::other("a row is too long"));
        }
        let wanted = self.left.min(buffer.len());
        let mut bytes = self.window.read(&mut buffer[..wanted])?;
        if bytes == 0 {
            bytes = self.tail.read(&mut buffer[..wanted])?;
        }
        self.left -= bytes;
        Ok(bytes)
    }
}

/// Rows as JSON objects.
pub(crate) struct Rows {
    reader: csv::Reader<Text>,
    /// The row behind the last one.
    tail: [u8; 5],
    options: Csv,
    /// Each column's name as a JSON string and the colon behind it; none before
    /// the first row.
    keys: Vec<Vec<u8>>,
    row: csv::ByteRecord,
    json: Vec<u8>,
    found: bool,
    ended: bool,
    /// The number of the next row, from 1, without the header.
    number: u64,
    record_bytes_max: usize,
}

impl Rows {
    pub(crate) fn new(window: Window, options: &Csv, record_bytes_max: usize) -> Self {
        let tail = TAIL.map(|byte| if byte == options.delimiter { STAND_IN } else { byte });
        let behind = Cursor::new([b"\n", &tail[..], b"\n"].concat());
        let text = Text { window, tail: behind, left: 0, used_up: false };
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(options.delimiter)
            .buffer_capacity(CHUNK)
            .from_reader(text);
        Self {
            reader,
            tail,
            options: options.clone(),
            keys: Vec::new(),
            row: csv::ByteRecord::new(),
            json: Vec::new(),
            found: false,
            ended: false,
            number: 1,
            record_bytes_max,
        }
    }

    /// Reads the next row; false behind the last one.
    fn read_row(&mut self) -> Result<bool, Fault> {
        self.reader.get_mut().left = self.record_bytes_max + CHUNK;
        let line = self.reader.position().line();
        let read = self.reader.read_byte_record(&mut self.row);
        if self.reader.get_ref().used_up {
            return Err(too_large(self.record_bytes_max));
        }
        let read = read.map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => Fault::Read(error),
            other => Fault::Broken(format!("{other:?}")),
        })?;
        let tail = &self.tail[..];
        if read && self.row.len() == 1 && self.row.as_slice() == tail {
            return Ok(false);
        }
        // The end was swallowed by a field.
        if !read || self.row.as_slice().trim_ascii_end().ends_with(tail) {
            return Err(Fault::Broken(format!(
                "a quoted field is not closed, in the row that starts in line {line}"
            )));
        }
        Ok(true)
    }

    /// Takes the names of the columns from the options or from this row, the
    /// first one.
    fn name_columns(&mut self) -> Result<(), Fault> {
        let names: Vec<String> = match (self.options.header, self.options.columns.is_empty()) {
            (true, _) => self
                .row
                .iter()
                .map(|name| std::str::from_utf8(name).map(str::to_string))
                .collect::<Result<_, _>>()
                .map_err(|_| Fault::Broken("the header is not UTF-8".into()))?,
            (false, false) => self.options.columns.clone(),
            (false, true) => (1..=self.row.len()).map(|number| format!("column_{number}")).collect(),
        };
        let mut seen = HashSet::new();
        for name in &names {
            if name.trim().is_empty() {
                return Err(Fault::Broken("a column has no name".into()));
            }
            if !seen.insert(name) {
                return Err(Fault::Broken(format!("two columns are named `{name}`")));
            }
        }
        for name in &names {
            let mut key = string(name)?;
            key.push(b':');
            self.keys.push(key);
        }
        Ok(())
    }

    /// Writes the row as JSON, or as itself if it is no such thing.
    fn write(&mut self) -> Result<(), Fault> {
        self.json.clear();
        if self.row.len() != self.keys.len()
            || self.row.iter().any(|field| std::str::from_utf8(field).is_err())
        {
            let mut writer = csv::WriterBuilder::new()
                .delimiter(self.options.delimiter)
                .flexible(true)
                .from_writer(std::mem::take(&mut self.json));
            writer.write_byte_record(&self.row).map_err(|e| Fault::Broken(e.to_string()))?;
            self.json = writer.into_inner().map_err(|e| Fault::Broken(e.to_string()))?;
            if self.json.last() == Some(&b'\n') {
                self.json.pop();
            }
            return Ok(());
        }
        self.json.push(b'{');
        for (key, field) in self.keys.iter().zip(&self.row) {
            if self.json.len() > 1 {
                self.json.push(b',');
            }
            self.json.extend_from_slice(key);
            let field = std::str::from_utf8(field).unwrap_or_default();
            serde_json::to_writer(&mut self.json, field).map_err(|e| Fault::Broken(e.to_string()))?;
        }
        self.json.push(b'}');
        Ok(())
    }
}

/// A JSON string.
fn string(text: &str) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(text).map_err(|e| Fault::Broken(e.to_string()))
}

impl Records for Rows {
    fn find(&mut self) -> Result<bool, Fault> {
        if self.found || self.ended {
            return Ok(self.found);
        }
        if self.keys.is_empty() {
            if !self.read_row()? {
                self.ended = true;
                return Ok(false);
            }
            self.name_columns()?;
            if self.options.header && !self.read_row()? {
                self.ended = true;
                return Ok(false);
            }
        } else if !self.read_row()? {
            self.ended = true;
            return Ok(false);
        }
        self.write()?;
        if self.json.len() > self.record_bytes_max {
            return Err(too_large(self.record_bytes_max));
        }
        self.found = true;
        Ok(true)
    }

    fn found(&self) -> (&[u8], u64) {
        (&self.json, self.number)
    }

    fn pass(&mut self) {
        if std::mem::take(&mut self.found) {
            self.number += 1;
        }
    }
}
