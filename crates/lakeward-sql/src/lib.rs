//! SQL on records and on the lake.

pub mod query;
