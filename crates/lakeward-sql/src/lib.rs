//! SQL on records and on the lake.

pub mod query;
pub mod transform;

pub use transform::SqlTransform;
