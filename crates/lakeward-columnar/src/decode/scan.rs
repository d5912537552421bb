//! The JSON grammar (RFC 8259) without values: checks and skips.

use super::fault::{Fault, What};
use super::input::{CHUNK, Input, specials};

/// Skips the value at `at`, in which objects and arrays may nest `depth` deep.
pub(super) fn value(input: Input<'_>, at: usize, depth: usize) -> Result<usize, Fault> {
    match input.byte(at) {
        b'"' => string(input, at + 1),
        b'{' => object(input, at, depth),
        b'[' => array(input, at, depth),
        b'-' | b'0'..=b'9' => number(input, at),
        b't' => literal(input, at, b"true"),
        b'f' => literal(input, at, b"false"),
        b'n' => literal(input, at, b"null"),
        _ => Err(Fault::new(What::ExpectedValue, at)),
    }
}

/// Checks the whole record, as [`super::Decoder`] reads it.
pub(super) fn record(input: Input<'_>, start: usize, depth: usize) -> Result<(), Fault> {
    let mut at = start;
    loop {
        at = input.skip_space(at);
        if at >= input.end() {
            return Ok(());
        }
        at = match input.byte(at) {
            b'{' => object(input, at, depth)?,
            b'[' => rows(input, at, depth)?,
            _ => return Err(not_object(input, at, depth)),
        };
        if at > input.end() {
            return Err(Fault::new(What::Truncated, input.end()));
        }
    }
}

/// Says whether what stands at `at` is another JSON value or none at all.
#[cold]
pub(super) fn not_object(input: Input<'_>, at: usize, depth: usize) -> Fault {
    match value(input, at, depth) {
        Ok(_) => Fault::new(What::NotObject, at),
        Err(fault) => fault,
    }
}

fn rows(input: Input<'_>, at: usize, depth: usize) -> Result<usize, Fault> {
    let inner = depth.checked_sub(1).ok_or(Fault::new(What::Depth, at))?;
    elements(input, at, |at| match input.byte(at) {
        b'{' => object(input, at, inner),
        _ => Err(not_object(input, at, inner)),
    })
}

fn array(input: Input<'_>, at: usize, depth: usize) -> Result<usize, Fault> {
    let inner = depth.checked_sub(1).ok_or(Fault::new(What::Depth, at))?;
    elements(input, at, |at| value(input, at, inner))
}

/// Walks the array that opens at `at`; `element` takes the start of an element
/// and returns its end.
#[inline(always)]
pub(super) fn elements(
    input: Input<'_>,
    at: usize,
    mut element: impl FnMut(usize) -> Result<usize, Fault>,
) -> Result<usize, Fault> {
    let mut at = input.skip_space(at + 1);
    if input.byte(at) == b']' {
        return Ok(at + 1);
    }
    loop {
        at = element(at)?;
        at = input.skip_space(at);
        match input.byte(at) {
            b',' => at = input.skip_space(at + 1),
            b']' => return Ok(at + 1),
            _ => return Err(Fault::new(What::ExpectedCommaOrBracket, at)),
        }
    }
}

fn object(input: Input<'_>, at: usize, depth: usize) -> Result<usize, Fault> {
    let inner = depth.checked_sub(1).ok_or(Fault::new(What::Depth, at))?;
    let mut at = input.skip_space(at + 1);
    if input.byte(at) == b'}' {
        return Ok(at + 1);
    }
    loop {
        if input.byte(at) != b'"' {
            return Err(Fault::new(What::ExpectedKey, at));
        }
        at = string(input, at + 1)?;
        at = colon(input, at)?;
        at = value(input, at, inner)?;
        at = input.skip_space(at);
        match input.byte(at) {
            b',' => at = input.skip_space(at + 1),
            b'}' => return Ok(at + 1),
            _ => return Err(Fault::new(What::ExpectedCommaOrBrace, at)),
        }
    }
}

/// Skips the colon after a key and the space around it.
#[inline(always)]
pub(super) fn colon(input: Input<'_>, at: usize) -> Result<usize, Fault> {
    let at = input.skip_space(at);
    if input.byte(at) != b':' {
        return Err(Fault::new(What::ExpectedColon, at));
    }
    Ok(input.skip_space(at + 1))
}

