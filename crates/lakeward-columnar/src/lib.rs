//! Records to columns to files: decode, partition, encode.
//!
//! Invariant: nothing here does I/O, awaits, or reads a clock. The same input
//! gives the same batch, so that a retry is a rebuild.

pub mod build;
pub mod cut;
pub mod decode;
pub mod dedup;
pub mod encode;
pub mod fit;
pub mod path;
pub mod process;
pub mod quarantine;
pub mod schema;
pub mod shape;
pub mod table;
pub mod transform;

pub use lakeward_model::dotted;

#[cfg(test)]
mod drifting;
#[cfg(test)]
mod reassemble;
