//! The tests of this crate that use it from outside.

mod transform;
