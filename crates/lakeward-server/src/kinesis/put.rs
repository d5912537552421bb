//! The bodies of PutRecord and PutRecords: data straight into one buffer of
//! records, partition keys into one buffer of keys, and each key's hash.
//!
//! [`scan`] and [`decode`] read what clients really send, in one pass and
//! without an allocation per record, one for each encoding. They take only what
//! they understand completely; for anything else [`parse`] goes the long way
//! through the API's model, which also finds the words for what is wrong. A
//! property test holds them together.

use bytes::Bytes;
use lakeward_model::{Keys, Records, Shard};
use minicbor::Decoder;
use serde_json::Value;

use super::arn::Arn;
use super::shards::hash_of;
use super::{Encoding, cbor, constraints};
use crate::aws::fault::Fault;
use crate::aws::scan::Cursor;

/// *PutRecords*: "up to a limit of 10 MiB for the entire request, including
/// partition keys".
const REQUEST_BYTES_MAX: usize = 10 << 20;
const RECORDS_MAX: usize = 500;
const KEY_CHARS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 128;
/// The shard before the partition key, see [`lakeward_model::ShardKey`].
const SHARD_BYTES: usize = 8;

/// Which of the two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// PutRecord: one record, its members beside the stream's.
    One,
    /// PutRecords: 1 to 500 records, `Records`.
    Many,
}

impl Call {
    fn operation(self) -> &'static str {
        match self {
            Self::One => "PutRecord",
            Self::Many => "PutRecords",
        }
    }
}

/// A put, decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) stream: Option<String>,
    pub(super) arn: Option<String>,
    /// `SequenceNumberForOrdering`, which is checked and has no meaning: records
    /// of a shard are in the order in which they came anyway.
    pub(super) ordering: Option<String>,
    pub(super) dry_run: bool,
    data: Vec<u8>,
    ends: Vec<u32>,
    /// Room for the shard, then the partition key.
    keys: Vec<u8>,
    key_ends: Vec<u32>,
    /// Where each record goes.
    pub(super) hashes: Vec<u128>,
}

impl Put {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all records and their keys.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.keys.len()
    }

    /// Bytes of the record's data and of its partition key.
    pub(super) fn sizes(&self, number: usize) -> (usize, usize) {
        let from = |ends: &[u32]| number.checked_sub(1).map_or(0, |before| ends[before]);
        let data = self.ends[number] - from(&self.ends);
        let key = self.key_ends[number] - from(&self.key_ends);
        (data as usize, key as usize - SHARD_BYTES)
    }

    /// The record and its partition key.
    pub(super) fn record(&self, number: usize) -> (&[u8], &[u8]) {
        let (data, key) = self.sizes(number);
        let (end, key_end) = (self.ends[number] as usize, self.key_ends[number] as usize);
        (&self.data[end - data..end], &self.keys[key_end - key..key_end])
    }

    /// What the journal takes of the records that have a shard.
    pub(super) fn records(mut self, shards: &[Option<Shard>]) -> Records {
        if shards.iter().any(Option::is_none) {
            self.keep(shards);
        }
        let mut start = 0;
        for (shard, end) in shards.iter().flatten().zip(&self.key_ends) {
            let hole = &mut self.keys[start..start + SHARD_BYTES];
            hole[..4].copy_from_slice(&shard.number.to_le_bytes());
            hole[4..].copy_from_slice(&shard.created.to_le_bytes());
            start = *end as usize;
        }
        let keys = Keys { data: Bytes::from(self.keys), ends: self.key_ends };
        Records { data: Bytes::from(self.data), ends: self.ends, keys: Some(keys) }
    }

    fn keep(&mut self, shards: &[Option<Shard>]) {
        let mut kept = Self::default();
        for number in (0..self.len()).filter(|number| shards[*number].is_some()) {
            let (data, key) = self.record(number);
            kept.data.extend_from_slice(data);
            kept.keys.extend_from_slice(&[0; SHARD_BYTES]);
            kept.keys.extend_from_slice(key);
            kept.ends.push(position(kept.data.len()));
            kept.key_ends.push(position(kept.keys.len()));
        }
        (self.data, self.ends, self.keys, self.key_ends) = (kept.data, kept.ends, kept.keys, kept.key_ends);
    }

    /// Ends a record whose data was appended already.
    fn push(&mut self, partition_key: &str, explicit: Option<u128>) {
        self.hashes.push(explicit.unwrap_or_else(|| hash_of(partition_key)));
        self.keys.extend_from_slice(&[0; SHARD_BYTES]);
        self.keys.extend_from_slice(partition_key.as_bytes());
        self.ends.push(position(self.data.len()));
        self.key_ends.push(position(self.keys.len()));
    }

    /// Whether the request is within the API's limits.
    fn fits(&self) -> bool {
        self.len() <= RECORDS_MAX
            && self.data.len() + self.keys.len() - self.len() * SHARD_BYTES <= REQUEST_BYTES_MAX
    }
}

