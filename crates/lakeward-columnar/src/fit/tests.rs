//! Tests of fitting.

mod drifting;
