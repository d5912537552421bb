//! Reads quarantine files back: ours, and Firehose's own error objects.

use std::borrow::Cow;

use lakeward_model::{Offset, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::OwnLine;
use super::firehose::{ConversionLine, ProcessingLine};
use crate::process::{Reason, Stage};

/// A record in quarantine. What Firehose's shape does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The record's bytes as received.
    pub data: Vec<u8>,
    /// Why it is there; from Firehose's shape with Firehose's code.
    pub reason: Reason,
    /// When it was received; to the millisecond in Firehose's shape.
    pub received_at: Timestamp,
    /// Its place in the stream.
    pub offset: Option<Offset>,
    /// The pipeline that refused it.
    pub pipeline: Option<String>,
    /// The stream.
    pub stream: Option<String>,
    /// The shape that refused it: [`crate::shape::Shape::configuration`].
    pub configuration: Option<String>,
    /// The function that refused it.
    pub lambda: Option<String>,
}

/// A file is no quarantine file, or is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {record} of the quarantine file: {what}")]
pub struct ReadError {
    /// Which record of the file, from 1.
    pub record: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Reads a quarantine file of either shape, uncompressed.
///
/// # Errors
/// See [`ReadError`]: nothing of the file is to be used.
pub fn read(file: &[u8]) -> Result<Vec<Line>, ReadError> {
    let values = serde_json::Deserializer::from_slice(file).into_iter::<Value>();
    let line = |(at, value): (usize, Result<Value, serde_json::Error>)| {
        let wrong = |what: String| ReadError { record: at + 1, what };
        let value = value.map_err(|error| wrong(error.to_string()))?;
        if value.get("lastErrorCode").is_some() {
            conversion(value)
        } else if value.get("errorCode").is_some() {
            processing(value)
        } else {
            own(value)
        }
        .map_err(wrong)
    };
    values.enumerate().map(line).collect()
}

fn own(value: Value) -> Result<Line, String> {
    let line = OwnLine::deserialize(value).map_err(|error| error.to_string())?;
    let stage = [Stage::Processing, Stage::Conversion]
        .into_iter()
        .find(|stage| stage.error_output_type() == line.stage)
        .ok_or_else(|| format!("there is no stage {:?}", line.stage))?;
    let data = match (line.data, line.data_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => bytes(&text)?,
        _ => return Err(String::from("it needs one of `data` and `data_base64`")),
    };
    Ok(Line {
        data,
        reason: Reason {
            stage,
            code: Cow::Owned(line.reason),
            message: line.message,
            attempts: line.attempts,
        },
        received_at: time(&line.received_at)?,
        offset: Some(Offset(line.offset)),
        pipeline: Some(line.pipeline),
        stream: Some(line.stream),
        configuration: Some(line.configuration),
        lambda: line.lambda,
    })
}

fn processing(value: Value) -> Result<Line, String> {
    let line = ProcessingLine::deserialize(value).map_err(|error| error.to_string())?;
    let reason = Reason {
        stage: Stage::Processing,
        code: Cow::Owned(line.error_code),
        message: line.error_message,
        attempts: line.attempts_made,
    };
    firehose(&line.raw_data, reason, (line.arrival_timestamp, line.offset), line.lambda_arn)
}

fn conversion(value: Value) -> Result<Line, String> {
    let line = ConversionLine::deserialize(value).map_err(|error| error.to_string())?;
    let reason = Reason {
        stage: Stage::Conversion,
        code: Cow::Owned(line.last_error_code),
        message: line.last_error_message,
        attempts: line.attempts_made,
    };
    firehose(&line.raw_data, reason, (line.arrival_timestamp, line.offset), None)
}

fn firehose(
    raw: &str,
    reason: Reason,
    (arrival, offset): (i64, Option<u64>),
    lambda: Option<String>,
) -> Result<Line, String> {
    let micros = arrival.checked_mul(1_000).ok_or("its arrival is beyond the calendar")?;
    Ok(Line {
        data: bytes(raw)?,
        reason,
        received_at: Timestamp(micros),
        offset: offset.map(Offset),
        pipeline: None,
        stream: None,
        configuration: None,
        lambda,
    })
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    base64_simd::STANDARD.decode_to_vec(text).map_err(|_| String::from("its bytes are not valid base64"))
}

/// What [`Timestamp`] displays.
fn time(text: &str) -> Result<Timestamp, String> {
    let micros = match text.strip_suffix(" µs") {
        Some(number) => number.parse().ok(),
        None => text.parse::<jiff::Timestamp>().ok().map(|instant| instant.as_microsecond()),
    };
    micros.map(Timestamp).ok_or_else(|| format!("`received_at` is not an instant: {text:?}"))
}
