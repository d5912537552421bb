//! Reading one page of one shard.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakeward_model::{Keys, Records, Shard, ShardKey, kpl};

use super::api::{RecordsReply, Stream, is_about_the_iterator};
use super::cursor::{Position, ShardId};
use super::sequence::Sequence;
use crate::aws_json::AwsError;

/// What is to be read.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) stream: Arc<Stream>,
    pub(super) shard: ShardId,
    /// Everything up to here was read.
    pub(super) position: Position,
    /// Where Kinesis goes on, if we were there.
    pub(super) iterator: Option<String>,
    /// Whether it is unknown that Kinesis still has the record of the position.
    pub(super) unsure: bool,
    /// The last record that is wanted, if not all are.
    pub(super) until: Option<Sequence>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Read {
    /// The records behind the position, as they were received.
    pub(super) records: Records,
    /// Where that leads to.
    pub(super) position: Position,
    /// The number of the last part of the last record, if that is an aggregate;
    /// else 0. KCL counts so.
    pub(super) last_part: u64,
    /// Where Kinesis goes on; `None` at the shard's end.
    pub(super) iterator: Option<String>,
    /// See [`Job::unsure`].
    pub(super) unsure: bool,
    /// Kinesis no longer has the record of the position; others may have been
    /// lost with it.
    pub(super) gap: bool,
    /// Whether Kinesis gave no record at all.
    pub(super) empty: bool,
    /// Whether there was a record behind [`Job::until`].
    pub(super) passed: bool,
    /// How far this is behind the shard's newest record.
    pub(super) behind: Option<Duration>,
}

/// A page that could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// A call failed.
    Call(AwsError),
    /// The reply is none of Kinesis'.
    Reply(String),
}

impl From<AwsError> for ReadError {
    fn from(error: AwsError) -> Self {
        Self::Call(error)
    }
}

impl Job {
    /// Reads. Dropping the future loses nothing.
    pub(super) async fn run(self) -> Result<Read, ReadError> {
        let Self { stream, shard, position, iterator, unsure, until } = self;
        let renewed = |unsure| unsure || position.sequence().is_some();
        let (reply, unsure) = match iterator {
            Some(iterator) => match stream.records(&iterator).await {
                Err(error) if is_about_the_iterator(&error) => {
                    let iterator = stream.iterator(&shard, &position).await?;
                    (stream.records(&iterator).await?, renewed(unsure))
                }
                reply => (reply?, unsure),
            },
            None => {
                let iterator = stream.iterator(&shard, &position).await?;
                (stream.records(&iterator).await?, renewed(unsure))
            }
        };
        sift(&shard, position, unsure, until.as_ref(), reply)
    }
}

/// What a reply adds to a position.
fn sift(
    shard: &str,
    position: Position,
    unsure: bool,
    until: Option<&Sequence>,
    reply: RecordsReply,
) -> Result<Read, ReadError> {
    let behind = reply.behind();
    let empty = reply.records.is_empty();
    let number = shard.strip_prefix("shardId-").and_then(|number| number.parse().ok()).unwrap_or(u32::MAX);
    let mut out = Gathered { shard: Shard { number, created: 0 }, ..Gathered::default() };
    let (mut at, mut gap, mut last_part, mut passed) = (position, false, 0, false);
    let mut before: Option<Sequence> = None;
    for (index, record) in reply.records.into_iter().enumerate() {
        let sequence = Sequence::new(&record.sequence_number)
            .ok_or_else(|| ReadError::Reply(format!("{:?} is no sequence number", record.sequence_number)))?;
        // What comes again is passed over, by its number; so the numbers must
        // be what they should be.
        if before.is_some_and(|before| before >= sequence) {
            return Err(ReadError::Reply(format!("the sequence numbers do not ascend at {sequence}")));
        }
        before = Some(sequence.clone());
        if until.is_some_and(|until| sequence > *until) {
            passed = true;
            break;
        }
        match at.sequence().map(|known| sequence.cmp(known)) {
            Some(std::cmp::Ordering::Less) => continue,
            Some(std::cmp::Ordering::Equal) => {
                if let Position::Inside(_, taken) = at {
                    let parts = kpl::deaggregate(&record.data).unwrap_or_default();
                    let skip = usize::try_from(taken).unwrap_or(usize::MAX).saturating_add(1);
                    for part in parts.iter().skip(skip) {
                        out.push(part.partition_key, part.data);
                    }
                    last_part = u64::try_from(parts.len().saturating_sub(1)).unwrap_or(u64::MAX);
                    at = Position::Behind(sequence);
                }
                continue;
            }
            Some(std::cmp::Ordering::Greater) => gap |= unsure && index == 0,
            None => {}
        }
        out.push(&record.partition_key, &record.data);
        last_part = kpl::deaggregate(&record.data).map_or(0, |parts| parts.len() as u64 - 1);
        at = Position::Behind(sequence);
    }
    let iterator = reply.next_shard_iterator;
    let (records, unsure) = (out.records(), unsure && empty);
    Ok(Read { records, position: at, last_part, iterator, unsure, gap, empty, passed, behind })
}

/// Records one behind the other, with their keys.
struct Gathered {
    shard: Shard,
    data: Vec<u8>,
    ends: Vec<u32>,
    keys: Vec<u8>,
    key_ends: Vec<u32>,
}

impl Default for Gathered {
    fn default() -> Self {
        let shard = Shard { number: 0, created: 0 };
        Self { shard, data: Vec::new(), ends: Vec::new(), keys: Vec::new(), key_ends: Vec::new() }
    }
}

