//! Where to go on after a restart.

use serde::{Deserialize, Serialize};

/// A place between two records of a file. The same bytes read with the same
/// options go on from it with exactly the records that are left, however large
/// the blocks were and are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Which member of the zip, counted in the order in which they are read;
    /// then which member of that member, if it is a zip itself.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) members: Vec<u32>,
    /// How many of its records were read; where `line` is set, its unpacked
    /// bytes that were read instead.
    #[serde(rename = "n")]
    pub(crate) read: u64,
    /// NDJSON: the number of the next line.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// NDJSON that nothing is around, so that `read` is a position in the file.
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) plain: bool,
}

impl Place {
    /// As stored by the caller: a short JSON text.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What [`Place::to_bytes`] gave; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let place: Self = serde_json::from_slice(bytes).ok()?;
        (!place.plain || place.line.is_some() && place.members.is_empty()).then_some(place)
    }

    /// The byte of the file at which a stream that goes on from here starts
    /// (plain NDJSON only): open [`Input::Stream`](crate::Input::Stream) with
    /// the bytes from there on. `None`: it starts at the file's first byte, and
    /// what was read is skipped. A file is always the whole file.
    #[must_use]
    pub fn byte(&self) -> Option<u64> {
        self.plain.then_some(self.read)
    }
}
