//! Which record a row of a file is of.

use std::ops::Range;

use lakeward_model::Offset;

/// The record of every row of a batch's data files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// The offset of the batch's first record.
    pub(super) first: Offset,
    /// The record of every row, from the first.
    pub(super) records: Vec<u32>,
    /// For each data file its rows, in order.
    pub(super) files: Vec<Vec<Range<usize>>>,
}

impl Origins {
    /// The record that a row is of: the `row`-th of the data file with this
    /// index in the batch. `None` if there is no such row.
    #[must_use]
    pub fn of(&self, file: usize, row: u64) -> Option<Offset> {
        let mut left = usize::try_from(row).ok()?;
        for run in self.files.get(file)? {
            if left < run.len() {
                let record = self.records.get(run.start + left)?;
                return Some(self.first.plus(u64::from(*record)));
            }
            left -= run.len();
        }
        None
    }
}
