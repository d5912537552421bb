//! Where batches go to.

pub mod clickhouse;
pub mod lake;
pub mod warehouse;
