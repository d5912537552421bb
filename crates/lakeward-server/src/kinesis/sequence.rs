//! Sequence numbers as text, many at a time: a number of 56 digits takes long
//! to divide, but the numbers of one answer differ by little.

use std::collections::HashMap;

use lakeward_model::{SequenceNumber, Shard};

/// A number is four groups of digits.
const DIGITS: usize = 14;
const GROUP: u64 = 10_u64.pow(DIGITS as u32);
/// From one offset to the next a number grows by 2^80.
const STEP: [u64; 2] = [12_089_258_196, 14_629_174_706_176];
/// A group stays far below 2^64 for so many offsets.
const REACH: u64 = 1 << 20;

/// Writes sequence numbers and the names of their shards.
#[derive(Debug, Default)]
pub(super) struct Texts {
    shards: HashMap<Shard, Known>,
}

/// A number of a shard that was written the long way, and the shard's name.
#[derive(Debug)]
struct Known {
    offset: u64,
    groups: [u64; 4],
    name: String,
}

impl Known {
    fn new(sequence: SequenceNumber) -> Self {
        let text = sequence.to_string();
        let group = |at: usize| text[at * DIGITS..(at + 1) * DIGITS].parse().expect("a number has 56 digits");
        Self { offset: sequence.offset.0, groups: [0, 1, 2, 3].map(group), name: sequence.shard.to_string() }
    }
}

impl Texts {
    /// The number, and its shard's name.
    pub(super) fn of(&mut self, sequence: SequenceNumber) -> ([u8; 4 * DIGITS], &str) {
        let known = self.shards.entry(sequence.shard).or_insert_with(|| Known::new(sequence));
        let ahead = sequence.offset.0.checked_sub(known.offset).filter(|ahead| *ahead < REACH);
        let ahead = ahead.unwrap_or_else(|| {
            *known = Known::new(sequence);
            0
        });
        let [a, b, c, d] = known.groups;
        let d = d + ahead * STEP[1];
        let c = c + ahead * STEP[0] + d / GROUP;
        let b = b + c / GROUP;
        let a = a + b / GROUP;
        let mut text = [0; 4 * DIGITS];
        for (out, group) in text.chunks_exact_mut(DIGITS).zip([a, b % GROUP, c % GROUP, d % GROUP]) {
            digits(group, out);
        }
        (text, &known.name)
    }
}

/// Writes a number with leading zeros, two digits at a time.
fn digits(mut number: u64, out: &mut [u8]) {
    for pair in out.chunks_exact_mut(2).rev() {
        let two = (number % 100) as u8;
        number /= 100;
        pair.copy_from_slice(&[b'0' + two / 10, b'0' + two % 10]);
    }
}

#[cfg(test)]
mod tests {
    use lakeward_model::Offset;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_those_of_the_long_way(
            shards in prop::collection::vec((any::<u32>(), 0x5000_0000_u32..), 1..4),
            start: u64,
            steps in prop::collection::vec((any::<usize>(), prop_oneof![0..1_000_u64, 0..3_000_000_u64, any::<u64>()]), 1..40),
        ) {
            let mut texts = Texts::default();
            let mut offset = start;
            for (shard, step) in steps {
                offset = offset.wrapping_add(step);
                let (number, created) = shards[shard % shards.len()];
                let sequence = Shard { number, created }.sequence(Offset(offset));
                let (text, name) = texts.of(sequence);
                prop_assert_eq!(std::str::from_utf8(&text).unwrap(), sequence.to_string());
                prop_assert_eq!(name, sequence.shard.to_string());
            }
        }
    }
}
