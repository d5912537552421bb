//! The journal's settings.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The journal's settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a segment file grows to, in bytes; a stream's first segments are
    /// smaller. What is trimmed is trimmed by whole segments. Default 64 MiB.
    pub segment_bytes: u64,
    /// What all segment files may take of the disk, in bytes, with the room
    /// that is preallocated. Above it appends answer
    /// [`AppendError::Full`](crate::AppendError::Full). Default 10 GiB.
    pub disk_bytes_max: u64,
    /// How long a request key is remembered. Default 1 h.
    pub request_key_window: Duration,
    /// How many request keys are remembered for a stream, at about 200 bytes
    /// of memory each; the oldest are forgotten first. Default 65,536.
    pub request_keys_max: usize,
    /// The most bytes of records in one append. Default 64 MiB.
    pub frame_bytes_max: u64,
    /// How many appends of one stream may wait for the disk; more wait for
    /// their turn to wait. Default 1,024.
    pub queue_appends_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            disk_bytes_max: 10 << 30,
            request_key_window: Duration::from_secs(3600),
            request_keys_max: 65_536,
            frame_bytes_max: 64 << 20,
            queue_appends_max: 1024,
        }
    }
}

/// A stream's first segment, in bytes; each one after it is twice as large.
/// Many streams that get little then take little.
pub(crate) const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// What the journal takes of the disk, and may take.
#[derive(Debug)]
pub(crate) struct Space {
    used: AtomicU64,
    max: u64,
    full: AtomicBool,
}

impl Space {
    pub(crate) fn new(max: u64) -> Self {
        Self { used: AtomicU64::new(0), max, full: AtomicBool::new(false) }
    }

    /// Counts what is there already, whatever the limit says.
    pub(crate) fn count(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes `wanted` bytes, or less if there is less, but not below `needed`.
    pub(crate) fn reserve(&self, needed: u64, wanted: u64) -> Option<u64> {
        let mut granted = 0;
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            granted = wanted.min(self.max.saturating_sub(used));
            (granted >= needed).then_some(used + granted)
        });
        self.full.store(taken.is_err(), Ordering::Relaxed);
        taken.is_ok().then_some(granted)
    }

    /// Gives bytes back.
    pub(crate) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if bytes > 0 {
            self.full.store(false, Ordering::Relaxed);
        }
    }

    /// Gives back bytes that the disk did not have.
    pub(crate) fn refused(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.full.store(true, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether the last segment that was asked for could not be had.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}
