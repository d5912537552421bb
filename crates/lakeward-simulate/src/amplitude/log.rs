//! What was asked and what was answered, for tests and the curious.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lakeward_model::Timestamp;
use serde::Serialize;

use super::hour::Hour;
use super::script::What;

/// Requests that are remembered; older ones are forgotten.
const ENTRIES_MAX: usize = 20_000;

/// A request.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    /// Counted from 1.
    pub(super) number: u64,
    /// The simulated instant.
    at: String,
    /// The window, both hours included.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Hour>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Hour>,
    /// Which try of this window.
    attempt: u64,
    status: u16,
    /// What was done on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    misbehaviour: Option<What>,
    /// Events of the hours that were there, whatever became of the body.
    events: u64,
    /// Bytes of the body that were sent so far.
    bytes: AtomicU64,
    /// The body was sent to its end, right or wrong.
    finished: AtomicBool,
}

/// What an entry says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer {
    pub(super) window: Option<(Hour, Hour)>,
    pub(super) attempt: u64,
    pub(super) status: u16,
    pub(super) misbehaviour: Option<What>,
    pub(super) events: u64,
}

impl Entry {
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn finished(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }
}

/// The latest requests.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Arc<Entry>>,
    count: u64,
}

impl Log {
    pub(super) fn add(&self, at: Timestamp, answer: Answer) -> Arc<Entry> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        let entry = Arc::new(Entry {
            number: kept.count,
            at: at.to_string(),
            start: answer.window.map(|(start, _)| start),
            end: answer.window.map(|(_, end)| end),
            attempt: answer.attempt,
            status: answer.status,
            misbehaviour: answer.misbehaviour,
            events: answer.events,
            bytes: AtomicU64::new(0),
            finished: AtomicBool::new(answer.status != 200),
        });
        if kept.entries.len() == ENTRIES_MAX {
            kept.entries.pop_front();
        }
        kept.entries.push_back(Arc::clone(&entry));
        entry
    }

    /// The requests behind this number.
    pub(super) fn after(&self, number: u64) -> Vec<Arc<Entry>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.iter().filter(|entry| entry.number > number).cloned().collect()
    }
}
