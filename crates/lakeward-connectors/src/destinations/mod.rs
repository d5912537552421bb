//! Where batches go to.

pub mod lake;
