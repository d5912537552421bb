//! Looking at what a stream holds, without touching delivery.

use std::borrow::Cow;

use lakeward_journal::{Journal, ReadError};
use lakeward_model::{Offset, RecordBlock, Span, StreamName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::control::ControlError;

/// Most records answered at a time.
const RECORDS_MAX: u64 = 1_000;
/// Most bytes read for an answer; a frame may be larger.
const BYTES_MAX: usize = 1 << 20;

/// Which records to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Those from an offset on, or from the oldest that is kept.
    Offset(Offset),
    /// The newest so many.
    Newest(u64),
}

/// A record as it was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// Its place in the stream.
    pub offset: Offset,
    /// When it was received, as ISO 8601 text.
    pub received_at: String,
    /// Its bytes, if they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Its bytes as lowercase hexadecimal digits, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_hex: Option<String>,
}

impl StoredRecord {
    fn new(offset: Offset, received_at: Timestamp, data: &[u8]) -> Self {
        let text = std::str::from_utf8(data).ok();
        Self {
            offset,
            received_at: received_at.to_string(),
            data: text.map(str::to_string),
            data_hex: text.is_none().then(|| data.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match (&self.data, &self.data_hex) {
            (Some(text), _) => Cow::Borrowed(text.as_bytes()),
            (None, Some(hex)) => {
                let digits = hex.as_bytes().chunks(2);
                let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16);
                Cow::Owned(digits.map(|pair| byte(pair).unwrap_or_default()).collect())
            }
            (None, None) => Cow::Borrowed(&[]),
        }
    }

    /// The record on one line, for a terminal: control characters escaped.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match (&self.data, &self.data_hex) {
            (Some(data), _) => {
                let line = data.trim_end_matches(['\r', '\n']);
                if line.chars().any(char::is_control) {
                    Cow::Owned(line.escape_debug().to_string())
                } else {
                    Cow::Borrowed(line)
                }
            }
            (None, Some(hex)) => Cow::Owned(format!("0x{hex}")),
            (None, None) => Cow::Borrowed(""),
        }
    }
}

pub(crate) fn read(
    journal: &Journal,
    stream: &StreamName,
    from: From,
) -> Result<Vec<StoredRecord>, ControlError> {
    let tail = journal.tail(stream).ok_or_else(|| ControlError::NotFound(stream.to_string()))?;
    let from = match from {
        From::Offset(offset) => offset.max(tail.start),
        From::Newest(count) => Offset(tail.end.0.saturating_sub(count)).max(tail.start),
    };
    let Some(span) = Span::new(from, tail.end.min(from.plus(RECORDS_MAX))) else { return Ok(Vec::new()) };
    let blocks = match journal.read(stream, from, BYTES_MAX) {
        Ok(blocks) => blocks,
        Err(ReadError::UnknownStream) => return Err(ControlError::NotFound(stream.to_string())),
        Err(error) => return Err(ControlError::Failed(error.to_string())),
    };
    Ok(blocks.iter().filter_map(|block| block.within(span)).flat_map(|block| records(&block)).collect())
}

fn records(block: &RecordBlock) -> Vec<StoredRecord> {
    let at = (block.first.0..).map(Offset);
    at.zip(block.records.iter())
        .map(|(offset, data)| StoredRecord::new(offset, block.received_at, data))
        .collect()
}
