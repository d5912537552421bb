//! What a function says of each piece (contract `aws-and-launchdarkly.md`,
//! sections 2.8 and 3). Nothing that it says fails the batch, and a piece that
//! it says something wrong about fails alone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use lakeward_columnar::process::{Outcome, Reason, Stage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::Ids;

/// Firehose's codes and, where they are known, its messages.
type Fault = (&'static str, &'static str);
const FAILED: Fault = ("Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record");
const MISSING: Fault = (
    "Lambda.MissingRecordId",
    "the function's reply has no record with this recordId; it must return every one",
);
const DUPLICATED: Fault =
    ("Lambda.DuplicatedRecordId", "the function's reply has more than one record with this recordId");
const NOT_JSON: Fault = ("Lambda.JsonProcessingException", "the function's reply is not JSON");
const NO_RECORDS: Fault =
    ("Lambda.InvalidReturnFormat", "the function's reply is not an object with a list `records`");
const NO_RESULT: Fault =
    ("Lambda.InvalidReturnFormat", "the record's `result` is not Ok, Dropped or ProcessingFailed");
const NO_DATA: Fault = ("Lambda.InvalidReturnFormat", "the record's result is Ok, but it has no `data`");
const NOT_BASE64: Fault = ("Lambda.InvalidReturnFormat", "the record's `data` is not base64");
const NO_METADATA: Fault =
    ("Lambda.InvalidReturnFormat", "the record's `metadata` is not an object with an object `partitionKeys`");
const EMPTY_KEY: Fault =
    ("DynamicPartitioning.MetadataExtractionFailed", "partitionKeys values must not be null or empty");
const COMPLEX_KEY: Fault = (
    "DynamicPartitioning.MetadataExtractionFailed",
    "partitionKeys values must be texts, not lists or objects",
);

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    records: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Returned<'a> {
    #[serde(borrow)]
    record_id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    partition_keys: Option<&'a RawValue>,
}

/// What was said of a piece so far.
enum Said {
    Nothing,
    Once(Outcome),
    Twice,
}

/// The outcomes of the pieces `range`, in order, from the reply to call number
/// `attempts` for them.
pub(super) fn read(reply: &[u8], ids: Ids, range: &Range<u64>, attempts: u32) -> Vec<Outcome> {
    let count = usize::try_from(range.end - range.start).expect("a call's pieces are in memory");
    let records = match records(reply) {
        Ok(records) => records,
        Err(fault) => return vec![failed(fault, attempts); count],
    };
    let mut said: Vec<Said> = (0..count).map(|_| Said::Nothing).collect();
    for raw in records {
        // What cannot be told to belong to a piece is ignored, as Firehose
        // ignores unknown ids; the piece, if it was meant, is missing then.
        let Some(returned) = object::<Returned<'_>>(raw) else { continue };
        let number = returned.record_id.and_then(text).and_then(|id| ids.number(&id));
        let Some(number) = number.filter(|number| range.contains(number)) else { continue };
        let place = &mut said[usize::try_from(number - range.start).expect("it is in the range")];
        *place = match place {
            Said::Nothing => Said::Once(outcome(&returned).unwrap_or_else(|fault| failed(fault, attempts))),
            Said::Once(_) | Said::Twice => Said::Twice,
        };
    }
    said.into_iter()
        .map(|said| match said {
            Said::Nothing => failed(MISSING, attempts),
            Said::Once(outcome) => outcome,
            Said::Twice => failed(DUPLICATED, attempts),
        })
        .collect()
}

fn failed((code, message): Fault, attempts: u32) -> Outcome {
    Outcome::Failed(Reason {
        stage: Stage::Processing,
        code: Cow::Borrowed(code),
        message: message.to_string(),
        attempts,
    })
}

fn records(reply: &[u8]) -> Result<Vec<&RawValue>, Fault> {
    let is_object = reply.trim_ascii_start().first() == Some(&b'{');
    match serde_json::from_slice::<Reply<'_>>(reply) {
        Ok(reply) if is_object => Ok(reply.records),
        Err(error) if error.is_syntax() || error.is_eof() => Err(NOT_JSON),
        _ => Err(NO_RECORDS),
    }
}

/// An object's members, if it is an object that has each at most once.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    match serde_json::from_str::<&str>(raw.get()) {
        Ok(text) => Some(Cow::Borrowed(text)),
        // It has escapes, or it is no text.
        Err(_) => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
    }
}

