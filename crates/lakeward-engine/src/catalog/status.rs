//! How far a catalog is, for people and for `lakeward status --json`.

use serde::{Deserialize, Serialize};

/// A pipeline's catalog at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogStatus {
    /// Its name: `glue database.table`.
    pub name: String,
    /// How far it is.
    #[serde(flatten)]
    pub state: CatalogState,
    /// What a person should know: columns that it cannot have, files that its
    /// engines cannot read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How far a catalog is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CatalogState {
    /// It knows every batch that was delivered.
    UpToDate,
    /// It is being told.
    Behind {
        /// Batches that it does not know, counted up to 1,000.
        batches: u64,
    },
    /// It failed and is asked again, for ever. Delivery goes on.
    Failing {
        /// Tries so far.
        attempts: u32,
        /// What it said last.
        error: String,
        /// Batches that it does not know, counted up to 1,000.
        batches: u64,
    },
}

impl CatalogStatus {
    /// A catalog that was not asked yet.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, state: CatalogState::Behind { batches: 0 }, notes: Vec::new() }
    }
}
