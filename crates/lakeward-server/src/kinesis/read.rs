//! Reading a shard: GetRecords, and what SubscribeToShard pushes.
//!
//! All shards lie in one journal, so a reader of one meets the records of the
//! others too. It passes over them once: its iterator moves behind everything
//! that it has looked at, not only behind what it was given.

use lakeward_model::{Offset, RecordBlock, SequenceNumber, ShardKey, Timestamp};
use minicbor::Encoder;
use serde_json::{Value, json};

use super::cbor::{self, infallible};
use super::document::State;
use super::iterator::ShardIterator;
use super::live::Live;
use super::reshard;
use super::sequence::Texts;
use super::shards::Entry;
use super::write::dry_run;
use super::{Api, Encoding, Reply, text};
use crate::aws::fault::Fault;
use crate::body::{BodyError, Reservation};

/// *GetRecords*: "The maximum size of data that GetRecords can return is 10
/// MiB", and 10,000 records.
const BYTES_MAX: usize = 10 << 20;
const RECORDS_MAX: usize = 10_000;
/// A call looks at about so much of the journal and then answers, if need be
/// with nothing and a further iterator, as AWS does too.
const SCAN_BYTES: usize = 16 << 20;
/// What is read at first; twice as much each time, up to the last.
const FIRST_READ: usize = 256 << 10;
const LAST_READ: usize = 4 << 20;

/// How much a reader takes at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// A record that was found, by its block and its number in it.
#[derive(Debug)]
struct Found {
    block: usize,
    number: usize,
    sequence: SequenceNumber,
}

/// Records of one shard, and where to go on.
#[derive(Debug)]
pub(super) struct Page {
    blocks: Vec<RecordBlock>,
    found: Vec<Found>,
    bytes: usize,
    /// Bytes of their partition keys.
    key_bytes: usize,
    /// The next record to look at.
    pub(super) next: Offset,
    /// How far behind the newest record, in milliseconds.
    pub(super) behind: i64,
    /// The shards that follow, once this one has ended.
    pub(super) children: Option<Value>,
    encryption: &'static str,
}

impl Page {
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Bytes of memory that the page holds.
    fn held(&self) -> usize {
        self.blocks.iter().map(size).sum()
    }

    /// About as many bytes as the answer has; only keys that JSON must escape
    /// make it longer.
    fn encoded(&self, encoding: Encoding) -> usize {
        let data = match encoding {
            Encoding::Json => self.bytes / 3 * 4 + self.found.len() * 4,
            Encoding::Cbor => self.bytes,
        };
        256 + data + self.key_bytes + self.found.len() * 220
    }

    /// Takes the memory for the answer, before it is made. `copies` is how often
    /// it is there at once.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn reserve(
        &self,
        encoding: Encoding,
        copies: usize,
        reservation: &mut Reservation,
    ) -> Result<(), BodyError> {
        reservation.grow(self.held() + self.encoded(encoding) * copies)
    }
}

