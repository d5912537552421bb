//! The control API's words about slices and runs, as the commands use them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::instant::Instant;
use crate::commands::target::escaped;
use crate::remote::Remote;

/// Slices asked for at a time.
const SLICES_AT_ONCE: usize = 1_000;

/// Which slices are meant; empty means all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    /// Those whose date is at or behind this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Instant>,
    /// Those whose date is before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Instant>,
    /// Those whose name starts so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) prefix: String,
    /// Those whose name says so.
    #[serde(rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) captured: BTreeMap<String, String>,
}

impl Wanted {
    /// Whether it means every slice.
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn query(&self) -> String {
        let mut query = format!("limit={SLICES_AT_ONCE}");
        let mut add = |key: &str, value: &str| query.push_str(&format!("&{key}={}", escaped(value)));
        for (key, at) in [("from", self.from), ("to", self.to)] {
            if let Some(at) = at {
                add(key, &at.to_string());
            }
        }
        if !self.prefix.is_empty() {
            add("prefix", &self.prefix);
        }
        for (part, value) in &self.captured {
            add("where", &format!("{part}={value}"));
        }
        query
    }
}

/// A page of a source's slices.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SlicePage {
    /// Which date of a slice filters mean, for people.
    #[serde(default)]
    pub(crate) dates: String,
    /// In the order of their names.
    pub(crate) slices: Vec<SliceLine>,
    /// Where the list goes on; absent at its end.
    #[serde(default)]
    pub(crate) next: Option<String>,
}

/// A slice at the source, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SliceLine {
    /// Its name.
    pub(crate) name: String,
    /// Its version, if names have several contents.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) version: String,
    /// The instant that date filters mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) date: Option<Instant>,
    /// Its bytes at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// It cannot be had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready_at: Option<Instant>,
    /// What its name says.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub(crate) captured: serde_json::Map<String, serde_json::Value>,
    /// Its id.
    #[serde(default)]
    pub(crate) id: String,
    /// What became of it.
    pub(crate) state: SliceState,
    /// Records, if it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<u64>,
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) taken_at: Option<Instant>,
    /// Why it was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// What became of its records, by pipeline.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) pipelines: BTreeMap<String, SliceCounts>,
    /// The last time that it was taken once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) again: Option<Reading>,
    /// What became of everything else that was taken under its name, by
    /// pipeline: other versions, and what was taken before `again`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) others: BTreeMap<String, SliceCounts>,
}

/// A slice that was taken once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) id: String,
    pub(crate) records: u64,
    pub(crate) taken_at: Instant,
    #[serde(default)]
    pub(crate) pipelines: BTreeMap<String, SliceCounts>,
}

/// What became of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SliceState {
    /// Not taken yet.
    New,
    /// It cannot be had yet.
    NotReady,
    /// It is being taken.
    Open,
    /// Its records are durable.
    Taken,
    /// It was taken, and has other content since.
    Changed,
    /// It could not be read.
    SetAside,
}

/// What a pipeline made of a slice's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SliceCounts {
    pub(crate) delivered: u64,
    pub(crate) filtered: u64,
    pub(crate) duplicates: u64,
    pub(crate) quarantined: u64,
    /// Rows in the lake.
    pub(crate) rows: u64,
}

impl SliceCounts {
    /// Records that are not pending any more.
    pub(crate) fn settled(&self) -> u64 {
        self.delivered + self.filtered + self.duplicates + self.quarantined
    }
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunKind {
    /// Take what is not taken.
    Take,
    /// Read and count only.
    Count,
}

/// A request for a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunRequest<'a> {
    pub(crate) kind: RunKind,
    pub(crate) wanted: &'a Wanted,
    /// Take what is taken once more.
    pub(crate) again: bool,
    /// The pipeline whose earlier files make room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replace: Option<&'a str>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) kind: RunKind,
    #[serde(default)]
    pub(crate) wanted: Wanted,
    #[serde(default)]
    pub(crate) again: bool,
    #[serde(default)]
    pub(crate) replace: Option<String>,
    pub(crate) state: RunState,
    /// Slices that it knows of so far.
    #[serde(default)]
    pub(crate) slices: u64,
    /// Those that were taken before it.
    #[serde(default)]
    pub(crate) slices_already: u64,
    #[serde(default)]
    pub(crate) slices_done: u64,
    #[serde(default)]
    pub(crate) slices_empty: u64,
    #[serde(default)]
    pub(crate) slices_not_ready: u64,
    #[serde(default)]
    pub(crate) slices_set_aside: u64,
    #[serde(default)]
    pub(crate) records: u64,
    #[serde(default)]
    pub(crate) bytes: u64,
    #[serde(default)]
    pub(crate) expected_bytes: u64,
    #[serde(default)]
    pub(crate) error: Option<RunError>,
    /// Failures of the source since it began.
    #[serde(default)]
    pub(crate) attempts: u32,
    #[serde(default)]
    pub(crate) last_error: Option<String>,
    #[serde(default)]
    pub(crate) started_at: Option<Instant>,
    #[serde(default)]
    pub(crate) ended_at: Option<Instant>,
    /// Everything that it took is settled in every pipeline.
    #[serde(default)]
    pub(crate) delivered: bool,
}