/// Skips the string whose first byte after the quote is at `at`.
#[inline(always)]
pub(super) fn string(input: Input<'_>, mut at: usize) -> Result<usize, Fault> {
    loop {
        let chunk = input.chunk(at)?;
        let found = specials(chunk);
        if found == 0 {
            at += CHUNK;
            continue;
        }
        at += found.trailing_zeros() as usize;
        match input.byte(at) {
            b'"' => return Ok(at + 1),
            b'\\' => at = escape(input, at)?,
            _ => return Err(Fault::new(What::Control, at)),
        }
    }
}

fn escape(input: Input<'_>, at: usize) -> Result<usize, Fault> {
    match input.byte(at + 1) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => unit(input, at).map(|_| at + 6),
        _ => Err(Fault::new(What::BadEscape, at)),
    }
}

/// The UTF-16 code unit of the `\uXXXX` at `at`.
fn unit(input: Input<'_>, at: usize) -> Result<u16, Fault> {
    let mut unit = 0u16;
    for i in 2..6 {
        let digit = char::from(input.byte(at + i)).to_digit(16).ok_or(Fault::new(What::BadEscape, at))?;
        unit = unit << 4 | digit as u16;
    }
    Ok(unit)
}

/// Decodes the escape at `at` into `out`. Also says whether it was half of a
/// surrogate pair without the other, which U+FFFD then stands for.
#[cold]
pub(super) fn unescape(input: Input<'_>, at: usize, out: &mut Vec<u8>) -> Result<(usize, bool), Fault> {
    let plain = match input.byte(at + 1) {
        byte @ (b'"' | b'\\' | b'/') => byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unescape_unicode(input, at, out),
        _ => return Err(Fault::new(What::BadEscape, at)),
    };
    out.push(plain);
    Ok((at + 2, false))
}

fn unescape_unicode(input: Input<'_>, at: usize, out: &mut Vec<u8>) -> Result<(usize, bool), Fault> {
    let first = unit(input, at)?;
    let mut end = at + 6;
    let mut units = [first, 0];
    let mut count = 1;
    if (0xd800..0xdc00).contains(&first) && input.slice(end, end + 2) == b"\\u" {
        let second = unit(input, end)?;
        if (0xdc00..0xe000).contains(&second) {
            units[1] = second;
            count = 2;
            end += 6;
        }
    }
    let mut lone = false;
    for unit in char::decode_utf16(units[..count].iter().copied()) {
        lone |= unit.is_err();
        let char = unit.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok((end, lone))
}

/// Skips the number at `at`.
pub(super) fn number(input: Input<'_>, at: usize) -> Result<usize, Fault> {
    let bad = || Fault::new(What::BadNumber, at);
    let digits = |mut at: usize| {
        while input.byte(at).is_ascii_digit() {
            at += 1;
        }
        at
    };
    let whole = at + usize::from(input.byte(at) == b'-');
    let mut end = digits(whole);
    if end == whole || (end > whole + 1 && input.byte(whole) == b'0') {
        return Err(bad());
    }
    if input.byte(end) == b'.' {
        let fraction = end + 1;
        end = digits(fraction);
        if end == fraction {
            return Err(bad());
        }
    }
    if matches!(input.byte(end), b'e' | b'E') {
        let exponent = end + 1 + usize::from(matches!(input.byte(end + 1), b'+' | b'-'));
        end = digits(exponent);
        if end == exponent {
            return Err(bad());
        }
    }
    Ok(end)
}

/// Reads `true` or `false`, without a branch on which of them it is: that is
/// often hard to predict.
#[inline(always)]
pub(super) fn bool(input: Input<'_>, at: usize) -> Result<(bool, usize), Fault> {
    let word = input.word(at);
    let is_true = word as u32 == u32::from_le_bytes(*b"true");
    let is_false = word << 24 == u64::from_le_bytes(*b"\0\0\0false");
    if is_true | is_false {
        Ok((is_true, at + 4 + usize::from(is_false)))
    } else {
        Err(Fault::new(What::ExpectedValue, at))
    }
}

/// Skips `word`.
#[inline(always)]
pub(super) fn literal(input: Input<'_>, at: usize, word: &[u8]) -> Result<usize, Fault> {
    if input.slice(at, at + word.len()) == word {
        Ok(at + word.len())
    } else {
        Err(Fault::new(What::ExpectedValue, at))
    }
}
