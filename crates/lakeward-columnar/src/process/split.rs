//! Firehose's RecordDeAggregation processor: one record taken apart into several.

use super::{PIECES_MAX, Reason};

/// JSON objects, one behind the other, with or without whitespace between
/// them. Only braces and texts are looked at: whether each piece is valid JSON
/// is for whoever decodes it to say. An array is refused, as Firehose does.
pub(super) fn json(record: &[u8], mut piece: impl FnMut(&[u8]) -> Result<(), Reason>) -> Result<(), Reason> {
    let mut at = 0;
    let mut count = 0;
    loop {
        at += record[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let Some(first) = record.get(at) else { return Ok(()) };
        if *first != b'{' {
            let what = if *first == b'[' { "an array cannot be taken apart" } else { "this is no object" };
            return Err(malformed(what, at));
        }
        let length = object(&record[at..]).ok_or_else(|| malformed("the object is cut short", at))?;
        count += 1;
        if count > PIECES_MAX {
            return Err(too_many());
        }
        piece(&record[at..at + length])?;
        at += length;
    }
}

/// The length of the object at the start of `text`; `None` if it does not end.
pub(super) fn object(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => at = end_of_string(text, at)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the string that starts at `start` has its closing quote.
pub(super) fn end_of_string(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// The parts between the delimiters; empty ones are left out, so a delimiter
/// at the end makes no further piece.
pub(super) fn delimited(
    record: &[u8],
    delimiter: &[u8],
    mut piece: impl FnMut(&[u8]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut count = 0;
    let mut start = 0;
    let ends = memchr::memmem::find_iter(record, delimiter).chain([record.len()]);
    for end in ends {
        if end > start {
            count += 1;
            if count > PIECES_MAX {
                return Err(too_many());
            }
            piece(&record[start..end])?;
        }
        start = end + delimiter.len();
    }
    Ok(())
}

fn malformed(what: &str, at: usize) -> Reason {
    Reason::processing("split.json", format!("{what} (at byte {at})"))
}

fn too_many() -> Reason {
    Reason::processing("split.too_many", format!("the record has more than {PIECES_MAX} sub-records"))
}
