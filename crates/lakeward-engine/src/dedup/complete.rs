//! From when on a pipeline knows what it delivered.

use lakeward_columnar::shape::{Dedup, DedupKey};
use lakeward_model::{SliceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::DedupState;
use crate::ledger::{Ledger, LedgerError};

/// Since when the keys of a pipeline are remembered. What was delivered before
/// is not known: a key that is new, or that was away for a while, starts
/// without memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// The key that is remembered.
    pub key: DedupKey,
    /// The column whose time counts for the window, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Records that arrived later are known once they are delivered.
    pub since: Timestamp,
    /// Slices that were being taken then: part of them may have come before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub but: Vec<SliceId>,
}

impl Complete {
    /// Whether it is about these keys.
    #[must_use]
    pub fn is_of(&self, dedup: &Dedup) -> bool {
        (&self.key, &self.time) == (&dedup.key, &dedup.time)
    }
}

/// Notes with which keys a pipeline goes on from now on, before it delivers
/// anything with them; `but` is what was being taken before `since`.
///
/// # Errors
/// See [`LedgerError`]; nothing changed.
pub(crate) fn begin(
    ledger: &Ledger,
    pipeline: &str,
    dedup: Option<&Dedup>,
    since: Timestamp,
    but: Vec<SliceId>,
) -> Result<(), LedgerError> {
    let known = ledger.dedup(pipeline)?;
    let complete = match dedup {
        Some(dedup) => {
            let before = known.as_ref().and_then(|state| state.complete.as_ref());
            if before.is_some_and(|before| before.is_of(dedup)) {
                return Ok(());
            }
            Some(Complete { key: dedup.key.clone(), time: dedup.time.clone(), since, but })
        }
        // Keys of an unfinished batch may outlive this start; what comes after
        // it is not remembered.
        None if known.as_ref().is_none_or(|state| state.complete.is_none()) => return Ok(()),
        None => None,
    };
    // The seed is durable before the first key is made with it.
    let state = DedupState { complete, ..known.unwrap_or_else(DedupState::fresh) };
    ledger.set_dedup(pipeline, Some(&state))
}
