//! Records as they are handed out.

use crate::Place;
use crate::error::Fault;
use crate::formats::Records;

/// The most records of a block: what is kept beside each of them is bounded
/// too.
const RECORDS_MAX: usize = 65_536;

/// Whole records, one after another, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The name of the zip's member that they are from; `outer.zip/inner` in a
    /// zip in a zip; `None` outside zips.
    pub member: Option<String>,
    /// All records, without what was between them.
    pub data: Vec<u8>,
    /// Where each ends in `data`, ascending; the first starts at 0.
    pub ends: Vec<u32>,
    /// The line on which each of them lies, from 1; in JSON, CSV and Parquet its
    /// number in the file or member, from 1.
    pub lines: Vec<u64>,
    /// Where to go on after the last of them.
    pub after: Place,
}

/// A block that is being filled.
pub(crate) struct Filling {
    pub(crate) data: Vec<u8>,
    pub(crate) ends: Vec<u32>,
    pub(crate) lines: Vec<u64>,
    bytes_max: usize,
}

impl Filling {
    pub(crate) fn new(bytes_max: usize, expected: usize) -> Self {
        let bytes_max = bytes_max.min(1 << 30);
        let data = Vec::with_capacity(bytes_max.min(expected));
        Self { data, ends: Vec::new(), lines: Vec::new(), bytes_max }
    }

    /// Takes records until it is full (true) or they end (false). A record that
    /// is larger than a block is a block of its own.
    pub(crate) fn fill(&mut self, records: &mut impl Records) -> Result<bool, Fault> {
        while records.find()? {
            let (record, line) = records.found();
            let fits = self.data.len() + record.len() <= self.bytes_max && self.ends.len() < RECORDS_MAX;
            if !fits && !self.ends.is_empty() {
                return Ok(true);
            }
            self.data.extend_from_slice(record);
            // Both the block and a record are at most 1 GiB.
            self.ends.push(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
            self.lines.push(line);
            records.pass();
        }
        Ok(false)
    }
}
