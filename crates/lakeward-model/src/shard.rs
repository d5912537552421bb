//! Where a record lies in a sharded stream, as Kinesis tells it.

use std::fmt;

use crate::Offset;

/// What the Kinesis door keeps beside each record, as a key of the record
/// ([`Keys`](crate::Keys)): the shard and the partition key.
///
/// Stored as the shard's number and the second of its making, 4 bytes each and
/// little-endian, then the partition key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardKey<'a> {
    /// The shard.
    pub shard: Shard,
    /// The partition key that the producer gave: 1 to 256 characters.
    pub partition_key: &'a str,
}

/// A shard of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// Its number in the stream; numbers are not used again.
    pub number: u32,
    /// When it was made, in seconds since 1970. Part of its sequence numbers,
    /// so that a child's lie above its parents'.
    pub created: u32,
}

impl<'a> ShardKey<'a> {
    /// Appends the stored form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.shard.number.to_le_bytes());
        out.extend_from_slice(&self.shard.created.to_le_bytes());
        out.extend_from_slice(self.partition_key.as_bytes());
    }

    /// The stored form.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.partition_key.len());
        self.write(&mut out);
        out
    }

    /// Reads the stored form; `None` if it is something else.
    #[must_use]
    pub fn read(stored: &'a [u8]) -> Option<Self> {
        let (number, rest) = stored.split_first_chunk()?;
        let (created, partition_key) = rest.split_first_chunk()?;
        let shard = Shard { number: u32::from_le_bytes(*number), created: u32::from_le_bytes(*created) };
        Some(Self { shard, partition_key: std::str::from_utf8(partition_key).ok()? })
    }
}

impl Shard {
    /// The sequence number of the record at `offset`.
    #[must_use]
    pub fn sequence(self, offset: Offset) -> SequenceNumber {
        SequenceNumber { shard: self, offset }
    }
}

impl fmt::Display for Shard {
    /// Its id, for instance `shardId-000000000003`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shardId-{:012}", self.number)
    }
}

/// A sequence number: ever-increasing in a shard, and from parents to children.
///
/// As text it is the decimal form of 47 hexadecimal digits, laid out as in
/// Kinesis' own (contract `aws-and-launchdarkly.md`, section 4.3): `2`, second
/// of the shard's making (9), low digit of the shard's number (1), offset (16),
/// `00`, second of the shard's making again (9), shard's number (8), `2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceNumber {
    /// The shard.
    pub shard: Shard,
    /// The record's place in the stream; all shards count together.
    pub offset: Offset,
}

/// Digits above what fits in 128 bits: the number is written in two halves.
const HALF: u128 = 10_u128.pow(28);

impl SequenceNumber {
    /// The number that stands for this text, if it is one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 56 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (high, low) = text.split_at(28);
        let (top, rest) = combine(high.parse().ok()?, low.parse().ok()?)?;
        // `top` holds the digits above the lowest 20, `rest` the lowest 20.
        let number = u32::try_from(rest >> 4 & 0xffff_ffff).ok()?;
        let created = u32::try_from(rest >> 36 & 0xf_ffff_ffff).ok()?;
        let offset = u64::try_from(top & u128::from(u64::MAX)).ok()?;
        let sequence = Shard { number, created }.sequence(Offset(offset));
        (sequence.parts() == (top, rest)).then_some(sequence)
    }

    /// The upper 27 and the lower 20 of the 47 hexadecimal digits.
    fn parts(self) -> (u128, u128) {
        let Shard { number, created } = self.shard;
        let top =
            2 << 104 | u128::from(created) << 68 | u128::from(number & 15) << 64 | u128::from(self.offset.0);
        let rest = u128::from(created) << 36 | u128::from(number) << 4 | 2;
        (top, rest)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (top, rest) = self.parts();
        // top × 2^80 + rest in base 10^28: 108 + 80 bits do not fit in 128, so
        // the product is made 20 bits at a time.
        let (mut high, mut low) = (top / HALF, top % HALF);
        for _ in 0..4 {
            low <<= 20;
            high = (high << 20) + low / HALF;
            low %= HALF;
        }
        low += rest;
        high += low / HALF;
        write!(f, "{high:028}{:028}", low % HALF)
    }
}

/// `high × 10^28 + low` as (value >> 80, value & (2^80 − 1)); `None` if it has
/// more than 188 bits.
fn combine(high: u128, low: u128) -> Option<(u128, u128)> {
    const MASK: u128 = (1 << 64) - 1;
    // Schoolbook multiplication in 64-bit limbs: high and 10^28 have two each.
    let (a0, a1) = (high & MASK, high >> 64);
    let (b0, b1) = (HALF & MASK, HALF >> 64);
    let mut limbs = [0_u128; 4];
    limbs[0] = ((a0 * b0) & MASK) + (low & MASK);
    limbs[1] = ((a0 * b0) >> 64) + ((a0 * b1) & MASK) + ((a1 * b0) & MASK) + (low >> 64);
    limbs[2] = ((a0 * b1) >> 64) + ((a1 * b0) >> 64) + ((a1 * b1) & MASK);
    limbs[3] = (a1 * b1) >> 64;
    for i in 0..3 {
        limbs[i + 1] += limbs[i] >> 64;
        limbs[i] &= MASK;
    }
    if limbs[3] > 0 || limbs[2] >> 60 > 0 {
        return None;
    }
    let top = limbs[2] << 48 | limbs[1] >> 16;
    Some((top, (limbs[1] & 0xffff) << 64 | limbs[0]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sequence(number: u32, created: u32, offset: u64) -> SequenceNumber {
        Shard { number, created }.sequence(Offset(offset))
    }

    #[test]
    fn a_number_is_laid_out_as_kinesis_does() {
        // 2 065e0a3f0 3 00000000000001a4 00 065e0a3f0 00000003 2, in decimal.
        let text = sequence(3, 0x65e0_a3f0, 0x1a4).to_string();
        assert_eq!(text.len(), 56);
        assert!(text.starts_with("49"), "AWS's examples start so too: {text}");
        assert_eq!(SequenceNumber::parse(&text), Some(sequence(3, 0x65e0_a3f0, 0x1a4)));
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        for text in ["", "0", "49", "x", &"9".repeat(56), &"0".repeat(56), &"1".repeat(57)] {
            assert_eq!(SequenceNumber::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back_and_ascend(number: u32, created in 0x5000_0000_u32.., offset: u64) {
            let here = sequence(number, created, offset);
            let text = here.to_string();
            prop_assert_eq!(text.len(), 56);
            prop_assert_eq!(SequenceNumber::parse(&text), Some(here));
            if let Some(next) = offset.checked_add(1) {
                prop_assert!(sequence(number, created, next).to_string() > text);
            }
            if let Some(later) = created.checked_add(1) {
                prop_assert!(sequence(number / 2, later, 0).to_string() > text);
            }
        }

        #[test]
        fn any_text_is_survived(text in "[0-9]{56}") {
            if let Some(number) = SequenceNumber::parse(&text) {
                prop_assert_eq!(number.to_string(), text);
            }
        }

        #[test]
        fn keys_come_back(number: u32, created: u32, partition_key in ".{1,256}") {
            let key = ShardKey { shard: Shard { number, created }, partition_key: &partition_key };
            let stored = key.stored();
            prop_assert_eq!(ShardKey::read(&stored), Some(key));
        }
    }
}
