//! What the parts of one sliced source share: which slices wait, which are
//! under way, and whether the source is to be left alone for a while.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakeward_model::{Failure, FailureKind, Slice, SliceId, SlicedSource, StreamName, Timestamp, Wanted};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use super::cursor::{Open, Progress};
use crate::intake::Intake;
use crate::ledger::{Ledger, LedgerError};
use crate::schedule::Schedule;
use crate::slices::runs::Runs;
use crate::source::{SourceState, SourceStatus, pause_after};

/// Most slices that wait to be read. A page of a list may come on top.
pub(super) const QUEUE_MAX: usize = 1_000;

/// So often in a row a slice fails, while others can be read, until it is set
/// aside.
const SLICE_FAILURES_MAX: u32 = 10;
/// So often in a row slices are refused until the source means it: until then
/// others are tried soon.
const REFUSALS_MAX: u32 = 5;

/// One sliced source.
pub(crate) struct Flow {
    pub(super) name: String,
    pub(super) stream: StreamName,
    pub(super) incarnation: Uuid,
    pub(crate) source: Arc<dyn SlicedSource>,
    pub(super) parallel: usize,
    pub(super) every: Duration,
    pub(super) schedule: Option<Schedule>,
    pub(super) growing: Option<Duration>,
    pub(super) wanted: Wanted,
    pub(super) looks: bool,
    pub(super) intake: Intake,
    pub(super) runs: Arc<Runs>,
    pub(super) status: watch::Sender<SourceStatus>,
    pub(super) stop: CancellationToken,
    state: Mutex<State>,
    /// Told of every change of the state.
    changed: Notify,
    /// Tells the appender that a slice waits for room in the cursor.
    pub(super) starved: Notify,
    /// Held from asking what the ledger knows of slices until what follows is
    /// done, and while slices move from here into the ledger.
    pub(super) deciding: tokio::sync::Mutex<()>,
}

/// See [`Flow`].
#[derive(Debug, Default)]
pub(super) struct State {
    /// Slices that wait to be read.
    pub(super) queue: VecDeque<Queued>,
    /// Slices that wait, are read, or are not in the ledger yet.
    pub(super) flights: HashMap<SliceId, Flight>,
    /// Slices that were opened and are not in the ledger yet.
    pub(super) open: BTreeMap<SliceId, Open>,
    /// How many of each announcement's slices are under way.
    pub(super) announced: HashMap<u64, usize>,
    /// Announcements of which none is under way any more.
    pub(super) settled: Vec<u64>,
    /// Failures in a row, and until when the source is left alone.
    failures: u32,
    until: Option<Instant>,
    /// Refusals of slices, until something works again.
    pub(super) refusals: Refusals,
    /// How often a slice was opened.
    pub(super) readings: u64,
    /// The last of these that got records, or to its end.
    worked: u64,
}

/// How often slices were refused in a row. Readings are counted through:
/// several that were opened before the first of them failed count once, and
/// only one that was opened later shows that the source works.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    times: u32,
    /// The reading that was refused, and the last one that was opened then.
    first: u64,
    last: u64,
    /// The run whose slice was refused so often that the source means it, and
    /// what it said.
    pub(super) of_run: Option<(Uuid, String)>,
}

impl Refusals {
    /// A reading was refused, when `opened` slices had been opened.
    fn add(&mut self, reading: u64, opened: u64) {
        if reading > self.last || self.times == 0 {
            self.times = self.times.saturating_add(1);
            (self.first, self.last) = (reading, opened);
        }
    }

    /// A reading got records, or to its end.
    fn worked(&mut self, reading: u64) {
        if reading > self.first {
            *self = Self::default();
        }
    }

    /// What the source says to a run.
    pub(super) fn to(&self, run: Uuid) -> Option<String> {
        self.of_run.as_ref().filter(|(of, _)| *of == run).map(|(_, said)| said.clone())
    }
}

/// A slice that waits to be read.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) slice: Slice,
    pub(super) id: SliceId,
    /// What was taken of it before.
    pub(super) progress: Progress,
}

/// Whose a slice under way is.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) run: Option<Uuid>,
    /// Whether the run met it in its list since the process started: only then
    /// it is counted when it is done, else when it is met.
    pub(super) listed: bool,
    pub(super) announcements: Vec<u64>,
    /// Whether the source's own look wants it, whoever else does.
    pub(super) looked: bool,
    /// Failures of the source at this slice since it got further.
    pub(super) failures: u32,
    /// The last reading that was opened when the first of these happened.
    pub(super) opened: u64,
}

impl Flight {
    fn is_wanted_otherwise(&self) -> bool {
        self.looked || !self.announcements.is_empty()
    }
}

/// What follows from a failure of the source at a slice.
pub(super) enum Next {
    /// It is read again. If `alone`, others can be read.
    Again { alone: bool },
    /// It alone fails, again and again, while others can be read.
    SetAside(String),
}

