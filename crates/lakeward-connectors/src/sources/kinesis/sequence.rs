//! Sequence numbers of Kinesis.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Most digits (API reference, `SequenceNumber`).
const DIGITS_MAX: usize = 129;

/// A sequence number, ever-increasing in its shard: a decimal number that does
/// not fit in 128 bits. Kept as it was given and compared as a number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Sequence(Arc<str>);

impl Sequence {
    /// Wraps a number; `None` if it is none.
    pub(super) fn new(text: &str) -> Option<Self> {
        let fits = (1..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Self(text.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The number in base 256, the highest digit first; `None` if the text says
    /// more than the number, as with a 0 in front.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        if self.0.starts_with('0') {
            return None;
        }
        let mut lowest_first: Vec<u8> = Vec::with_capacity(24);
        for digit in self.0.bytes() {
            let mut carry = u32::from(digit - b'0');
            for byte in &mut lowest_first {
                carry += u32::from(*byte) * 10;
                *byte = (carry & 0xff) as u8;
                carry >>= 8;
            }
            if carry > 0 {
                lowest_first.push(carry as u8);
            }
        }
        lowest_first.reverse();
        Some(lowest_first)
    }

    /// The number that [`bytes`](Self::bytes) wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > 54 || bytes.first().is_none_or(|&highest| highest == 0) {
            return None;
        }
        let mut lowest_first: Vec<u8> = Vec::with_capacity(DIGITS_MAX);
        for byte in bytes {
            let mut carry = u32::from(*byte);
            for digit in &mut lowest_first {
                carry += u32::from(*digit) << 8;
                *digit = (carry % 10) as u8;
                carry /= 10;
            }
            while carry > 0 {
                lowest_first.push((carry % 10) as u8);
                carry /= 10;
            }
        }
        let text: String = lowest_first.iter().rev().map(|&digit| char::from(b'0' + digit)).collect();
        Self::new(&text)
    }
}

impl Ord for Sequence {
    fn cmp(&self, other: &Self) -> Ordering {
        let digits = |number: &Self| number.0.len() - number.0.trim_start_matches('0').len();
        let (mine, theirs) = (&self.0[digits(self)..], &other.0[digits(other)..]);
        mine.len().cmp(&theirs.len()).then_with(|| mine.cmp(theirs))
    }
}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_are_compared_as_numbers() {
        let number = |text| Sequence::new(text).expect("a number");
        assert!(number("9") < number("10"));
        assert!(number("0009") < number("10"));
        assert!(number("49590338271490256608559692538361571095921575989136588898") > number("4959"));
        for bad in ["", "x", "1.0", "-1", "TRIM_HORIZON", &"1".repeat(130)] {
            assert_eq!(Sequence::new(bad), None, "{bad}");
        }
        assert_eq!(Sequence::from_bytes(&[]), None);
        assert_eq!(Sequence::from_bytes(&[0, 1]), None);
        assert_eq!(Sequence::from_bytes(&[255; 54]), None);
    }

    proptest! {
        #[test]
        fn bytes_come_back(text in "[1-9][0-9]{0,128}") {
            let number = Sequence::new(&text).expect("a number");
            let bytes = number.bytes().expect("canonical");
            prop_assert!(bytes.len() <= text.len() / 2 + 1);
            prop_assert_eq!(Sequence::from_bytes(&bytes), Some(number));
        }

        #[test]
        fn small_numbers_are_what_they_are(value in 1_u64.., other in 1_u64..) {
            let (a, b) = (Sequence::new(&value.to_string()), Sequence::new(&other.to_string()));
            prop_assert_eq!(a.cmp(&b), value.cmp(&other));
            let bytes = a.and_then(|a| a.bytes()).expect("canonical");
            let expect = value.to_be_bytes();
            let skip = expect.iter().take_while(|&&byte| byte == 0).count();
            prop_assert_eq!(bytes, expect[skip..].to_vec());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(number) = Sequence::from_bytes(&bytes) {
                prop_assert_eq!(number.bytes(), Some(bytes));
            }
        }
    }
}
