//! Reads the lines of quarantine files: our own shape and Firehose's two
//! (contract `aws-and-launchdarkly.md`, section 2.8).

use lakeward_model::{Offset, Timestamp};
use serde::Deserialize;

/// A record in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its place in its batch's source. Firehose's own shape has none; we add
    /// it as `lakewardOffset`.
    pub(crate) offset: Option<Offset>,
    /// When it was received; Firehose's shape has milliseconds.
    pub(crate) received_at: Timestamp,
    /// Why it is there, for machines.
    pub(crate) reason: String,
    /// Why it is there, for people.
    pub(crate) message: String,
    /// Its bytes as received.
    pub(crate) data: Vec<u8>,
}

/// Every member of the three shapes.
#[derive(Deserialize)]
struct Line {
    reason: Option<String>,
    message: Option<String>,
    offset: Option<u64>,
    received_at: Option<String>,
    data: Option<String>,
    data_base64: Option<String>,
    #[serde(rename = "errorCode", alias = "lastErrorCode")]
    error_code: Option<String>,
    #[serde(rename = "errorMessage", alias = "lastErrorMessage")]
    error_message: Option<String>,
    #[serde(rename = "arrivalTimestamp")]
    arrival_timestamp: Option<i64>,
    #[serde(rename = "rawData")]
    raw_data: Option<String>,
    #[serde(rename = "lakewardOffset")]
    lakeward_offset: Option<u64>,
}

/// The records of a quarantine file, each or what is wrong with its line.
pub(crate) fn read(file: &[u8]) -> impl Iterator<Item = Result<Record, String>> + '_ {
    let lines = file.split(|&byte| byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    lines.map(|(index, line)| record(line).map_err(|what| format!("line {}: {what}", index + 1)))
}

fn record(line: &[u8]) -> Result<Record, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if let Some(raw) = line.raw_data {
        let millis = line.arrival_timestamp.ok_or("it has no `arrivalTimestamp`")?;
        return Ok(Record {
            offset: line.lakeward_offset.map(Offset),
            received_at: Timestamp(millis.checked_mul(1_000).ok_or("its arrival is beyond the calendar")?),
            reason: line.error_code.ok_or("it has no error code")?,
            message: line.error_message.unwrap_or_default(),
            data: bytes(&raw)?,
        });
    }
    let data = match (line.data, line.data_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => bytes(&text)?,
        _ => return Err(String::from("it needs one of `data`, `data_base64` and `rawData`")),
    };
    Ok(Record {
        offset: line.offset.map(Offset),
        received_at: instant(&line.received_at.ok_or("it has no `received_at`")?)?,
        reason: line.reason.ok_or("it has no `reason`")?,
        message: line.message.unwrap_or_default(),
        data,
    })
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    base64_simd::STANDARD.decode_to_vec(text).map_err(|_| String::from("its bytes are not valid base64"))
}

/// What [`Timestamp`] displays.
fn instant(text: &str) -> Result<Timestamp, String> {
    let micros = match text.strip_suffix(" µs") {
        Some(number) => number.parse().ok(),
        None => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond),
    };
    micros.map(Timestamp).ok_or_else(|| format!("`received_at` is not an instant: {text:?}"))
}

/// Bytes on one line for people: control characters and what is no UTF-8 are
/// escaped, and no more than `width` characters are left.
pub(crate) fn one_line(data: &[u8], width: usize) -> String {
    // No more than this can be shown: four bytes a character.
    let data = &data.trim_ascii_end()[..data.trim_ascii_end().len().min(width.saturating_mul(4) + 4)];
    let text = match std::str::from_utf8(data) {
        Ok(text) => escaped(text),
        // The cut may have gone through a character.
        Err(error) if error.error_len().is_none() => {
            escaped(std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default())
        }
        Err(_) => data.escape_ascii().to_string(),
    };
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<Record, String> {
        read(line.as_bytes()).next().unwrap()
    }

    #[test]
    fn the_three_shapes() {
        let check = |line: &str, offset: Option<u64>, at: i64, reason: &str, data: &[u8]| {
            let expect = Record {
                offset: offset.map(Offset),
                received_at: Timestamp(at),
                reason: reason.into(),
                message: "m".into(),
                data: data.to_vec(),
            };
            assert_eq!(one(line).unwrap(), expect, "{line}");
        };
        check(
            r#"{"reason":"json.syntax","message":"m","pipeline":"p","stream":"s","offset":7,"received_at":"1970-01-01T00:00:01.000002Z","data":"{x"}"#,
            Some(7), 1_000_002, "json.syntax", b"{x",
        );
        check(
            r#"{"reason":"json.utf8","message":"m","offset":7,"received_at":"-5 µs","data_base64":"/w=="}"#,
            Some(7), -5, "json.utf8", b"\xff",
        );
        check(
            r#"{"attemptsMade":1,"arrivalTimestamp":1500,"lastErrorCode":"DataFormatConversion.ParseError","lastErrorMessage":"m","attemptEndingTimestamp":3,"rawData":"e3g=","sequenceNumber":null,"lakewardOffset":9}"#,
            Some(9), 1_500_000, "DataFormatConversion.ParseError", b"{x",
        );
        check(
            r#"{"rawData":"e3g=","errorCode":"Lambda.ProcessingFailedStatus","errorMessage":"m","attemptsMade":1,"arrivalTimestamp":1500,"attemptEndingTimestamp":2,"lambdaARN":"arn:x"}"#,
            None, 1_500_000, "Lambda.ProcessingFailedStatus", b"{x",
        );
    }

    #[test]
    fn what_is_damaged_is_said() {
        let check = |line: &str, words: &str| {
            let error = one(line).unwrap_err();
            assert!(error.starts_with("line 1: ") && error.contains(words), "{error}");
        };
        check("{", "EOF");
        check("[]", "invalid length");
        check(r#"{"reason":"r","received_at":"1970-01-01T00:00:00Z"}"#, "one of `data`");
        check(r#"{"reason":"r","received_at":"noon","data":""}"#, "not an instant");
        check(r#"{"reason":"r","data":""}"#, "received_at");
        check(r#"{"rawData":"?","errorCode":"e","arrivalTimestamp":1}"#, "base64");
        check(r#"{"rawData":"","errorCode":"e","arrivalTimestamp":9223372036854775807}"#, "calendar");
        assert_eq!(read(b"\n \n").count(), 0);
    }

    #[test]
    fn records_on_one_line() {
        let check = |data: &[u8], width, expect: &str| assert_eq!(one_line(data, width), expect);
        check(b"{\"a\":1}\r\n", 20, "{\"a\":1}");
        check(b"a\tb\nc", 20, "a\\tb\\nc");
        check(b"\xff\x00a", 20, "\\xff\\x00a");
        check("äöüß".as_bytes(), 4, "äöüß");
        check("äöüßé".as_bytes(), 4, "äöü…");
        check(&"ä€".repeat(500).into_bytes(), 4, "ä€ä…");
        check(b"", 4, "");
    }
}
