//! Numbers: eight digits at a time, exact or not at all.

use super::fault::{Fault, What};
use super::input::Input;
use super::scan;

/// What a JSON number is as a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// Written without fraction and exponent, and fits.
    Int(i64),
    /// The nearest float; for an integer beyond `i64`, exactly that integer.
    Float(f64),
    /// No column type holds it: an integer beyond `i64` that no float equals,
    /// or a magnitude beyond the floats.
    Inexact,
}

/// The powers of ten that floats hold exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The powers of ten up to a mantissa's length.
const INT_POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Reads the integer at `at`, if it is a short one and nothing else.
#[inline(always)]
pub(super) fn short_int(input: Input<'_>, at: usize) -> Option<(i64, usize)> {
    let (value, end) = short_digits(input, at, 18)?;
    (!matches!(input.byte(end), b'.' | b'e' | b'E')).then_some((value as i64, end))
}

/// Reads the float at `at`, if it is a short one with a fraction.
#[inline(always)]
pub(super) fn short_float(input: Input<'_>, at: usize) -> Option<(f64, usize)> {
    let (whole, point) = short_digits(input, at, 11)?;
    if input.byte(point) != b'.' {
        return None;
    }
    let (part, count) = eight_digits(input.word(point + 1));
    let end = point + 1 + count;
    let mantissa = whole * INT_POWERS[count] + part;
    let is_short = count > 0 && mantissa <= 1 << 53 && !matches!(input.byte(end), b'0'..=b'9' | b'e' | b'E');
    // See `fraction`.
    is_short.then(|| (mantissa as f64 / POWERS[count], end))
}

/// Reads digits without a leading zero, at most `most`.
#[inline(always)]
fn short_digits(input: Input<'_>, at: usize, most: usize) -> Option<(u64, usize)> {
    let (value, count) = digits(input, at);
    let is_short = (1..=most).contains(&count) && (count == 1 || input.byte(at) != b'0');
    is_short.then_some((value, at + count))
}

/// Reads the number at `at`; returns it and its end.
#[inline(always)]
pub(super) fn parse(input: Input<'_>, at: usize) -> Result<(Number, usize), Fault> {
    let negative = input.byte(at) == b'-';
    let whole = at + usize::from(negative);
    let (mantissa, count) = digits(input, whole);
    if count == 0 || (count > 1 && input.byte(whole) == b'0') {
        return Err(Fault::new(What::BadNumber, at));
    }
    let end = whole + count;
    match input.byte(end) {
        b'.' => fraction(input, at, (mantissa, count), end + 1),
        b'e' | b'E' => long(input, at),
        // Eighteen digits fit in an `i64` whatever they are.
        _ if count <= 18 => {
            let value = mantissa as i64;
            Ok((Number::Int(if negative { -value } else { value }), end))
        }
        _ => long(input, at),
    }
}

/// Goes on behind the point. A mantissa up to 2^53 and a power of ten up to
/// 10^22 are exact floats, so that one division rounds correctly (Clinger,
/// "How to Read Floating Point Numbers Accurately", 1990).
#[inline(always)]
fn fraction(
    input: Input<'_>,
    at: usize,
    (whole, whole_count): (u64, usize),
    start: usize,
) -> Result<(Number, usize), Fault> {
    let (part, count) = digits(input, start);
    let end = start + count;
    if count == 0 {
        return Err(Fault::new(What::BadNumber, at));
    }
    if whole_count + count <= 18 && !matches!(input.byte(end), b'e' | b'E') {
        let mantissa = whole * INT_POWERS[count] + part;
        if mantissa <= 1 << 53 {
            let value = mantissa as f64 / POWERS[count];
            return Ok((Number::Float(if input.byte(at) == b'-' { -value } else { value }), end));
        }
    }
    long(input, at)
}

/// The long way, for long numbers and exponents.
#[cold]
fn long(input: Input<'_>, at: usize) -> Result<(Number, usize), Fault> {
    let end = scan::number(input, at)?;
    let text = std::str::from_utf8(input.slice(at, end)).unwrap_or_default();
    let is_integer = !text.contains(['.', 'e', 'E']);
    if is_integer && let Ok(value) = text.parse() {
        return Ok((Number::Int(value), end));
    }
    let value: f64 = text.parse().map_err(|_| Fault::new(What::BadNumber, at))?;
    let kept = if is_integer {
        value.is_finite() && format!("{value:.0}") == text
    } else {
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        value.is_finite() && (value != 0.0 || !mantissa.contains(|c: char| matches!(c, '1'..='9')))
    };
    Ok((if kept { Number::Float(value) } else { Number::Inexact }, end))
}

/// The float that equals `value`, if there is one.
#[inline(always)]
pub(super) fn exact(value: i64) -> Option<f64> {
    let float = value as f64;
    (value.unsigned_abs() <= 1 << 53 || float as i128 == i128::from(value)).then_some(float)
}

/// The value of the digits at `at` and how many there are. The value is right
/// up to 19 digits.
#[inline(always)]
fn digits(input: Input<'_>, at: usize) -> (u64, usize) {
    let (mut value, mut count) = eight_digits(input.word(at));
    let mut last = count;
    while last == 8 {
        let (more, n) = eight_digits(input.word(at + count));
        value = value.wrapping_mul(INT_POWERS[n]).wrapping_add(more);
        count += n;
        last = n;
    }
    (value, count)
}

/// The value of the leading digits of `word` (up to eight, the first in the
/// lowest byte) and how many there are.
#[inline(always)]
fn eight_digits(word: u64) -> (u64, usize) {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let values = word ^ (LOW * 0x30);
    // A carry out of a byte that is no digit spoils only the bytes behind it.
    let others = (values.wrapping_add(LOW * 0x76) | values) & (LOW * 0x80);
    let count = (others.trailing_zeros() / 8) as usize;
    if count == 0 {
        return (0, 0);
    }
    // Leading zeros take the place of what follows the digits.
    let mut value = values << (64 - 8 * count);
    value = (value.wrapping_mul(10)).wrapping_add(value >> 8) & 0x00ff_00ff_00ff_00ff;
    value = value.wrapping_mul(100).wrapping_add(value >> 16) & 0x0000_ffff_0000_ffff;
    value = value.wrapping_mul(10_000).wrapping_add(value >> 32) & 0xffff_ffff;
    (value, count)
}
