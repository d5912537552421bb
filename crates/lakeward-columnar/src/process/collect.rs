//! Gathers the pieces of a block's records, of which any may still fail.

use lakeward_model::{Keys, Records};

use super::{FailedRecord, Pieces, Processed, Reason};

/// Most bytes that a block's records may become, so that a block of bombs
/// cannot take all memory: what goes beyond fails.
const BLOCK_BYTES_MAX: u64 = if cfg!(test) { 128 << 20 } else { 1 << 30 };

/// Pieces, and what they were before the record that is being worked on.
#[derive(Debug)]
pub(super) struct Collector {
    data: Vec<u8>,
    ends: Vec<u32>,
    of: Vec<u32>,
    /// The pieces' keys and their ends, if they have any.
    beside: Option<(Vec<u8>, Vec<u32>)>,
    /// The key of the pieces that follow.
    beside_next: Vec<u8>,
    keys: Vec<Vec<String>>,
    failed: Vec<FailedRecord>,
    /// The record that is being worked on, and whether it failed.
    current: Option<(u32, bool)>,
    /// How many bytes, pieces and keys there were before it.
    before: (usize, usize, usize),
}

impl Collector {
    /// `failed` are the records that failed before.
    pub(super) fn new(expected_bytes: usize, failed: Vec<FailedRecord>) -> Self {
        Self {
            data: Vec::with_capacity(expected_bytes),
            ends: Vec::new(),
            of: Vec::new(),
            beside: None,
            beside_next: Vec::new(),
            keys: Vec::new(),
            failed,
            current: None,
            before: (0, 0, 0),
        }
    }

    /// What follows belongs to `record`; records come in ascending order.
    pub(super) fn enter(&mut self, record: u32) {
        if self.current.is_some_and(|(current, _)| current == record) {
            return;
        }
        assert!(self.current.is_none_or(|(current, _)| current < record), "records ascend");
        self.current = Some((record, false));
        self.before = (self.data.len(), self.ends.len(), self.keys.len());
    }

    /// How many more bytes there is room for.
    pub(super) fn room(&self) -> u64 {
        let beside = self.beside.as_ref().map_or(0, |(data, _)| data.len());
        BLOCK_BYTES_MAX - (self.data.len() + beside) as u64
    }

    /// A piece of the record, made of `parts`. Of a record that has failed
    /// nothing is kept.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> Result<(), Reason> {
        let (record, has_failed) = self.current.expect("a record was entered");
        if has_failed {
            return Ok(());
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if (length + self.beside_next.len()) as u64 > self.room() {
            let message = "the records that were received together have become more than 1 GiB";
            return Err(Reason::processing("record.too_large", message));
        }
        for part in parts {
            self.data.extend_from_slice(part);
        }
        self.ends.push(u32::try_from(self.data.len()).expect("a block is below 4 GiB"));
        self.of.push(record);
        if let Some((data, ends)) = &mut self.beside {
            data.extend_from_slice(&self.beside_next);
            ends.push(u32::try_from(data.len()).expect("a block is below 4 GiB"));
        }
        Ok(())
    }

    /// The key of the pieces that follow ([`Keys`]). If one has a key, all of
    /// the block have.
    pub(super) fn beside(&mut self, key: Option<&[u8]>) {
        self.beside_next.clear();
        let Some(key) = key else { return };
        assert!(self.beside.is_some() || self.ends.is_empty(), "every piece has a key, or none has");
        self.beside.get_or_insert_default();
        self.beside_next.extend_from_slice(key);
    }

    /// The partition keys of the latest piece.
    pub(super) fn keys(&mut self, keys: Vec<String>) {
        if !self.has_failed() {
            self.keys.push(keys);
        }
    }

    /// The record fails, as a whole; the first reason counts.
    pub(super) fn fail(&mut self, reason: Reason) {
        let (record, has_failed) = self.current.expect("a record was entered");
        if has_failed {
            return;
        }
        self.current = Some((record, true));
        let (bytes, pieces, keys) = self.before;
        self.data.truncate(bytes);
        self.ends.truncate(pieces);
        self.of.truncate(pieces);
        if let Some((data, ends)) = &mut self.beside {
            ends.truncate(pieces);
            data.truncate(ends.last().map_or(0, |&end| end as usize));
        }
        self.keys.truncate(keys);
        self.failed.push(FailedRecord { record, reason });
    }

    fn has_failed(&self) -> bool {
        self.current.is_some_and(|(_, has_failed)| has_failed)
    }

    /// What came together.
    pub(super) fn finish(mut self) -> Processed {
        self.failed.sort_by_key(|failed| failed.record);
        let keys = self.beside.map(|(data, ends)| Keys { data: data.into(), ends });
        let records = Records { data: self.data.into(), ends: self.ends, keys };
        let pieces = Pieces { records, of: Some(self.of), failed: self.failed };
        Processed { pieces, keys: self.keys }
    }
}
