//! A warehouse: data files are loaded into a table, quarantine files lie in a
//! lake beside it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lakeward_model::{Batch, BatchId, DataFile, DeliveredFile, Destination, Failure, Receipt, Role};

use super::lake::{Lake, ProbeResult};

/// A table that the data files of batches are loaded into. It prints as its
/// address, without secrets.
#[async_trait::async_trait]
pub trait Table: Send + Sync + fmt::Debug + fmt::Display {
    /// Loads the data files of a batch, each with its index in it, exactly once
    /// however often it is called with the same batch. Answers for each file
    /// whether it was there already.
    ///
    /// # Errors
    /// A [`Failure`]; see [`Destination::deliver`]. With [`Failure::unfit`] it
    /// is certain that nothing of the batch is stored.
    async fn load(&self, batch: &Batch, files: &[(usize, &DataFile)]) -> Result<Vec<bool>, Failure>;

    /// How many rows of each of these batches are in the table; `None` if the
    /// table cannot tell.
    ///
    /// # Errors
    /// A [`Failure`]; the caller asks again.
    async fn loaded(&self, batches: &[BatchId]) -> Result<Option<Vec<u64>>, Failure>;

    /// Tries what deliveries need, and changes nothing.
    async fn probe(&self) -> Vec<ProbeResult>;
}

/// A data file with nothing but these of its rows, as a file of the same
/// format: for finding those that a table will not take. What is wrong with the
/// file, if it cannot be cut. It is `lakeward_columnar::cut::rows`, which the
/// binary hands over.
pub type CutRows = Arc<dyn Fn(&DataFile, Range<u64>) -> Result<Bytes, String> + Send + Sync>;

/// A table, and the lake for what cannot be loaded.
#[derive(Debug)]
pub struct Warehouse {
    table: Arc<dyn Table>,
    quarantine: Lake,
}

impl Warehouse {
    /// A warehouse of these two.
    #[must_use]
    pub fn new(table: Arc<dyn Table>, quarantine: Lake) -> Self {
        Self { table, quarantine }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &dyn Table {
        &*self.table
    }

    /// Tries the table and the lake.
    pub async fn probe(&self) -> Vec<ProbeResult> {
        let mut results = self.table.probe().await;
        results.extend(self.quarantine.probe().await);
        results
    }
}

impl fmt::Display for Warehouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

#[async_trait::async_trait]
impl Destination for Warehouse {
    /// The table comes first: what it refuses goes to quarantine in files that
    /// are known only then.
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let files = || batch.files.iter().enumerate();
        let data: Vec<_> = files().filter(|(_, file)| file.role == Role::Data).collect();
        let loaded = if data.is_empty() { Vec::new() } else { self.table.load(batch, &data).await? };
        assert_eq!(loaded.len(), data.len(), "one answer for each file");
        let aside: Vec<_> = files().filter(|(_, file)| file.role != Role::Data).collect();
        let kept = aside.iter().map(|(_, file)| (*file).clone()).collect();
        let kept = self.quarantine.deliver(&Batch { files: kept, ..batch.clone() }).await?;
        let stored = |(&(index, file), already_there): (&(usize, &DataFile), bool)| {
            let bytes = file.body.len() as u64;
            let (path, role, rows) = (file.path.clone(), file.role, file.rows);
            (index, DeliveredFile { path, role, rows, bytes, already_there })
        };
        let mut all: Vec<_> = data.iter().zip(loaded).map(stored).collect();
        all.extend(aside.iter().map(|(index, _)| *index).zip(kept.files));
        all.sort_by_key(|(index, _)| *index);
        Ok(Receipt { files: all.into_iter().map(|(_, file)| file).collect() })
    }
}
