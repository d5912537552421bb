//! Aggregates of the Kinesis Producer Library: several user records in one
//! Kinesis record.
//!
//! ```text
//! F3 89 9A C2 | AggregatedRecord, as protobuf | MD5 of the protobuf (16)
//!
//! AggregatedRecord  1 repeated string partition_key_table
//!                   2 repeated string explicit_hash_key_table
//!                   3 repeated Record records
//! Record            1 required uint64 partition_key_index
//!                   2 optional uint64 explicit_hash_key_index
//!                   3 required bytes data
//!                   4 repeated Tag tags (never set by anyone; passed over)
//! ```
//! (awslabs/amazon-kinesis-producer, `aggregation-format.md`.) A record's place
//! in its aggregate is its sub-sequence number; the first has 0.

use md5::{Digest, Md5};

/// What an aggregate starts with.
const MAGIC: &[u8] = &[0xF3, 0x89, 0x9A, 0xC2];
/// Bytes of the digest at its end.
const DIGEST_BYTES: usize = 16;

/// One user record of an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubRecord<'a> {
    /// The partition key that its producer gave.
    pub partition_key: &'a str,
    /// The hash that its producer set in the place of the key's MD5: a decimal
    /// number, unchecked.
    pub explicit_hash_key: Option<&'a str>,
    /// The record.
    pub data: &'a [u8],
}

/// Whether a record starts as an aggregate does, and is worth a closer look.
#[must_use]
pub fn is_marked(data: &[u8]) -> bool {
    data.starts_with(MAGIC)
}

/// The user records inside a Kinesis record, in order; at least one. They
/// share its bytes, and the list takes at most 8 times as much memory as
/// `data`: a record has 6 bytes or more there and 48 in the list.
///
/// `None` if `data` is no aggregate: it is a plain record then. So is what only
/// looks like one (a wrong digest, as with KCL), what cannot be read to its end,
/// and an aggregate of nothing: a record is never lost here. All or nothing,
/// unlike KCL, which drops the rest of an aggregate that names a key it does
/// not have.
#[must_use]
pub fn deaggregate(data: &[u8]) -> Option<Vec<SubRecord<'_>>> {
    let (message, digest) = data.strip_prefix(MAGIC)?.split_last_chunk::<DIGEST_BYTES>()?;
    if message.is_empty() || Md5::digest(message).as_slice() != digest {
        return None;
    }
    let (mut partition_keys, mut hash_keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = message;
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Value::Bytes(key)) => partition_keys.push(partition_key(key)?),
            (2, Value::Bytes(key)) => hash_keys.push(std::str::from_utf8(key).ok()?),
            (3, Value::Bytes(message)) => records.push(message),
            (1..=3, _) => return None,
            _ => {}
        }
    }
    // The tables may stand behind the records that point into them.
    let records: Option<Vec<_>> =
        records.into_iter().map(|message| record(message, &partition_keys, &hash_keys)).collect();
    records.filter(|records| !records.is_empty())
}

fn record<'a>(
    mut rest: &'a [u8],
    partition_keys: &[&'a str],
    hash_keys: &[&'a str],
) -> Option<SubRecord<'a>> {
    let (mut partition_key, mut explicit_hash_key, mut data) = (None, None, None);
    // A field that comes twice counts as it stands last (protobuf's rule).
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Value::Number(index)) => partition_key = Some(entry(partition_keys, index)?),
            (2, Value::Number(index)) => explicit_hash_key = Some(entry(hash_keys, index)?),
            (3, Value::Bytes(bytes)) => data = Some(bytes),
            (1..=3, _) => return None,
            _ => {}
        }
    }
    Some(SubRecord { partition_key: partition_key?, explicit_hash_key, data: data? })
}

/// A partition key as Kinesis takes it: 1 to 256 characters. A longer one could
/// be named by very many records, and none that Kinesis took has it.
fn partition_key(key: &[u8]) -> Option<&str> {
    let key = std::str::from_utf8(key).ok()?;
    (1..=256).contains(&key.chars().count()).then_some(key)
}

fn entry<'a>(table: &[&'a str], index: u64) -> Option<&'a str> {
    table.get(usize::try_from(index).ok()?).copied()
}

/// What a protobuf field holds, as far as it matters here.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A number of fixed width.
    Fixed,
}

/// Takes the next field off `rest`: its number and its value. Groups are not
/// read; nobody has written them for a decade.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = number(rest)?;
    let value = match tag & 7 {
        0 => Value::Number(number(rest)?),
        1 => fixed(rest, 8)?,
        2 => {
            let length = usize::try_from(number(rest)?).ok()?;
            let (bytes, behind) = rest.split_at_checked(length)?;
            *rest = behind;
            Value::Bytes(bytes)
        }
        5 => fixed(rest, 4)?,
        _ => return None,
    };
    // No field has the number 0.
    (tag >> 3 > 0).then_some((tag >> 3, value))
}

fn fixed<'a>(rest: &mut &'a [u8], width: usize) -> Option<Value<'a>> {
    *rest = rest.get(width..)?;
    Some(Value::Fixed)
}

