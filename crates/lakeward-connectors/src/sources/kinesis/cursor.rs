//! What the source's cursor says, and how it is stored.
//!
//! ```text
//! 1  version, 1
//! 1  1 if the shards are shared by leases, else 0
//! 16 with leases: this worker's id
//! 1+n the Kinesis stream's name, its length first
//!    start: where a shard begins that is not in the list
//!    shards, ascending by id, until the end
//!
//! start     1 kind: 0 oldest record, 1 time; then, of a time, 8 microseconds
//!             since 1970, little-endian
//! shard     1 kind: 0 at a start, 1 behind a record, 2 finished, 3 inside an
//!             aggregate; + 16 if the id is text, + 32 if the number is text
//!           id: what stands behind `shardId-` as a varint, or 1+n as text
//!           start, if the kind is 0
//!           sequence number, if 1 or 3: 1+n, big-endian binary or text
//!           the last part that was taken, if 3: a varint
//! ```
//! An open shard takes about 28 bytes, a finished one 3: the 65,535 bytes that
//! a cursor may have are enough for 2,000 open shards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use lakeward_model::{Cursor, Timestamp};
use uuid::Uuid;

use super::sequence::Sequence;

/// A shard's id.
pub(super) type ShardId = Arc<str>;

const VERSION: u8 = 1;
const TEXT_ID: u8 = 16;
const TEXT_NUMBER: u8 = 32;
const SHARD: &str = "shardId-";

/// Where a shard begins to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At the oldest record that there is.
    TrimHorizon,
    /// At the first record that came then or later.
    At(Timestamp),
}

/// How far a shard is read.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Position {
    /// Nothing is read.
    At(Start),
    /// All up to this record.
    Behind(Sequence),
    /// All up to a part of this record, which is an aggregate: the number is
    /// that of the last part taken. Only KCL leaves such a position behind.
    Inside(Sequence, u64),
    /// All there ever will be.
    Finished,
}

impl Position {
    /// The last record that was read, if there is one.
    pub(super) fn sequence(&self) -> Option<&Sequence> {
        match self {
            Self::Behind(sequence) | Self::Inside(sequence, _) => Some(sequence),
            Self::At(_) | Self::Finished => None,
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(Start::TrimHorizon) => f.write_str("the oldest record"),
            Self::At(Start::At(at)) => write!(f, "{at}"),
            Self::Behind(sequence) => write!(f, "behind {sequence}"),
            Self::Inside(sequence, part) => write!(f, "behind part {part} of {sequence}"),
            Self::Finished => f.write_str("the end"),
        }
    }
}

/// How far a stream is read: the cursor in its readable form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// The stream's name.
    pub(super) stream: String,
    /// Where shards begin that are not in `shards`.
    pub(super) start: Start,
    /// With leases: who we are. Drawn with the first cursor, so that it lives
    /// and dies with what we have appended.
    pub(super) worker: Option<Uuid>,
    /// Without leases all shards; with them those of which we appended
    /// something, and how far.
    pub(super) shards: BTreeMap<ShardId, Position>,
}

/// More shards than a cursor has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyShards;

/// The most bytes that the journal stores of a cursor.
const BYTES_MAX: usize = 65_535;

impl Progress {
    /// The stored form.
    pub(super) fn cursor(&self) -> Result<Cursor, TooManyShards> {
        let mut out = vec![VERSION, u8::from(self.worker.is_some())];
        if let Some(worker) = self.worker {
            out.extend_from_slice(worker.as_bytes());
        }
        put_short(&mut out, self.stream.as_bytes());
        put_start(&mut out, self.start);
        for (id, position) in &self.shards {
            put_shard(&mut out, id, position);
        }
        if out.len() > BYTES_MAX { Err(TooManyShards) } else { Ok(Cursor(Bytes::from(out))) }
    }

    /// What a stored cursor says; `None` if it is none of ours, or of a later
    /// release.
    pub(super) fn read(cursor: &Cursor) -> Option<Self> {
        let mut rest: &[u8] = &cursor.0;
        let version = take(&mut rest, 1)?[0];
        let leases = take(&mut rest, 1)?[0];
        if version != VERSION || leases > 1 {
            return None;
        }
        let worker = if leases == 1 { Some(Uuid::from_slice(take(&mut rest, 16)?).ok()?) } else { None };
        let stream = short_text(&mut rest)?.to_string();
        let start = take_start(&mut rest)?;
        let mut shards = BTreeMap::new();
        while !rest.is_empty() {
            let (id, position) = take_shard(&mut rest)?;
            shards.insert(id, position);
        }
        Some(Self { stream, start, worker, shards })
    }
}

fn put_shard(out: &mut Vec<u8>, id: &str, position: &Position) {
    let kind_at = out.len();
    out.push(match position {
        Position::At(_) => 0,
        Position::Behind(_) => 1,
        Position::Finished => 2,
        Position::Inside(..) => 3,
    });
    match number_of(id) {
        Some(number) => put_varint(out, number),
        None => {
            out[kind_at] |= TEXT_ID;
            put_short(out, id.as_bytes());
        }
    }
    if let Position::At(start) = position {
        put_start(out, *start);
    }
    if let Some(sequence) = position.sequence() {
        match sequence.bytes() {
            Some(bytes) => put_short(out, &bytes),
            None => {
                out[kind_at] |= TEXT_NUMBER;
                put_short(out, sequence.as_str().as_bytes());
            }
        }
    }
    if let Position::Inside(_, part) = position {
        put_varint(out, *part);
    }
}

