//! Tests of unpacking through its public interface.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archives;
mod csv;
mod damage;
mod formats;
mod json;
mod layers;
mod limits;
mod memory;
mod parquet;
mod resume;
mod support;