/// Takes a number of 1 to 10 bytes off `rest`, seven bits each, the lowest
/// first.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From the contract, section 4.3.
    const VECTOR: &str = "f3899ac20a03706b310a03706b321a0b08001a077b2261223a317d\
                          1a0b08011a077b2261223a327d88226167d573f341c4179de0c89313b1";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn put_number(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
        put_number(out, field << 3 | 2);
        put_number(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    fn put_index(out: &mut Vec<u8>, field: u64, index: u64) {
        put_number(out, field << 3);
        put_number(out, index);
    }

    fn sealed(message: &[u8]) -> Vec<u8> {
        [MAGIC, message, Md5::digest(message).as_slice()].concat()
    }

    type Owned = (String, Option<String>, Vec<u8>);

    /// An aggregate as the KPL writes it: each key once in its table.
    fn aggregate(records: &[Owned], tables_last: bool) -> Vec<u8> {
        let (mut keys, mut hashes) = (Vec::<&str>::new(), Vec::<&str>::new());
        let mut body = Vec::new();
        for (key, hash, data) in records {
            let mut record = Vec::new();
            put_index(&mut record, 1, place(&mut keys, key));
            if let Some(hash) = hash {
                put_index(&mut record, 2, place(&mut hashes, hash));
            }
            put_bytes(&mut record, 3, data);
            put_bytes(&mut record, 4, b"\x0a\x01t");
            put_bytes(&mut body, 3, &record);
        }
        let mut tables = Vec::new();
        keys.iter().for_each(|key| put_bytes(&mut tables, 1, key.as_bytes()));
        hashes.iter().for_each(|hash| put_bytes(&mut tables, 2, hash.as_bytes()));
        sealed(&if tables_last { [body, tables] } else { [tables, body] }.concat())
    }

    fn place<'a>(table: &mut Vec<&'a str>, key: &'a str) -> u64 {
        let found = table.iter().position(|known| *known == key);
        found.unwrap_or_else(|| {
            table.push(key);
            table.len() - 1
        }) as u64
    }

    fn owned(record: &SubRecord<'_>) -> Owned {
        let hash = record.explicit_hash_key.map(str::to_string);
        (record.partition_key.to_string(), hash, record.data.to_vec())
    }

    #[test]
    fn the_contracts_vector() {
        let data = bytes(VECTOR);
        let records = deaggregate(&data).expect("an aggregate");
        let expect = [("pk1", r#"{"a":1}"#), ("pk2", r#"{"a":2}"#)].map(|(partition_key, data)| SubRecord {
            partition_key,
            explicit_hash_key: None,
            data: data.as_bytes(),
        });
        assert_eq!(records, expect);
    }

    #[test]
    fn what_is_no_aggregate_is_a_plain_record() {
        let nothing = |data: &[u8]| assert_eq!(deaggregate(data), None, "{}", data.escape_ascii());
        nothing(b"");
        nothing(b"{\"a\":1}");
        nothing(MAGIC);
        let whole = bytes(VECTOR);
        for length in 0..whole.len() {
            nothing(&whole[..length]);
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            nothing(&flipped);
        }
        // A right digest over what cannot be read.
        nothing(&sealed(b""));
        nothing(&sealed(b"\x0a\x03pk1"));
        nothing(&sealed(b"\x0a\x03pk1\x1a\x02\x08\x00"));
        nothing(&sealed(b"\x0a\x03pk1\x1a\x03\x1a\x01x"));
        nothing(&sealed(b"\x0a\x03pk1\x1a\x05\x08\x01\x1a\x01x"));
        nothing(&sealed(b"\x0a\x03pk1\x1a\x07\x08\x00\x10\x00\x1a\x01x"));
        nothing(&sealed(b"\x0a\x00\x1a\x05\x08\x00\x1a\x01x"));
        let long = [&b"\x0a\x81\x02"[..], &[b'k'; 257], b"\x1a\x05\x08\x00\x1a\x01x"].concat();
        nothing(&sealed(&long));
        nothing(&sealed(b"\x0a\x01\xff\x1a\x05\x08\x00\x1a\x01x"));
        nothing(&sealed(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
        nothing(&sealed(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"));
        nothing(&sealed(b"\x0a\x03pk1\x1a\x05\x08\x00\x1a\x01x\x07"));
        nothing(&sealed(b"\x0a\x03pk1\x1a\x05\x08\x00\x1a\x01x\x02\x00"));
    }

    #[test]
    fn unknown_fields_are_passed_over_and_the_last_of_two_counts() {
        let data = sealed(b"\x0a\x01k\x25....\x21........\x50\x01\x1a\x08\x08\x00\x1a\x01x\x1a\x01y");
        let records = deaggregate(&data).expect("an aggregate");
        assert_eq!(records, [SubRecord { partition_key: "k", explicit_hash_key: None, data: b"y" }]);
    }

    proptest! {
        #[test]
        fn every_record_comes_back_in_order(
            records in prop::collection::vec(
                (".{1,20}", prop::option::of("[0-9]{1,39}"), prop::collection::vec(any::<u8>(), 0..300)),
                1..40,
            ),
            tables_last: bool,
        ) {
            let data = aggregate(&records, tables_last);
            let got: Option<Vec<_>> = deaggregate(&data).map(|all| all.iter().map(owned).collect());
            prop_assert_eq!(got, Some(records));
        }

        #[test]
        fn any_message_is_survived(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let data = sealed(&message);
            if let Some(records) = deaggregate(&data) {
                prop_assert!(!records.is_empty() && records.len() * 6 <= message.len());
            }
        }

        #[test]
        fn any_data_is_survived(data in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(deaggregate(&data), None);
        }
    }
}
