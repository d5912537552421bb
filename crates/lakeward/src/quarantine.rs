//! Records in quarantine, as commands show them.

use lakeward_columnar::quarantine::{self, Line, ReadError};
use lakeward_model::{Offset, Timestamp};

/// A record in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its place in its batch's source. Firehose's own shape has none; we add
    /// it as `lakewardOffset`.
    pub(crate) offset: Option<Offset>,
    /// When it was received; Firehose's shape has milliseconds.
    pub(crate) received_at: Timestamp,
    /// Why it is there, for machines.
    pub(crate) reason: String,
    /// Why it is there, for people.
    pub(crate) message: String,
    /// Its bytes as received.
    pub(crate) data: Vec<u8>,
}

/// The records of a quarantine file.
///
/// # Errors
/// The file is no quarantine file, or is damaged: nothing of it is to be used.
pub(crate) fn read(file: &[u8]) -> Result<Vec<Record>, ReadError> {
    let record = |line: Line| Record {
        offset: line.offset,
        received_at: line.received_at,
        reason: line.reason.code.into_owned(),
        message: line.reason.message,
        data: line.data,
    };
    Ok(quarantine::read(file)?.into_iter().map(record).collect())
}

/// Bytes on one line for people: control characters and what is no UTF-8 are
/// escaped, and no more than `width` characters are left.
pub(crate) fn one_line(data: &[u8], width: usize) -> String {
    // No more than this can be shown: four bytes a character.
    let data = &data.trim_ascii_end()[..data.trim_ascii_end().len().min(width.saturating_mul(4) + 4)];
    let text = match std::str::from_utf8(data) {
        Ok(text) => escaped(text),
        // The cut may have gone through a character.
        Err(error) if error.error_len().is_none() => {
            escaped(std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default())
        }
        Err(_) => data.escape_ascii().to_string(),
    };
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_on_one_line() {
        let check = |data: &[u8], width, expect: &str| assert_eq!(one_line(data, width), expect);
        check(b"{\"a\":1}\r\n", 20, "{\"a\":1}");
        check(b"a\tb\nc", 20, "a\\tb\\nc");
        check(b"\xff\x00a", 20, "\\xff\\x00a");
        check("äöüß".as_bytes(), 4, "äöüß");
        check("äöüßé".as_bytes(), 4, "äöü…");
        check(&"ä€".repeat(500).into_bytes(), 4, "ä€ä…");
        check(b"", 4, "");
    }
}
