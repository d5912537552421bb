//! What makes a row a duplicate: keys, and the question whether they were seen.
//!
//! A key is a fingerprint of the values of the key columns and a time. The
//! fingerprint says what was meant, not how a column holds it, because types
//! change as a schema evolves: see [`row_keys`].

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use lakeward_model::Timestamp;
use xxhash_rust::xxh3::xxh3_128_with_seed;

mod hash;
#[cfg(test)]
mod tests;
mod times;

/// A row's dedup key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// 128 bits of hash of the key's values: two different keys are never
    /// taken for one in practice (at 10^12 keys, the chance that any two
    /// collide is below 10^-14).
    pub fingerprint: u128,
    /// The time that counts for the window.
    pub at: Timestamp,
}

/// The keys that earlier batches delivered. The ledger keeps them.
pub trait Seen {
    /// For each key, in order, whether its row is a duplicate: an earlier batch
    /// delivered the key, or it came before in `keys`, and less than the
    /// window lies between the two.
    ///
    /// # Errors
    /// The keys cannot be read; the batch is not built.
    fn duplicates(&self, keys: &[Key]) -> Result<Vec<bool>, SeenError>;
}

/// The keys that were delivered cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the dedup keys cannot be read: {0}")]
pub struct SeenError(#[from] pub std::io::Error);

/// Where the times of keys come from.
#[derive(Debug, Clone, Copy)]
pub struct KeyTimes<'a> {
    /// The record of each row, ascending.
    pub row_records: &'a [u32],
    /// For each block of records, its first record and when it came, ascending
    /// by record.
    pub arrivals: &'a [(u32, Timestamp)],
    /// The column (dotted path) that has the time: a timestamp or a date, ISO
    /// 8601 text, or an epoch number as [`crate::path::instant`] reads them.
    /// `None`, a missing value and a value that is no time are the arrival; a
    /// time after the arrival counts as the arrival, so that one record with a
    /// wrong clock cannot move the window over everybody else's keys.
    pub column: Option<&'a str>,
}

/// The key of each row: a fingerprint over the values of `columns`, in their
/// order. `None` for a row in which all of them are null: it has no key and is
/// never a duplicate.
///
/// A column is a name or a dotted path into structs; one that `rows` does not
/// have is null. Every type has a fingerprint, nested ones too:
///
/// - Numbers count by their value: 1, 1.0 and a decimal 1.00 are the same, so
///   that a column that widened from integers to floats knows its older keys.
///   Integers beyond 2^53 are exact as integers; as floats they are what the
///   float is.
/// - Text and binary count by their bytes; a JSON column is its text.
/// - Timestamps and dates count by their instant, whatever their unit. A
///   timestamp without a zone is UTC.
/// - In a struct, a null field and an absent one are the same, so that a new
///   field changes no older key. Lists and maps count in their order.
///
/// Values are delimited: ("a", "bc") is not ("ab", "c"), nor is "1" 1.
///
/// `seed` must be random, secret and constant for a pipeline: nobody who does
/// not know it can make two records with the same fingerprint.
///
/// # Panics
/// `row_records` is not as long as `rows`, or `arrivals` does not cover its
/// first record.
///
/// # Errors
/// Arrow cannot show a value of an exotic type (an interval out of range); the
/// configuration should name another column.
pub fn row_keys(
    rows: &RecordBatch,
    columns: &[String],
    times: &KeyTimes<'_>,
    seed: u64,
) -> Result<Vec<Option<Key>>, ArrowError> {
    assert_eq!(rows.num_rows(), times.row_records.len(), "every row has a record");
    let at = times::times(rows, times);
    let fingerprints = hash::fingerprints(rows, columns, seed)?;
    let key = |(fingerprint, at): (Option<u128>, Timestamp)| Some(Key { fingerprint: fingerprint?, at });
    Ok(fingerprints.into_iter().zip(at).map(key).collect())
}

/// The key of a whole record: its bytes as they were received, without line
/// ends behind them. One key for all rows that come of it: they are no
/// duplicates of each other. `seed` as for [`row_keys`].
#[must_use]
pub fn content_key(record: &[u8], arrival: Timestamp, seed: u64) -> Key {
    let end = record.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    let fingerprint = xxh3_128_with_seed(&record[..end], hash::Kind::Record.seed(seed));
    Key { fingerprint, at: arrival }
}