impl Run {
    /// Whether it does nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, RunState::Done | RunState::Failed | RunState::Cancelled)
    }

    /// What tells whether it moves.
    pub(crate) fn mark(&self) -> (RunState, [u64; 7]) {
        let slices = [self.slices, self.slices_done, self.slices_empty, self.slices_not_ready];
        let [all, done, empty, not_ready] = slices;
        let set_aside = self.slices_set_aside;
        (self.state, [all, done, empty, not_ready, set_aside, self.records, self.bytes])
    }
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunState {
    /// Another run goes first.
    Waiting,
    /// It asks the source what there is.
    Listing,
    /// It reads.
    Taking,
    Done,
    Failed,
    Cancelled,
}

impl RunState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Listing => "listing",
            Self::Taking => "taking",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunError {
    pub(crate) kind: RunErrorKind,
    pub(crate) message: String,
}

/// What can be done about a failed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunErrorKind {
    /// The source does not let us.
    Refused,
    /// It cannot be reached.
    Unavailable,
    /// What it gave cannot be read.
    Data,
}

/// A slice of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunSlice {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) id: String,
    pub(crate) state: RunSliceState,
    #[serde(default)]
    pub(crate) records: u64,
    #[serde(default)]
    pub(crate) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// What a run made of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunSliceState {
    Exported,
    Empty,
    NotReady,
    Failed,
    Counted,
}

#[derive(Deserialize)]
struct RunSlicePage {
    slices: Vec<RunSlice>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RunList {
    Bare(Vec<Run>),
    Named { runs: Vec<Run> },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RunSlices {
    Page(RunSlicePage),
    Bare(Vec<RunSlice>),
}

impl Remote {
    /// The page of a source's slices behind `after`.
    pub(crate) async fn slices(
        &self,
        source: &str,
        wanted: &Wanted,
        after: Option<&str>,
    ) -> anyhow::Result<SlicePage> {
        let after = after.map(|after| format!("&after={}", escaped(after))).unwrap_or_default();
        self.get(&format!("/v1/sources/{}/slices?{}{after}", escaped(source), wanted.query())).await
    }

    /// Starts a run, or finds the unfinished one that is equal.
    pub(crate) async fn start_run(&self, source: &str, request: &RunRequest<'_>) -> anyhow::Result<Run> {
        self.post(&format!("/v1/sources/{}/runs", escaped(source)), request).await
    }

    /// A run as it is now.
    pub(crate) async fn run(&self, id: &str) -> anyhow::Result<Run> {
        self.get(&format!("/v1/runs/{}", escaped(id))).await
    }

    /// The runs of a source.
    pub(crate) async fn runs(&self, source: &str) -> anyhow::Result<Vec<Run>> {
        let list: RunList = self.get(&format!("/v1/runs?source={}", escaped(source))).await?;
        Ok(match list {
            RunList::Bare(runs) | RunList::Named { runs } => runs,
        })
    }

    /// Cancels a run; what it took stays taken.
    pub(crate) async fn cancel_run(&self, id: &str) -> anyhow::Result<serde_json::Value> {
        self.delete(&format!("/v1/runs/{}", escaped(id))).await
    }

    /// The slices of a run behind `after`, and where they go on.
    pub(crate) async fn run_slices(
        &self,
        id: &str,
        after: Option<&str>,
    ) -> anyhow::Result<(Vec<RunSlice>, Option<String>)> {
        let after = after.map(|after| format!("&after={}", escaped(after))).unwrap_or_default();
        let path = format!("/v1/runs/{}/slices?limit={SLICES_AT_ONCE}{after}", escaped(id));
        Ok(match self.get(&path).await? {
            RunSlices::Page(RunSlicePage { slices, next }) => (slices, next),
            RunSlices::Bare(slices) => {
                let next = slices.last().filter(|_| slices.len() >= SLICES_AT_ONCE);
                let next = next.map(|last| last.name.clone());
                (slices, next)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_wanted() {
        assert!(Wanted::default().is_all());
        let wanted: Wanted = serde_json::from_str(
            r#"{"from":"2026-03-01T00:00:00Z","prefix":"a b/","where":{"section_id":"1&2"}}"#,
        )
        .unwrap();
        let query = wanted.query();
        assert_eq!(
            query,
            "limit=1000&from=2026%2D03%2D01T00%3A00%3A00Z&prefix=a%20b%2F&where=section%5Fid%3D1%262"
        );
        assert_eq!(serde_json::to_value(Wanted::default()).unwrap(), serde_json::json!({}));
    }
}
