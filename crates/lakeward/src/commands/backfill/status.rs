//! `lakeward backfill status` and `lakeward backfill cancel`.

use std::time::Duration;

use comfy_table::Cell;
use lakeward_engine::{Run, RunKind};

use super::arguments::PipelineArguments;
use super::plan::range;
use crate::commands::target::Inspected;
use crate::exit::Code;
use crate::sliced::api::word;
use crate::sliced::instant::minute;
use crate::sliced::session::{Own, Session, inspect};
use crate::terminal::{self, Output, bytes, count, right};

/// How long a process that starts or ends is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Show the runs of the source behind a pipeline.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    of: PipelineArguments,
}

/// Cancel a run.
#[derive(Debug, clap::Args)]
pub(super) struct Cancel {
    #[command(flatten)]
    of: PipelineArguments,
    /// The run's id, as `backfill status` shows it.
    run: String,
}

impl Status {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let (config, source) = self.of.find()?;
        // Looking starts nothing: a service would go on with unfinished runs.
        let mut runs = match inspect(&config, PATIENCE).await? {
            Inspected::Remote(remote) => remote.runs(&source.name).await?,
            Inspected::Offline(offline) => offline.runs(&source.name)?,
            Inspected::Here(control) => control.runs(Some(&source.name)).await?,
        };
        runs.sort_by_key(|run| std::cmp::Reverse(run.started_at));
        if out.is_json() {
            runs.iter().try_for_each(|run| out.json(run))?;
            return out
                .json(&serde_json::json!({ "ok": true, "source": source.name, "runs": runs.len() }))
                .map(|()| Code::Done);
        }
        if runs.is_empty() {
            out.say(format!(
                "the source {} had no runs; what it takes by itself is in `lakeward status`",
                source.name
            ));
            return Ok(Code::Done);
        }
        out.say(table(&runs).to_string());
        for run in &runs {
            let said = run.error.as_ref().map(|error| &error.message).or(run.last_error.as_ref());
            if let Some(said) = said.filter(|_| !run.state.is_ended() || run.error.is_some()) {
                out.say(format!("  ! {}: {said}", run.id));
            }
        }
        Ok(Code::Done)
    }
}

impl Cancel {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let (config, source) = self.of.find()?;
        let session = Session::open(&config, &source, PATIENCE, Own::Works, out).await?;
        let answer = session.remote().cancel_run(&self.run).await?;
        if out.is_json() {
            out.json(&answer)?;
        }
        out.say(format!("cancelled {}; what it took stays taken", self.run));
        Ok(Code::Done)
    }
}

fn table(runs: &[Run]) -> comfy_table::Table {
    let head = [
        "run",
        "began",
        "what",
        "range",
        "state",
        "slices",
        "empty",
        "not ready",
        "set aside",
        "records",
        "bytes",
    ];
    let mut table = terminal::table(&head);
    for run in runs {
        let what = match (run.asked.kind, run.asked.again, &run.asked.replace) {
            (RunKind::Count, ..) => "count",
            (RunKind::Take, _, Some(_)) => "replace",
            (RunKind::Take, true, None) => "take again",
            (RunKind::Take, false, None) => "take",
        };
        let state = match (run.state.is_ended(), run.delivered, run.asked.kind) {
            (true, false, RunKind::Take) if run.error.is_none() => {
                format!("{}, delivering", word(run.state))
            }
            _ => word(run.state).to_string(),
        };
        let asked = &run.asked.wanted;
        let mut wanted = vec![range(asked)];
        wanted.extend((!asked.prefix.is_empty()).then(|| asked.prefix.clone()));
        wanted.extend(asked.captured.iter().map(|(part, value)| format!("{part}={value}")));
        let mut row = vec![
            Cell::new(run.id),
            Cell::new(minute(run.started_at)),
            Cell::new(what),
            Cell::new(wanted.join(", ")),
            Cell::new(state),
            right(format!("{} of {}", count(run.slices_done), count(run.slices))),
        ];
        row.extend([run.slices_empty, run.slices_not_ready, run.slices_set_aside].map(|n| right(count(n))));
        row.extend([right(count(run.records)), right(bytes(run.bytes))]);
        table.add_row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sliced::api::tests::run_with;

    #[test]
    fn a_table_tells_runs_apart() {
        let run = run_with(serde_json::json!({
            "again": true, "slices": 1200, "slices_done": 1000, "slices_empty": 200, "records": 1234567, "bytes": 1048576,
            "wanted": {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "where": {"section_id": "145"}},
            "started_at": "2026-03-01T05:00:00Z",
        }));
        let text = table(&[run]).to_string();
        for expect in [
            "take again",
            "done, delivering",
            "from 2026-01-01 00:00 to before 2026-02-01 00:00, section_id=145",
            "1,000 of 1,200",
            "1,234,567",
            "2026-03-01 05:00",
        ] {
            assert!(text.contains(expect), "{expect:?} is not in\n{text}");
        }
    }
}