impl Api {
    pub(super) async fn get_records(
        &self,
        input: &Value,
        encoding: Encoding,
        mut reservation: Reservation,
    ) -> Result<Reply, Fault> {
        let now = self.clock.now();
        let at = ShardIterator::open(text(input, "ShardIterator"), now)?;
        let names = self.names(&at.stream);
        let live = match self.lives.get(&at.stream).await {
            Ok(live) if live.incarnation == at.incarnation => live,
            Ok(_) => return Err(Fault::invalid_argument("Invalid ShardIterator.")),
            Err(error) => return Err(self.no_stream(&self.here(&at.stream), error)),
        };
        if input["DryRun"].as_bool() == Some(true) {
            return Err(dry_run());
        }
        if self.throttles && !live.throttle.read(at.shard, now) {
            return Err(names.throttled(lakeward_model::Shard { number: at.shard, created: 0 }));
        }
        let limit = input["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        let limits = Limits { records: limit.unwrap_or(RECORDS_MAX).min(RECORDS_MAX), bytes: BYTES_MAX };
        let page = self.page(&live, at.shard, at.offset, limits, &mut reservation).await?;
        if self.throttles {
            live.throttle.has_read(at.shard, page.bytes);
        }
        page.reserve(encoding, 1, &mut reservation).map_err(|_| names.throttled_stream())?;
        let next = page.children.is_none().then(|| at.moved(page.next, self.clock.now()).token());
        let body = page.encode(encoding, next.as_deref());
        Ok(Reply::Whole(body, Some(reservation)))
    }

    /// Reads on in a shard.
    pub(super) async fn page(
        &self,
        live: &Live,
        shard: u32,
        from: Offset,
        limits: Limits,
        reservation: &mut Reservation,
    ) -> Result<Page, Fault> {
        let names = self.names(&live.name);
        let mut page = Page {
            blocks: Vec::new(),
            found: Vec::new(),
            bytes: 0,
            key_bytes: 0,
            next: from,
            behind: 0,
            children: None,
            encryption: "NONE",
        };
        let (mut scanned, mut wanted) = (0, FIRST_READ);
        let mut jumped = false;
        loop {
            let (start, end) = self.lives.streams.ends(&live.name).ok_or_else(|| names.not_found())?;
            // What was trimmed is passed over, to the end of the shard if need be.
            page.next = page.next.max(start);
            let blocks = if page.next < end {
                let blocks = self.lives.streams.read(&live.name, page.next, wanted).await;
                blocks.map_err(|error| {
                    tracing::error!(stream = names.stream, %error, "a stream cannot be read");
                    Fault::internal()
                })?
            } else {
                Vec::new()
            };
            // What is read goes by name, and another stream may have it by now.
            if self.lives.streams.incarnation(&live.name) != Some(live.incarnation) {
                return Err(names.not_found());
            }
            scanned += blocks.iter().map(size).sum::<usize>();
            reservation.grow(scanned).map_err(|_| names.throttled_stream())?;
            let state = live.state.read().await;
            let now = self.clock.now();
            page.encryption = state.document.encryption();
            let entry = state.document.shards.get(shard).ok_or_else(|| names.no_shard(shard))?;
            let readable_from = state.readable_from(now);
            let is_tip = blocks.is_empty();
            let expired = blocks.first().is_some_and(|block| block.received_at < readable_from);
            if expired && !jumped {
                // Much may lie before what may be read.
                jumped = true;
                drop(state);
                page.next = self.received_from(live, readable_from).await?.max(page.next);
                continue;
            }
            let is_full = page.take(blocks, &state, entry, readable_from, limits);
            if let Some(closed) = entry.closed.filter(|closed| page.next >= closed.end) {
                page.next = closed.end;
                page.behind = 0;
                page.children = Some(reshard::child_shards(&state.document.shards, entry));
                return Ok(page);
            }
            if is_tip || page.next >= end {
                page.behind = 0;
                return Ok(page);
            }
            if let Some(seen) = page.blocks.last() {
                page.behind = (now.millis() - seen.received_at.millis()).max(0);
            }
            page.drop_unused();
            if is_full || scanned >= SCAN_BYTES {
                return Ok(page);
            }
            wanted = (wanted * 2).min(LAST_READ);
        }
    }
}

/// Bytes of a block.
fn size(block: &RecordBlock) -> usize {
    let keys = block.records.keys.as_ref().map_or(0, |keys| keys.data.len());
    block.records.data.len() + keys + block.records.ends.len() * 8
}

impl Page {
    /// Takes the shard's records out of blocks; whether there is no room for
    /// more.
    fn take(
        &mut self,
        blocks: Vec<RecordBlock>,
        state: &State,
        entry: &Entry,
        readable_from: Timestamp,
        limits: Limits,
    ) -> bool {
        for block in blocks {
            let at = self.blocks.len();
            let hidden = block.received_at < readable_from;
            let mut is_full = false;
            for (number, record) in block.records.iter().enumerate() {
                let offset = block.first.plus(number as u64);
                let is_past = entry.closed.is_some_and(|closed| offset >= closed.end);
                if is_past || hidden {
                    self.next = offset.plus(1);
                    continue;
                }
                let key = block.records.keys.as_ref().and_then(|keys| ShardKey::read(keys.get(number)));
                let owner = state.document.shards.of_record(offset, key);
                if owner.is_some_and(|owner| owner.shard() == entry.shard()) {
                    let bytes = self.bytes + record.len();
                    if self.found.len() == limits.records || (bytes > limits.bytes && !self.found.is_empty())
                    {
                        is_full = true;
                        break;
                    }
                    self.bytes = bytes;
                    self.key_bytes += key.map_or(0, |key| key.partition_key.len());
                    let sequence = entry.shard().sequence(offset);
                    self.found.push(Found { block: at, number, sequence });
                }
                self.next = offset.plus(1);
            }
            self.blocks.push(block);
            if is_full {
                return true;
            }
        }
        self.found.len() == limits.records || self.bytes >= limits.bytes
    }

    /// Lets go of blocks at the end that hold nothing that was found.
    fn drop_unused(&mut self) {
        let used = self.found.last().map_or(0, |found| found.block + 1);
        self.blocks.truncate(used);
    }

