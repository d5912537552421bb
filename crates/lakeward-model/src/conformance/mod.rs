//! The suites that every destination and source must pass, and the in-memory
//! and faulty ones that tests use, with a clock to set.

mod clock;
mod faulty;
mod memory;
mod slices;
mod suite;
#[cfg(test)]
mod tests;

pub use clock::TestClock;
pub use faulty::{Fault, Faulty};
pub use memory::MemoryDestination;
pub use slices::{MemorySlices, Script, plain_slice};
pub use suite::{Lookup, Subject, destination_suite, sample_batch};
