//! The Lakeward binary.
fn main() {}