impl Gathered {
    fn push(&mut self, partition_key: &str, data: &[u8]) {
        let end = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a reply is far below 4 GiB");
        self.data.extend_from_slice(data);
        self.ends.push(end(&self.data));
        ShardKey { shard: self.shard, partition_key }.write(&mut self.keys);
        self.key_ends.push(end(&self.keys));
    }

    fn records(self) -> Records {
        let keys = Keys { data: Bytes::from(self.keys), ends: self.key_ends };
        Records { data: Bytes::from(self.data), ends: self.ends, keys: Some(keys) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::api::RecordReply;
    use super::super::cursor::Start;
    use super::*;

    /// From the contract, section 4.3: two records.
    const AGGREGATE: &[u8] = b"\xf3\x89\x9a\xc2\x0a\x03pk1\x0a\x03pk2\x1a\x0b\x08\x00\x1a\x07{\"a\":1}\
        \x1a\x0b\x08\x01\x1a\x07{\"a\":2}\x88\x22\x61\x67\xd5\x73\xf3\x41\xc4\x17\x9d\xe0\xc8\x93\x13\xb1";

    fn number(text: &str) -> Sequence {
        Sequence::new(text).expect("a number")
    }

    fn reply(records: &[(&str, &[u8])]) -> RecordsReply {
        let record = |(sequence, data): &(&str, &[u8])| RecordReply {
            sequence_number: (*sequence).into(),
            data: data.to_vec(),
            partition_key: format!("key {sequence}"),
        };
        RecordsReply {
            records: records.iter().map(record).collect(),
            next_shard_iterator: Some("next".into()),
            millis_behind_latest: Some(5),
        }
    }

    fn sifted(position: Position, unsure: bool, records: &[(&str, &[u8])]) -> Read {
        sift("shardId-000000000007", position, unsure, None, reply(records)).expect("it reads")
    }

    fn texts(read: &Read) -> Vec<&str> {
        read.records.iter().map(|record| std::str::from_utf8(record).expect("text")).collect()
    }

    #[test]
    fn records_behind_the_position_come_once() {
        let read = sifted(Position::At(Start::TrimHorizon), true, &[("9", b"a"), ("10", b"b")]);
        assert_eq!((texts(&read), &read.position), (vec!["a", "b"], &Position::Behind(number("10"))));
        let keys = read.records.keys.as_ref().expect("keys");
        let shard = Shard { number: 7, created: 0 };
        assert_eq!(ShardKey::read(keys.get(1)), Some(ShardKey { shard, partition_key: "key 10" }));
        assert!(!read.gap && !read.unsure);
        let again = sifted(read.position, true, &[("9", b"a"), ("10", b"b"), ("11", b"c")]);
        assert_eq!(texts(&again), ["c"]);
        let nothing = sifted(again.position, false, &[("10", b"b"), ("11", b"c")]);
        assert_eq!((texts(&nothing), &nothing.position), (vec![], &Position::Behind(number("11"))));
    }

    #[test]
    fn a_record_that_is_gone_is_noticed() {
        let behind = || Position::Behind(number("10"));
        let check = |unsure, records: &[(&str, &[u8])], expect| {
            let read = sifted(behind(), unsure, records);
            assert_eq!((read.gap, read.unsure), expect);
        };
        check(true, &[("10", b"b"), ("11", b"c")], (false, false));
        check(true, &[("12", b"d")], (true, false));
        check(true, &[], (false, true));
        check(false, &[("12", b"d")], (false, false));
    }

    #[test]
    fn the_rest_of_an_aggregate_comes_part_by_part() {
        let inside = |part| Position::Inside(number("10"), part);
        let check = |part, expect: &[&str]| {
            let read = sifted(inside(part), true, &[("10", AGGREGATE)]);
            assert_eq!((texts(&read).as_slice(), read.last_part), (expect, 1));
            assert_eq!((read.position, read.gap), (Position::Behind(number("10")), false));
        };
        check(0, &[r#"{"a":2}"#]);
        check(1, &[]);
        check(u64::MAX, &[]);
        let plain = sifted(inside(0), true, &[("10", b"plain"), ("11", b"c")]);
        assert_eq!(texts(&plain), ["c"]);
        let whole = sifted(Position::At(Start::TrimHorizon), true, &[("10", AGGREGATE)]);
        assert_eq!((whole.records.len(), whole.last_part), (1, 1));
    }

    #[test]
    fn what_is_not_wanted_is_left() {
        let start = Position::At(Start::TrimHorizon);
        let all = reply(&[("9", b"a"), ("10", b"b"), ("11", b"c")]);
        let read = sift("s", start, false, Some(&number("10")), all).expect("it reads");
        assert_eq!((texts(&read), read.passed), (vec!["a", "b"], true));
        assert_eq!(read.position, Position::Behind(number("10")));
    }

    #[test]
    fn what_is_no_number_is_no_reply() {
        let bad = sift("s", Position::At(Start::TrimHorizon), false, None, reply(&[("latest", b"x")]));
        assert!(matches!(bad, Err(ReadError::Reply(said)) if said.contains("latest")));
        for again in ["9", "10"] {
            let start = Position::At(Start::TrimHorizon);
            let bad = sift("s", start, false, None, reply(&[("10", b"x"), (again, b"y")]));
            assert!(matches!(bad, Err(ReadError::Reply(said)) if said.contains("ascend")));
        }
    }
}
