//! Tests of fitting.

mod drifting;
mod table;
