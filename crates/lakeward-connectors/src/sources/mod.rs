//! Where records are pulled from.

pub mod amplitude;
pub mod kinesis;
pub mod objects;
mod schedule;

pub use schedule::ScheduleConfig;
