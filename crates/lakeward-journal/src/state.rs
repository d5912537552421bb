//! What is known in memory of an open stream: where its durable records lie.

use std::collections::VecDeque;

use lakeward_model::{Cursor, Offset, Timestamp};

use crate::keys::RequestKeys;

/// A segment gets an index entry every so many bytes.
const INDEX_STEP_BYTES: u64 = 64 << 10;
/// So many of the last appends are known one by one.
const RECENT_MAX: usize = 1024;

/// One append, as far as a reader needs to know it before reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its first record.
    pub first: Offset,
    /// How many records it holds.
    pub records: u32,
    /// Bytes of those records.
    pub bytes: u64,
    /// When it was received.
    pub received_at: Timestamp,
}

impl Frame {
    /// The offset one past its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.first.plus(u64::from(self.records))
    }
}

/// Where a frame lies, and what the stream was like before it.
#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    first: u64,
    position: u64,
    /// Bytes of all records before it, counted from the open.
    bytes_before: u64,
}

/// One segment file.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The offset of its first record.
    pub(crate) first: u64,
    /// Where its durable frames end.
    pub(crate) durable: u64,
    /// What it takes of the disk.
    pub(crate) file_bytes: u64,
    /// When its newest record was received.
    pub(crate) newest: Timestamp,
    index: Vec<IndexEntry>,
}

impl Segment {
    pub(crate) fn new(first: u64, frames_at: u64, file_bytes: u64, newest: Timestamp) -> Self {
        Self { first, durable: frames_at, file_bytes, newest, index: Vec::new() }
    }
}

/// The durable part of a stream.
#[derive(Debug)]
pub(crate) struct State {
    /// Ascending, without gaps; none but the last is without records.
    pub(crate) segments: VecDeque<Segment>,
    /// The offset of the next record.
    pub(crate) end: u64,
    /// When the last record was received.
    pub(crate) received_at: Timestamp,
    /// The last cursor of a pull.
    pub(crate) cursor: Option<Cursor>,
    /// Request keys and their answers.
    pub(crate) keys: RequestKeys,
    /// Bytes of all records, counted from the open.
    bytes: u64,
    recent: VecDeque<Frame>,
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Located {
    /// The segment, by its first record.
    pub(crate) segment: u64,
    /// Where a frame starts that is not behind the wanted one.
    pub(crate) position: u64,
    /// Where the segment's durable frames end.
    pub(crate) durable: u64,
}

impl State {
    pub(crate) fn new(keys: RequestKeys) -> Self {
        Self {
            segments: VecDeque::new(),
            end: 0,
            received_at: Timestamp(i64::MIN),
            cursor: None,
            keys,
            bytes: 0,
            recent: VecDeque::new(),
        }
    }

    /// The oldest offset that can be read.
    pub(crate) fn start(&self) -> u64 {
        self.segments.front().map_or(self.end, |segment| segment.first)
    }

    /// Whether the last segment, if any, holds no records.
    pub(crate) fn last_is_empty(&self) -> bool {
        self.segments.back().is_none_or(|segment| segment.first == self.end)
    }

    /// Takes in a durable frame at `position` of the last segment.
    ///
    /// Invariant: frames come in order, without gaps.
    pub(crate) fn push(&mut self, position: u64, frame: Frame) {
        assert_eq!(frame.first.0, self.end, "frames follow one another without gaps");
        let segment = self.segments.back_mut().expect("a frame lies in a segment");
        let indexed = segment.index.last().is_some_and(|last| position < last.position + INDEX_STEP_BYTES);
        if !indexed {
            let entry = IndexEntry { first: frame.first.0, position, bytes_before: self.bytes };
            segment.index.push(entry);
        }
        segment.newest = frame.received_at;
        self.end = frame.end().0;
        self.received_at = frame.received_at;
        self.bytes += frame.bytes;
        if frame.records > 0 {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(frame);
        }
    }

    /// The segment that holds record `from` and its index entry at or before
    /// it; `None` if the record is not in the stream.
    fn find(&self, from: u64) -> Option<(usize, usize)> {
        if from < self.start() || from >= self.end {
            return None;
        }
        let segment = self.segments.partition_point(|segment| segment.first <= from).checked_sub(1)?;
        let entry =
            self.segments[segment].index.partition_point(|entry| entry.first <= from).checked_sub(1)?;
        Some((segment, entry))
    }

    /// Where to look for record `from`; `None` if it is not in the stream.
    pub(crate) fn locate(&self, from: u64) -> Option<Located> {
        let (segment, entry) = self.find(from)?;
        let segment = &self.segments[segment];
        let position = segment.index[entry].position;
        Some(Located { segment: segment.first, position, durable: segment.durable })
    }

    /// Bytes of the records from `from` on; between two index entries it is
    /// assumed that all records are of one size.
    pub(crate) fn bytes_from(&self, from: u64) -> u64 {
        let from = from.max(self.start());
        let Some((segment, entry)) = self.find(from) else { return 0 };
        let low = self.segments[segment].index[entry];
        let next = self.segments[segment].index.get(entry + 1);
        let next = next.or_else(|| self.segments.get(segment + 1)?.index.first());
        let (high, bytes) = next.map_or((self.end, self.bytes), |next| (next.first, next.bytes_before));
        let skipped = u128::from(from - low.first) * u128::from(bytes - low.bytes_before)
            / u128::from((high - low.first).max(1));
        self.bytes - low.bytes_before - u64::try_from(skipped).unwrap_or(u64::MAX)
    }

    /// The appends from the one that holds `from` on, if all of them are
    /// still known one by one.
    pub(crate) fn recent(&self, from: u64, frames_max: usize) -> Option<Vec<Frame>> {
        let known = self.recent.front().is_some_and(|oldest| oldest.first.0 <= from);
        if !known || from < self.start() {
            return None;
        }
        let after = self.recent.partition_point(|frame| frame.end().0 <= from);
        Some(self.recent.range(after..).take(frames_max).copied().collect())
    }

    /// How many of the oldest segments lie below `before` and are older than
    /// `keep_after`, never the last one; and where the stream starts without
    /// them.
    pub(crate) fn removable(&self, before: u64, keep_after: Timestamp) -> (usize, u64) {
        let nexts = self.segments.iter().skip(1).map(|next| next.first);
        let whole = self.segments.iter().zip(nexts);
        let count = whole.take_while(|(segment, end)| *end <= before && segment.newest < keep_after).count();
        (count, self.segments.get(count).map_or(self.end, |segment| segment.first))
    }

    /// Whether only the last segment is left, and all its records could go.
    pub(crate) fn is_idle(&self, before: u64, keep_after: Timestamp) -> bool {
        let last = self.segments.back().filter(|_| self.segments.len() == 1);
        last.is_some_and(|last| last.first < self.end && self.end <= before && last.newest < keep_after)
    }

    /// Forgets everything, as the stream is removed.
    pub(crate) fn clear(&mut self) {
        self.segments.clear();
        self.recent.clear();
    }
}
