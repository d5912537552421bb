//! What people and programs ask of sliced sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakeward_columnar::build::SliceCounts;
use lakeward_model::{CapturedValue, Failure, Slice, SliceId, SlicePage, Timestamp, Wanted};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::again;
use super::flow::Flow;
use super::readings::{self, Reading};
use super::runs::Ending;
use crate::control::{Control, ControlError};
use crate::instant;
use crate::ledger::runs::{Asked, Run, RunKind, RunRequest, RunSlice, RunState};
use crate::ledger::slices::SliceRecord;

/// Most runs in an answer.
const RUNS_MAX: usize = 500;

/// A part of the list of a source's slices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceList {
    /// Which date of a slice filters mean, in a few words.
    pub dates: String,
    /// The slices, in the order of their names.
    pub slices: Vec<SliceStatus>,
    /// The name behind which the list goes on; absent at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A slice at the source and what became of it here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceStatus {
    /// Its name.
    pub name: String,
    /// What tells two contents under one name apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The instant that date filters mean.
    #[serde(default, with = "instant::maybe", skip_serializing_if = "Option::is_none")]
    pub date: Option<Timestamp>,
    /// Its bytes at the source, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// It cannot be had before this instant.
    #[serde(default, with = "instant::maybe", skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// What its name says.
    pub captured: BTreeMap<String, serde_json::Value>,
    /// Its id, as records have it.
    pub id: SliceId,
    /// What became of it.
    pub state: SliceState,
    /// Its records in the stream, if any are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// When it was taken or set aside.
    #[serde(default, with = "instant::maybe", skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// Why it was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of its records, by pipeline.
    pub pipelines: BTreeMap<String, SliceCounts>,
    /// The last time that a run took it once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Reading>,
    /// What became of everything else that was taken under its name, by
    /// pipeline, added up: other versions, and what was taken before `again`.
    /// What a pipeline delivered of that and did not drop as duplicates of the
    /// last reading is in the lake besides it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, SliceCounts>,
}

/// What became of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliceState {
    /// Nothing of it was taken.
    New,
    /// It cannot be had yet.
    NotReady,
    /// It waits, or is being read.
    Open,
    /// It is in the stream as a whole.
    Taken,
    /// Another version of it is.
    Changed,
    /// It cannot be read.
    SetAside,
}

/// Why a question about slices has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SlicesError {
    /// There is no source of that name that has slices: the caller corrects it.
    #[error("there is no source named {0} that has slices")]
    NotFound(String),
    /// There is no such run: the caller corrects it.
    #[error("there is no run {0}")]
    NoRun(Uuid),
    /// The request cannot work as it is.
    #[error("{0}")]
    Invalid(String),
    /// The source failed; the caller tries again, or acts on what it says.
    #[error(transparent)]
    Source(#[from] Failure),
    /// The ledger failed.
    #[error("{0}")]
    Failed(String),
}

impl From<ControlError> for SlicesError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Invalid(message) => Self::Invalid(message),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Control {
    fn sliced(&self, source: &str) -> Result<Arc<Flow>, SlicesError> {
        self.shared.sources.flow(source).ok_or_else(|| SlicesError::NotFound(source.to_string()))
    }

    /// Asks a source for its slices and says what became of each: at most
    /// `limit` of those behind the name `after`. Slices that are gone from the
    /// source are not in it.
    ///
    /// # Errors
    /// See [`SlicesError`].
    pub async fn slices(
        &self,
        source: &str,
        asked: &Asked,
        after: Option<&str>,
        limit: usize,
    ) -> Result<SliceList, SlicesError> {
        let flow = self.sliced(source)?;
        let wanted = asked.within(&Wanted::default());
        let SlicePage { mut slices, mut next } = flow.source.list(&wanted, after).await?;
        if slices.len() > limit {
            slices.truncate(limit);
            next = slices.last().map(|slice| slice.name.clone());
        }
        let names: Vec<String> = slices.iter().map(|slice| slice.name.clone()).collect();
        let incarnation = flow.incarnation;
        let known = self
            .shared
            .on_ledger(move |ledger| ledger.slices_named(incarnation, names.iter().map(String::as_str)));
        let known = known.await?;
        let counts = self.counts(&flow, &known).await?;
        let (now, dates) = (flow.now(), flow.source.dates().to_string());
        let state = flow.state();
        let open = |id| state.flights.contains_key(&id);
        let told = slices.into_iter().zip(&known).map(|(slice, known)| {
            let mut status = told(slice, known, &open, now);
            readings::tell(&mut status, known, &counts);
            status
        });
        let slices: Vec<SliceStatus> = told.collect();
        Ok(SliceList { dates, slices, next })
    }

    /// What became of these slices in each pipeline of the source's stream.
    async fn counts(
        &self,
        flow: &Flow,
        known: &[Vec<(SliceId, SliceRecord)>],
    ) -> Result<readings::Counts, ControlError> {
        let ids: Vec<SliceId> = known.iter().flatten().map(|(id, _)| *id).collect();
        let its = self.shared.status().into_iter().filter(|it| it.incarnation == flow.incarnation);
        let names: Vec<String> = its.map(|it| it.pipeline).collect();
        let counted = self.shared.on_ledger(move |ledger| {
            let of = |name: String| {
                let counts = ledger.counts_of_slices(&name, &ids)?;
                Ok((name, ids.iter().copied().zip(counts).collect()))
            };
            names.into_iter().map(of).collect()
        });
        counted.await
    }

