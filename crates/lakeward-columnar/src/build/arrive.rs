//! Records on their way in: processed and decoded, block by block.

use std::borrow::Cow;

use lakeward_model::{Offset, RecordBlock, Records, Timestamp};

use super::files::Places;
use super::slices::Slices;
use super::sources::Sources;
use super::{BuildError, Input, ShapeError};
use crate::decode::{DecodeError, DecodeOptions, Decoded, Decoder};
use crate::dedup::{Key, content_key};
use crate::process::{Outcome, Processor, Reason, Stage, lineage, raw};
use crate::quarantine::Quarantined;
use crate::shape::{Contract, DedupKey};

/// What is known of a batch's records besides their rows.
#[derive(Default)]
pub(super) struct Arrived {
    /// For each block: the index of its first record, and its arrival.
    pub(super) arrivals: Vec<(u32, Timestamp)>,
    /// Which slices the records are of.
    pub(super) slices: Slices,
    /// What the path asks of where they came from.
    pub(super) sources: Sources,
    /// The offset of the first record; the others follow without a gap.
    pub(super) first: Offset,
    /// How many records there are.
    pub(super) records: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Those that failed while their bytes were at hand, by ascending index.
    pub(super) quarantined: Vec<(u32, Quarantined)>,
    /// For each piece its record; `None` if every record is one piece.
    pub(super) piece_records: Option<Vec<u32>>,
    /// For each piece the values of the path's partition keys, if it has any.
    pub(super) partition_keys: Vec<Vec<String>>,
    /// For each record the key of its bytes, if duplicates are told by them.
    pub(super) content_keys: Vec<Key>,
    /// Those that failed later, by ascending index.
    pub(super) late: Vec<(u32, Reason)>,
}

impl Arrived {
    /// Nothing yet.
    pub(super) fn new(places: &Places) -> Self {
        Self { sources: places.sources(), ..Self::default() }
    }

    /// Notes a block; the index of its first record.
    pub(super) fn begin(&mut self, input: &Input<'_>, block: &RecordBlock) -> Result<u32, DecodeError> {
        let too_large = DecodeError::TooLarge { limit: u64::from(u32::MAX) };
        let count = block.records.len() as u64;
        let first = u32::try_from(self.records + count).map_err(|_| too_large)? - block.records.len() as u32;
        if self.arrivals.is_empty() {
            self.first = block.first;
        }
        self.arrivals.push((first, block.received_at));
        self.slices.note(block, first);
        self.sources.note(block, first);
        if let (Some((_, seed)), Some(dedup)) = (input.seen, &input.shape.dedup)
            && dedup.key == DedupKey::Content
        {
            let keys = block.records.iter().map(|record| content_key(record, block.received_at, seed));
            self.content_keys.extend(keys);
        }
        self.records += count;
        self.bytes += block.records.data.len() as u64;
        Ok(first)
    }

    /// Processes a block, and quarantines what fails at that. `None`: its
    /// records are its pieces, as they came.
    pub(super) fn process(
        &mut self,
        processor: &Processor<'_>,
        block: &RecordBlock,
        first: u32,
        outcomes: &mut dyn Iterator<Item = Outcome>,
    ) -> Option<Records> {
        if self.piece_records.is_none() && processor.leaves(block) {
            return None;
        }
        let processed = processor.after_lambda(processor.before_lambda(block), outcomes);
        let pieces = processed.pieces;
        for failed in &pieces.failed {
            self.quarantine(block, first, failed.record, failed.reason.clone());
        }
        // Up to here every record was one piece.
        let of = self.piece_records.get_or_insert_with(|| (0..first).collect());
        match &pieces.of {
            Some(records) => of.extend(records.iter().map(|record| first + record)),
            None => of.extend((0..pieces.records.len() as u32).map(|record| first + record)),
        }
        self.partition_keys.extend(processed.keys);
        Some(pieces.records)
    }

    /// Keeps the bytes of the record at `index` of the newest block.
    fn quarantine(&mut self, block: &RecordBlock, first: u32, index: u32, reason: Reason) {
        let record = first + index;
        // The first reason is the one that is told.
        if let Err(at) = self.quarantined.binary_search_by_key(&record, |(known, _)| *known) {
            self.quarantined.insert(at, (record, quarantined(block, index, reason)));
        }
    }

    /// The record of a piece.
    pub(super) fn record_of(&self, piece: u32) -> u32 {
        self.piece_records.as_ref().map_or(piece, |records| records[piece as usize])
    }

    /// The place of a record in the stream.
    pub(super) fn offset_of(&self, record: u32) -> Offset {
        self.first.plus(u64::from(record))
    }

    /// Whether a record failed.
    pub(super) fn has_failed(&self, record: u32) -> bool {
        self.quarantined.binary_search_by_key(&record, |(known, _)| *known).is_ok()
            || self.late.binary_search_by_key(&record, |(known, _)| *known).is_ok()
    }