fn take_shard(rest: &mut &[u8]) -> Option<(ShardId, Position)> {
    let kind = take(rest, 1)?[0];
    let id: ShardId = if kind & TEXT_ID > 0 {
        short_text(rest)?.into()
    } else {
        format!("{SHARD}{:012}", take_varint(rest)?).into()
    };
    let sequence = |rest: &mut &[u8]| {
        if kind & TEXT_NUMBER > 0 {
            Sequence::new(short_text(rest)?)
        } else {
            Sequence::from_bytes(short(rest)?)
        }
    };
    let position = match kind & !(TEXT_ID | TEXT_NUMBER) {
        0 => Position::At(take_start(rest)?),
        1 => Position::Behind(sequence(rest)?),
        2 => Position::Finished,
        3 => Position::Inside(sequence(rest)?, take_varint(rest)?),
        _ => return None,
    };
    Some((id, position))
}

/// The number in a shard's id, if the id is written as Kinesis writes it.
fn number_of(id: &str) -> Option<u64> {
    let number: u64 = id.strip_prefix(SHARD)?.parse().ok()?;
    (format!("{SHARD}{number:012}") == id).then_some(number)
}

fn put_start(out: &mut Vec<u8>, start: Start) {
    match start {
        Start::TrimHorizon => out.push(0),
        Start::At(at) => {
            out.push(1);
            out.extend_from_slice(&at.micros().to_le_bytes());
        }
    }
}

fn take_start(rest: &mut &[u8]) -> Option<Start> {
    match take(rest, 1)?[0] {
        0 => Some(Start::TrimHorizon),
        1 => Some(Start::At(Timestamp(i64::from_le_bytes(take(rest, 8)?.try_into().ok()?)))),
        _ => None,
    }
}

/// Bytes with their length, up to 255, in front. What is put here is shorter:
/// names have up to 128 bytes, sequence numbers 129.
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).expect("ids and numbers are short"));
    out.extend_from_slice(bytes);
}

fn short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(rest, 1)?[0];
    take(rest, usize::from(length))
}

fn short_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(short(rest)?).ok()
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (bytes, behind) = rest.split_at_checked(count)?;
    *rest = behind;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shard(number: u64) -> ShardId {
        format!("shardId-{number:012}").into()
    }

    fn behind(text: &str) -> Position {
        Position::Behind(Sequence::new(text).expect("a number"))
    }

    fn progress(shards: impl IntoIterator<Item = (ShardId, Position)>) -> Progress {
        Progress {
            stream: "orders".into(),
            start: Start::At(Timestamp(1_793_491_200_000_000)),
            worker: None,
            shards: shards.into_iter().collect(),
        }
    }

    #[test]
    fn the_stored_form_is_what_is_documented() {
        let stored = progress([(shard(3), behind("258")), (shard(300), Position::Finished)]).cursor();
        let mut expect = b"\x01\x00\x06orders\x01".to_vec();
        expect.extend_from_slice(&1_793_491_200_000_000_i64.to_le_bytes());
        expect.extend_from_slice(b"\x01\x03\x02\x01\x02\x02\xac\x02");
        assert_eq!(stored, Ok(Cursor(expect.into())));
    }

    #[test]
    fn two_thousand_shards_fit_and_more_are_refused() {
        let number = behind("49590338271490256608559692538361571095921575989136588898");
        let many = |count| progress((0..count).map(|n| (shard(n), number.clone()))).cursor();
        assert!(many(2_000).is_ok_and(|cursor| cursor.0.len() < 30 * 2_000));
        assert_eq!(many(3_000), Err(TooManyShards));
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        let whole = progress([
            (shard(3), behind("258")),
            (shard(4), Position::Inside(Sequence::new("7").expect("a number"), 9)),
        ]);
        let cursor = whole.cursor().expect("it fits").0;
        for length in 0..cursor.len() {
            let read = Progress::read(&Cursor(cursor.slice(..length)));
            assert_ne!(read.as_ref(), Some(&whole), "{length}");
        }
        assert_eq!(Progress::read(&Cursor(Bytes::from_static(b"\x02\x00\x00\x00"))), None);
        assert_eq!(Progress::read(&Cursor(Bytes::from_static(b"\x01\x02\x00\x00"))), None);
    }

    fn any_position() -> impl Strategy<Value = Position> {
        let number = "[0-9]{1,129}".prop_map(|text| Sequence::new(&text).expect("a number"));
        prop_oneof![
            Just(Position::Finished),
            Just(Position::At(Start::TrimHorizon)),
            any::<i64>().prop_map(|at| Position::At(Start::At(Timestamp(at)))),
            number.clone().prop_map(Position::Behind),
            (number, any::<u64>()).prop_map(|(number, part)| Position::Inside(number, part)),
        ]
    }

    proptest! {
        #[test]
        fn progress_comes_back(
            stream in "[a-zA-Z0-9_.-]{1,128}",
            worker in prop::option::of(any::<u128>()),
            at in prop::option::of(any::<i64>()),
            shards in prop::collection::btree_map(
                prop_oneof![any::<u64>().prop_map(shard), "[a-zA-Z0-9_.-]{1,128}".prop_map(ShardId::from)],
                any_position(),
                0..20,
            ),
        ) {
            let start = at.map_or(Start::TrimHorizon, |at| Start::At(Timestamp(at)));
            let progress = Progress { stream, start, worker: worker.map(Uuid::from_u128), shards };
            let cursor = progress.cursor().expect("it fits");
            prop_assert_eq!(Progress::read(&cursor), Some(progress));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Progress::read(&Cursor([&[VERSION, 0], &bytes[..]].concat().into()));
            let _ = Progress::read(&Cursor(bytes.into()));
        }
    }
}
