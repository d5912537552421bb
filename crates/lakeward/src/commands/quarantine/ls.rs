//! `lakeward quarantine ls`: what is in quarantine, and why.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lakeward_model::Timestamp;
use serde::Serialize;

use super::shelf::{Held, Shelf};
use crate::commands::target::{Inspected, TargetArguments};
use crate::exit::Code;
use crate::quarantine::one_line;
use crate::terminal::{self, Output, right};

/// What a sample has at most, in characters.
const SAMPLE: usize = 200;
/// What the other columns of the table need, about.
const OTHER_COLUMNS: usize = 110;

#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    #[command(flatten)]
    target: TargetArguments,
    /// Only this pipeline.
    pipeline: Option<String>,
}

/// Records of one pipeline with one reason.
#[derive(Debug, Serialize)]
struct Group {
    pipeline: String,
    reason: String,
    /// Still in quarantine.
    records: u64,
    /// Left it.
    replayed: u64,
    first_received_at: String,
    last_received_at: String,
    /// The newest that is still there, on one line.
    sample: String,
    /// Why that one is there.
    message: String,
    #[serde(skip)]
    span: (Timestamp, Timestamp),
}

impl Ls {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let inspected = Inspected::open(&config)?;
        let shelves = Shelf::all(&inspected, &config, self.pipeline.as_deref()).await?;
        let bar = out.progress(shelves.iter().map(Shelf::count).sum(), "reading");
        let mut groups = BTreeMap::new();
        for shelf in &shelves {
            let mut files = shelf.read(&inspected);
            while let Some(lines) = files.try_next().await? {
                for held in &lines.held {
                    add(&mut groups, &shelf.status.pipeline, held);
                }
                bar.inc(lines.held.len() as u64);
            }
        }
        bar.finish_and_clear();
        let groups: Vec<Group> = groups.into_values().collect();
        let records: u64 = groups.iter().map(|group| group.records).sum();
        let replayed: u64 = groups.iter().map(|group| group.replayed).sum();
        let elsewhere: u64 = shelves.iter().map(|shelf| shelf.elsewhere).sum();
        if out.is_json() {
            out.json(&serde_json::json!({
                "records": records, "replayed": replayed, "at_former_destinations": elsewhere, "groups": groups,
            }))?;
            return Ok(Code::Done);
        }
        if !groups.is_empty() {
            out.say(table(&groups).to_string());
        }
        out.say(format!(
            "{} in quarantine, {} replayed",
            terminal::plural(records, "record"),
            terminal::count(replayed)
        ));
        if elsewhere > 0 {
            out.say(format!(
                "{} at a former destination, which was not looked at",
                terminal::plural(elsewhere, "more record")
            ));
        }
        Ok(Code::Done)
    }
}

fn add(groups: &mut BTreeMap<(String, String), Group>, pipeline: &str, held: &Held) {
    let record = &held.record;
    let at = record.received_at;
    let group = groups.entry((pipeline.to_string(), record.reason.clone())).or_insert_with(|| Group {
        pipeline: pipeline.to_string(),
        reason: record.reason.clone(),
        records: 0,
        replayed: 0,
        first_received_at: at.to_string(),
        last_received_at: at.to_string(),
        sample: String::new(),
        message: String::new(),
        span: (at, at),
    });
    if at < group.span.0 {
        group.span.0 = at;
        group.first_received_at = at.to_string();
    }
    let newest = at >= group.span.1;
    if newest {
        group.span.1 = at;
        group.last_received_at = at.to_string();
    }
    if held.left {
        group.replayed += 1;
        return;
    }
    group.records += 1;
    if newest || group.sample.is_empty() {
        group.sample = one_line(&record.data, SAMPLE);
        group.message.clone_from(&record.message);
    }
}

fn table(groups: &[Group]) -> comfy_table::Table {
    let mut table =
        terminal::table(&["pipeline", "reason", "records", "replayed", "first", "last", "sample"]);
    let width = table
        .width()
        .map_or(SAMPLE, |width| usize::from(width).saturating_sub(OTHER_COLUMNS).clamp(24, SAMPLE));
    for group in groups {
        table.add_row([
            comfy_table::Cell::new(&group.pipeline),
            comfy_table::Cell::new(&group.reason),
            right(terminal::count(group.records)),
            right(terminal::count(group.replayed)),
            comfy_table::Cell::new(terminal::instant(group.span.0)),
            comfy_table::Cell::new(terminal::instant(group.span.1)),
            comfy_table::Cell::new(one_line(group.sample.as_bytes(), width)),
        ]);
    }
    table
}
