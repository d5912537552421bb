//! The bodies of PutRecord and PutRecordBatch: base64 straight into one
//! buffer of records.
//!
//! [`scan`] reads what clients really send, in one pass and without an
//! allocation per record. It takes only what it understands completely: for
//! anything else (an escape, an unknown or repeated member, a limit passed) it
//! gives up, and [`parse`] goes the long way through a tree and the
//! API's model, which also finds the words for what is wrong. Where `scan`
//! succeeds, `parse` gives the same; a property test holds them together.

use bytes::Bytes;
use lakeward_model::Records;
use serde_json::Value;

use super::constraints;
use super::fault::Fault;
use crate::aws::scan::Cursor;
use crate::aws::tree;

/// *PutRecordBatch*: "The PutRecordBatch API accepts up to 4 MiB per call".
pub(super) const BATCH_BYTES_MAX: usize = 4 << 20;
const BATCH_RECORDS_MAX: usize = 500;
const RECORD_BYTES_MAX: usize = 1_024_000;
const NAME_BYTES_MAX: usize = 64;

/// Which of the two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// PutRecord: one record, `Record`.
    One,
    /// PutRecordBatch: 1 to 500 records, `Records`.
    Batch,
}

impl Call {
    fn member(self) -> &'static [u8] {
        match self {
            Self::One => b"Record",
            Self::Batch => b"Records",
        }
    }

    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::One => "PutRecord",
            Self::Batch => "PutRecordBatch",
        }
    }
}

/// A put, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) stream: String,
    pub(super) records: Records,
}

/// Reads a body.
///
/// # Errors
/// The exception that AWS answers.
pub(super) fn read(call: Call, body: &[u8]) -> Result<Put, Fault> {
    match scan(call, body) {
        Some(put) => Ok(put),
        None => parse(call, body),
    }
}

/// The short way; `None` says nothing about the body.
fn scan(call: Call, body: &[u8]) -> Option<Put> {
    let mut cursor = Cursor::new(body);
    let mut stream: Option<&str> = None;
    let mut records: Option<Records> = None;
    cursor.eat(b'{')?;
    loop {
        let key = cursor.text()?;
        cursor.eat(b':')?;
        if key == b"DeliveryStreamName" && stream.is_none() {
            stream = Some(name(cursor.text()?)?);
        } else if key == call.member() && records.is_none() {
            records = Some(self::records(&mut cursor, call)?);
        } else {
            return None;
        }
        if cursor.ends(b'}')? {
            break;
        }
    }
    cursor.is_done().then_some(())?;
    Some(Put { stream: stream?.to_owned(), records: records? })
}

fn name(text: &[u8]) -> Option<&str> {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits { std::str::from_utf8(text).ok() } else { None }
}

fn records(cursor: &mut Cursor<'_>, call: Call) -> Option<Records> {
    let mut data = Vec::with_capacity(cursor.left() / 4 * 3 + 3);
    let mut ends = Vec::with_capacity(if call == Call::One { 1 } else { BATCH_RECORDS_MAX });
    if call == Call::One {
        record(cursor, &mut data)?;
        ends.push(u32::try_from(data.len()).ok()?);
    } else {
        cursor.eat(b'[')?;
        loop {
            record(cursor, &mut data)?;
            (ends.len() < BATCH_RECORDS_MAX && data.len() <= BATCH_BYTES_MAX).then_some(())?;
            ends.push(u32::try_from(data.len()).ok()?);
            if cursor.ends(b']')? {
                break;
            }
        }
    }
    Some(Records::new(Bytes::from(data), ends))
}

#[inline]
fn record(cursor: &mut Cursor<'_>, data: &mut Vec<u8>) -> Option<()> {
    cursor.eat(b'{')?;
    (cursor.text()? == b"Data").then_some(())?;
    cursor.eat(b':')?;
    let text = cursor.text()?;
    let before = data.len();
    base64_simd::STANDARD.decode_append(text, data).ok()?;
    (data.len() - before <= RECORD_BYTES_MAX).then_some(())?;
    cursor.eat(b'}')
}

/// The long way.
fn parse(call: Call, body: &[u8]) -> Result<Put, Fault> {
    let input = tree::read(body)?;
    constraints::check(call.operation(), &input)?;
    let entries: &[Value] = match call {
        Call::One => std::slice::from_ref(&input["Record"]),
        Call::Batch => input["Records"].as_array().map_or(&[], Vec::as_slice),
    };
    let mut data = Vec::with_capacity(body.len() / 4 * 3 + 3);
    let mut ends = Vec::with_capacity(entries.len());
    for entry in entries {
        let text = entry["Data"].as_str().unwrap_or_default();
        base64_simd::STANDARD
            .decode_append(text, &mut data)
            .map_err(|_| Fault::serialization("Data is not valid base64"))?;
        ends.push(u32::try_from(data.len()).expect("a body is far below 4 GiB"));
    }
    if call == Call::Batch && data.len() > BATCH_BYTES_MAX {
        return Err(Fault::invalid_argument("Records size exceeds 4 MB limit"));
    }
    let stream = input["DeliveryStreamName"].as_str().unwrap_or_default().to_owned();
    Ok(Put { stream, records: Records::new(Bytes::from(data), ends) })
}

#[cfg(test)]
mod tests;
