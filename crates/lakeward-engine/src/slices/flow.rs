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
    /// What it said when it refused last, until something works again.
    pub(super) refused: Option<String>,
    /// How often a slice was opened.
    pub(super) readings: u64,
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
}

impl State {
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
    /// announced, too. What was begun is finished, for nobody.
    pub(super) fn disown(&mut self, run: Uuid) {
        let State { queue, flights, open, .. } = self;
        queue.retain(|queued| {
            let keeps = open.contains_key(&queued.id)
                || queued.progress.chunks > 0
                || flights
                    .get(&queued.id)
                    .is_none_or(|flight| flight.run != Some(run) || !flight.announcements.is_empty());
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
        let said = failure.to_string();
        let (attempts, pause) = self.change(|state| {
            if !state.is_paused() {
                state.failures = state.failures.saturating_add(1);
            }
            let pause = pause_after(failure.kind, state.failures, failure.retry_after);
            let until = Instant::now() + pause;
            state.until = Some(state.until.map_or(until, |known| known.max(until)));
            if failure.kind == FailureKind::Refused {
                state.refused = Some(said.clone());
            }
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
            state.refused = None;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Somebody asked: the source is tried at once.
    pub(super) fn try_now(&self) {
        self.change(|state| {
            state.until = None;
            state.refused = None;
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
}
