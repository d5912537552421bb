//! Records that could not be processed, as files: one JSON object per line
//! with the original bytes and the reason.

use std::fmt::Write as _;

use lakeward_model::{Offset, StreamName, Timestamp};
use serde::Serialize;

use crate::process::Reason;
use crate::shape::{Naming, Shape};

/// A record that could not be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its place in the stream.
    pub offset: Offset,
    /// When it was received.
    pub received_at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// Its bytes as received.
    pub data: Vec<u8>,
}

/// What a quarantine file says besides the records.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The stream.
    pub stream: &'a StreamName,
    /// The pipeline.
    pub pipeline: &'a str,
    /// When the batch was planned; a clock would make a rebuilt batch another.
    pub planned_at: Timestamp,
    /// The shape that the records did not fit.
    pub shape: &'a Shape,
}

#[derive(Serialize)]
struct Line<'a> {
    reason: &'a str,
    message: &'a str,
    pipeline: &'a str,
    stream: &'a str,
    offset: u64,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// Firehose's own record of a failed conversion (developer guide, "Record
/// format conversion error handling").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FirehoseLine<'a> {
    attempts_made: u32,
    arrival_timestamp: i64,
    last_error_code: &'a str,
    last_error_message: &'a str,
    attempt_ending_timestamp: i64,
    raw_data: String,
    sequence_number: Option<&'a str>,
    sub_sequence_number: Option<&'a str>,
    data_catalog_table: Option<&'a str>,
}

/// The file's bytes: NDJSON, in Firehose's own shape where objects are named
/// as Firehose names them.
pub(crate) fn render(records: &[&Quarantined], context: &Context<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let written = match &context.shape.naming {
            Naming::Batch => serde_json::to_writer(&mut out, &line(record, context)),
            Naming::Firehose { .. } => serde_json::to_writer(&mut out, &firehose_line(record, context)),
        };
        written.expect("plain data is always JSON");
        out.push(b'\n');
    }
    out
}

fn line<'a>(record: &'a Quarantined, context: &Context<'a>) -> Line<'a> {
    let text = simdutf8::basic::from_utf8(&record.data).ok();
    let mut received_at = String::new();
    write!(received_at, "{}", record.received_at).expect("a string takes all");
    Line {
        reason: &record.reason.code,
        message: &record.reason.message,
        pipeline: context.pipeline,
        stream: context.stream.as_str(),
        offset: record.offset.0,
        received_at,
        data: text,
        data_base64: text.is_none().then(|| base64_simd::STANDARD.encode_to_string(&record.data)),
    }
}

fn firehose_line<'a>(record: &'a Quarantined, context: &Context<'a>) -> FirehoseLine<'a> {
    FirehoseLine {
        attempts_made: 1,
        arrival_timestamp: record.received_at.millis(),
        last_error_code: "DataFormatConversion.ParseError",
        last_error_message: &record.reason.message,
        attempt_ending_timestamp: context.planned_at.millis(),
        raw_data: base64_simd::STANDARD.encode_to_string(&record.data),
        sequence_number: None,
        sub_sequence_number: None,
        data_catalog_table: None,
    }
}
