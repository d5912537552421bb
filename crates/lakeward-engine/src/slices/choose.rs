//! What is taken next: runs that somebody asked for, one after the other, and
//! between them the source's own looks.

use std::time::Duration;

use lakeward_model::{FailureKind, SlicePage, Timestamp, Wanted};
use tokio::time::Instant;
use tracing::{error, info};
use uuid::Uuid;

use super::admit::{Again, Purpose};
use super::flow::{Flow, State};
use super::replace::Stop;
use super::runs::Ending;
use super::tail::Tail;
use crate::ledger::runs::{Run, RunError, RunErrorKind, RunKind, RunState, StreamEnd};
use crate::source::SourceState;

/// A look because slices become ready comes this late at the earliest.
const READY_PAUSE_MICROS: i64 = 1_000_000;
/// The wall clock is looked at this often: somebody may set it.
const CLOCK_EVERY: Duration = Duration::from_secs(30);

/// A page of a list, or why there is none.
pub(super) enum Listed {
    Page(SlicePage),
    /// The source refuses what the run asks for.
    Refused(String),
    /// Nobody wants it any more.
    Over,
    /// The process stops.
    Stopped,
}

impl Flow {
    /// Takes what is asked for and what is new, as long as the process runs.
    pub(super) async fn choose(&self) {
        let Some(mut due) = self.first_look().await else { return };
        let mut tail = Tail::default();
        loop {
            self.tell(|status| {
                if let Some(slices) = &mut status.slices {
                    slices.next_look = due;
                }
            });
            let next = self.until(|_| {
                if let Some(run) = self.runs.first(&self.name, RunKind::Take) {
                    return Ok(Some(run));
                }
                let Some(due) = due else { return Err(None) };
                let left = due.since(self.now());
                if left.is_zero() { Ok(None) } else { Err(Some(Instant::now() + left.min(CLOCK_EVERY))) }
            });
            let goes_on = match next.await {
                None => return,
                Some(Some(run)) => self.take(&run).await,
                Some(None) => match self.look(&mut tail).await {
                    None => false,
                    // A run came in between: the look is made again.
                    Some(None) => true,
                    Some(Some((begun, ready))) => {
                        due = self.next_look(begun, ready);
                        true
                    }
                },
            };
            if !goes_on {
                return;
            }
        }
    }

    /// When the first look is due; `None` if the process stops.
    async fn first_look(&self) -> Option<Option<Timestamp>> {
        if !self.looks {
            return Some(None);
        }
        let Some(schedule) = &self.schedule else { return Some(Some(self.now())) };
        let name = self.name.clone();
        let now = self.now();
        let last = self.ledger(move |ledger| {
            let last = ledger.looked_at(&name)?;
            if last.is_none() {
                // What is missed from now on can be made up for.
                ledger.set_looked_at(&name, now)?;
            }
            Ok(last)
        });
        let last = last.await?;
        Some(schedule.next(last.filter(|_| schedule.catch_up).unwrap_or(now)))
    }

    fn next_look(&self, begun: Timestamp, ready: Option<Timestamp>) -> Option<Timestamp> {
        match &self.schedule {
            Some(schedule) if schedule.catch_up => schedule.next(begun),
            Some(schedule) => schedule.next(begun.max(self.now())),
            None => {
                let every = i64::try_from(self.every.as_micros()).unwrap_or(i64::MAX);
                let due = Timestamp(begun.0.saturating_add(every));
                let ready =
                    ready.map(|at| at.max(Timestamp(self.now().0.saturating_add(READY_PAUSE_MICROS))));
                Some(ready.map_or(due, |ready| ready.min(due)))
            }
        }
    }

