//! Catalogs: where readers look up tables.

pub mod glue;
pub mod hive;
