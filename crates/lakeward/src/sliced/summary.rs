//! What a run came to, as machines read it: one line of JSON for Airflow's
//! XCom, Kestra's outputs and summary files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use lakeward_engine::{Asked, BatchRecord, RunSlice, RunSliceState, SliceCounts};
use lakeward_model::{Role, Timestamp};
use serde::Serialize;

use super::Sliced;
use super::instant;
use super::take::{Status, Taken};
use crate::commands::target::Inspected;
use crate::config::Config;
use crate::exit::Code;

/// Slices that a summary names.
pub(crate) const SLICES_TOLD: usize = 1_000;
/// Files that a summary names.
const FILES_TOLD: usize = 1_000;

/// What the pipelines settled since a run began.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(crate) struct Settled {
    /// By pipeline.
    pub(crate) pipelines: BTreeMap<String, Outcome>,
    /// The files that were written, the first so many.
    pub(crate) objects: Vec<Object>,
    /// How many more there are.
    pub(crate) objects_omitted: u64,
}

/// What one pipeline settled.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    pub(crate) counts: SliceCounts,
    pub(crate) files: u64,
}

/// A file in the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Object {
    /// The lake that it lies in.
    pub(crate) lake: String,
    /// Its path there.
    pub(crate) key: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) pipeline: String,
}

impl Settled {
    /// What the pipelines of a source committed at or behind an instant.
    ///
    /// # Errors
    /// The state cannot be asked.
    pub(crate) async fn since(
        inspected: &Inspected,
        config: &Config,
        source: &Sliced,
        began: Timestamp,
    ) -> anyhow::Result<Self> {
        let mut settled = Self::default();
        let specs = inspected.pipelines(config).await?;
        for spec in source.pipelines(&specs) {
            settled.pipelines.entry(spec.name.clone()).or_default();
            for batch in inspected.batches_of(&spec.name, began).await? {
                settled.add(&batch);
            }
        }
        Ok(settled)
    }

    fn add(&mut self, batch: &BatchRecord) {
        let outcome = self.pipelines.entry(batch.pipeline.clone()).or_default();
        outcome.counts = outcome.counts.plus(&batch.counts.of_records());
        for file in batch.files.iter().filter(|file| file.role == Role::Data) {
            outcome.files += 1;
            if self.objects.len() < FILES_TOLD {
                self.objects.push(Object {
                    lake: batch.destination.clone(),
                    key: file.path.as_str().to_string(),
                    bytes: file.bytes,
                    rows: file.rows,
                    pipeline: batch.pipeline.clone(),
                });
            } else {
                self.objects_omitted += 1;
            }
        }
    }

    fn sum(&self, of: impl Fn(&Outcome) -> u64) -> u64 {
        self.pipelines.values().map(of).sum()
    }
}

/// The range that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Window {
    /// The first hour, where slices are hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    /// The last hour, which is part of the range.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Window {
    fn of(source: &Sliced, wanted: &Asked) -> Self {
        let start = wanted.from.filter(|_| source.hourly).map(instant::hour);
        let last = wanted.to.map(|to| Timestamp(to.micros().saturating_sub(1)));
        let end = last.filter(|_| source.hourly).map(instant::hour);
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Self { start, end, from: text(wanted.from), to: text(wanted.to) }
    }
}

/// A slice that is an hour.
#[derive(Debug, Serialize)]
struct Hour<'a> {
    h: &'a str,
    status: RunSliceState,
    events: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Any other slice.
#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
    status: RunSliceState,
    events: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// The summary of a run. `note` says what the summary leaves out.
pub(crate) fn of_run(
    source: &Sliced,
    wanted: &Asked,
    taken: &Taken,
    status: Status,
    code: Code,
) -> serde_json::Value {
    let run = &taken.run;
    let settled = &taken.settled;
    let mut summary = serde_json::json!({
        "run_id": run.id,
        "source": source.name,
        "window": Window::of(source, wanted),
        "status": status,
        "exit_code": code.number(),
        "events": run.records,
        "bytes": run.bytes,
        "slices_already": run.slices_already,
        "slices_exported": run.slices_done,
        "slices_empty": run.slices_empty,
        "slices_not_ready": run.slices_not_ready,
        "slices_failed": run.slices_set_aside,
        "delivered": run.delivered,
        "objects": settled.objects,
        "objects_total": settled.sum(|outcome| outcome.files),
        "rows": settled.sum(|outcome| outcome.counts.rows),
        "duplicates_dropped": settled.sum(|outcome| outcome.counts.duplicates),
        "quarantined": settled.sum(|outcome| outcome.counts.quarantined),
        "pipelines": settled.pipelines,
    });
    let (key, slices) = slices(source, &taken.slices);
    if let Some(members) = summary.as_object_mut() {
        members.insert(key.to_string(), slices);
        if let Some(error) = &run.error {
            members.insert("error".into(), error.message.as_str().into());
        } else if let Some(error) = run.last_error.as_ref().filter(|_| code != Code::Done) {
            members.insert("error".into(), error.as_str().into());
        }
        if taken.cut || settled.objects_omitted > 0 {
            let note = format!("{key} and objects name the first {SLICES_TOLD} only; the totals count all");
            members.insert("note".into(), note.into());
        }
    }
    summary
}

fn slices(source: &Sliced, slices: &[RunSlice]) -> (&'static str, serde_json::Value) {
    if source.hourly {
        let hour = |slice: &RunSlice| {
            let RunSlice { name, state, records, bytes, reason, .. } = slice;
            serde_json::json!(Hour {
                h: name,
                status: *state,
                events: *records,
                bytes: *bytes,
                reason: reason.as_deref()
            })
        };
        ("hours", slices.iter().map(hour).collect())
    } else {
        let named = |slice: &RunSlice| {
            let RunSlice { name, state, records, bytes, reason, .. } = slice;
            serde_json::json!(Named {
                name,
                status: *state,
                events: *records,
                bytes: *bytes,
                reason: reason.as_deref()
            })
        };
        ("slices", slices.iter().map(named).collect())
    }
}

