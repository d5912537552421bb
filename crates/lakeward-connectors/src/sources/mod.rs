//! Where records are pulled from.

pub mod kinesis;
