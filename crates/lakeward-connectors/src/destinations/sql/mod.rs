//! What PostgreSQL and Redshift have in common: a session, names and values in
//! statements, the columns of a table, what an error means, how rows that do
//! not fit are found.
//!
//! Redshift began as PostgreSQL 8.0.2 and went its own way. Statements here are
//! what both know; where they differ, [`Dialect`] says so.

pub(crate) mod columns;
mod config;
pub(crate) mod connection;
pub(crate) mod data_api;
pub(crate) mod error;
pub(crate) mod ledger;
pub(crate) mod lines;
pub(crate) mod merge;
pub(crate) mod names;
mod probe;
pub(crate) mod session;
mod tls;
pub(crate) mod unfit;
mod wire;

pub(crate) use config::{Access, resolve, table};
pub use config::{FileNeeds, MergeConfig, SqlConfigError, Tls};

/// Which of the two is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// PostgreSQL, 12 or later.
    Postgres,
    /// Amazon Redshift.
    Redshift,
}

impl Dialect {
    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redshift => "Redshift",
        }
    }
}
