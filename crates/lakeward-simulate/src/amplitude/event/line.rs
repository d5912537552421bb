//! Writing one JSON object, column by column.

use std::fmt::Display;
use std::io::Write;

use jiff::tz::Offset;

/// An object in the making; each column ends with a comma.
pub(super) struct Line<'a>(pub(super) &'a mut Vec<u8>);

impl Line<'_> {
    fn name(&mut self, name: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A value that is JSON already.
    pub(super) fn json(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.extend_from_slice(json.as_bytes());
        self.0.push(b',');
    }

    pub(super) fn null(&mut self, name: &str) {
        self.json(name, "null");
    }

    /// A value that shows itself as JSON.
    pub(super) fn value(&mut self, name: &str, value: impl Display) {
        self.name(name);
        // Writing to memory does not fail.
        let _ = write!(self.0, "{value},");
    }

    /// A text that needs no escapes, or has them; a dash is null.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        if text == "-" {
            return self.null(name);
        }
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\",");
    }

    /// A number; a dash is null.
    pub(super) fn number(&mut self, name: &str, number: &str) {
        self.json(name, if number == "-" { "null" } else { number });
    }

    /// A uuid. Where it begins.
    pub(super) fn uuid(&mut self, name: &str, id: uuid::Uuid) -> usize {
        self.name(name);
        self.0.push(b'"');
        let at = self.0.len();
        let mut text = uuid::Uuid::encode_buffer();
        self.0.extend_from_slice(id.as_hyphenated().encode_lower(&mut text).as_bytes());
        self.0.extend_from_slice(b"\",");
        at
    }

    /// An instant in microseconds as exports really have it: a space, six
    /// decimals, no zone.
    pub(super) fn time(&mut self, name: &str, micros: i64) {
        self.name(name);
        let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
        let civil = Offset::UTC.to_datetime(instant);
        let _ = write!(
            self.0,
            "\"{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}\",",
            civil.year(),
            civil.month(),
            civil.day(),
            civil.hour(),
            civil.minute(),
            civil.second(),
            micros.rem_euclid(1_000_000)
        );
    }
}