    /// Notes that records failed whose bytes are not at hand any more.
    pub(super) fn fail_late(&mut self, failed: impl IntoIterator<Item = (u32, Reason)>) {
        self.late.extend(failed);
        self.late.sort_by_key(|(record, _)| *record);
        self.late.dedup_by_key(|(record, _)| *record);
    }

    /// Fetches the bytes of the records that failed late.
    pub(super) fn read_late_failures<E, B>(&mut self, blocks: impl FnOnce() -> B) -> Result<(), BuildError<E>>
    where
        E: std::error::Error + 'static,
        B: Iterator<Item = Result<RecordBlock, E>>,
    {
        let late = std::mem::take(&mut self.late);
        let mut late = late.into_iter().peekable();
        let mut first = 0;
        if late.peek().is_none() {
            return Ok(());
        }
        for block in blocks() {
            let block = block.map_err(BuildError::Read)?;
            let end = first + block.records.len() as u32;
            while let Some((record, reason)) = late.next_if(|(record, _)| *record < end) {
                self.quarantined.push((record, quarantined(&block, record - first, reason)));
            }
            if late.peek().is_none() {
                // Stable: what failed early keeps its first reason.
                self.quarantined.sort_by_key(|(record, _)| *record);
                self.quarantined.dedup_by_key(|(record, _)| *record);
                return Ok(());
            }
            first = end;
        }
        unreachable!("the same records are read again");
    }
}

/// The record at `index` of a block, with its bytes.
fn quarantined(block: &RecordBlock, index: u32, reason: Reason) -> Quarantined {
    let index = index as usize;
    let start = if index == 0 { 0 } else { block.records.ends[index - 1] as usize };
    let end = block.records.ends[index] as usize;
    Quarantined {
        offset: Offset(block.first.0 + index as u64),
        received_at: block.received_at,
        reason,
        data: block.records.data[start..end].to_vec(),
    }
}

/// The records of a batch that is being decoded.
pub(super) struct Arriving<'a> {
    input: &'a Input<'a>,
    processor: Processor<'a>,
    decoder: Decoder,
    arrived: Arrived,
    rejected: usize,
}

impl<'a> Arriving<'a> {
    pub(super) fn new(input: &'a Input<'a>, places: &Places) -> Result<Self, ShapeError> {
        let shape = input.shape;
        let schema = input.schemas.input.as_ref().filter(|_| input.sql.is_some());
        let options = DecodeOptions {
            columns: shape.columns.clone(),
            column_limit: shape.column_limit,
            expected_bytes: input.expected_bytes,
            // With SQL the contract is about what it gives: see `rows`.
            contract: if input.sql.is_some() { Contract::Evolve } else { shape.contract },
            only: input.sql.and_then(|sql| sql.reads()).map(<[String]>::to_vec),
            ..DecodeOptions::default()
        };
        let empty = crate::schema::TableSchema::default();
        let known = match input.sql {
            Some(_) => schema.unwrap_or(&empty),
            None => &input.schemas.table,
        };
        Ok(Self {
            input,
            processor: places.processor(&shape.processing)?,
            decoder: Decoder::new(known, options),
            arrived: Arrived::new(places),
            rejected: 0,
        })
    }

    /// Takes a block.
    pub(super) fn take(
        &mut self,
        block: &RecordBlock,
        outcomes: &mut dyn Iterator<Item = Outcome>,
    ) -> Result<(), ShapeError> {
        let first = self.arrived.begin(self.input, block)?;
        let pieces = self.arrived.process(&self.processor, block, first, outcomes);
        let pieces = pieces.as_ref().unwrap_or(&block.records);
        let raw = if self.input.shape.raw { raw::with_raw(pieces) } else { None };
        let pieces = raw.as_ref().unwrap_or(pieces);
        match self.with_lineage(block, first, pieces) {
            Some(pieces) => self.decoder.push_records(&pieces)?,
            None => self.decoder.push_records(pieces)?,
        }
        for rejected in &self.decoder.rejected()[self.rejected..] {
            let reason = Reason {
                stage: Stage::Conversion,
                code: Cow::Borrowed(rejected.code),
                message: rejected.message.clone(),
                attempts: 1,
            };
            let record = self.arrived.record_of(rejected.record);
            self.arrived.quarantine(block, first, record - first, reason);
        }
        self.rejected = self.decoder.rejected().len();
        Ok(())
    }

    /// The newest block's pieces with the columns of their records' lineage, if
    /// there are any.
    fn with_lineage(&self, block: &RecordBlock, first: u32, pieces: &Records) -> Option<Records> {
        let keys = block.records.keys.as_ref()?;
        let with_place = self.input.shape.lineage;
        match &self.arrived.piece_records {
            None => lineage::with_lineage(pieces, keys, |piece| piece, with_place),
            Some(of) => {
                let of = &of[of.len() - pieces.len()..];
                lineage::with_lineage(pieces, keys, |piece| (of[piece] - first) as usize, with_place)
            }
        }
    }

    /// The rows of all blocks, and what else is known of them.
    pub(super) fn finish(self) -> (Decoded, Arrived) {
        (self.decoder.finish(), self.arrived)
    }
}
