//! Numbers by their digits, for what must not pass through a float.

/// The longest run of digits that counts: what a `Decimal128` has.
const DIGITS: usize = 38;

/// A number as it is written: `digits` × 10^`exponent`, negative or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exact {
    negative: bool,
    digits: u128,
    exponent: i32,
}

impl Exact {
    /// Reads a JSON number. `None` if `text` is none, or has more than 38
    /// digits from the first to the last that is not 0.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            text => (false, text),
        };
        let (mantissa, power) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
            Some(at) => (&text[..at], exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (whole, part) = match mantissa.iter().position(|&b| b == b'.') {
            Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
            None => (mantissa, None),
        };
        let is_number = !whole.is_empty()
            && (whole.len() == 1 || whole[0] != b'0')
            && part.is_none_or(|part| !part.is_empty())
            && whole.iter().chain(part.unwrap_or_default()).all(u8::is_ascii_digit);
        if !is_number {
            return None;
        }
        let mut number = Self { negative, digits: 0, exponent: 0 };
        let all = whole.iter().chain(part.unwrap_or_default());
        let (mut zeros, mut count) = (0, 0);
        for &byte in all {
            if byte == b'0' {
                zeros += 1;
                continue;
            }
            // Zeros before the first other digit add nothing.
            let places = if number.digits == 0 { 1 } else { zeros + 1 };
            count += places;
            if count > DIGITS {
                return None;
            }
            number.digits = number.digits * 10u128.pow(places as u32) + u128::from(byte - b'0');
            zeros = 0;
        }
        if number.digits > 0 {
            let behind = i32::try_from(part.map_or(0, <[u8]>::len)).ok()?;
            number.exponent = power.checked_add(i32::try_from(zeros).ok()?)?.checked_sub(behind)?;
        }
        Some(number)
    }

    /// The number × 10^`places`, if that is an integer of at most 38 digits.
    pub(crate) fn scaled(self, places: i32) -> Option<i128> {
        let shift = self.exponent.checked_add(places)?;
        if self.digits == 0 {
            return Some(0);
        }
        // The last digit is not 0: a negative shift leaves a fraction.
        let factor = 10i128.checked_pow(u32::try_from(shift).ok()?)?;
        let value = i128::try_from(self.digits).ok()?.checked_mul(factor)?;
        let value = if self.negative { -value } else { value };
        (value.unsigned_abs() < 10u128.pow(DIGITS as u32)).then_some(value)
    }

    /// The largest integer that is not above the number × 10^`places`.
    pub(crate) fn floor(self, places: i32) -> Option<i128> {
        let shift = self.exponent.checked_add(places)?;
        if shift >= 0 {
            return self.scaled(places);
        }
        let value = i128::try_from(self.digits).ok()?;
        let value = if self.negative { -value } else { value };
        let divisor = 10i128.checked_pow(shift.unsigned_abs());
        Some(divisor.map_or(if value < 0 { -1 } else { 0 }, |divisor| value.div_euclid(divisor)))
    }
}

/// What stands behind the `e`.
fn exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Beyond a billion nothing fits anyway, but zero.
    let value = digits.iter().fold(0i32, |value, digit| {
        value.saturating_mul(10).saturating_add(i32::from(digit - b'0')).min(1_000_000_000)
    });
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(text: &str, places: i32) -> Option<i128> {
        Exact::parse(text.as_bytes())?.scaled(places)
    }

    #[test]
    fn digits_count_and_nothing_else() {
        for (text, places, expect) in [
            ("0", 0, Some(0)),
            ("-0.000", 2, Some(0)),
            ("0e999999999999", 0, Some(0)),
            ("123", 0, Some(123)),
            ("-123.450", 2, Some(-12345)),
            ("-123.450", 1, None),
            ("5.0", 0, Some(5)),
            ("1e3", 0, Some(1000)),
            ("1200e-2", 0, Some(12)),
            ("1200e-3", 0, None),
            ("9223372036854775808", 0, Some(9_223_372_036_854_775_808)),
            ("9007199254740993.0", 0, Some(9_007_199_254_740_993)),
            ("9007199254740992.9999999999", 0, None),
            ("1e38", 0, None),
            ("1e37", 0, Some(10i128.pow(37))),
            ("1e400", 0, None),
            ("1e-400", 0, None),
            ("1e99999999999999", 0, None),
            ("123456789012345678901234567890123456789", 0, None),
        ] {
            assert_eq!(scaled(text, places), expect, "{text}");
        }
        for bad in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", " 1", "1 ", "NaN", "--1", "1.2.3"] {
            assert_eq!(Exact::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn floors_go_down() {
        for (text, places, expect) in [
            ("1.9", 0, 1),
            ("-1.1", 0, -2),
            ("-0.0000001", 6, -1),
            ("1700000000.1234567", 6, 1_700_000_000_123_456),
            ("1700000000000000001", -3, 1_700_000_000_000_000),
            ("-1", -3, -1),
            ("1e-400", 0, 0),
            ("-1e-400", 0, -1),
        ] {
            assert_eq!(Exact::parse(text.as_bytes()).unwrap().floor(places), Some(expect), "{text}");
        }
    }
}
