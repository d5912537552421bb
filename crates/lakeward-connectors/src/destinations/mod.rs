//! Where batches go to.

pub mod clickhouse;
pub mod lake;
pub mod postgres;
pub mod redshift;
pub mod sql;
pub mod warehouse;
