//! The column of a record's own text: what a hash of the record is made of.
//!
//! It is written behind the opening brace of every object that becomes a row,
//! so that it is the first of its name: a field that the object itself calls so
//! is a repeated one, and lands in `_rescued`. What is no JSON object is left
//! alone: whoever decodes it says what is wrong with it.

use lakeward_model::Records;

use super::split::object;

/// The column of the text, from the opening to the closing brace, byte for byte.
pub(crate) const RAW: &str = "_raw";

/// `pieces` with the column [`RAW`] in each of their objects. `None` if that is
/// more than any batch may have.
#[must_use]
pub(crate) fn with_raw(pieces: &Records) -> Option<Records> {
    // A text in a text has a backslash before each quote.
    let mut data = Vec::with_capacity(pieces.data.len() * 2 + pieces.data.len() / 2);
    let mut ends = Vec::with_capacity(pieces.ends.len());
    for piece in pieces.iter() {
        let before = data.len();
        if splice(piece, &mut data).is_none() {
            data.truncate(before);
            data.extend_from_slice(piece);
        }
        ends.push(u32::try_from(data.len()).ok()?);
    }
    Some(Records::new(data.into(), ends))
}

/// Appends a piece, with the text in each of its objects. `None` if it is not
/// what is decoded to rows.
fn splice(piece: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut is_list = false;
    let mut at = if piece.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut copied = 0;
    while let Some(byte) = piece.get(at) {
        match byte {
            b'{' => {
                let end = at + object(&piece[at..])?;
                out.extend_from_slice(&piece[copied..=at]);
                write(std::str::from_utf8(&piece[at..end]).ok()?, out);
                out.extend_from_slice(&piece[at + 1..end]);
                (copied, at) = (end, end);
                continue;
            }
            b'[' if !is_list => is_list = true,
            b']' if is_list => is_list = false,
            b',' if is_list => {}
            space if space.is_ascii_whitespace() => {}
            _ => return None,
        }
        at += 1;
    }
    out.extend_from_slice(&piece[copied..]);
    Some(())
}

/// Appends the member, and a comma if another one follows.
fn write(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(RAW.as_bytes());
    out.extend_from_slice(b"\":");
    serde_json::to_writer(&mut *out, text).expect("a vector takes all");
    if !text[1..].trim_start().starts_with('}') {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn spliced(record: &[u8]) -> Vec<u8> {
        let grown = with_raw(&Records::one(Bytes::copy_from_slice(record))).expect("it fits");
        assert_eq!(grown.len(), 1);
        grown.data.to_vec()
    }

    #[test]
    fn every_object_has_its_own_text() {
        let check = |record: &str, expect: &str| {
            assert_eq!(String::from_utf8_lossy(&spliced(record.as_bytes())), expect, "{record}");
        };
        check("{\"a\": 1}\n", "{\"_raw\":\"{\\\"a\\\": 1}\",\"a\": 1}\n");
        check("{ }", "{\"_raw\":\"{ }\" }");
        check(r#"[{"a":"}"},{}]"#, r#"[{"_raw":"{\"a\":\"}\"}","a":"}"},{"_raw":"{}"}]"#);
        check("{}{}", r#"{"_raw":"{}"}{"_raw":"{}"}"#);
        for left_alone in ["", "7", "\"x\"", "{\"a\":", "[[{}]]", "{} x"] {
            check(left_alone, left_alone);
        }
        assert_eq!(spliced(b"{\"a\":\"\xff\"}"), b"{\"a\":\"\xff\"}");
    }

    proptest! {
        #[test]
        fn the_text_comes_back(keys in prop::collection::vec(("[a-z]{1,4}", ".{0,20}"), 0..5), end in "[ \r\n]{0,3}") {
            let record: serde_json::Map<String, Value> =
                keys.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
            let text = Value::from(record).to_string();
            let grown = spliced(format!("{text}{end}").as_bytes());
            let mut read: Value = serde_json::from_slice(&grown).expect("it is JSON");
            let raw = read.as_object_mut().and_then(|object| object.remove(RAW));
            prop_assert_eq!(raw, Some(Value::from(text.clone())));
            prop_assert_eq!(read, serde_json::from_str::<Value>(&text).expect("it is JSON"));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = with_raw(&Records::one(bytes.into()));
        }
    }
}