    /// The records with their arrival, in milliseconds, and partition key.
    fn records(&self) -> impl Iterator<Item = (&Found, i64, &[u8], String)> {
        // One walk over each block: a record's start is the end of the one
        // before it.
        self.found.iter().map(|found| {
            let block = &self.blocks[found.block];
            let records = &block.records;
            let start = found.number.checked_sub(1).map_or(0, |before| records.ends[before]);
            let data = &records.data[start as usize..records.ends[found.number] as usize];
            let key = records.keys.as_ref().and_then(|keys| ShardKey::read(keys.get(found.number)));
            let key = key.map(|key| key.partition_key.to_owned());
            let key = key.unwrap_or_else(|| found.sequence.offset.to_string());
            (found, block.received_at.millis(), data, key)
        })
    }

    /// The answer to GetRecords.
    fn encode(&self, encoding: Encoding, next: Option<&str>) -> Vec<u8> {
        let mut rest = json!({"MillisBehindLatest": self.behind});
        if let Some(next) = next {
            rest["NextShardIterator"] = next.into();
        }
        self.encode_with(encoding, rest)
    }

    /// The payload of a SubscribeToShardEvent.
    pub(super) fn encode_event(&self, encoding: Encoding, continuation: Option<&str>) -> Vec<u8> {
        let mut rest = json!({"MillisBehindLatest": self.behind});
        if let Some(continuation) = continuation {
            rest["ContinuationSequenceNumber"] = continuation.into();
        }
        self.encode_with(encoding, rest)
    }

    fn encode_with(&self, encoding: Encoding, mut rest: Value) -> Vec<u8> {
        if let Some(children) = &self.children {
            rest["ChildShards"] = children.clone();
        }
        match encoding {
            Encoding::Json => self.json(&rest),
            Encoding::Cbor => self.cbor(&rest),
        }
    }

    fn json(&self, rest: &Value) -> Vec<u8> {
        use std::io::Write;
        let mut out = Vec::with_capacity(self.encoded(Encoding::Json));
        out.extend_from_slice(b"{\"Records\":[");
        let mut texts = Texts::default();
        for (number, (found, millis, data, key)) in self.records().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            let (seconds, part) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
            // Writing to memory does not fail.
            out.extend_from_slice(b"{\"SequenceNumber\":\"");
            out.extend_from_slice(&texts.of(found.sequence).0);
            let _ = write!(out, "\",\"ApproximateArrivalTimestamp\":{seconds}.{part:03},\"Data\":\"");
            let length = base64_simd::STANDARD.encoded_length(data.len());
            let start = out.len();
            out.resize(start + length, 0);
            let _ = base64_simd::STANDARD.encode(data, base64_simd::Out::from_slice(&mut out[start..]));
            out.extend_from_slice(b"\",\"PartitionKey\":");
            let _ = serde_json::to_writer(&mut out, &key);
            if self.encryption != "NONE" {
                let _ = write!(out, ",\"EncryptionType\":\"{}\"", self.encryption);
            }
            out.push(b'}');
        }
        out.push(b']');
        for (name, value) in rest.as_object().into_iter().flatten() {
            let _ = write!(out, ",\"{name}\":{value}");
        }
        out.push(b'}');
        out
    }

    fn cbor(&self, rest: &Value) -> Vec<u8> {
        let mut out = Encoder::new(Vec::with_capacity(self.encoded(Encoding::Cbor)));
        let rest = rest.as_object();
        let is_encrypted = self.encryption != "NONE";
        infallible(out.map(1 + rest.map_or(0, serde_json::Map::len) as u64));
        infallible(infallible(out.str("Records")).array(self.found.len() as u64));
        let mut texts = Texts::default();
        for (found, millis, data, key) in self.records() {
            infallible(out.map(4 + u64::from(is_encrypted)));
            let sequence = texts.of(found.sequence).0;
            let sequence = std::str::from_utf8(&sequence).expect("digits are text");
            infallible(infallible(out.str("SequenceNumber")).str(sequence));
            infallible(out.str("ApproximateArrivalTimestamp"));
            cbor::put_millis(millis, &mut out);
            infallible(infallible(out.str("Data")).bytes(data));
            infallible(infallible(out.str("PartitionKey")).str(&key));
            if is_encrypted {
                infallible(infallible(out.str("EncryptionType")).str(self.encryption));
            }
        }
        for (name, value) in rest.into_iter().flatten() {
            infallible(out.str(name));
            cbor::put(value, &mut out);
        }
        out.into_writer()
    }
}