/// The summary of a command that failed before there was a run to speak of.
pub(crate) fn of_failure(source: Option<&str>, error: &anyhow::Error, code: Code) -> serde_json::Value {
    let status = match code {
        Code::Interrupted | Code::Terminated => "interrupted",
        _ => "failed",
    };
    serde_json::json!({
        "run_id": null, "source": source, "status": status, "exit_code": code.number(),
        "error": format!("{error:#}"), "events": 0, "bytes": 0, "objects": [],
        "duplicates_dropped": 0, "quarantined": 0, "delivered": false,
    })
}

/// The line by which a task of Kestra gives outputs: the numbers, without the
/// lists.
pub(crate) fn for_kestra(summary: &serde_json::Value) -> String {
    let mut outputs = summary.clone();
    if let Some(members) = outputs.as_object_mut() {
        members.retain(|key, value| key == "window" || !(value.is_array() || value.is_object()));
    }
    format!("::{}::", serde_json::json!({ "outputs": outputs }))
}

/// Writes the summary so that whoever reads the file sees all of it or none.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn write(file: &Path, summary: &serde_json::Value) -> std::io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(temporary, "{summary}")?;
    temporary.as_file().sync_all()?;
    // Whoever is to read it may be somebody else: a sidecar.
    use std::os::unix::fs::PermissionsExt;
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    temporary.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use lakeward_model::SliceId;

    use super::*;
    use crate::sliced::api::tests::run_with;
    use crate::sliced::follow::Ending;

    fn source(hourly: bool) -> Sliced {
        Sliced { name: "s".into(), kind: "amplitude", stream: "st".into(), hourly }
    }

    fn taken() -> Taken {
        let run = run_with(serde_json::json!({
            "slices": 3, "slices_done": 1, "slices_empty": 1, "slices_set_aside": 1, "records": 10,
            "bytes": 100, "delivered": true,
        }));
        let slice = |name: &str, state, records, reason: Option<&str>| RunSlice {
            name: name.into(),
            id: SliceId(0),
            state,
            records,
            bytes: records * 10,
            reason: reason.map(Into::into),
        };
        let counts = SliceCounts { delivered: 8, duplicates: 1, quarantined: 1, rows: 8, filtered: 0 };
        let outcome = Outcome { counts, files: 1 };
        Taken {
            run,
            ending: Ending::Ended,
            slices: vec![
                slice("2026-03-01T00", RunSliceState::Exported, 10, None),
                slice("2026-03-01T01", RunSliceState::Empty, 0, None),
                slice("2026-03-01T02", RunSliceState::Failed, 0, Some("the archive is cut")),
            ],
            cut: false,
            settled: Settled {
                pipelines: [(String::from("p"), outcome)].into(),
                objects: vec![Object {
                    lake: "file:///lake/".into(),
                    key: "a.parquet".into(),
                    bytes: 50,
                    rows: 8,
                    pipeline: "p".into(),
                }],
                objects_omitted: 0,
            },
        }
    }

    #[test]
    fn hours_are_named_as_amplitude_names_them() {
        let wanted: Asked = serde_json::from_value(
            serde_json::json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}),
        )
        .unwrap();
        let summary = of_run(&source(true), &wanted, &taken(), Status::SetAside, Code::Data);
        assert_eq!(summary["window"]["start"], "2026-03-01T00");
        assert_eq!(summary["window"]["end"], "2026-03-01T23", "the last hour is part of the range");
        assert_eq!((&summary["status"], &summary["exit_code"]), (&"set_aside".into(), &65.into()));
        let first =
            serde_json::json!({"h": "2026-03-01T00", "status": "exported", "events": 10, "bytes": 100});
        assert_eq!(summary["hours"][0], first);
        assert_eq!(summary["hours"][2]["reason"], "the archive is cut");
        assert_eq!((&summary["duplicates_dropped"], &summary["quarantined"]), (&1.into(), &1.into()));
        assert_eq!(summary["objects"][0]["key"], "a.parquet");
        assert!(summary.get("slices").is_none() && summary.get("note").is_none());
        assert_eq!(summary.to_string().lines().count(), 1);

        let kestra = for_kestra(&summary);
        let inner = kestra.strip_prefix("::").and_then(|rest| rest.strip_suffix("::")).unwrap();
        let outputs: serde_json::Value = serde_json::from_str(inner).unwrap();
        assert_eq!(outputs["outputs"]["events"], 10);
        assert!(outputs["outputs"].get("hours").is_none());
    }

    #[test]
    fn other_slices_have_names_and_a_long_list_is_cut() {
        let cut = Taken { cut: true, ..taken() };
        let summary = of_run(&source(false), &Asked::default(), &cut, Status::Done, Code::Done);
        assert_eq!(summary["slices"][0]["name"], "2026-03-01T00");
        assert!(summary["window"].get("start").is_none() && summary["window"]["from"].is_null());
        assert!(summary["note"].as_str().unwrap().contains("the first 1000"));
    }

    #[test]
    fn a_summary_file_is_there_whole_also_after_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("airflow/xcom/return.json");
        let error = crate::exit::coded(Code::Configuration, "no such key");
        for _ in 0..2 {
            write(&file, &of_failure(Some("s"), &error, Code::Configuration)).unwrap();
        }
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!((&read["status"], &read["exit_code"]), (&"failed".into(), &78.into()));
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }
}