fn outcome(returned: &Returned<'_>) -> Result<Outcome, Fault> {
    match returned.result.and_then(text).as_deref() {
        Some("Ok") => {}
        Some("Dropped") => return Ok(Outcome::Dropped),
        Some("ProcessingFailed") => return Err(FAILED),
        _ => return Err(NO_RESULT),
    }
    let data = returned.data.ok_or(NO_DATA)?;
    let data = text(data).ok_or(NOT_BASE64)?;
    let data = base64_simd::forgiving_decode_to_vec(data.as_bytes()).map_err(|_| NOT_BASE64)?;
    Ok(Outcome::Ok { data: Bytes::from(data), keys: keys(returned.metadata)? })
}

/// The partition keys, ordered by name.
fn keys(metadata: Option<&RawValue>) -> Result<Vec<(String, String)>, Fault> {
    let Some(metadata) = metadata else { return Ok(Vec::new()) };
    let metadata: Metadata<'_> = object(metadata).ok_or(NO_METADATA)?;
    let Some(keys) = metadata.partition_keys else { return Ok(Vec::new()) };
    let keys: BTreeMap<String, &RawValue> = object(keys).ok_or(NO_METADATA)?;
    keys.into_iter().map(|(name, value)| Ok((name, key(value)?))).collect()
}

/// A key's value: a text, or the text of a number or a boolean, which functions
/// that were never run in AWS give.
fn key(value: &RawValue) -> Result<String, Fault> {
    match value.get().as_bytes().first() {
        Some(b'"') => match text(value) {
            Some(text) if !text.is_empty() => Ok(text.into_owned()),
            _ => Err(EMPTY_KEY),
        },
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Ok(value.get().to_string()),
        Some(b'n') => Err(EMPTY_KEY),
        _ => Err(COMPLEX_KEY),
    }
}

#[cfg(test)]
mod tests {
    use lakeward_model::BatchId;
    use proptest::prelude::*;

    use super::*;