impl State {
    /// The source failed at a slice, when `opened` had been opened; many more may
    /// be by now. Whether others can be read shows in those that are opened
    /// after it failed first: if it goes on failing beside them it is set aside,
    /// so that it holds nothing up. Without others, as when the other side is
    /// down, it is tried for ever.
    pub(super) fn failed_at(&mut self, id: SliceId, reading: u64, opened: u64, failure: &Failure) -> Next {
        let State { flights, refusals, readings, worked, .. } = self;
        let flight = flights.entry(id).or_default();
        flight.failures = flight.failures.saturating_add(1);
        if flight.failures == 1 {
            flight.opened = opened;
        }
        let alone = flight.failures >= 2 && *worked > flight.opened;
        if alone && flight.failures >= SLICE_FAILURES_MAX {
            return Next::SetAside(format!(
                "it failed {} times in a row while others could be read: {failure}",
                flight.failures
            ));
        }
        if failure.kind == FailureKind::Refused && !alone {
            refusals.add(reading, *readings);
            if let Some(run) = flight.run.filter(|_| refusals.times >= REFUSALS_MAX) {
                refusals.of_run = Some((run, failure.to_string()));
            }
        }
        Next::Again { alone }
    }

    /// A reading of a slice got records, or to its end.
    pub(super) fn worked_at(&mut self, id: SliceId, reading: u64) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.failures = 0;
        }
        self.worked = self.worked.max(reading);
        self.refusals.worked(reading);
    }

    /// A slice that failed waits again: in front of all others the first time,
    /// behind them if it goes on failing.
    pub(super) fn wait_again(&mut self, id: SliceId) {
        let failures = self.flights.get(&id).map_or(0, |flight| flight.failures);
        let Some(open) = self.open.get_mut(&id) else { return };
        open.is_last = false;
        let queued = Queued { slice: open.slice.clone(), id, progress: open.progress.clone() };
        if open.progress.chunks == 0 {
            self.open.remove(&id);
        }
        if failures < 2 {
            self.queue.push_front(queued);
        } else {
            self.queue.push_back(queued);
        }
    }

    /// Notes that a slice is not under way any more.
    pub(super) fn land(&mut self, id: SliceId) {
        let flight = self.flights.remove(&id).unwrap_or_default();
        for number in flight.announcements {
            self.release(number);
        }
    }

    /// One of an announcement's slices is done with.
    pub(super) fn release(&mut self, number: u64) {
        if let Some(left) = self.announced.get_mut(&number) {
            *left -= 1;
            if *left == 0 {
                self.announced.remove(&number);
                self.settled.push(number);
            }
        }
    }

    /// How many slices of a run are under way.
    pub(super) fn outstanding(&self, run: Uuid) -> usize {
        self.flights.values().filter(|flight| flight.run == Some(run)).count()
    }

    /// A run ended early: what of it was not begun is dropped, unless it was
    /// announced or found by a look, too. What was begun is finished, for nobody.
    pub(super) fn disown(&mut self, run: Uuid) {
        let State { queue, flights, open, .. } = self;
        queue.retain(|queued| {
            let keeps = open.contains_key(&queued.id)
                || queued.progress.chunks > 0
                || flights
                    .get(&queued.id)
                    .is_none_or(|flight| flight.run != Some(run) || flight.is_wanted_otherwise());
            if !keeps {
                flights.remove(&queued.id);
            }
            keeps
        });
        flights.values_mut().filter(|flight| flight.run == Some(run)).for_each(|flight| flight.run = None);
    }

    /// Until when the source is left alone, if it is.
    pub(super) fn pause(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }

    /// Whether a failure of now follows from the same trouble as the last one.
    fn is_paused(&self) -> bool {
        self.pause().is_some()
    }
}

/// What a [`Flow`] begins with.
pub(super) struct Parts {
    pub(super) spec: super::SlicedSpec,
    pub(super) incarnation: Uuid,
    pub(super) intake: Intake,
    pub(super) runs: Arc<Runs>,
    pub(super) status: watch::Sender<SourceStatus>,
    pub(super) stop: CancellationToken,
}

impl Flow {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { spec, incarnation, intake, runs, status, stop } = parts;
        Self {
            name: spec.name,
            stream: spec.stream,
            incarnation,
            source: spec.source,
            parallel: spec.parallel.max(1),
            every: spec.every,
            schedule: spec.schedule,
            growing: spec.growing,
            wanted: spec.wanted,
            looks: spec.looks,
            intake,
            runs,
            status,
            stop,
            state: Mutex::default(),
            changed: Notify::new(),
            starved: Notify::new(),
            deciding: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells those who wait.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_waiters();
        changed
    }