fn position(length: usize) -> u32 {
    u32::try_from(length).expect("a body is far below 4 GiB")
}

/// Reads a body.
///
/// # Errors
/// The exception that AWS answers.
pub(super) fn read(call: Call, encoding: Encoding, body: &[u8]) -> Result<Put, Fault> {
    let quick = match encoding {
        Encoding::Json => scan(call, body),
        Encoding::Cbor => decode(call, body),
    };
    match quick.filter(Put::fits) {
        Some(put) => Ok(put),
        None => parse(call, &encoding.read(body)?),
    }
}

/// The members of a record that have come so far.
#[derive(Default)]
struct Members<'a> {
    has_data: bool,
    partition_key: Option<&'a str>,
    explicit: Option<u128>,
}

impl Members<'_> {
    fn end(self, put: &mut Put) -> Option<()> {
        self.has_data.then_some(())?;
        put.push(self.partition_key?, self.explicit);
        Some(())
    }
}

/// A partition key that is surely short enough; longer ones may be.
fn key_text(bytes: &[u8]) -> Option<&str> {
    let plain = (1..=KEY_CHARS_MAX).contains(&bytes.len()) && bytes.iter().all(|b| *b >= 0x20 && *b != b'\\');
    if plain { std::str::from_utf8(bytes).ok() } else { None }
}

fn hash_text(bytes: &[u8]) -> Option<u128> {
    let canonical = bytes == b"0" || matches!(bytes.first(), Some(b'1'..=b'9'));
    let digits = canonical && bytes.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(bytes).ok()?.parse().ok() } else { None }
}

fn name_text(bytes: &[u8]) -> Option<String> {
    let fits = (1..=NAME_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits { String::from_utf8(bytes.to_vec()).ok() } else { None }
}

fn arn_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    Arn::parse(text).filter(|arn| arn.consumer.is_none()).map(|_| text.to_owned())
}

/// The short way for JSON; `None` says nothing about the body.
fn scan(call: Call, body: &[u8]) -> Option<Put> {
    let mut cursor = Cursor::new(body);
    let mut put = Put { data: Vec::with_capacity(body.len() / 4 * 3), ..Put::default() };
    let mut one = Members::default();
    let mut has_records = false;
    cursor.eat(b'{')?;
    loop {
        let member = cursor.text()?;
        cursor.eat(b':')?;
        match (member, call) {
            (b"StreamName", _) if put.stream.is_none() => put.stream = Some(name_text(cursor.text()?)?),
            (b"StreamARN", _) if put.arn.is_none() => put.arn = Some(arn_text(cursor.text()?)?),
            (b"Records", Call::Many) if !has_records => {
                has_records = true;
                cursor.eat(b'[')?;
                loop {
                    scan_record(&mut cursor, &mut put)?;
                    if cursor.ends(b']')? {
                        break;
                    }
                }
            }
            (member, Call::One) => scan_member(member, &mut cursor, &mut one, &mut put)?,
            _ => return None,
        }
        if cursor.ends(b'}')? {
            break;
        }
    }
    cursor.is_done().then_some(())?;
    match call {
        Call::One => one.end(&mut put)?,
        Call::Many => has_records.then_some(())?,
    }
    Some(put)
}

#[inline]
fn scan_record(cursor: &mut Cursor<'_>, put: &mut Put) -> Option<()> {
    (put.len() < RECORDS_MAX).then_some(())?;
    let mut members = Members::default();
    cursor.eat(b'{')?;
    loop {
        let member = cursor.text()?;
        cursor.eat(b':')?;
        scan_member(member, cursor, &mut members, put)?;
        if cursor.ends(b'}')? {
            return members.end(put);
        }
    }
}

