//! Cutting what is pending into batches. Pure: facts in, decision out.

use std::time::Duration;

use lakeward_columnar::build::Refused;
use lakeward_columnar::shape::Shape;
use lakeward_model::{BatchId, Offset, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::spec::BatchLimits;

/// A batch that will be delivered, stored before any side effect.
///
/// Everything that decides what the batch looks like is pinned here, so that a
/// restart with another configuration finishes it as it was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The identity of the batch; object names derive from it.
    pub batch: BatchId,
    /// The records it covers: of the stream, or of the replay.
    pub span: Span,
    /// The replay that its records come from, if they left quarantine again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// The pinned shape.
    pub shape: Shape,
    /// Where it goes. A restart with another destination must not finish the
    /// batch there.
    pub destination: String,
    /// How to open that destination again, for pipelines that were made
    /// through an API: theirs hold no credentials. `None` for pipelines of the
    /// configuration file, where only the file says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopen: Option<serde_json::Value>,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// About how many bytes its records have: room is made for them at once.
    #[serde(default)]
    pub source_bytes: u64,
    /// Records that the destination will never take, ascending; they go to
    /// quarantine. Known only once it refused them: nothing of the batch was
    /// stored until then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// Records that leave quarantine again, queued in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Their identity; batch ids derive from it.
    pub id: uuid::Uuid,
    /// Counts the pipeline's replays, from 0.
    pub number: u64,
}

/// One append in the journal, as far as planning is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its first record.
    pub first: Offset,
    /// How many records it holds.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// When it was received.
    pub received_at: Timestamp,
}

/// What to do about the pending records now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Plan this span.
    Cut(Span),
    /// Wait for more records, at most this long.
    Wait(Duration),
    /// Nothing is pending.
    Empty,
}

/// A batch that is filling. Every frame of the stream is looked at once.
#[derive(Debug, Clone)]
pub struct Filling {
    from: Offset,
    to: Offset,
    bytes: u64,
    oldest: Timestamp,
    full: bool,
    limits: BatchLimits,
}

impl Filling {
    /// An empty batch that starts at `from`.
    #[must_use]
    pub fn new(from: Offset, limits: BatchLimits) -> Self {
        Self { from, to: from, bytes: 0, oldest: Timestamp::default(), full: false, limits }
    }

    /// The first record that was not looked at yet.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.to
    }

    /// When the oldest record was received; the epoch if there is none.
    #[must_use]
    pub fn oldest(&self) -> Timestamp {
        self.oldest
    }

    /// Bytes of the records so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a limit is reached, so that further frames need not be looked at.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Adds the frame that holds [`Filling::next`], or what fits of it.
    ///
    /// The byte limit cuts between frames and never before the first one; the
    /// record limit cuts anywhere.
    pub fn add(&mut self, frame: &Frame) {
        assert!(!self.full && frame.first <= self.to, "frames come in order, up to the limit");
        let empty = self.to == self.from;
        if !empty && self.bytes.saturating_add(frame.bytes) > self.limits.bytes {
            self.full = true;
            return;
        }
        if empty {
            self.oldest = frame.received_at;
        }
        let by_records = self.from.plus(self.limits.records.max(1));
        self.to = frame.first.plus(frame.records).min(by_records);
        self.bytes = self.bytes.saturating_add(frame.bytes);
        self.full = self.bytes >= self.limits.bytes || self.to == by_records;
    }

    /// Decides whether the batch is due: when a limit is reached, when its
    /// oldest record is `limits.age` old (it is `age` old now), or when the pipeline drains.
    /// Successive spans tile the stream: each starts where the last ended.
    #[must_use]
    pub fn decide(&self, age: Duration, draining: bool) -> Decision {
        let Some(span) = Span::new(self.from, self.to) else { return Decision::Empty };
        if self.full || draining || age >= self.limits.age {
            Decision::Cut(span)
        } else {
            Decision::Wait(self.limits.age - age)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(bytes: u64, records: u64) -> BatchLimits {
        BatchLimits { bytes, records, age: Duration::from_secs(60) }
    }

    fn frame(first: u64, records: u64) -> Frame {
        Frame { first: Offset(first), records, bytes: records * 10, received_at: Timestamp(0) }
    }

    fn cut(from: u64, to: u64) -> Decision {
        Decision::Cut(Span { from: Offset(from), to: Offset(to) })
    }

    #[test]
    fn a_batch_is_cut_at_the_first_limit() {
        let early = Duration::from_secs(1);
        let late = Duration::from_secs(60);
        let check = |limits, frames: &[Frame], age, draining, expect| {
            let mut filling = Filling::new(Offset(5), limits);
            for frame in frames {
                if !filling.is_full() {
                    filling.add(frame);
                }
            }
            assert_eq!(filling.decide(age, draining), expect);
        };
        let two = [frame(5, 2), frame(7, 2)];
        check(limits(1000, 100), &two, early, false, Decision::Wait(Duration::from_secs(59)));
        check(limits(1000, 100), &two, late, false, cut(5, 9));
        check(limits(1000, 100), &two, early, true, cut(5, 9));
        check(limits(30, 100), &two, early, false, cut(5, 7));
        check(limits(40, 100), &two, early, false, cut(5, 9));
        check(limits(1, 100), &two, early, false, cut(5, 7));
        check(limits(1000, 3), &two, early, false, cut(5, 8));
        check(limits(1000, 4), &two, early, false, cut(5, 9));
        check(limits(1000, 1), &[frame(3, 9)], early, false, cut(5, 6));
        check(limits(1000, 4), &[], late, true, Decision::Empty);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn spans_tile_the_stream(sizes in proptest::collection::vec(1_u64..50, 1..40), records in 1_u64..60, bytes in 1_u64..800) {
            let mut frames = Vec::new();
            let mut end = 0;
            for size in sizes {
                frames.push(frame(end, size));
                end += size;
            }
            let mut at = Offset(0);
            while at < Offset(end) {
                let mut filling = Filling::new(at, limits(bytes, records));
                for frame in frames.iter().filter(|f| f.first.plus(f.records) > at) {
                    if filling.is_full() {
                        break;
                    }
                    filling.add(frame);
                }
                match filling.decide(Duration::ZERO, true) {
                    Decision::Cut(span) => {
                        prop_assert_eq!(span.from, at);
                        prop_assert!(span.records() <= records);
                        at = span.to;
                    }
                    other => prop_assert!(false, "a draining pipeline cuts what is pending, not {:?}", other),
                }
            }
            prop_assert_eq!(at, Offset(end));
        }
    }
}
