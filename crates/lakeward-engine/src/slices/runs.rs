//! The runs that are not finished, of all sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakeward_model::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::control::ControlError;
use crate::engine::Shared;
use crate::ledger::replacements::Replacement;
use crate::ledger::runs::{Run, RunError, RunKind, RunRequest, RunSlice, RunState, StreamEnd};
use crate::ledger::{Ledger, LedgerError};

/// Most runs that wait or are under way.
const RUNS_MAX: usize = 200;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    unfinished: Mutex<BTreeMap<Uuid, Run>>,
    /// Told when a run begins or ends.
    pub(super) changed: Notify,
    /// Held while a run begins or ends.
    changing: tokio::sync::Mutex<()>,
    /// Runs that are done but for the removal of what they replaced.
    removing: Mutex<BTreeSet<Uuid>>,
}

impl Runs {
    /// Those that an earlier process did not finish wait again.
    pub(crate) fn recover(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        for mut run in ledger.runs()?.into_iter().filter(|run| !run.state.is_ended()) {
            let replaces = run.asked.replace.is_some();
            if replaces && ledger.replacement(run.id)?.is_some_and(|replacement| replacement.removing) {
                self.removals().insert(run.id);
            } else {
                run.begin();
                run.state = RunState::Waiting;
            }
            self.unfinished().insert(run.id, run);
        }
        Ok(())
    }

    fn unfinished(&self) -> MutexGuard<'_, BTreeMap<Uuid, Run>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn removals(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run of the source that is done but for the removal of what it
    /// replaced.
    pub(super) fn removing(&self, source: &str) -> Option<Run> {
        let removals = self.removals().clone();
        self.unfinished().values().find(|run| run.source == source && removals.contains(&run.id)).cloned()
    }

    pub(crate) fn get(&self, id: Uuid) -> Option<Run> {
        self.unfinished().get(&id).cloned()
    }

    /// Whether a run that was asked for the same is not finished.
    pub(crate) fn has(&self, source: &str, asked: &RunRequest) -> bool {
        self.unfinished().values().any(|run| run.source == source && run.asked == *asked)
    }

    /// Whether the run goes on.
    pub(super) fn goes_on(&self, id: Uuid) -> bool {
        self.unfinished().contains_key(&id)
    }

    /// The source's oldest run of this kind.
    pub(super) fn first(&self, source: &str, kind: RunKind) -> Option<Run> {
        let removals = self.removals().clone();
        let unfinished = self.unfinished();
        let its = unfinished.values().filter(|run| run.source == source && run.asked.kind == kind);
        let its = its.filter(|run| !removals.contains(&run.id));
        its.min_by_key(|run| (run.started_at, run.id)).cloned()
    }

    pub(super) fn update(&self, id: Uuid, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.unfinished().get_mut(&id) {
            change(run);
        }
    }

    /// Counts a slice that is done with for a run.
    pub(super) fn count(&self, id: Uuid, slice: &RunSlice) {
        self.update(id, |run| run.count(slice));
    }

    /// The source failed; its runs that are under way say so.
    pub(super) fn trouble(&self, source: &str, said: &str) {
        let mut unfinished = self.unfinished();
        let its =
            unfinished.values_mut().filter(|run| run.source == source && run.state != RunState::Waiting);
        for run in its {
            run.attempts = run.attempts.saturating_add(1);
            run.last_error = Some(said.to_string());
        }
    }

    /// The source failed one run that is under way; it says so.
    pub(super) fn trouble_of(&self, id: Uuid, said: &str) {
        self.update(id, |run| {
            run.attempts = run.attempts.saturating_add(1);
            run.last_error = Some(said.to_string());
        });
    }

    /// Those of sources that are not among these, which nobody would end.
    pub(crate) fn of_others(&self, sources: &[String]) -> Vec<Run> {
        let unfinished = self.unfinished();
        unfinished.values().filter(|run| !sources.contains(&run.source)).cloned().collect()
    }

    /// Begins a run durably; the same request as that of an unfinished run
    /// answers that one.
    pub(crate) async fn begin(
        &self,
        shared: &Arc<Shared>,
        source: &str,
        asked: RunRequest,
        now: Timestamp,
    ) -> Result<Run, ControlError> {
        let _one_at_a_time = self.changing.lock().await;
        let known = {
            let unfinished = self.unfinished();
            let known = unfinished.values().find(|run| run.source == source && run.asked == asked).cloned();
            if known.is_none() && unfinished.len() >= RUNS_MAX {
                return Err(ControlError::Invalid(format!("{RUNS_MAX} runs wait already; try again later")));
            }
            known
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let run = Run::new(lakeward_model::ids::fresh(), source, asked, now);
        let stored = run.clone();
        shared.on_ledger(move |ledger| ledger.put_run(&stored)).await?;
        self.unfinished().insert(run.id, run.clone());
        self.changed.notify_waiters();
        Ok(run)
    }

    /// What a run took stands for what it replaces from now on, durably;
    /// whether the run and what it replaces are still there.
    pub(super) async fn replace(
        &self,
        shared: &Arc<Shared>,
        id: Uuid,
        replacement: &Replacement,
    ) -> Result<bool, ControlError> {
        let _one_at_a_time = self.changing.lock().await;
        let Some(run) = self.get(id) else { return Ok(false) };
        let replacement = replacement.clone();
        let done = shared.on_ledger(move |ledger| {
            // Its numbers, which nobody counts again.
            ledger.put_run(&run)?;
            ledger.replace_batches(id, &replacement)
        });
        if !done.await? {
            return Ok(false);
        }
        self.removals().insert(id);
        self.changed.notify_waiters();
        Ok(true)
    }

    /// Ends a run durably, if it goes on; answers it as it ended.
    pub(crate) async fn end(
        &self,
        shared: &Arc<Shared>,
        id: Uuid,
        ending: Ending,
    ) -> Result<Option<Run>, ControlError> {
        let _one_at_a_time = self.changing.lock().await;
        let Some(mut run) = self.get(id) else { return Ok(None) };
        run.state = ending.state;
        run.error = ending.error;
        run.ended_at = Some(ending.at);
        run.stream_end = ending.stream_end;
        let stored = run.clone();
        shared.on_ledger(move |ledger| ledger.put_run(&stored)).await?;
        self.unfinished().remove(&id);
        self.removals().remove(&id);
        self.changed.notify_waiters();
        Ok(Some(run))
    }
}

/// How a run ends.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) state: RunState,
    pub(crate) error: Option<RunError>,
    pub(crate) at: Timestamp,
    pub(crate) stream_end: Option<StreamEnd>,
}
