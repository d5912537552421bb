//! `lakeward quarantine show`: the records themselves.

use std::io::Write as _;

use futures::TryStreamExt;
use lakeward_engine::BatchRecord;
use serde::Serialize;

use super::shelf::{Lines, Shelf};
use crate::commands::target::{Inspected, TargetArguments};
use crate::exit::Code;
use crate::quarantine::{Record, one_line};
use crate::terminal::{self, Output};

/// What is printed of a record for a person, in characters.
const WIDTH: usize = 2_000;

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    target: TargetArguments,
    /// The pipeline.
    pipeline: String,
    /// Only records with this reason, for instance `json.syntax`.
    #[arg(long)]
    reason: Option<String>,
    /// How many at most; 0 for all.
    #[arg(long, default_value_t = 20)]
    limit: u64,
    /// Write the records' own bytes and nothing else, a line end behind each
    /// that has none.
    #[arg(long)]
    raw: bool,
}

/// A record as `--json` prints it: one line each.
#[derive(Serialize)]
struct Shown<'a> {
    pipeline: &'a str,
    reason: &'a str,
    message: &'a str,
    source: uuid::Uuid,
    offset: Option<u64>,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl Show {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let inspected = Inspected::open(&config)?;
        let shelf = Shelf::of(&inspected, &config, &self.pipeline).await?;
        let mut shown = 0;
        let mut files = shelf.read(&inspected);
        while let Some(Lines { batch, held }) = files.try_next().await? {
            for held in held {
                let record = held.record;
                if held.left || self.reason.as_ref().is_some_and(|reason| *reason != record.reason) {
                    continue;
                }
                if self.limit > 0 && shown == self.limit {
                    if !self.raw {
                        out.say(format!("… and more; --limit 0 prints all {}", self.of_all(&shelf)));
                    }
                    return Ok(Code::Done);
                }
                shown += 1;
                if self.raw {
                    if !raw(&record.data)? {
                        return Ok(Code::Done);
                    }
                } else {
                    self.print(out, batch, &record)?;
                }
            }
        }
        if shown == 0 && !self.raw {
            out.say("nothing is in quarantine that was asked for");
        }
        Ok(Code::Done)
    }

    fn of_all(&self, shelf: &Shelf) -> String {
        match self.reason {
            Some(_) => String::new(),
            None => terminal::count(shelf.status.counts.quarantined),
        }
    }

    fn print(&self, out: &Output, batch: &BatchRecord, record: &Record) -> anyhow::Result<()> {
        if out.is_json() {
            let text = std::str::from_utf8(&record.data).ok();
            return out.json(&Shown {
                pipeline: &self.pipeline,
                reason: &record.reason,
                message: &record.message,
                source: batch.source(),
                offset: record.offset.map(|offset| offset.0),
                received_at: record.received_at.to_string(),
                data: text,
                data_base64: text.is_none().then(|| base64_simd::STANDARD.encode_to_string(&record.data)),
            });
        }
        let offset = record.offset.map_or_else(|| String::from("-"), |offset| offset.to_string());
        let replay = if batch.replay.is_some() { " (of a replay)" } else { "" };
        out.say(format!("offset {offset}{replay}  {}  {}", record.received_at, record.reason));
        out.say(format!("  {}", record.message));
        out.say(format!("  {}", one_line(&record.data, WIDTH)));
        Ok(())
    }
}

/// Writes a record's bytes; whether anybody reads on.
fn raw(data: &[u8]) -> anyhow::Result<bool> {
    let end: &[u8] = if data.ends_with(b"\n") { b"" } else { b"\n" };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(data).and_then(|()| stdout.write_all(end)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
