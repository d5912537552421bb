//! Where records are pulled from.

pub mod amplitude;
pub mod kinesis;
mod schedule;

pub use schedule::ScheduleConfig;
