//! The engine against faulty destinations and its own death: every record
//! exactly once.

mod bench;
mod catalog;
mod dedup;
mod delivery;
mod pipelines;
mod recovery;
mod refused;
mod replacements;
mod replays;
mod slice_counts;
mod slices;
mod slices_failures;
mod slices_runs;
mod sources;
mod streams;
