//! What makes a row a duplicate: keys, and the question whether they were seen.

use lakeward_model::Timestamp;

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

/// Placeholder.
#[must_use]
pub fn row_keys(
    _: &arrow::array::RecordBatch,
    _: &[String],
    _: Option<&str>,
    arrivals: &[Timestamp],
    _: u64,
) -> Vec<Option<Key>> {
    vec![None; arrivals.len()]
}

/// Placeholder.
#[must_use]
pub fn content_key(_: &[u8], _: u64, at: Timestamp) -> Key {
    Key { fingerprint: 0, at }
}
