//! Where records are pulled from.

pub mod kinesis;
mod schedule;

pub use schedule::ScheduleConfig;
