//! Columns of a record's lineage: what its file's name says, and where in the
//! file it was, are put into its JSON before it is decoded.
//!
//! They are written before the closing brace of every object that becomes a
//! row. A field that an object has itself, in whatever case, stays as it is and
//! nothing is added; a null is no value, so there the lineage's counts. What is
//! no JSON object is left alone: whoever decodes it says what is wrong with it.

use std::io::Write as _;

use lakeward_model::{Keys, Lineage, Records};
use serde::de::IgnoredAny;

use super::split::end_of_string;
use crate::dotted::collide;
use crate::schema::RESCUED;

/// How many bytes a piece may grow by. One that holds so many objects that this
/// is not enough gets no such columns.
const GROWTH_MAX: usize = 64 << 20;

/// The column of the file's name.
pub(crate) const FILE: &str = "_file";

/// The column of the file's version, as its store tells: its etag. It is
/// among the fields.
pub(crate) const ETAG: &str = "_etag";

/// The column of the line in the file, from 1.
pub(crate) const LINE: &str = "_line";

/// `pieces` with the columns of their records' lineage: what the names of their
/// files say and, if `with_place`, [`FILE`], [`LINE`] and [`ETAG`]. `keys` are those of
/// the block's records, `record_of` gives the record of each piece. `None` if
/// nothing is added to any of them.
#[must_use]
pub(crate) fn with_lineage(
    pieces: &Records,
    keys: &Keys,
    record_of: impl Fn(usize) -> usize,
    with_place: bool,
) -> Option<Records> {
    let mut members = Members::default();
    let mut grown: Option<(Vec<u8>, Vec<u32>)> = None;
    let mut start = 0;
    for (at, piece) in pieces.iter().enumerate() {
        let lineage = Lineage::read(keys.get(record_of(at)));
        let lineage = lineage.filter(|lineage| members.enter(lineage, with_place));
        if grown.is_none() && lineage.is_some() {
            let mut data = Vec::with_capacity(pieces.data.len() + pieces.data.len() / 4);
            data.extend_from_slice(&pieces.data[..start]);
            grown = Some((data, pieces.ends[..at].to_vec()));
        }
        start += piece.len();
        let Some((data, ends)) = &mut grown else { continue };
        match lineage {
            Some(_) => members.splice(piece, data),
            None => data.extend_from_slice(piece),
        }
        match u32::try_from(data.len()) {
            Ok(end) => ends.push(end),
            // More than any batch may have; without these columns it may fit.
            Err(_) => return None,
        }
    }
    let (data, ends) = grown?;
    Some(Records::new(data.into(), ends))
}

/// A field that is put into objects.
#[derive(Debug)]
struct Member {
    name: String,
    /// `"name":value`
    text: Vec<u8>,
}

/// The fields of the latest lineage.
#[derive(Debug, Default)]
struct Members {
    /// Its file and its fields.
    latest: Option<(String, String)>,
    all: Vec<Member>,
    /// Which of them is [`LINE`].
    line: Option<usize>,
    /// For each whether the object at hand has it itself.
    has: Vec<bool>,
}

impl Members {
    /// Takes a record's lineage; whether there is anything to add.
    fn enter(&mut self, lineage: &Lineage<'_>, with_place: bool) -> bool {
        let is_known = self
            .latest
            .as_ref()
            .is_some_and(|(file, fields)| fields == lineage.fields && (!with_place || file == lineage.file));
        if !is_known {
            self.latest = Some((lineage.file.into(), lineage.fields.into()));
            self.all.clear();
            for (name, value) in read(lineage.fields).filter(|(name, _)| with_place || name != ETAG) {
                self.add(&name, value);
            }
            if with_place {
                self.add(FILE, &serde_json::Value::from(lineage.file).to_string());
                self.line = self.add(LINE, "").then(|| self.all.len() - 1);
            }
        }
        if let Some(line) = self.line {
            let text = &mut self.all[line].text;
            text.clear();
            write!(text, "\"{LINE}\":{}", lineage.line).expect("a vector takes all");
        }
        !self.all.is_empty()
    }

    /// Adds a field, unless there is one of that name or there can be no such
    /// column; whether it did.
    fn add(&mut self, name: &str, value: &str) -> bool {
        if collide(name, RESCUED) || self.all.iter().any(|known| collide(&known.name, name)) {
            return false;
        }
        let text = format!("{}:{value}", serde_json::Value::from(name)).into_bytes();
        self.all.push(Member { name: name.into(), text });
        true
    }

