//! Where batches go to.

pub mod lake;
pub mod warehouse;
