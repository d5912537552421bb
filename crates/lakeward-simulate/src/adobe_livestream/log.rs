//! What was asked and what was answered, for tests and the curious.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// Entries that are kept; the oldest go first.
const ENTRIES_MAX: usize = 100_000;

/// One request.
#[derive(Debug, Default, Serialize)]
pub(super) struct Entry {
    /// Counted from 1.
    pub(super) number: u64,
    /// When it came.
    pub(super) at: String,
    /// `token`, `redirect` or `stream`.
    pub(super) what: &'static str,
    /// The answer's.
    pub(super) status: u16,
    /// The request's query.
    pub(super) query: String,
    /// What goes wrong with it, if that is wished.
    pub(super) misbehaviour: Option<super::script::What>,
    /// Records sent, also again.
    pub(super) records: AtomicU64,
}

impl Entry {
    pub(super) fn sent(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }
}

/// The last requests.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<(u64, VecDeque<Arc<Entry>>)>);

impl Log {
    pub(super) fn add(&self, mut entry: Entry) -> Arc<Entry> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.0 += 1;
        entry.number = log.0;
        let entry = Arc::new(entry);
        if log.1.len() == ENTRIES_MAX {
            log.1.pop_front();
        }
        log.1.push_back(Arc::clone(&entry));
        entry
    }

    pub(super) fn after(&self, number: u64) -> Vec<Arc<Entry>> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.1.iter().filter(|entry| entry.number > number).cloned().collect()
    }
}
