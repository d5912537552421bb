//! What there is, said without the Export API: what tests compare with.

use std::io::{self, Write};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Options;
use super::export::json_bytes;
use super::hour::Hour;
use super::plan::HourPlan;

/// Which hours the oracle is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The first hour.
    pub from: Hour,
    /// The first hour that is not meant any more.
    pub to: Hour,
    /// Also how many bytes of JSON they are, for which all must be made.
    pub bytes: bool,
}

/// What an hour holds once it is complete.
#[derive(Debug, Serialize)]
struct Truth {
    hour: Hour,
    events: u64,
    /// The numbers of the members.
    parts: Vec<u64>,
    /// All uuids, exclusive or.
    uuids_xor: String,
    /// SHA-256 of the sorted uuids, each with a newline: what `sort | sha256sum`
    /// says.
    uuids_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Asked {
    fn hours(self, options: &Options) -> impl Iterator<Item = HourPlan> {
        let (from, to) = (self.from.max(options.from), self.to.min(options.to));
        from.to(to).map(|hour| HourPlan::of(options, hour))
    }
}

/// One line of JSON for each hour, empty hours too.
///
/// # Errors
/// `out`'s.
pub fn oracle(options: &Options, asked: Asked, mut out: impl Write) -> io::Result<()> {
    for plan in asked.hours(options) {
        let mut ids: Vec<_> = (0..plan.events).map(|index| plan.uuid(options.seed, index)).collect();
        ids.sort_unstable();
        let mut hash = Sha256::new();
        let mut text = uuid::Uuid::encode_buffer();
        for id in &ids {
            hash.update(id.as_hyphenated().encode_lower(&mut text).as_bytes());
            hash.update(b"\n");
        }
        let truth = Truth {
            hour: plan.hour,
            events: plan.events,
            parts: plan.parts.iter().map(|part| part.number).collect(),
            uuids_xor: uuid::Uuid::from_u128(ids.iter().fold(0, |xor, id| xor ^ id.as_u128())).to_string(),
            uuids_sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            bytes: asked.bytes.then(|| json_bytes(options, &plan)),
        };
        serde_json::to_writer(&mut out, &truth)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Every uuid of the hours on a line of its own, in the events' order.
pub(super) fn uuids(options: &Options, asked: Asked, mut out: impl Write) -> io::Result<()> {
    for plan in asked.hours(options) {
        for index in 0..plan.events {
            writeln!(out, "{}", plan.uuid(options.seed, index))?;
        }
    }
    out.flush()
}
