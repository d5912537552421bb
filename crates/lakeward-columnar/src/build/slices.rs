//! What became of the records of each slice of a sliced source.

use std::ops::Range;

use lakeward_model::{Lineage, RecordBlock, SliceId};

use super::rows::distinct;

/// What became of the records of a slice that a batch holds. The first four
/// add up to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SliceCounts {
    /// Records with rows in the data files.
    pub delivered: u64,
    /// Records without any row: blank ones, or left out on purpose.
    pub filtered: u64,
    /// Records of which nothing but duplicates was left.
    pub duplicates: u64,
    /// Records in quarantine files.
    pub quarantined: u64,
    /// Rows in the data files.
    pub rows: u64,
}

impl SliceCounts {
    /// All records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.delivered + self.filtered + self.duplicates + self.quarantined
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        Self {
            delivered: self.delivered + more.delivered,
            filtered: self.filtered + more.filtered,
            duplicates: self.duplicates + more.duplicates,
            quarantined: self.quarantined + more.quarantined,
            rows: self.rows + more.rows,
        }
    }
}

/// Which records of a batch are of which slice: for each stretch of records of
/// one slice, or of none, where it starts. Empty while no record has a slice.
#[derive(Debug, Default)]
pub(super) struct Slices(Vec<(u32, Option<SliceId>)>);

impl Slices {
    /// Notes a block whose first record has the index `first` in the batch.
    pub(super) fn note(&mut self, block: &RecordBlock, first: u32) {
        let Some(keys) = &block.records.keys else {
            self.enter(first, None);
            return;
        };
        for (index, at) in (first..).zip(0..block.records.len()) {
            self.enter(index, Lineage::slice_of(keys.get(at)));
        }
    }

    fn enter(&mut self, record: u32, slice: Option<SliceId>) {
        let latest = self.0.last().and_then(|(_, latest)| *latest);
        if latest != slice {
            self.0.push((record, slice));
        }
    }

    /// Counts by slice, ascending by it, what became of all `records` of the
    /// batch. Each of the others is ascending: the record of each row, those
    /// that are duplicates, and those in quarantine.
    pub(super) fn count(
        &self,
        records: u32,
        rows: &[u32],
        duplicates: &[u32],
        quarantined: &[u32],
    ) -> Vec<(SliceId, SliceCounts)> {
        let ends = self.0.iter().skip(1).map(|(start, _)| *start).chain([records]);
        let stretches = self.0.iter().zip(ends).filter_map(|((start, slice), end)| {
            let slice = (*slice)?;
            let stretch = *start..end;
            let rows = within(rows, &stretch);
            let counts = SliceCounts {
                delivered: distinct(rows.iter().copied()),
                filtered: 0,
                duplicates: within(duplicates, &stretch).len() as u64,
                quarantined: within(quarantined, &stretch).len() as u64,
                rows: rows.len() as u64,
            };
            let filtered = u64::from(end - start).checked_sub(counts.records());
            Some((slice, SliceCounts { filtered: filtered.expect("a record ends in one way"), ..counts }))
        });
        let mut stretches: Vec<_> = stretches.collect();
        stretches.sort_by_key(|(slice, _)| *slice);
        stretches.dedup_by(|(slice, counts), (kept, sum)| {
            let is_same = slice == kept;
            if is_same {
                *sum = sum.plus(counts);
            }
            is_same
        });
        stretches
    }
}

/// Those of an ascending sequence that lie in `stretch`.
fn within<'a>(ascending: &'a [u32], stretch: &Range<u32>) -> &'a [u32] {
    let until = |end: u32| ascending.partition_point(|&record| record < end);
    &ascending[until(stretch.start)..until(stretch.end)]
}
