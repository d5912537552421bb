//! Cutting a body into records, without looking inside them: a line, or an
//! element of an array, is a record whatever it holds.

use bytes::Bytes;
use lakeward_model::Records;
use memchr::{memchr_iter, memchr2};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why a body could not be cut into records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SplitError {
    /// It holds more records than one request may.
    #[error("more than {0} records in one request")]
    TooMany(usize),
    /// JSON that breaks off or has something else where a value should be.
    #[error("byte {at}: {what}")]
    Malformed {
        /// Offset in the (unpacked) body.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

fn malformed(at: usize, what: &'static str) -> SplitError {
    SplitError::Malformed { at, what }
}

/// Cuts at newlines without copying.
///
/// A record keeps its newline (and a carriage return before it). Blank lines
/// are no records: they stay at the end of the record before them, or at the
/// start of the first one. A byte order mark at the start is left out.
pub(crate) fn lines(body: &Bytes, most: usize) -> Result<Records, SplitError> {
    let data = if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body.clone() };
    let mut ends: Vec<u32> = Vec::with_capacity((data.len() / 128 + 1).min(most));
    let mut start = 0;
    let last = if data.last() == Some(&b'\n') { None } else { Some(data.len()) };
    for stop in memchr_iter(b'\n', &data).map(|at| at + 1).chain(last) {
        if data[start..stop].trim_ascii_start().is_empty() {
            if let Some(end) = ends.last_mut() {
                *end = position(stop);
            }
        } else if ends.len() == most {
            return Err(SplitError::TooMany(most));
        } else {
            ends.push(position(stop));
        }
        start = stop;
    }
    Ok(Records::new(data, ends))
}

/// Cuts a JSON text: the elements of an array, or one value after another.
pub(crate) fn values(body: &[u8], most: usize) -> Result<Records, SplitError> {
    let start = skip_space(body, if body.starts_with(BOM) { BOM.len() } else { 0 });
    let mut out = Cut { data: Vec::with_capacity(body.len() - start), ends: Vec::new(), most };
    match body.get(start) {
        Some(b'[') => elements(body, start, &mut out)?,
        _ => sequence(body, start, &mut out)?,
    }
    Ok(Records::new(Bytes::from(out.data), out.ends))
}

/// The records cut so far, side by side.
struct Cut {
    data: Vec<u8>,
    ends: Vec<u32>,
    most: usize,
}

impl Cut {
    fn push(&mut self, record: &[u8]) -> Result<(), SplitError> {
        if self.ends.len() == self.most {
            return Err(SplitError::TooMany(self.most));
        }
        self.data.extend_from_slice(record);
        self.ends.push(position(self.data.len()));
        Ok(())
    }
}

fn elements(body: &[u8], open: usize, out: &mut Cut) -> Result<(), SplitError> {
    let mut at = skip_space(body, open + 1);
    if body.get(at) != Some(&b']') {
        loop {
            let end = skip_value(body, at)?;
            out.push(&body[at..end])?;
            at = skip_space(body, end);
            match body.get(at) {
                Some(b',') => at = skip_space(body, at + 1),
                Some(b']') => break,
                Some(_) => return Err(malformed(at, "expected `,` or `]`")),
                None => return Err(malformed(at, "the array is cut short")),
            }
        }
    }
    let after = skip_space(body, at + 1);
    if after < body.len() { Err(malformed(after, "there is more after the array")) } else { Ok(()) }
}

fn sequence(body: &[u8], mut at: usize, out: &mut Cut) -> Result<(), SplitError> {
    while at < body.len() {
        if body[at] != b'{' {
            return Err(malformed(at, "expected `{` or `[`"));
        }
        let end = skip_value(body, at)?;
        out.push(&body[at..end])?;
        at = skip_space(body, end);
    }
    Ok(())
}

/// Where the value that starts at `at` ends. Only strings and brackets are
/// looked at.
fn skip_value(body: &[u8], at: usize) -> Result<usize, SplitError> {
    match body.get(at) {
        None => Err(malformed(at, "the array is cut short")),
        Some(b'{' | b'[') => skip_nested(body, at),
        Some(b'"') => skip_string(body, at),
        Some(b',' | b']' | b'}') => Err(malformed(at, "expected a value")),
        Some(_) => {
            let rest = &body[at..];
            let length = rest.iter().position(|b| b",]} \t\r\n".contains(b)).unwrap_or(rest.len());
            Ok(at + length)
        }
    }
}

fn skip_nested(body: &[u8], start: usize) -> Result<usize, SplitError> {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => {
                at = skip_string(body, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(malformed(body.len(), "the value is cut short"))
}

fn skip_string(body: &[u8], open: usize) -> Result<usize, SplitError> {
    let mut at = open + 1;
    while let Some(found) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if body[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
    Err(malformed(body.len(), "the string is cut short"))
}

fn skip_space(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|b| b" \t\r\n".contains(b)).count()
}

/// A position in a body, which is below 4 GiB by the configuration's rules.
fn position(at: usize) -> u32 {
    u32::try_from(at).expect("a body is far below 4 GiB")
}

#[cfg(test)]
mod tests;
