//! Tests of unpacking through its public interface.

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
