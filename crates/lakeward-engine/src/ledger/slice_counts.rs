//! What became of the records of each slice, pipeline by pipeline.
//!
//! | table          | key                     | value |
//! |----------------|-------------------------|-------|
//! | `slice_counts` | pipeline, slice's id    | delivered, filtered, duplicates, quarantined, rows: five u64, little-endian |
//! | `batch_slices` | as `batches`            | the ids of the slices that the batch has records of, 16 bytes each, little-endian, ascending |
//!
//! Both are written with the batch that they count ([`Ledger::commit`]).
//! Records that leave quarantine again are of no slice: they stay counted as
//! `quarantined` here.

use lakeward_columnar::build::SliceCounts;
use lakeward_model::SliceId;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{BatchKey, Batches, Ledger, LedgerError};
use crate::ledger::BatchRecord;

/// The bytes of [`SliceCounts`].
const WIDTH: usize = 40;
/// The bytes of an id.
const ID: usize = 16;
pub(super) const COUNTS: TableDefinition<'static, (&'static str, u128), &'static [u8; WIDTH]> =
    TableDefinition::new("slice_counts");
pub(super) const OF_BATCH: Batches = TableDefinition::new("batch_slices");

impl Ledger {
    /// What became of a slice's records in a pipeline so far; zeros if it has
    /// settled none of them.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn slice_counts(&self, pipeline: &str, slice: SliceId) -> Result<SliceCounts, LedgerError> {
        Ok(self.counts_of_slices(pipeline, &[slice])?.remove(0))
    }

    /// [`Ledger::slice_counts`] of several slices, in their order, as of one
    /// moment.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn counts_of_slices(
        &self,
        pipeline: &str,
        slices: &[SliceId],
    ) -> Result<Vec<SliceCounts>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(COUNTS)?;
        slices
            .iter()
            .map(|slice| {
                let stored = table.get((pipeline, slice.0))?;
                Ok(stored.map(|stored| read_counts(stored.value())).unwrap_or_default())
            })
            .collect()
    }

    /// The slices that a committed batch has records of, ascending; none if it
    /// has none, if it was replaced, or if there is no such batch.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn slices_of_batch(&self, batch: &BatchKey) -> Result<Vec<SliceId>, LedgerError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(OF_BATCH)?;
        let stored = table.get((batch.pipeline.as_str(), batch.source.as_u128(), batch.from.0))?;
        let Some(stored) = stored else { return Ok(Vec::new()) };
        let (ids, _) = stored.value().as_chunks::<ID>();
        Ok(ids.iter().map(|id| SliceId(u128::from_le_bytes(*id))).collect())
    }
}

pub(super) fn make_tables(write: &WriteTransaction) -> Result<(), LedgerError> {
    write.open_table(COUNTS)?;
    write.open_table(OF_BATCH)?;
    Ok(())
}

/// Adds a batch's counts, which are ascending by slice.
///
/// # Panics
/// They count more records than the batch has.
pub(super) fn committed(
    write: &WriteTransaction,
    name: &str,
    record: &BatchRecord,
    slices: &[(SliceId, SliceCounts)],
) -> Result<(), LedgerError> {
    if slices.is_empty() {
        return Ok(());
    }
    let counted: u64 = slices.iter().map(|(_, counts)| counts.records()).sum();
    assert!(counted <= record.span.records(), "a record is of one slice at most");
    let mut table = write.open_table(COUNTS)?;
    let mut ids = Vec::with_capacity(slices.len() * ID);
    for (slice, counts) in slices {
        let known = table.get((name, slice.0))?.map(|stored| read_counts(stored.value()));
        let sum = known.map_or(*counts, |known| known.plus(counts));
        table.insert((name, slice.0), &write_counts(&sum))?;
        ids.extend_from_slice(&slice.0.to_le_bytes());
    }
    let key = (name, record.source().as_u128(), record.span.from.0);
    write.open_table(OF_BATCH)?.insert(key, ids.as_slice())?;
    Ok(())
}

/// Forgets what a pipeline counted: it is gone, or its stream was made anew.
/// Which slices its batches had stays, as the batches do.
pub(super) fn forget(write: &WriteTransaction, name: &str) -> Result<(), LedgerError> {
    write.open_table(COUNTS)?.retain_in((name, 0)..=(name, u128::MAX), |_, _| false)?;
    Ok(())
}

fn write_counts(counts: &SliceCounts) -> [u8; WIDTH] {
    let SliceCounts { delivered, filtered, duplicates, quarantined, rows } = *counts;
    let mut out = [0; WIDTH];
    for (place, number) in out.chunks_exact_mut(8).zip([delivered, filtered, duplicates, quarantined, rows]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    out
}

pub(super) fn read_counts(stored: &[u8; WIDTH]) -> SliceCounts {
    let (numbers, _) = stored.as_chunks::<8>();
    let number = |at: usize| u64::from_le_bytes(numbers[at]);
    SliceCounts {
        delivered: number(0),
        filtered: number(1),
        duplicates: number(2),
        quarantined: number(3),
        rows: number(4),
    }
}
