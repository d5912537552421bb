//! What is stored beside the records: Livestream has no place to read again
//! from, so this only counts, and remembers what may be done once only.

use bytes::Bytes;
use lakeward_model::{Cursor, Timestamp};
use serde::{Deserialize, Serialize};

use super::config::Reset;

const VERSION: u32 = 1;

/// How far a Livestream is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Tells this cursor from those of other sources.
    pub(super) adobe_livestream: u32,
    /// The Livestream's whole name.
    pub(super) stream: String,
    /// Records appended, ever.
    pub(super) records: u64,
    /// Connections made, ever, as far as records came after them.
    pub(super) connects: u64,
    /// When the last of them was made, in microseconds since 1970.
    pub(super) connected_at: Option<i64>,
    /// With which reset each connection began its first life.
    pub(super) resets: Vec<Option<Reset>>,
}

impl Progress {
    /// Nothing yet.
    pub(super) fn new(stream: String) -> Self {
        let resets = Vec::new();
        Self { adobe_livestream: VERSION, stream, records: 0, connects: 0, connected_at: None, resets }
    }

    /// What a cursor says; `None` if it is none of ours, or of a later release.
    pub(super) fn read(cursor: &Cursor) -> Option<Self> {
        let progress: Self = serde_json::from_slice(&cursor.0).ok()?;
        (progress.adobe_livestream == VERSION).then_some(progress)
    }

    /// As it is stored.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor(Bytes::from(serde_json::to_vec(self).expect("plain data")))
    }

    /// A connection was made.
    pub(super) fn connected(&mut self, at: Timestamp) {
        self.connects += 1;
        self.connected_at = Some(at.micros());
    }

    /// The reset that this connection asks for now: one that it did not begin
    /// with before.
    pub(super) fn reset_of(&self, line: usize, wanted: Option<Reset>) -> Option<Reset> {
        let before = self.resets.get(line).copied().flatten();
        wanted.filter(|wanted| before != Some(*wanted))
    }

    /// This connection began with that reset: never again.
    pub(super) fn was_reset(&mut self, line: usize, reset: Reset) {
        if self.resets.len() <= line {
            self.resets.resize(line + 1, None);
        }
        self.resets[line] = Some(reset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_stable() {
        let mut progress = Progress::new("adobe-livestream-acme".into());
        progress.records = 7;
        progress.connected(Timestamp(5));
        progress.was_reset(1, Reset::Smallest);
        let stored = r#"{"adobe_livestream":1,"stream":"adobe-livestream-acme","records":7,"connects":1,"connected_at":5,"resets":[null,"smallest"]}"#;
        assert_eq!(progress.cursor().0, stored);
        assert_eq!(Progress::read(&progress.cursor()), Some(progress));
        for other in ["", "{}", r#"{"stream":"x"}"#, &stored.replace(":1,\"stream", ":2,\"stream")] {
            assert_eq!(Progress::read(&Cursor(Bytes::copy_from_slice(other.as_bytes()))), None, "{other}");
        }
    }

    #[test]
    fn a_reset_is_used_once() {
        let mut progress = Progress::new(String::new());
        assert_eq!(progress.reset_of(0, None), None);
        assert_eq!(progress.reset_of(1, Some(Reset::Largest)), Some(Reset::Largest));
        progress.was_reset(1, Reset::Largest);
        assert_eq!(progress.reset_of(1, Some(Reset::Largest)), None);
        assert_eq!(progress.reset_of(0, Some(Reset::Largest)), Some(Reset::Largest));
        assert_eq!(progress.reset_of(1, Some(Reset::Smallest)), Some(Reset::Smallest));
    }
}
