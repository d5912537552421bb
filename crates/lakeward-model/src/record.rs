//! Records travel in blocks: one buffer and the ends of the records in it,
//! never one allocation per record.

use std::fmt;

use bytes::Bytes;

use crate::{Offset, Span, Timestamp};

/// Records that have no position yet: what a front door or a source hands to
/// the intake.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// All records, one after another, as received.
    pub data: Bytes,
    /// Where each record ends in `data`, ascending; the first starts at 0.
    pub ends: Vec<u32>,
    /// What came beside each record, if their door takes such a thing: see
    /// [`Keys`].
    pub keys: Option<Keys>,
}

/// A short text of bytes beside each record: for a record that came through
/// the Kinesis door or from Kinesis, a [`ShardKey`](crate::ShardKey). The
/// journal keeps them and hands them back with the records.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// All keys, one after another.
    pub data: Bytes,
    /// Where each key ends in `data`, ascending; as many as there are records.
    pub ends: Vec<u32>,
}

impl Keys {
    /// The key of the record with this number.
    ///
    /// # Panics
    /// If there is no such record.
    #[must_use]
    pub fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.data[start as usize..self.ends[number] as usize]
    }

    /// Those of the records `[from, to)`, sharing the same buffer.
    fn within(&self, from: usize, to: usize) -> Self {
        let (data, ends) = cut(&self.data, &self.ends, from, to);
        Self { data, ends }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} in {} bytes)", self.ends.len(), self.data.len())
    }
}

/// Pieces `[from, to)` of a buffer and where they end.
fn cut(data: &Bytes, ends: &[u32], from: usize, to: usize) -> (Bytes, Vec<u32>) {
    let start = from.checked_sub(1).map_or(0, |before| ends[before]);
    let end = to.checked_sub(1).map_or(0, |last| ends[last]);
    (data.slice(start as usize..end as usize), ends[from..to].iter().map(|e| e - start).collect())
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} in {} bytes)", self.len(), self.data.len())
    }
}

impl Records {
    /// Records without keys.
    #[must_use]
    pub fn new(data: Bytes, ends: Vec<u32>) -> Self {
        Self { data, ends, keys: None }
    }

    /// One record that is the whole of `data`.
    #[must_use]
    pub fn one(data: Bytes) -> Self {
        let end = u32::try_from(data.len()).expect("a record is far below 4 GiB");
        Self::new(data, vec![end])
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let record = &self.data[start..end as usize];
            start = end as usize;
            record
        })
    }
}

/// Records with their place in a stream: what the journal stores and reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBlock {
    /// The records.
    pub records: Records,
    /// The offset of the first of them.
    pub first: Offset,
    /// When the journal took them; one instant for the block.
    pub received_at: Timestamp,
}

impl RecordBlock {
    /// The offsets that the block covers, or `None` if it holds no record.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        Span::new(self.first, self.first.plus(self.records.len() as u64))
    }

    /// The part of the block inside `span`, sharing the same buffer.
    #[must_use]
    pub fn within(&self, span: Span) -> Option<Self> {
        let mine = self.span()?;
        let from = mine.from.max(span.from);
        let to = mine.to.min(span.to);
        if from >= to {
            return None;
        }
        let skip = (from.0 - mine.from.0) as usize;
        let until = (to.0 - mine.from.0) as usize;
        let (data, ends) = cut(&self.records.data, &self.records.ends, skip, until);
        let keys = self.records.keys.as_ref().map(|keys| keys.within(skip, until));
        Some(Self { records: Records { data, ends, keys }, first: from, received_at: self.received_at })
    }
}

/// A key that makes one request count once: the same key within its window
/// gets the first answer again. 1 to 256 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestKey(Bytes);

impl RequestKey {
    /// Wraps a key.
    ///
    /// Returns `None` if it is empty or longer than 256 bytes.
    #[must_use]
    pub fn new(key: impl Into<Bytes>) -> Option<Self> {
        let key = key.into();
        (1..=256).contains(&key.len()).then_some(Self(key))
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestKey({})", self.0.escape_ascii())
    }
}

/// A pull source's resume point, opaque to everything but its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(pub Bytes);

/// What makes an append happen once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A client pushed the records, perhaps with a key of its own.
    Push(Option<RequestKey>),
    /// A source pulled them; this is where it goes on from.
    Pull(Cursor),
}