    /// Lists what there is and takes what is new. Answers when it began and
    /// when the first slice becomes ready; `Some(None)` if a run came in
    /// between, `None` if the process stops.
    async fn look(&self, tail: &mut Tail) -> Option<Option<(Timestamp, Option<Timestamp>)>> {
        let begun = self.now();
        let (mut after, mut names) = tail.begin(begun, self.growing);
        let mut ready = None;
        let run_waits = |_: &State| self.runs.first(&self.name, RunKind::Take).is_some();
        loop {
            let page = match self.page(&self.wanted, after.as_deref(), None, run_waits).await {
                Listed::Page(page) => page,
                Listed::Over | Listed::Refused(_) => return Some(None),
                Listed::Stopped => return None,
            };
            let first = self.admit(&page.slices, Purpose::Look).await?;
            ready = [ready, first].into_iter().flatten().min();
            names.came(&page.slices);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        tail.end(names);
        if self.schedule.is_some() {
            let name = self.name.clone();
            self.ledger(move |ledger| ledger.set_looked_at(&name, begun)).await?;
        }
        if self.state().flights.is_empty() {
            self.tell(|status| status.state = SourceState::Idle);
        }
        Some(Some((begun, ready)))
    }

    /// Asks for a page until it comes, or until it is refused to a run.
    pub(super) async fn page(
        &self,
        wanted: &Wanted,
        after: Option<&str>,
        run: Option<Uuid>,
        is_over: impl Fn(&State) -> bool,
    ) -> Listed {
        loop {
            if !self.pause(&is_over).await {
                return Listed::Stopped;
            }
            if is_over(&self.state()) {
                return Listed::Over;
            }
            let listed = tokio::select! {
                listed = self.source.list(wanted, after) => listed,
                () = self.stop.cancelled() => return Listed::Stopped,
            };
            match listed {
                Ok(page) => {
                    self.works();
                    return Listed::Page(page);
                }
                // What a run asks for may be wrong where all else is right.
                Err(failure) if run.is_some() && failure.kind == FailureKind::Refused => {
                    let said = failure.to_string();
                    run.iter().for_each(|run| self.runs.trouble_of(*run, &said));
                    return Listed::Refused(said);
                }
                Err(failure) => self.failed(&failure),
            }
        }
    }

    /// Takes what a run wants; whether the process goes on.
    async fn take(&self, run: &Run) -> bool {
        let id = run.id;
        info!(source = self.name, run = %id, "run begins");
        self.try_now();
        self.runs.update(id, Run::begin);
        let wanted = run.asked.wanted.within(&self.wanted);
        let is_over = |state: &State| state.refusals.to(id).is_some() || !self.runs.goes_on(id);
        let replacement = match &run.asked.replace {
            None => None,
            Some(pipeline) => match self.find_replaced(run, pipeline, &wanted).await {
                Ok(replacement) => Some(replacement),
                Err(stop) => return self.gives_up(id, stop).await,
            },
        };
        let again = match (&replacement, run.asked.again) {
            (Some(_), _) => Again::Replaced,
            (None, true) => Again::Always,
            (None, false) => Again::Never,
        };
        let (mut after, mut unlisted) = (None, None);
        loop {
            let page = match self.page(&wanted, after.as_deref(), Some(id), is_over).await {
                Listed::Page(page) => page,
                Listed::Refused(said) => {
                    unlisted = Some(said);
                    break;
                }
                Listed::Over => break,
                Listed::Stopped => return false,
            };
            if self.admit(&page.slices, Purpose::Run(id, again)).await.is_none() {
                if self.stop.is_cancelled() {
                    return false;
                }
                break;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => {
                    if replacement.is_some() {
                        match self.take_widened(id).await {
                            Ok(()) => {}
                            // How it ended is seen below.
                            Err(Stop::Over) => break,
                            Err(stop) => return self.gives_up(id, stop).await,
                        }
                    }
                    self.runs.update(id, |run| run.state = RunState::Taking);
                    break;
                }
            }
        }
        let ended = self.until(|state| {
            let refused = unlisted.clone().or_else(|| state.refusals.to(id));
            if !self.runs.goes_on(id) || refused.is_some() {
                state.disown(id);
                return Ok(refused);
            }
            if state.outstanding(id) == 0 { Ok(None) } else { Err(None) }
        });
        let Some(refused) = ended.await else { return false };
        let nothing = if replacement.is_some() { ". Nothing was removed" } else { "" };
        let refused = refused.map(|message| format!("{message}{nothing}"));
        let refused = refused.map(|message| RunError { kind: RunErrorKind::Refused, message });
        if let (None, Some(replacement)) = (&refused, &replacement) {
            return match self.replace(id, replacement).await {
                // The rest is done in the background.
                Ok(()) => true,
                Err(stop) => self.gives_up(id, stop).await,
            };
        }
        self.end(id, refused).await;
        true
    }

    /// Ends a run, unless somebody did already.
    pub(super) async fn end(&self, id: Uuid, error: Option<RunError>) {
        let tail = self.intake.shared.journal.tail(&self.stream);
        let stream_end = tail.map(|tail| StreamEnd { incarnation: self.incarnation, offset: tail.end });
        let state = if error.is_some() { RunState::Failed } else { RunState::Done };
        let ending = Ending { state, error, at: self.now(), stream_end };
        // A run whose end is not durable is begun again, and ends at once.
        match self.runs.end(&self.intake.shared, id, ending).await {
            Ok(run) => info!(source = self.name, run = %id, ended = ?run.map(|run| run.state), "run ended"),
            Err(error) => {
                error!(source = self.name, run = %id, %error, "a run's end could not be stored; trying again");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }
}
