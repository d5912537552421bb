//! The dedup keys that a pipeline delivered: sorted files that never change,
//! and a small document about them that the ledger commits with
//! `delivered_to`.
//!
//! One batch's way through here: [`KeyStore::session`] answers which of its
//! keys are duplicates ([`lakeward_columnar::dedup::Seen`]); [`Session::write`]
//! makes the other keys durable as one file, which nothing refers to yet;
//! [`KeyStore::next`] makes the document that does; the ledger commits it; then
//! [`KeyStore::committed`] removes the files that it no longer names. A crash
//! between any two of these leaves the document before or the one after, and
//! perhaps files that neither names, which the next [`KeyStore::open`] removes.
//!
//! Small files are merged on a thread of their own; the merged one comes in with
//! some later document. `docs/formats/dedup.md` describes the files.
//!
//! Times are kept in whole seconds, so that an answer depends on which keys were
//! delivered and on nothing else, least of all on how files were merged: a
//! rebuilt batch is the same batch. No duplicate within the window is missed by
//! that; one that comes up to a second after the window's end may be found.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lakeward_model::Timestamp;
use serde::{Deserialize, Serialize};

mod complete;
mod filter;
mod lookup;
mod merge;
mod run;
mod session;
mod store;
mod write;

pub use complete::Complete;
pub(crate) use complete::begin;
pub use session::{Pending, Session};
pub use store::{FILTER_BYTES, KeyStore, Next};

/// What the ledger keeps of a pipeline's dedup keys. The default is that of a
/// pipeline without any, but for the seed: see [`DedupState::fresh`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DedupState {
    /// What fingerprints are seeded with, secret and constant.
    pub seed: u64,
    /// The greatest time of a key in a committed batch, in seconds since 1970.
    pub watermark: Option<i64>,
    /// Keys before this second are forgotten, whether or not a file has them
    /// still. Never goes back, not even if the window grows.
    pub horizon: Option<i64>,
    /// The files.
    pub runs: Vec<RunRef>,
    /// Since when they have every key; unknown for a pipeline that does not
    /// dedup any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<Complete>,
}

impl DedupState {
    /// The state of a pipeline that begins to dedup, with a random seed.
    #[must_use]
    pub fn fresh() -> Self {
        let (high, low) = lakeward_model::ids::fresh().as_u64_pair();
        // Both halves have bits that every uuid has; a rotation puts them apart.
        Self { seed: high ^ low.rotate_left(32), ..Self::default() }
    }

    /// How many keys the files have, forgotten ones included.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.runs.iter().map(|run| run.keys).sum()
    }

    /// How many bytes the files have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum()
    }
}

/// A file of keys, as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRef {
    /// Its name in the pipeline's folder.
    pub file: String,
    /// How many keys it has; never none.
    pub keys: u64,
    /// The second of the oldest one, since 1970.
    pub min: i64,
    /// The second of the newest one.
    pub max: i64,
    /// Its length.
    pub bytes: u64,
}

/// The keys cannot be read or written. The pipeline stops: without them it
/// would deliver duplicates.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// The file system failed; the next start tries again.
    #[error("the dedup keys in {path} failed: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that the ledger names is not there.
    #[error(
        "{path} is missing, with {keys} dedup keys in it; put it back from a copy, or remove `dedup` from the \
         pipeline, start it, and add `dedup` again: that forgets its keys, and repeats of older records are \
         delivered",
        path = path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// How many keys it had.
        keys: u64,
    },
    /// A file is not what was written.
    #[error(
        "{path} is damaged: {what}; put it back from a copy, or remove `dedup` from the pipeline, start it, and add \
         `dedup` again: that forgets its keys, and repeats of older records are delivered",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl DedupError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl From<DedupError> for lakeward_columnar::dedup::SeenError {
    fn from(error: DedupError) -> Self {
        Self(io::Error::other(error))
    }
}

/// A delivered key, as files have it; ordered as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    fingerprint: u128,
    /// Since 1970.
    seconds: i64,
}

/// The first 64 bits: what fences and filters go by.
fn high(fingerprint: u128) -> u64 {
    (fingerprint >> 64) as u64
}

fn seconds(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}

/// The most seconds that may lie between two keys of which one is a duplicate:
/// the window, rounded up. If less than the window lies between two times, at
/// most this many lie between their seconds. At most 100 years.
fn reach(window: Duration) -> i64 {
    const MAX: i64 = 100 * 366 * 86_400;
    let up = u64::from(window.subsec_nanos() > 0);
    i64::try_from(window.as_secs().saturating_add(up)).map_or(MAX, |seconds| seconds.min(MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_stable() {
        let run = RunRef { file: "a.run".into(), keys: 3, min: -1, max: 9, bytes: 70 };
        let state =
            DedupState { seed: u64::MAX, watermark: Some(9), horizon: None, runs: vec![run], complete: None };
        let stored = r#"{"seed":18446744073709551615,"watermark":9,"horizon":null,"runs":[{"file":"a.run","keys":3,"min":-1,"max":9,"bytes":70}]}"#;
        assert_eq!(serde_json::to_string(&state).unwrap(), stored);
        assert_eq!(serde_json::from_str::<DedupState>(stored).unwrap(), state);
        let key = lakeward_columnar::shape::DedupKey::Columns(vec!["id".into()]);
        let complete =
            Complete { key, time: None, since: Timestamp(5), but: vec![lakeward_model::SliceId(1)] };
        let stored = serde_json::to_string(&complete).unwrap();
        assert_eq!(
            stored,
            r#"{"key":{"columns":["id"]},"since":5,"but":["00000000000000000000000000000001"]}"#
        );
        assert_eq!(serde_json::from_str::<Complete>(&stored).unwrap(), complete);
        assert_ne!(DedupState::fresh().seed, DedupState::fresh().seed);
    }

    #[test]
    fn no_duplicate_within_the_window_is_missed() {
        for window in [1_u64, 999_999, 1_000_000, 1_000_001, 7_500_000] {
            let reach = reach(Duration::from_micros(window));
            for start in [-1_500_000_i64, -1, 0, 1, 999_999, 1_234_567] {
                let end = start + window as i64 - 1;
                assert!(seconds(Timestamp(end)) - seconds(Timestamp(start)) <= reach, "{window} {start}");
                let after = start + window as i64 + 2_000_000;
                assert!(seconds(Timestamp(after)) - seconds(Timestamp(start)) > reach, "{window} {start}");
            }
        }
        assert!(reach(Duration::MAX) < i64::from(u32::MAX));
    }
}