    /// Appends a piece, with the fields in each of its objects.
    fn splice(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        if self.documents(piece, out).is_none() {
            out.truncate(before);
            out.extend_from_slice(piece);
        }
    }

    /// `None` if the piece is not what is decoded to rows, or grows too much.
    fn documents(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let limit = out.len() + piece.len() + GROWTH_MAX;
        let mut copied = 0;
        let mut is_list = false;
        let mut at = if piece.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        while let Some(byte) = piece.get(at) {
            match byte {
                b'{' => {
                    let Object { close, is_empty } = self.object(piece, at)?;
                    out.extend_from_slice(&piece[copied..close]);
                    self.write(is_empty, out);
                    (copied, at) = (close, close);
                    if out.len() > limit {
                        return None;
                    }
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

    /// Appends the fields that the object does not have.
    fn write(&self, is_empty: bool, out: &mut Vec<u8>) {
        let mut is_first = is_empty;
        for (member, _) in self.all.iter().zip(&self.has).filter(|(_, has)| !**has) {
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            out.extend_from_slice(&member.text);
        }
    }

    /// Looks through the object that starts at `start`, for its end and for the
    /// fields that it has. `None` if it does not end, or not in its brace.
    fn object(&mut self, piece: &[u8], start: usize) -> Option<Object> {
        self.has.clear();
        self.has.resize(self.all.len(), false);
        let (mut at, mut depth, mut is_empty, mut is_key) = (start + 1, 1_usize, true, true);
        loop {
            match *piece.get(at)? {
                b'"' => {
                    let end = end_of_string(piece, at)?;
                    if is_key {
                        is_key = false;
                        self.look_at(&piece[at + 1..end], &piece[end + 1..]);
                    }
                    is_empty = false;
                    at = end;
                }
                b'{' | b'[' => depth += 1,
                b',' => is_key = depth == 1,
                b'}' | b']' if depth > 1 => depth -= 1,
                b'}' => return Some(Object { close: at, is_empty }),
                b']' => return None,
                byte => is_empty &= byte.is_ascii_whitespace(),
            }
            at += 1;
        }
    }

    /// Notes a field of the object; `rest` is what follows its name.
    #[inline]
    fn look_at(&mut self, key: &[u8], rest: &[u8]) {
        let at = self.all.iter().position(|member| is_name(&member.name, key));
        if let Some(at) = at
            && !is_null(rest)
        {
            self.has[at] = true;
        }
    }
}

/// An object in a piece.
struct Object {
    /// Where its closing brace is.
    close: usize,
    /// Whether nothing is between its braces.
    is_empty: bool,
}

/// Whether `key`, as it is spelt between its quotes, names the column `name`
/// for readers that do not tell case apart.
#[inline]
fn is_name(name: &str, key: &[u8]) -> bool {
    let is_plain = key.is_ascii() && memchr::memchr(b'\\', key).is_none();
    if is_plain && name.is_ascii() {
        return key.eq_ignore_ascii_case(name.as_bytes());
    }
    let spelt = [b"\"", key, b"\""].concat();
    serde_json::from_slice::<String>(&spelt).is_ok_and(|key| collide(name, &key))
}

/// Whether what follows a field's name is a colon and `null`.
fn is_null(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
}

/// The names of a lineage's fields, and their values as JSON text; up to the
/// first that is none.
pub(crate) fn read(fields: &str) -> impl Iterator<Item = (String, &str)> {
    let mut rest = fields;
    std::iter::from_fn(move || {
        let mut names = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let name = names.next()?.ok()?;
        let behind = rest[names.byte_offset()..].strip_prefix(':')?;
        let mut values = serde_json::Deserializer::from_str(behind).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let (value, more) = behind.split_at(values.byte_offset());
        rest = more.strip_prefix(',').unwrap_or_default();
        Some((name, value.trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use lakeward_model::SliceId;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::decode::{DecodeOptions, Decoder};
    use crate::schema::TableSchema;

    fn joined<T: AsRef<[u8]>>(parts: &[T]) -> Records {
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        for part in parts {
            data.extend_from_slice(part.as_ref());
            ends.push(data.len() as u32);
        }
        Records::new(data.into(), ends)
    }

    fn keys(lineages: &[Option<Lineage<'_>>]) -> Keys {
        let stored = |lineage: &Option<Lineage<'_>>| {
            let mut out = Vec::new();
            lineage.iter().for_each(|lineage| lineage.write(&mut out));
            out
        };
        let Records { data, ends, .. } = joined(&lineages.iter().map(stored).collect::<Vec<_>>());
        Keys { data, ends }
    }

    fn lineage<'a>(line: u64, fields: &'a str) -> Lineage<'a> {
        Lineage { slice: SliceId(1), file: "a/b.json", line, fields }
    }

    fn texts(records: &Records) -> Vec<String> {
        records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
    }

    /// What becomes of one record.
    fn spliced(record: &[u8], fields: &str, with_place: bool) -> Vec<u8> {
        let (pieces, keys) = (joined(&[record]), keys(&[Some(lineage(7, fields))]));
        let grown = with_lineage(&pieces, &keys, |piece| piece, with_place);
        let grown = grown.unwrap_or(pieces);
        assert_eq!(grown.len(), 1);
        grown.data.to_vec()
    }

    #[test]
    fn fields_are_put_into_objects() {
        let check = |record: &str, expect: &str| {
            let out = spliced(record.as_bytes(), r#""id":145,"kind":"video""#, false);
            assert_eq!(String::from_utf8_lossy(&out), expect, "{record}");
        };
        check(r#"{"a":1}"#, r#"{"a":1,"id":145,"kind":"video"}"#);
        check("{\"a\":1 } \n", "{\"a\":1 ,\"id\":145,\"kind\":\"video\"} \n");
        check("{}", r#"{"id":145,"kind":"video"}"#);
        check("\u{feff}{ }", "\u{feff}{ \"id\":145,\"kind\":\"video\"}");
        // Only its own fields count, and only those with a value.
        check(
            r#"{"a":{"id":1},"b":["id","kind"]}"#,
            r#"{"a":{"id":1},"b":["id","kind"],"id":145,"kind":"video"}"#,
        );
        check(r#"{"a":"id","b":"\"id\":1"}"#, r#"{"a":"id","b":"\"id\":1","id":145,"kind":"video"}"#);
        check(r#"{"id":"x","a":1}"#, r#"{"id":"x","a":1,"kind":"video"}"#);
        check(r#"{"a":[],"ID" : false}"#, r#"{"a":[],"ID" : false,"kind":"video"}"#);
        check(r#"{"\u0069d":{},"Kind":0}"#, r#"{"\u0069d":{},"Kind":0}"#);
        check(r#"{"id" : null}"#, r#"{"id" : null,"id":145,"kind":"video"}"#);
        // Every object that becomes a row.
        check(r#"{"kind":1} {"id":2}"#, r#"{"kind":1,"id":145} {"id":2,"kind":"video"}"#);
        check(r#"[{"kind":1}, {}]"#, r#"[{"kind":1,"id":145}, {"id":145,"kind":"video"}]"#);
        // What is none is left alone.
        for other in [
            "",
            " ",
            "1",
            "\"{}\"",
            "[1,{}]",
            "[[{}]]",
            "{",
            "{\"a\":1",
            "{\"a\":\"}",
            "{\"a\":[1}]",
            "{]",
            "{} 1",
            "{\"a\":\"\\",
            "}",
        ] {
            check(other, other);
        }
    }

    #[test]
    fn files_and_lines_are_columns_if_that_is_asked_for() {
        let pieces = joined(&["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"_line\":\"x\"}", "{}"]);
        let keys = keys(&[
            None,
            Some(lineage(8, "")),
            Some(Lineage { file: "c\"d", ..lineage(9, "\"id\":1") }),
            Some(lineage(u64::MAX, "\"id\":1,\"_rescued\":2,\"Id\":3")),
        ]);
        let record_of = |piece: usize| piece.min(3);
        let with = with_lineage(&pieces, &keys, record_of, true).expect("something is added");
        let expect = [
            r#"{"n":1}"#,
            r#"{"n":2,"_file":"a/b.json","_line":8}"#,
            r#"{"n":3,"id":1,"_file":"c\"d","_line":9}"#,
            r#"{"_line":"x","id":1,"_file":"a/b.json"}"#,
            r#"{"id":1,"_file":"a/b.json","_line":18446744073709551615}"#,
        ];
        assert_eq!(texts(&with), expect);
        let without = with_lineage(&pieces, &keys, record_of, false).expect("something is added");
        let expect =
            [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3,"id":1}"#, r#"{"_line":"x","id":1}"#, r#"{"id":1}"#];
        assert_eq!(texts(&without), expect);
        // A part of a name may have the name of such a column.
        assert_eq!(spliced(b"{}", "\"_line\":1", true), br#"{"_line":1,"_file":"a/b.json"}"#);
    }

    #[test]
    fn without_anything_to_add_nothing_is_copied() {
        let pieces = joined(&["{}", "{}"]);
        let none = keys(&[None, Some(lineage(1, ""))]);
        assert_eq!(with_lineage(&pieces, &none, |piece| piece, false), None);
        for foreign in ["x", "\"a\"", "\"a\":", "\"a\":}"] {
            let keys = keys(&[Some(lineage(1, foreign)), None]);
            assert_eq!(with_lineage(&pieces, &keys, |piece| piece, false), None, "{foreign}");
        }
    }

    #[test]
    fn a_record_of_very_many_objects_does_not_take_all_memory() {
        let many = "{}".repeat(1 << 20);
        let file = "f".repeat(1_000);
        let keys = keys(&[Some(Lineage { file: &file, ..lineage(1, "") })]);
        let grown = with_lineage(&joined(&[&many]), &keys, |piece| piece, true).expect("it was tried");
        assert_eq!(texts(&grown), [many]);
    }

    fn decoded(record: &[u8]) -> (usize, Vec<&'static str>, u64) {
        let mut decoder = Decoder::new(&TableSchema::default(), DecodeOptions::default());
        decoder.push_records(&joined(&[record])).expect("a small record");
        let decoded = decoder.finish();
        let codes = decoded.rejected.iter().map(|rejected| rejected.code).collect();
        (decoded.rows.num_rows(), codes, decoded.rescued)
    }

    /// Texts of which some are JSON.
    fn json_like() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            6 => proptest::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"id\"", "\"ID\"", "\"a\"", "1", "null", " ", "\\", "\"", "é",
            ]).prop_map(String::from),
            3 => proptest::sample::select(vec![
                "\"id\":1", "\"id\":null", "\"a\":{\"id\":2}", "{\"a\":1}", "{}", "\"\\u0069d\":[]", "\"a\":\"}\"",
            ]).prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        /// Whatever a record is: it has as many rows as before, and is refused
        /// if it was before, for the same reason; nothing more is rescued.
        #[test]
        fn what_a_record_is_stays(record in json_like(), wrap: bool, with_place: bool) {
            let record = if wrap { format!("{{{record}}}") } else { record };
            let grown = spliced(record.as_bytes(), r#""id":145"#, with_place);
            prop_assert_eq!(decoded(&grown), decoded(record.as_bytes()), "{}", String::from_utf8_lossy(&grown));
        }

        /// An object keeps its own fields, and has those that it had not.
        #[test]
        fn an_object_gets_what_it_has_not(
            own in proptest::collection::btree_map("id|ID|kind|[a-c\"\\\\é]{1,3}", 0..3_u8, 0..6),
            value in "\\PC{0,12}",
        ) {
            let null = |value: u8| if value == 0 { Value::Null } else { Value::from(value) };
            let own: serde_json::Map<_, _> = own.into_iter().map(|(name, value)| (name, null(value))).collect();
            let fields = lakeward_model::Captured::fields(&[
                lakeward_model::Captured::new("id", &value, false),
                lakeward_model::Captured::new("kind", "12", true),
            ]);
            let grown = spliced(Value::from(own.clone()).to_string().as_bytes(), &fields, false);
            let grown: serde_json::Map<_, _> = serde_json::from_slice(&grown).expect("JSON");
            let mut expect = own.clone();
            for (name, value) in [("id", Value::from(value)), ("kind", Value::from(12))] {
                let has = own.iter().any(|(known, value)| collide(known, name) && !value.is_null());
                if !has {
                    expect.insert(name.into(), value);
                }
            }
            prop_assert_eq!(grown, expect);
        }
    }
}