    /// Waits until `look` finds something in the state; `None` if the process
    /// stops first. `look` is asked after every change, at the latest at the
    /// instant that it last named.
    pub(super) async fn until<T>(
        &self,
        mut look: impl FnMut(&mut State) -> Result<T, Option<Instant>>,
    ) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let told = self.runs.changed.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.stop.is_cancelled() {
                return None;
            }
            let again = match look(&mut self.state()) {
                Ok(found) => return Some(found),
                Err(again) => again,
            };
            let timer = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = told => {}
                () = timer => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.intake.shared.clock.now()
    }

    /// Asks or changes the ledger, off the async threads, until that works.
    /// `None` if the process stops first.
    pub(super) async fn ledger<T: Send + 'static>(
        &self,
        work: impl Fn(&Ledger) -> Result<T, LedgerError> + Send + Sync + 'static,
    ) -> Option<T> {
        let work = Arc::new(work);
        let mut attempts = 0_u32;
        loop {
            let again = Arc::clone(&work);
            match self.intake.shared.on_ledger(move |ledger| again(ledger)).await {
                Ok(done) => return Some(done),
                Err(failed) => {
                    attempts = attempts.saturating_add(1);
                    error!(source = self.name, error = %failed, "the ledger failed; trying again");
                    self.tell(|status| status.last_error = Some(failed.to_string()));
                    tokio::select! {
                        () = tokio::time::sleep(pause_after(FailureKind::NotDone, attempts, None)) => {}
                        () = self.stop.cancelled() => return None,
                    }
                }
            }
        }
    }

    /// The source failed: leaves it alone for a while. Several readers that
    /// fail of one trouble count once.
    pub(super) fn failed(&self, failure: &Failure) {
        self.failed_with(failure, failure.kind);
    }

    /// The same for a slice, whose refusal may be its own: others are tried
    /// soon, unless they are refused as well.
    pub(super) fn failed_at(&self, failure: &Failure, alone: bool) {
        let is_meant = !alone && self.state().refusals.times >= REFUSALS_MAX;
        let kind = match failure.kind {
            FailureKind::Refused if !is_meant => FailureKind::NotDone,
            kind => kind,
        };
        self.failed_with(failure, kind);
    }

    fn failed_with(&self, failure: &Failure, kind: FailureKind) {
        let said = failure.to_string();
        let (attempts, pause) = self.change(|state| {
            if !state.is_paused() {
                state.failures = state.failures.saturating_add(1);
            }
            let pause = pause_after(kind, state.failures, failure.retry_after);
            let until = Instant::now() + pause;
            state.until = Some(state.until.map_or(until, |known| known.max(until)));
            (state.failures, pause)
        });
        metrics::counter!("lakeward_source_failures_total", "source" => self.name.clone()).increment(1);
        let state = if failure.kind == FailureKind::Refused {
            error!(source = self.name, code = "LW-3001", error = said, retry_in = ?pause, "the source refuses");
            SourceState::Refused
        } else {
            warn!(source = self.name, attempts, error = said, retry_in = ?pause, "the source failed; trying again");
            SourceState::Retrying { attempts }
        };
        self.tell(|status| {
            status.state = state;
            status.last_error = Some(said.clone());
        });
        self.runs.trouble(&self.name, &said);
    }

    /// The source works.
    pub(super) fn works(&self) {
        let mut state = self.state();
        // What others are doing meanwhile does not end a pause.
        if state.failures > 0 && !state.is_paused() {
            state.failures = 0;
            state.until = None;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Somebody asked: the source is tried at once.
    pub(super) fn try_now(&self) {
        self.change(|state| {
            state.until = None;
            state.refusals = Refusals::default();
        });
    }

    /// Waits while the source is left alone; whether it goes on.
    pub(super) async fn pause(&self, ends_early: impl Fn(&State) -> bool) -> bool {
        let waited = self.until(|state| match state.pause() {
            Some(_) if ends_early(state) => Ok(()),
            Some(until) => Err(Some(until)),
            None => Ok(()),
        });
        waited.await.is_some()
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut SourceStatus)) {
        self.status.send_modify(change);
    }

    /// Tells what the appender does. While the source is left alone, that it
    /// failed is what people have to know.
    pub(super) fn tell_doing(&self, status: &mut SourceStatus, doing: SourceState) {
        if self.state().pause().is_none() {
            status.state = doing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While records are made durable nobody listens to readers, who go on.
    #[test]
    fn others_were_read_although_the_failure_was_heard_of_late() {
        let failure = Failure::new(FailureKind::Refused, "not this one");
        let alone = |opened: u64| {
            let mut state = State { readings: 20, ..State::default() };
            (3..=20).for_each(|reading| state.worked_at(SliceId(u128::from(reading)), reading));
            let _ = state.failed_at(SliceId(1), 1, opened, &failure);
            state.readings = 21;
            matches!(state.failed_at(SliceId(1), 21, 21, &failure), Next::Again { alone: true })
        };
        assert!(alone(2), "18 were opened after it had failed, and read");
        assert!(!alone(20), "all were opened before it failed");
    }
}