#[inline]
fn scan_member<'a>(
    member: &[u8],
    cursor: &mut Cursor<'a>,
    members: &mut Members<'a>,
    put: &mut Put,
) -> Option<()> {
    match member {
        b"Data" if !members.has_data => {
            members.has_data = true;
            base64_simd::STANDARD.decode_append(cursor.text()?, &mut put.data).ok()?;
        }
        b"PartitionKey" if members.partition_key.is_none() => {
            members.partition_key = Some(key_text(cursor.text()?)?);
        }
        b"ExplicitHashKey" if members.explicit.is_none() => {
            members.explicit = Some(hash_text(cursor.text()?)?);
        }
        _ => return None,
    }
    Some(())
}

/// The short way for CBOR.
fn decode(call: Call, body: &[u8]) -> Option<Put> {
    let mut decoder = Decoder::new(body);
    let mut put = Put { data: Vec::with_capacity(body.len()), ..Put::default() };
    let mut one = Members::default();
    let mut has_records = false;
    let mut left = decoder.map().ok()?;
    while cbor::more(&mut decoder, &mut left).ok()? {
        match (decoder.str().ok()?, call) {
            ("StreamName", _) if put.stream.is_none() => {
                put.stream = Some(name_text(decoder.str().ok()?.as_bytes())?);
            }
            ("StreamARN", _) if put.arn.is_none() => {
                put.arn = Some(arn_text(decoder.str().ok()?.as_bytes())?);
            }
            ("Records", Call::Many) if !has_records => {
                has_records = true;
                let mut left = decoder.array().ok()?;
                while cbor::more(&mut decoder, &mut left).ok()? {
                    decode_record(&mut decoder, &mut put)?;
                }
            }
            (member, Call::One) => decode_member(member, &mut decoder, &mut one, &mut put)?,
            _ => return None,
        }
    }
    (decoder.position() == body.len()).then_some(())?;
    match call {
        Call::One => one.end(&mut put)?,
        Call::Many => (has_records && put.len() > 0).then_some(())?,
    }
    Some(put)
}

fn decode_record(decoder: &mut Decoder<'_>, put: &mut Put) -> Option<()> {
    (put.len() < RECORDS_MAX).then_some(())?;
    let mut members = Members::default();
    let mut left = decoder.map().ok()?;
    while cbor::more(decoder, &mut left).ok()? {
        let member = decoder.str().ok()?;
        decode_member(member, decoder, &mut members, put)?;
    }
    members.end(put)
}

fn decode_member<'a>(
    member: &str,
    decoder: &mut Decoder<'a>,
    members: &mut Members<'a>,
    put: &mut Put,
) -> Option<()> {
    match member {
        "Data" if !members.has_data => {
            members.has_data = true;
            put.data.extend_from_slice(decoder.bytes().ok()?);
        }
        "PartitionKey" if members.partition_key.is_none() => {
            let key = decoder.str().ok()?;
            (1..=KEY_CHARS_MAX).contains(&key.len()).then_some(())?;
            members.partition_key = Some(key);
        }
        "ExplicitHashKey" if members.explicit.is_none() => {
            members.explicit = Some(hash_text(decoder.str().ok()?.as_bytes())?);
        }
        _ => return None,
    }
    Some(())
}

/// The long way, for both.
fn parse(call: Call, input: &Value) -> Result<Put, Fault> {
    constraints::check(call.operation(), input)?;
    let entries: &[Value] = match call {
        Call::One => std::slice::from_ref(input),
        Call::Many => input["Records"].as_array().map_or(&[], Vec::as_slice),
    };
    let text = |member: &str| input[member].as_str().map(str::to_owned);
    let mut put = Put {
        stream: text("StreamName"),
        arn: text("StreamARN"),
        ordering: text("SequenceNumberForOrdering").filter(|_| call == Call::One),
        dry_run: input["DryRun"].as_bool().unwrap_or_default(),
        ..Put::default()
    };
    for entry in entries {
        let data = entry["Data"].as_str().unwrap_or_default();
        base64_simd::STANDARD
            .decode_append(data, &mut put.data)
            .map_err(|_| Fault::serialization("Data is not valid base64"))?;
        let explicit = entry["ExplicitHashKey"].as_str().map(|given| {
            given.parse().map_err(|_| {
                Fault::invalid_argument(format!(
                    "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. \
                     Specified value was {given}"
                ))
            })
        });
        put.push(entry["PartitionKey"].as_str().unwrap_or_default(), explicit.transpose()?);
    }
    if !put.fits() {
        return Err(Fault::invalid_argument("Records size exceeds 10 MB limit"));
    }
    Ok(put)
}

#[cfg(test)]
mod tests;
