//! `lakeward status`: what every source has fetched, and what every pipeline
//! has received and delivered.

use lakeward_engine::{CatalogState, PipelineState, PipelineStatus, SourceState, SourceStatus};

use super::target::{Inspected, TargetArguments};
use crate::exit::Code;
use crate::terminal::{self, Output, right};

/// Show what every pipeline has received and delivered, whether the service
/// runs or not.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    target: TargetArguments,
}

impl Status {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let inspected = Inspected::open(&config)?;
        let running = matches!(inspected, Inspected::Remote(_));
        let all = inspected.status().await?;
        let sources = inspected.sources(&config).await?;
        if out.is_json() {
            out.json(&serde_json::json!({ "running": running, "pipelines": all, "sources": sources }))?;
            return Ok(Code::Done);
        }
        if !sources.is_empty() {
            out.say(source_table(&sources).to_string());
        }
        out.say(table(&all).to_string());
        for line in all.iter().flat_map(catalog) {
            out.say(line);
        }
        if !running {
            out.say(format!("The service does not run; this is what {} says.", config.state.display()));
        }
        Ok(Code::Done)
    }
}

/// The pipelines' numbers as a table.
pub(crate) fn table(all: &[PipelineStatus]) -> comfy_table::Table {
    let mut table = terminal::table(&[
        "pipeline",
        "received",
        "delivered",
        "filtered",
        "duplicates",
        "quarantined",
        "pending",
        "rows",
        "lag",
        "state",
    ]);
    for status in all {
        let counts = &status.counts;
        let numbers = [
            status.received,
            counts.delivered,
            counts.filtered,
            counts.duplicates,
            counts.quarantined,
            status.pending,
            counts.rows,
        ];
        let mut row = vec![comfy_table::Cell::new(&status.pipeline)];
        row.extend(numbers.map(|n| right(terminal::count(n))));
        row.push(right(terminal::seconds(status.lag_seconds)));
        row.push(comfy_table::Cell::new(match &status.state {
            PipelineState::Idle if status.pending > 0 => "filling".to_string(),
            PipelineState::Idle => "idle".to_string(),
            PipelineState::Delivering => "delivering".to_string(),
            PipelineState::Retrying { attempts, error } => format!("retrying ({attempts}): {error}"),
            PipelineState::Halted { code, error } => format!("halted, {code}: {error}"),
        }));
        table.add_row(row);
    }
    table
}

/// What there is to say of a pipeline's catalog.
fn catalog(status: &PipelineStatus) -> Vec<String> {
    let Some(catalog) = &status.catalog else { return Vec::new() };
    let behind = |batches: u64| match batches {
        1_000.. => String::from("1,000 batches or more"),
        1 => String::from("1 batch"),
        batches => format!("{batches} batches"),
    };
    let state = match &catalog.state {
        CatalogState::UpToDate => String::from("up to date"),
        CatalogState::Behind { batches: 0 } => String::from("being asked"),
        CatalogState::Behind { batches } => format!("behind by {}", behind(*batches)),
        CatalogState::Failing { attempts, error, batches } => {
            format!("failing (try {attempts}, behind by {}): {error}", behind(*batches))
        }
    };
    let head = format!("{}: {} is {state}", status.pipeline, catalog.name);
    let notes = catalog.notes.iter().map(|note| format!("{}: {}: {note}", status.pipeline, catalog.name));
    std::iter::once(head).chain(notes).collect()
}

/// The sources' numbers as a table.
fn source_table(all: &[SourceStatus]) -> comfy_table::Table {
    let head = ["source", "stream", "records", "behind", "state", "slices", "next look", "last error"];
    let mut table = terminal::table(&head);
    for status in all {
        let behind =
            status.behind_ms.map(|ms| terminal::seconds(std::time::Duration::from_millis(ms).as_secs_f64()));
        let state = match &status.state {
            SourceState::Starting => "starting".to_string(),
            SourceState::Idle => "idle".to_string(),
            SourceState::Reading => "reading".to_string(),
            SourceState::Waiting => "waiting: the journal is full".to_string(),
            SourceState::Retrying { attempts } => format!("retrying ({attempts})"),
            SourceState::Refused => "refused".to_string(),
            SourceState::Stopped => "stopped".to_string(),
        };
        table.add_row(vec![
            comfy_table::Cell::new(format!("{} ({})", status.source, status.kind)),
            comfy_table::Cell::new(status.stream.as_str()),
            right(terminal::count(status.records)),
            right(behind.unwrap_or_default()),
            comfy_table::Cell::new(state),
            comfy_table::Cell::new(slices(status)),
            comfy_table::Cell::new(next_look(status)),
            comfy_table::Cell::new(status.last_error.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

/// How many slices of a source are in which state, if it has any.
fn slices(status: &SourceStatus) -> String {
    let Some(slices) = status.slices else { return String::new() };
    let parts = [(slices.taken, "taken"), (slices.open, "open"), (slices.set_aside, "set aside")];
    let told = parts.iter().enumerate().filter(|(at, (n, _))| *at == 0 || *n > 0);
    told.map(|(_, (n, what))| format!("{} {what}", terminal::count(*n))).collect::<Vec<_>>().join(", ")
}

/// When a source looks for what is new by itself.
fn next_look(status: &SourceStatus) -> String {
    match status.slices {
        None => String::new(),
        Some(_) if status.state == SourceState::Stopped => String::new(),
        Some(slices) => slices.next_look.map_or_else(|| String::from("when asked"), terminal::instant),
    }
}
