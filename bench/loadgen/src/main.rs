//! Load generator for the front doors.
fn main() {}
