//! Where a pulled record came from.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::SliceId;

/// What lies beside a record that was pulled from a slice, as its key
/// ([`Keys`](crate::Keys)): which slice, and which line of which file.
///
/// Stored as `L1`, the slice's id (16 bytes, little-endian), the line (8), the
/// length of the file's name (2), the name, and the fields as JSON text without
/// braces: `"section_id":145,"category":"video"`. Columns of these fields are
/// made by copying that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage<'a> {
    /// The slice that it is a part of.
    pub slice: SliceId,
    /// The file: the object's key, or the archive's member. At most 65,535
    /// bytes.
    pub file: &'a str,
    /// The line of the file, or the number of the record in it; from 1.
    pub line: u64,
    /// What the file's name says, as members of a JSON object without braces.
    pub fields: &'a str,
}

/// What no [`ShardKey`](crate::ShardKey) starts with: its shard would be one of
/// more shards than a stream can have made.
const MARK: &[u8; 8] = b"L1\0\0\xff\xff\xff\xff";

impl<'a> Lineage<'a> {
    /// Appends the stored form. A name longer than 65,535 bytes is cut.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut file = self.file;
        while file.len() > usize::from(u16::MAX) {
            file = &file[..file.floor_char_boundary(usize::from(u16::MAX))];
        }
        let length = u16::try_from(file.len()).expect("it was cut");
        out.extend_from_slice(MARK);
        out.extend_from_slice(&self.slice.0.to_le_bytes());
        out.extend_from_slice(&self.line.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(file.as_bytes());
        out.extend_from_slice(self.fields.as_bytes());
    }

    /// Reads the stored form; `None` if it is something else.
    #[must_use]
    pub fn read(stored: &'a [u8]) -> Option<Self> {
        let rest = stored.strip_prefix(MARK)?;
        let (slice, rest) = rest.split_first_chunk()?;
        let (line, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (file, fields) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        Some(Self {
            slice: SliceId(u128::from_le_bytes(*slice)),
            file: std::str::from_utf8(file).ok()?,
            line: u64::from_le_bytes(*line),
            fields: std::str::from_utf8(fields).ok()?,
        })
    }

    /// The slice alone, for those who count.
    #[must_use]
    pub fn slice_of(stored: &[u8]) -> Option<SliceId> {
        let (slice, _) = stored.strip_prefix(MARK)?.split_first_chunk()?;
        Some(SliceId(u128::from_le_bytes(*slice)))
    }
}

/// A part of a slice's name with a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// The part's name; a column is named so.
    pub name: String,
    /// What the name says there.
    pub value: CapturedValue,
}

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapturedValue {
    /// A text.
    Text(String),
    /// A whole number, as it is written.
    Number(String),
}

impl CapturedValue {
    /// As it stands in the name.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

impl Captured {
    /// A part; a number if that is asked for and the text is one as JSON writes
    /// it.
    #[must_use]
    pub fn new(name: &str, text: &str, number: bool) -> Self {
        let is_number = number && text.parse::<i64>().is_ok_and(|value| value.to_string() == text);
        let value = if is_number { CapturedValue::Number } else { CapturedValue::Text };
        Self { name: name.into(), value: value(text.into()) }
    }

    /// Parts as [`Lineage::fields`].
    #[must_use]
    pub fn fields(parts: &[Self]) -> String {
        let mut out = String::new();
        for Self { name, value } in parts {
            let comma = if out.is_empty() { "" } else { "," };
            let name = serde_json::Value::from(name.as_str());
            let value = match value {
                CapturedValue::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
                CapturedValue::Number(digits) => digits.clone(),
            };
            write!(out, "{comma}{name}:{value}").expect("a string takes all");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ShardKey;

    #[test]
    fn parts_become_fields() {
        let parts = [
            Captured::new("section_id", "145", true),
            Captured::new("category", "vi\"deo", false),
            Captured::new("id", "007", true),
            Captured::new("n", "12", false),
        ];
        let fields = Captured::fields(&parts);
        assert_eq!(fields, r#""section_id":145,"category":"vi\"deo","id":"007","n":"12""#);
        assert!(serde_json::from_str::<serde_json::Value>(&format!("{{{fields}}}")).is_ok());
        assert_eq!(Captured::fields(&[]), "");
    }

    proptest! {
        #[test]
        fn a_lineage_comes_back(slice: u128, line: u64, file in ".{0,300}", fields in ".{0,80}") {
            let lineage = Lineage { slice: SliceId(slice), file: &file, line, fields: &fields };
            let mut stored = Vec::new();
            lineage.write(&mut stored);
            prop_assert_eq!(Lineage::read(&stored), Some(lineage));
            prop_assert_eq!(Lineage::slice_of(&stored), Some(SliceId(slice)));
            for cut in 0..stored.len().min(34 + file.len()) {
                prop_assert_eq!(Lineage::read(&stored[..cut]), None);
            }
        }

        #[test]
        fn a_shard_key_is_none(number in 0_u32..1_000_000, created in 0..u32::MAX, key in ".{1,256}") {
            let shard = crate::Shard { number, created };
            let stored = ShardKey { shard, partition_key: &key }.stored();
            prop_assert_eq!(Lineage::read(&stored), None);
            prop_assert_eq!(Lineage::slice_of(&stored), None);
        }
    }
}
