//! From unpacked bytes to records, one format each.

mod csv;
mod json;
mod lines;
mod parquet;

use crate::error::Fault;

pub(crate) use csv::Rows;
pub(crate) use json::{Documents, looks_like_documents};
pub(crate) use lines::Lines;
pub(crate) use parquet::Table;

/// Records, one after another.
pub(crate) trait Records {
    /// Finds the next record; false at the end, which was then checked. The same
    /// one again until it is passed.
    fn find(&mut self) -> Result<bool, Fault>;

    /// The record that was found, and its line or number.
    fn found(&self) -> (&[u8], u64);

    /// Passes the record that was found.
    fn pass(&mut self);

    /// Passes this many records; false if there are not so many.
    fn skip(&mut self, records: u64) -> Result<bool, Fault> {
        for _ in 0..records {
            if !self.find()? {
                return Ok(false);
            }
            self.pass();
        }
        Ok(true)
    }
}

/// The next record is too large.
pub(crate) fn too_large(limit: usize) -> Fault {
    Fault::Limit("record_bytes_max", format!("a record is larger than {limit} bytes"))
}