    /// Reads a reply for two pieces, 7 and 8, and tells it shortly: the data
    /// and keys, `dropped`, or the code.
    fn read_two(reply: &str) -> [String; 2] {
        let ids = Ids::new(BatchId(uuid::Uuid::from_u128(0xabcd << 96)));
        let outcomes = read(reply.as_bytes(), ids, &(7..9), 2);
        let tell = |outcome: &Outcome| match outcome {
            Outcome::Ok { data, keys } => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{}{}", String::from_utf8_lossy(data), keys.concat())
            }
            Outcome::Dropped => String::from("dropped"),
            Outcome::Failed(reason) => {
                assert_eq!((reason.stage, reason.attempts), (Stage::Processing, 2));
                assert!(!reason.message.is_empty());
                reason.code.to_string()
            }
        };
        let [a, b] = outcomes.as_slice() else { panic!("{} outcomes", outcomes.len()) };
        [tell(a), tell(b)]
    }

    /// What a record as returned becomes.
    fn one(record: &str) -> String {
        let other = r#"{"recordId":"0000abcd-8","result":"Dropped"}"#;
        let [a, b] = read_two(&format!(r#"{{"records":[{record},{other}]}}"#));
        assert_eq!(b, "dropped", "its neighbour does not mind");
        a
    }

    #[test]
    fn every_oddity_of_a_record() {
        let check = |members: &str, expect: &str| {
            let record = format!(r#"{{"recordId":"0000abcd-7",{members}}}"#);
            assert_eq!(one(&record), expect, "{record}");
        };
        let format = "Lambda.InvalidReturnFormat";
        let partition = "DynamicPartitioning.MetadataExtractionFailed";
        check(r#""result":"Ok","data":"eA==""#, "x");
        check(r#""result":"Ok","data":"eA""#, "x");
        check(r#""result":"Ok","data":"eA=\u003d\n""#, "x");
        check(r#""result":"Ok","data":"""#, "");
        check(r#""result":"\u004fk","data":"eA==","more":{"a":[1]}"#, "x");
        check(r#""result":"Ok""#, format);
        check(r#""result":"Ok","data":null"#, format);
        check(r#""result":"Ok","data":7"#, format);
        check(r#""result":"Ok","data":"???""#, format);
        check(r#""result":"Dropped""#, "dropped");
        check(r#""result":"Dropped","data":"???""#, "dropped");
        check(r#""result":"ProcessingFailed","data":"eA==""#, "Lambda.ProcessingFailedStatus");
        check(r#""result":"ok","data":"eA==""#, format);
        check(r#""result":null,"data":"eA==""#, format);
        check(r#""data":"eA==""#, format);
        let ok = r#""result":"Ok","data":"eA==""#;
        check(&format!(r#"{ok},"metadata":null"#), "x");
        check(&format!(r#"{ok},"metadata":{{}}"#), "x");
        check(&format!(r#"{ok},"metadata":{{"partitionKeys":null,"otfMetadata":{{}}}}"#), "x");
        check(&format!(r#"{ok},"metadata":{{"partitionKeys":{{}}}}"#), "x");
        check(&format!(r#"{ok},"metadata":[]"#), format);
        check(&format!(r#"{ok},"metadata":{{"partitionKeys":["a"]}}"#), format);
        let keys = |keys: &str, expect: &str| {
            check(&format!(r#"{ok},"metadata":{{"partitionKeys":{{{keys}}}}}"#), expect);
        };
        keys(r#""b":"2","a":"1""#, "x a=1 b=2");
        keys(r#""year":2024,"hour":0"#, "x hour=0 year=2024");
        keys(
            r#""f":1.50,"g":-1e3,"big":123456789012345678901234567890"#,
            "x big=123456789012345678901234567890 f=1.50 g=-1e3",
        );
        keys(r#""t":true,"f":false"#, "x f=false t=true");
        keys(r#""a":"é\"\/""#, "x a=é\"/");
        keys(r#""a":"""#, partition);
        keys(r#""a":null"#, partition);
        keys(r#""a":{}"#, partition);
        keys(r#""a":["x"]"#, partition);
        assert_eq!(one(r#"{"recordId":"0000abcd-7"}"#), format);
        let missing = "Lambda.MissingRecordId";
        for record in [
            r#"{"result":"Ok","data":"eA=="}"#,
            r#"{"recordId":null,"result":"Ok","data":"eA=="}"#,
            r#"{"recordId":7,"result":"Ok","data":"eA=="}"#,
            r#"{"recordId":"0000abcd-9","result":"Ok","data":"eA=="}"#,
            r#"{"recordId":"0000abce-7","result":"Ok","data":"eA=="}"#,
            r#"["0000abcd-7","Ok","eA==",null]"#,
            "null",
            "7",
        ] {
            assert_eq!(one(record), missing, "{record}");
        }
        let record = r#"{"recordId":"0000abcd-7","result":"Ok","data":"eA=="}"#;
        assert_eq!(one(&format!("{record},{record}")), "Lambda.DuplicatedRecordId");
        assert_eq!(one(&format!("{record},{record},{record}")), "Lambda.DuplicatedRecordId");
    }

    #[test]
    fn replies_that_are_none() {
        let both = |reply: &str, code: &str| assert_eq!(read_two(reply), [code, code], "{reply}");
        both("", "Lambda.JsonProcessingException");
        both("<html>", "Lambda.JsonProcessingException");
        both(r#"{"records":["#, "Lambda.JsonProcessingException");
        both(r#"{"records":[]} x"#, "Lambda.JsonProcessingException");
        both("null", "Lambda.InvalidReturnFormat");
        both("{}", "Lambda.InvalidReturnFormat");
        both("[[]]", "Lambda.InvalidReturnFormat");
        both(r#"{"records":null}"#, "Lambda.InvalidReturnFormat");
        both(r#"{"records":{}}"#, "Lambda.InvalidReturnFormat");
        both(r#"{"records":[]}"#, "Lambda.MissingRecordId");
        let order = r#"{"records":[{"recordId":"0000abcd-8","result":"Dropped"},{"recordId":"0000abcd-7","result":"Ok","data":"eA=="}],"x":1}"#;
        assert_eq!(read_two(order), ["x", "dropped"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn whatever_comes_there_is_one_outcome_for_each_piece(
            junk in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0_usize..160,
        ) {
            let ids = Ids::new(BatchId(uuid::Uuid::from_u128(0xabcd << 96)));
            prop_assert_eq!(read(&junk, ids, &(0..5), 1).len(), 5);
            let whole = br#"{"records":[{"recordId":"0000abcd-0","result":"Ok","data":"eA==","metadata":{"partitionKeys":{"a":"b"}}},{"recordId":"0000abcd-1","result":"Dropped"}]}"#;
            let mut spliced = whole[..cut.min(whole.len())].to_vec();
            spliced.extend_from_slice(&junk);
            spliced.extend_from_slice(&whole[cut.min(whole.len())..]);
            prop_assert_eq!(read(&spliced, ids, &(0..2), 1).len(), 2);
        }
    }
}
