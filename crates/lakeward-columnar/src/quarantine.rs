//! Records that could not be processed, as files: one JSON object per line
//! with the original bytes and the reason. Every stage has files of its own,
//! as Firehose's error-output-types have.

mod firehose;
mod read;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use lakeward_model::{Offset, StreamName, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::read::{Line, ReadError, read};
use crate::process::{Reason, Stage};
use crate::shape::Naming;

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
    /// Which shape refused them: [`crate::shape::Shape::configuration`].
    pub configuration: &'a str,
    /// The name of the pipeline's function, if it has one: said of records
    /// that failed there.
    pub lambda: Option<&'a str>,
    /// When the batch was planned; a clock would make a rebuilt batch another.
    pub planned_at: Timestamp,
}

impl<'a> Context<'a> {
    /// The function, if `reason` is one of its own.
    fn lambda_of(&self, reason: &Reason) -> Option<&'a str> {
        let is_its = reason.stage == Stage::Processing && reason.code.starts_with("Lambda.");
        self.lambda.filter(|_| is_its)
    }
}

/// A line of our own shape.
#[derive(Serialize, Deserialize)]
struct OwnLine {
    reason: String,
    message: String,
    /// Firehose's error-output-type.
    stage: String,
    pipeline: String,
    stream: String,
    configuration: String,
    offset: u64,
    received_at: String,
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lambda: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// The stages at which any of `records` failed, each with its records in their
/// order: a file each.
#[must_use]
pub fn by_stage<'a>(
    records: impl Iterator<Item = &'a Quarantined> + Clone,
) -> Vec<(Stage, Vec<&'a Quarantined>)> {
    [Stage::Processing, Stage::Conversion]
        .into_iter()
        .map(|stage| (stage, records.clone().filter(|record| record.reason.stage == stage).collect()))
        .filter(|(_, records): &(_, Vec<_>)| !records.is_empty())
        .collect()
}

/// A file's bytes: NDJSON, in Firehose's own shape where objects are named as
/// Firehose names them.
pub(crate) fn render(records: &[&Quarantined], context: &Context<'_>, naming: &Naming) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let written = match naming {
            Naming::Batch => serde_json::to_writer(&mut out, &own_line(record, context)),
            Naming::Firehose { .. } => firehose::write(&mut out, record, context),
        };
        written.expect("plain data is always JSON");
        out.push(b'\n');
    }
    out
}

fn own_line(record: &Quarantined, context: &Context<'_>) -> OwnLine {
    let text = simdutf8::basic::from_utf8(&record.data).ok();
    let mut received_at = String::new();
    write!(received_at, "{}", record.received_at).expect("a string takes all");
    OwnLine {
        reason: record.reason.code.to_string(),
        message: record.reason.message.clone(),
        stage: record.reason.stage.error_output_type().to_owned(),
        pipeline: context.pipeline.to_owned(),
        stream: context.stream.as_str().to_owned(),
        configuration: context.configuration.to_owned(),
        offset: record.offset.0,
        received_at,
        attempts: record.reason.attempts,
        lambda: context.lambda_of(&record.reason).map(str::to_owned),
        data: text.map(str::to_owned),
        data_base64: text.is_none().then(|| base64_simd::STANDARD.encode_to_string(&record.data)),
    }
}
