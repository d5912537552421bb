//! Firehose's own error records.
//!
//! Sources: captures of the real service for a failed transformation
//! (contract, section 2.8), the developer guide's "Record format conversion
//! error handling" for a failed conversion.

use serde::{Deserialize, Serialize};

use super::{Context, Quarantined};
use crate::process::Stage;

/// A record that failed before it became columns.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessingLine {
    pub(super) raw_data: String,
    pub(super) error_code: String,
    pub(super) error_message: String,
    pub(super) attempts_made: u32,
    pub(super) arrival_timestamp: i64,
    pub(super) attempt_ending_timestamp: i64,
    /// As the service writes it; its documentation has `lambdaArn`.
    #[serde(rename = "lambdaARN", alias = "lambdaArn", default, skip_serializing_if = "Option::is_none")]
    pub(super) lambda_arn: Option<String>,
    /// Ours, which readers of Firehose's objects leave out: the record's place.
    #[serde(rename = "lakewardOffset", default, skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
}

/// A record that failed as columns.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConversionLine {
    pub(super) attempts_made: u32,
    pub(super) arrival_timestamp: i64,
    pub(super) last_error_code: String,
    pub(super) last_error_message: String,
    pub(super) attempt_ending_timestamp: i64,
    pub(super) raw_data: String,
    // Only records from a Kinesis stream, and tables in Glue, have these.
    sequence_number: Option<String>,
    sub_sequence_number: Option<String>,
    data_catalog_table: Option<serde_json::Value>,
    /// Ours, which readers of Firehose's objects leave out: the record's place.
    #[serde(rename = "lakewardOffset", default, skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
}

pub(super) fn write(
    out: &mut Vec<u8>,
    record: &Quarantined,
    context: &Context<'_>,
) -> Result<(), serde_json::Error> {
    let reason = &record.reason;
    let raw_data = base64_simd::STANDARD.encode_to_string(&record.data);
    let (arrival_timestamp, attempt_ending_timestamp) =
        (record.received_at.millis(), context.planned_at.millis());
    match reason.stage {
        Stage::Processing => serde_json::to_writer(
            out,
            &ProcessingLine {
                raw_data,
                error_code: reason.code.to_string(),
                error_message: reason.message.clone(),
                attempts_made: reason.attempts,
                arrival_timestamp,
                attempt_ending_timestamp,
                lambda_arn: context.lambda_of(reason).map(str::to_owned),
                offset: Some(record.offset.0),
            },
        ),
        Stage::Conversion => serde_json::to_writer(
            out,
            &ConversionLine {
                attempts_made: reason.attempts,
                arrival_timestamp,
                last_error_code: conversion_code(&reason.code).to_owned(),
                last_error_message: reason.message.clone(),
                attempt_ending_timestamp,
                raw_data,
                sequence_number: None,
                sub_sequence_number: None,
                data_catalog_table: None,
                offset: Some(record.offset.0),
            },
        ),
    }
}

/// Firehose's code for one of ours: what is no JSON does not parse, everything
/// else is malformed data.
fn conversion_code(code: &str) -> &str {
    match code {
        "json.syntax" | "json.utf8" | "json.depth" => "DataFormatConversion.ParseError",
        code if code.starts_with("DataFormatConversion.") => code,
        _ => "DataFormatConversion.MalformedData",
    }
}