    /// Asks a source to take or to count slices. The same request while one
    /// like it is unfinished answers that one. What would double rows is
    /// refused: `again` needs `dedup` that remembers every slice that is meant,
    /// in each pipeline of the stream.
    ///
    /// # Errors
    /// See [`SlicesError`].
    pub async fn begin_run(&self, source: &str, mut asked: RunRequest) -> Result<Run, SlicesError> {
        let flow = self.sliced(source)?;
        flow.may_replace(&mut asked)?;
        let once_more = asked.again && asked.kind == RunKind::Take && asked.replace.is_none();
        if once_more && !self.shared.sources.runs.has(source, &asked) {
            again::check(&self.shared, &flow, asked.wanted.within(&flow.wanted)).await?;
        }
        let (shared, name, now) = (Arc::clone(&self.shared), source.to_string(), flow.now());
        let runs = Arc::clone(&shared.sources.runs);
        let begun = tokio::spawn(async move { runs.begin(&shared, &name, asked, now).await });
        Ok(begun.await.map_err(|error| SlicesError::Failed(error.to_string()))??)
    }

    /// The newest runs, of one source or of all, the newest first.
    ///
    /// # Errors
    /// [`SlicesError::Failed`].
    pub async fn runs(&self, source: Option<&str>) -> Result<Vec<Run>, SlicesError> {
        let mut stored = self.shared.on_ledger(|ledger| ledger.runs()).await?;
        stored.retain(|run| source.is_none_or(|source| run.source == source));
        stored.truncate(RUNS_MAX);
        Ok(stored.into_iter().map(|run| self.current(run)).collect())
    }

    /// A run as it is now.
    ///
    /// # Errors
    /// [`SlicesError::NoRun`], or [`SlicesError::Failed`].
    pub async fn run(&self, id: Uuid) -> Result<Run, SlicesError> {
        let stored = self.shared.on_ledger(move |ledger| ledger.run(id)).await?;
        stored.map(|run| self.current(run)).ok_or(SlicesError::NoRun(id))
    }

    /// Ends a run. What it took stays; a slice that is half taken is finished.
    /// A run that ended already stays as it is.
    ///
    /// # Errors
    /// [`SlicesError::NoRun`], or [`SlicesError::Failed`].
    pub async fn cancel_run(&self, id: Uuid) -> Result<Run, SlicesError> {
        let shared = Arc::clone(&self.shared);
        let at = shared.clock.now();
        let ending = Ending { state: RunState::Cancelled, error: None, at, stream_end: None };
        let ended = tokio::spawn(async move { shared.sources.runs.end(&shared, id, ending).await });
        let ended = ended.await.map_err(|error| SlicesError::Failed(error.to_string()))??;
        match ended {
            Some(run) => Ok(run),
            None => self.run(id).await,
        }
    }

    /// What became of a run's slices, in the order of their names: at most
    /// `limit` of those behind `after`. Slices that had been taken before it
    /// are not in it.
    ///
    /// # Errors
    /// [`SlicesError::NoRun`], or [`SlicesError::Failed`].
    pub async fn run_slices(
        &self,
        id: Uuid,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<RunSlice>, SlicesError> {
        self.run(id).await?;
        Ok(self.shared.on_ledger(move |ledger| ledger.run_slices(id, after.as_deref(), limit)).await?)
    }

    /// A stored run with what is known of it in memory.
    fn current(&self, stored: Run) -> Run {
        let unfinished = if stored.state.is_ended() { None } else { self.shared.sources.runs.get(stored.id) };
        let mut run = unfinished.unwrap_or(stored);
        run.delivered = run.stream_end.is_some_and(|end| {
            let pipelines = self.shared.status();
            let mut its = pipelines.iter().filter(|it| it.incarnation == end.incarnation);
            its.all(|pipeline| pipeline.delivered_to >= end.offset)
        });
        run
    }
}

/// What is told of a slice.
fn told(
    slice: Slice,
    known: &[(SliceId, SliceRecord)],
    open: &impl Fn(SliceId) -> bool,
    now: Timestamp,
) -> SliceStatus {
    let id = slice.id(Uuid::nil());
    let record = known.iter().find(|(known, _)| *known == id).map(|(_, record)| record);
    let other = known.iter().any(|(_, record)| record.slice.version != slice.version);
    let state = match record {
        _ if open(id) => SliceState::Open,
        Some(record) if record.set_aside.is_some() => SliceState::SetAside,
        Some(_) => SliceState::Taken,
        None if slice.ready_at.is_some_and(|at| at > now) => SliceState::NotReady,
        None if other => SliceState::Changed,
        None => SliceState::New,
    };
    let captured = slice.captured.into_iter().map(|part| {
        let value = match part.value {
            CapturedValue::Text(text) => text.into(),
            CapturedValue::Number(digits) => serde_json::from_str(&digits).unwrap_or_else(|_| digits.into()),
        };
        (part.name, value)
    });
    SliceStatus {
        captured: captured.collect(),
        name: slice.name,
        version: slice.version,
        date: slice.date,
        bytes: slice.bytes,
        ready_at: slice.ready_at,
        id,
        state,
        records: record.map(|record| record.records),
        taken_at: record.map(|record| record.taken_at),
        reason: record.and_then(|record| record.set_aside.clone()),
        pipelines: BTreeMap::new(),
        again: None,
        others: BTreeMap::new(),
    }
}
