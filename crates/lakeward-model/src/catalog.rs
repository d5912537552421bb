//! Where readers look up tables: AWS Glue and its like.

use crate::{Failure, TableDescription};

/// A catalog: what makes a lake a table for others. It takes the place of a
/// crawler.
#[async_trait::async_trait]
pub trait Catalog: Send + Sync + std::fmt::Debug {
    /// Makes the table exist with at least these columns, and these partitions
    /// of it, however much of that is there already: asking again changes
    /// nothing. What others added to the table stays.
    ///
    /// # Errors
    /// A [`Failure`]; some of it may have been done. The caller asks again
    /// with the same or more. [`crate::FailureKind::Refused`] says what
    /// somebody must change.
    async fn register(&self, registration: &Registration) -> Result<Registered, Failure>;
}

/// What a catalog is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The table.
    pub table: TableDescription,
    /// Partitions of it that are new, each once.
    pub partitions: Vec<Partition>,
    /// Whether every other partition there is was or will be registered after
    /// the table: false lets a missing table be found out
    /// ([`Registered::TableMissing`]) rather than made without them.
    pub from_the_start: bool,
}

/// One partition: a folder with files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Partition {
    /// The values of the table's partition keys, in their order. None is null:
    /// rows that have no such column.
    pub values: Vec<Option<String>>,
    /// The folder, an address that ends in `/`.
    pub location: String,
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// It is all there.
    Done {
        /// What a person should know: columns that the catalog cannot have,
        /// files that its engine cannot read.
        notes: Vec<String>,
    },
    /// The table is not there, though it was before: somebody removed it.
    /// Nothing was done; the caller starts over from the first batch.
    TableMissing,
}
