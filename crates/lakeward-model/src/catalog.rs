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
    /// The table that was there last, in the catalog's own words
    /// ([`CatalogAnswer::made`]): another one of that name is a missing table. `None`:
    /// whichever is there.
    pub made: Option<String>,
}

/// One partition: a folder with files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// It is all there, but for what [`CatalogAnswer`] says.
    Done(CatalogAnswer),
    /// The table is not there, though it was before: somebody removed it, and
    /// perhaps made another of its name since. Nothing was done; the caller
    /// starts over from the first batch.
    TableMissing,
}

/// What a registration came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogAnswer {
    /// What a person should know: columns that the catalog cannot have, files
    /// that its engine cannot read.
    pub notes: Vec<String>,
    /// What tells the table from another one that somebody makes in its place,
    /// for instance when it was made. `None` if the catalog does not say.
    pub made: Option<String>,
    /// Partitions of the registration that the catalog has elsewhere, and where:
    /// its engines do not see the files here. They stay as they are; the caller
    /// tells somebody and may ask again.
    pub elsewhere: Vec<(Partition, String)>,
}
