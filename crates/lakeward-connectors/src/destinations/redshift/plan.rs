//! The statements that load a batch, whatever way they are run.

use lakeward_model::{Batch, DataFile, Failure};

use super::RedshiftTable;
use super::copy::Purpose;
use super::staging::Staged;
use crate::destinations::sql::Dialect;
use crate::destinations::sql::merge::Merge;

/// What is run while the ledger is locked and has no row of the batch.
#[derive(Debug)]
pub(super) struct Plan {
    /// Before the COPY.
    pub(super) before: Vec<String>,
    pub(super) copy: String,
    /// How many rows it has to load.
    pub(super) rows: u64,
    /// Behind it; the ledger's row is the last.
    pub(super) after: Vec<String>,
}

impl RedshiftTable {
    /// `names` are those of the batch's columns in the table.
    pub(super) fn plan(
        &self,
        names: &[String],
        batch: &Batch,
        files: &[(usize, &DataFile)],
        staged: &Staged,
    ) -> Result<Plan, Failure> {
        let target = &self.connection.table;
        let merge = self
            .merge
            .as_ref()
            .map(|merge| Merge::new(Dialect::Redshift, merge, target, names, batch.id))
            .transpose()
            .map_err(|problem| self.connection.refused(problem))?;
        let into = merge.as_ref().map_or_else(|| target.to_string(), |merge| merge.stage.clone());
        let rows = files.iter().map(|(_, file)| file.rows).sum();
        let mut after = merge.as_ref().map(Merge::finish).unwrap_or_default();
        after.push(self.connection.ledger.entry(batch.id, &target.to_string(), rows, files.len()));
        Ok(Plan {
            before: merge.iter().map(Merge::begin).collect(),
            copy: self.copy.text(&into, names, &batch.columns, &staged.manifest, Purpose::Load),
            rows,
            after,
        })
    }
}
