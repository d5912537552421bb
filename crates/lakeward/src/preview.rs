//! What a pipeline would make of records, without a service and without
//! delivering anything: the same code on the same settings.

use std::sync::Arc;

use lakeward_columnar::build::{self, BuildError, BuiltCounts, Schemas};
use lakeward_columnar::dedup::Seen;
use lakeward_columnar::process::Outcome;
use lakeward_columnar::quarantine::{self, Line};
use lakeward_columnar::shape::{FileCompression, Naming, Output, Shape};
use lakeward_engine::PipelineSpec;
use lakeward_engine::dedup::{DedupState, FILTER_BYTES, KeyStore};
use lakeward_engine::lambda::{self, Replies};
use lakeward_model::{BatchId, Offset, RecordBlock, Role, Span, Timestamp};
use serde_json::Value;

use crate::exit::{Code, coded};
use crate::wiring;

/// What comes of records.
#[derive(Debug)]
pub(crate) struct Preview {
    /// The rows, as NDJSON would have them.
    pub(crate) rows: Vec<Value>,
    /// What would be in quarantine.
    pub(crate) quarantined: Vec<Line>,
    pub(crate) counts: BuiltCounts,
    /// The folders of the data files.
    pub(crate) folders: Vec<String>,
}

/// Runs `blocks` through the settings of `spec`, as the first batch of a
/// pipeline that was planned at `now`. A Lambda function is called.
///
/// # Errors
/// The settings do not fit the records, or the function cannot be reached.
pub(crate) async fn preview(
    functions: &wiring::Functions,
    spec: &PipelineSpec,
    blocks: Vec<RecordBlock>,
    now: Timestamp,
) -> anyhow::Result<Preview> {
    let records = blocks.iter().map(|block| block.records.len() as u64).sum();
    let first = blocks.first().map_or(Offset(0), |block| block.first);
    let Some(span) = Span::new(first, first.plus(records)) else {
        return Err(coded(Code::Usage, "there are no records"));
    };
    let folder = tempfile::tempdir()?;
    let batch = BatchId::derive(uuid::Uuid::nil(), &spec.stream, &spec.name, span);
    let outcomes = outcomes(functions, spec, batch, blocks.clone(), folder.path(), now).await?;
    let spec = spec.clone();
    tokio::task::spawn_blocking(move || {
        let state = DedupState::fresh();
        let keys = KeyStore::open(folder.path(), &state, FILTER_BYTES)?;
        let sql = spec.shape.sql.as_deref().map(wiring::compile_sql).transpose()?;
        let build = |shape: &Shape| {
            let session = shape.dedup.as_ref().map(|dedup| keys.session(batch, dedup.window, None));
            let input = build::Input {
                batch,
                stream: &spec.stream,
                pipeline: &spec.name,
                shape,
                schemas: &Schemas::default(),
                planned_at: now,
                expected_bytes: 0,
                sql: sql.as_deref(),
                seen: session.as_ref().map(|session| (session as &dyn Seen, state.seed)),
                refused: &[],
            };
            let blocks = || blocks.iter().cloned().map(Ok::<_, std::convert::Infallible>);
            build::build(&input, blocks(), &mut outcomes.iter().cloned(), blocks)
        };
        let refuse = |error: BuildError<_>| coded(Code::Configuration, error.to_string());
        let plain = Output::Ndjson { compression: FileCompression::None };
        let lines = match spec.shape.output {
            Output::Verbatim { .. } => spec.shape.output.clone(),
            _ => plain,
        };
        let in_one = Shape {
            output: lines,
            path: String::from("rows/!{timestamp:yyyy}/"),
            error_path: None,
            naming: Naming::Batch,
            ..spec.shape.clone()
        };
        let built = build(&in_one).map_err(refuse)?;
        let mut preview =
            Preview { rows: Vec::new(), quarantined: Vec::new(), counts: built.counts, folders: Vec::new() };
        for file in &built.files {
            match file.role {
                Role::Data => preview.rows.extend(rows_of(&file.body)),
                Role::Quarantine => preview.quarantined.extend(quarantine::read(&file.body)?),
            }
        }
        for file in build(&spec.shape).map_err(refuse)?.files {
            if file.role == Role::Data {
                let path = file.path.as_str();
                let end = path.rfind('/').map_or(0, |slash| slash + 1);
                preview.folders.push(path[..end].to_string());
            }
        }
        Ok(preview)
    })
    .await?
}

/// A line that is no JSON is a row too, of verbatim output.
fn rows_of(body: &[u8]) -> Vec<Value> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            serde_json::from_slice(line).unwrap_or_else(|_| String::from_utf8_lossy(line).into_owned().into())
        })
        .collect()
}

/// What the pipeline's function says of the records, if it has one.
async fn outcomes(
    functions: &wiring::Functions,
    spec: &PipelineSpec,
    batch: BatchId,
    blocks: Vec<RecordBlock>,
    folder: &std::path::Path,
    now: Timestamp,
) -> anyhow::Result<Vec<Outcome>> {
    let Some(function) = &spec.shape.processing.lambda else { return Ok(Vec::new()) };
    let opened = functions.open(&spec.name, function).map_err(|error| coded(Code::Configuration, error))?;
    let settings = lambda::Settings::new(&spec.name, functions.arn(), &spec.stream, function);
    let mut replies = Replies::open(&folder.join("replies"), batch, now)?;
    let blocks = blocks.into_iter().map(Ok::<_, std::convert::Infallible>);
    let pieces = lambda::pieces(&spec.shape.processing, blocks);
    lambda::invoke_all(opened, settings, pieces, &mut replies, Arc::new(|_| {})).await?;
    Ok(tokio::task::spawn_blocking(move || replies.outcomes().collect()).await?)
}
