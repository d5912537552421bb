//! Asking a service about slices and runs.

use lakeward_engine::{Asked, Run, RunRequest, RunSlice, RunState, SliceList};
use serde::Deserialize;
use uuid::Uuid;

use crate::commands::target::escaped;
use crate::remote::Remote;

/// Slices asked for at a time.
const SLICES_AT_ONCE: usize = 1_000;

/// The query that says which slices are meant.
fn query(wanted: &Asked) -> String {
    let mut query = format!("limit={SLICES_AT_ONCE}");
    let mut add = |key: &str, value: &str| query.push_str(&format!("&{key}={}", escaped(value)));
    for (key, at) in [("from", wanted.from), ("to", wanted.to)] {
        if let Some(at) = at {
            add(key, &at.to_string());
        }
    }
    if !wanted.prefix.is_empty() {
        add("prefix", &wanted.prefix);
    }
    for (part, value) in &wanted.captured {
        add("where", &format!("{part}={value}"));
    }
    query
}

/// How far a run is, in a word for people.
pub(crate) fn word(state: RunState) -> &'static str {
    match state {
        RunState::Waiting => "waiting",
        RunState::Listing => "listing",
        RunState::Taking => "taking",
        RunState::Done => "done",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    }
}

/// A page of a run's slices.
#[derive(Deserialize)]
struct RunSlicePage {
    slices: Vec<RunSlice>,
    next: Option<String>,
}

impl Remote {
    /// The page of a source's slices behind `after`.
    pub(crate) async fn slices(
        &self,
        source: &str,
        wanted: &Asked,
        after: Option<&str>,
    ) -> anyhow::Result<SliceList> {
        let after = after.map(|after| format!("&after={}", escaped(after))).unwrap_or_default();
        self.get(&format!("/v1/sources/{}/slices?{}{after}", escaped(source), query(wanted))).await
    }

    /// Starts a run, or finds the unfinished one that is equal.
    pub(crate) async fn start_run(&self, source: &str, request: &RunRequest) -> anyhow::Result<Run> {
        self.post(&format!("/v1/sources/{}/runs", escaped(source)), request).await
    }

    /// A run as it is now.
    pub(crate) async fn run(&self, id: Uuid) -> anyhow::Result<Run> {
        self.get(&format!("/v1/runs/{id}")).await
    }

    /// The runs of a source.
    pub(crate) async fn runs(&self, source: &str) -> anyhow::Result<Vec<Run>> {
        self.get(&format!("/v1/runs?source={}", escaped(source))).await
    }

    /// Cancels the run of which somebody gave the id; what it took stays taken.
    pub(crate) async fn cancel_run(&self, id: &str) -> anyhow::Result<Run> {
        self.delete(&format!("/v1/runs/{}", escaped(id))).await
    }

    /// The slices of a run behind `after`, and where they go on.
    pub(crate) async fn run_slices(
        &self,
        id: Uuid,
        after: Option<&str>,
    ) -> anyhow::Result<(Vec<RunSlice>, Option<String>)> {
        let after = after.map(|after| format!("&after={}", escaped(after))).unwrap_or_default();
        let path = format!("/v1/runs/{id}/slices?limit={SLICES_AT_ONCE}{after}");
        let RunSlicePage { slices, next } = self.get(&path).await?;
        Ok((slices, next))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use lakeward_engine::RunKind;
    use lakeward_model::Timestamp;

    use super::*;

    /// A run of the source `s` that is done, with these members of its JSON
    /// changed.
    pub(crate) fn run_with(members: serde_json::Value) -> Run {
        let asked = RunRequest { kind: RunKind::Take, wanted: Asked::default(), again: false, replace: None };
        let done = Run { state: RunState::Done, ..Run::new(Uuid::nil(), "s", asked, Timestamp(0)) };
        let mut value = serde_json::to_value(done).unwrap();
        let (Some(all), serde_json::Value::Object(members)) = (value.as_object_mut(), members) else {
            panic!()
        };
        all.extend(members);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let wanted: Asked = serde_json::from_str(
            r#"{"from":"2026-03-01T00:00:00Z","prefix":"a b/","where":{"section_id":"1&2"}}"#,
        )
        .unwrap();
        assert_eq!(
            query(&wanted),
            "limit=1000&from=2026%2D03%2D01T00%3A00%3A00Z&prefix=a%20b%2F&where=section%5Fid%3D1%262"
        );
        assert_eq!(query(&Asked::default()), "limit=1000");
    }
}
