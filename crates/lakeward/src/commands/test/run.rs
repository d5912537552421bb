//! Running a case.

use bytes::Bytes;
use lakeward_model::{Offset, RecordBlock, Records, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::cases::Case;
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::preview::preview;
use crate::wiring;

/// What came out of a case's records, in the form in which a case expects it.
#[derive(Debug, Serialize)]
pub(super) struct Got {
    pub(super) rows: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) quarantined: Vec<Refused>,
    pub(super) filtered: u64,
    pub(super) duplicates: u64,
    pub(super) folders: Vec<String>,
}

/// A record that went to quarantine.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) record: u64,
    pub(super) reason: String,
    #[serde(skip)]
    pub(super) message: String,
}

/// Runs the records of a case through its pipeline's settings.
pub(super) async fn run(config: &Config, case: &Case) -> anyhow::Result<Got> {
    let known = config.pipelines.iter().find(|pipeline| pipeline.name == case.pipeline);
    let pipeline = known.ok_or_else(|| {
        let names: Vec<&str> = config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
        let message =
            format!("{}: there is no pipeline {}; there are: {}", case.name, case.pipeline, names.join(", "));
        coded(Code::Usage, message)
    })?;
    let now = match &case.now {
        None => Timestamp(1_767_225_600_000_000),
        Some(text) => {
            let at: jiff::Timestamp =
                text.parse().map_err(|error| coded(Code::Usage, format!("{}: now: {error}", case.name)))?;
            Timestamp(at.as_microsecond())
        }
    };
    let mut spec = pipeline.spec()?;
    // A line is found again by its place, which only our own files tell.
    spec.shape.naming = lakeward_columnar::shape::Naming::Batch;
    let block = RecordBlock { records: records(&case.records), first: Offset(0), received_at: now };
    let preview = preview(&wiring::Functions::new(config), &spec, vec![block], now).await?;
    let refused = preview.quarantined.into_iter().map(|line| Refused {
        record: line.offset.map_or(0, |offset| offset.0),
        reason: line.reason.code.into_owned(),
        message: line.reason.message,
    });
    Ok(Got {
        rows: preview.rows,
        quarantined: refused.collect(),
        filtered: preview.counts.filtered,
        duplicates: preview.counts.duplicates,
        folders: preview.folders,
    })
}

fn records(values: &[Value]) -> Records {
    let mut data = Vec::new();
    let ends = values.iter().map(|value| {
        match value {
            Value::String(text) => data.extend_from_slice(text.as_bytes()),
            other => data.extend_from_slice(other.to_string().as_bytes()),
        }
        u32::try_from(data.len()).expect("a file of cases is small")
    });
    let ends = ends.collect();
    Records::new(Bytes::from(data), ends)
}
