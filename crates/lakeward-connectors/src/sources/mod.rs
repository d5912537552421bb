//! Where records are pulled from.

pub mod adobe_livestream;
pub mod amplitude;
pub mod kinesis;
pub mod objects;
mod schedule;

pub use schedule::ScheduleConfig;
