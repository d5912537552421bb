//! Which slices are taken: what is not in the ledger and not under way.

use lakeward_model::{Slice, SliceId, Timestamp};
use uuid::Uuid;

use super::cursor::Progress;
use super::flow::{Flight, Flow, QUEUE_MAX, Queued, State};
use crate::ledger::runs::{Run, RunSlice, RunSliceState};
use crate::ledger::slices::SliceRecord;

/// So many slices are looked up at a time.
const PART: usize = 256;

/// For whom slices are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// The source's own look.
    Look,
    /// A run; whether it takes what is taken once more.
    Run(Uuid, Again),
    /// Something that was announced.
    Announced(u64),
}

/// Whether a run takes what is taken once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// No.
    Never,
    /// Whatever it wants.
    Always,
    /// What it replaces: slices as they were when what it replaces was found.
    /// What was taken since is behind that.
    Replaced,
}

/// What is known of a slice.
type Known = Vec<(SliceId, SliceRecord)>;

/// A slice's line in the run that it was taken for.
pub(super) fn told(id: SliceId, record: &SliceRecord) -> RunSlice {
    let state = match (&record.set_aside, record.records) {
        (Some(_), _) => RunSliceState::Failed,
        (None, 0) => RunSliceState::Empty,
        (None, _) => RunSliceState::Exported,
    };
    RunSlice {
        name: record.slice.name.clone(),
        id,
        state,
        records: record.records,
        bytes: record.bytes,
        reason: record.set_aside.clone(),
    }
}

/// The line of a slice that cannot be had yet.
pub(super) fn not_ready(slice: &Slice) -> RunSlice {
    let (name, id) = (slice.name.clone(), slice.id(Uuid::nil()));
    RunSlice { name, id, state: RunSliceState::NotReady, records: 0, bytes: 0, reason: None }
}

impl Flow {
    /// Puts those of the slices that are to be taken behind those that wait,
    /// waiting for room. Answers when the first of those that are not ready
    /// will be, if that is known; `None` if the process stops or the run is
    /// over.
    pub(super) async fn admit(&self, slices: &[Slice], purpose: Purpose) -> Option<Option<Timestamp>> {
        let mut ready = None;
        for part in slices.chunks(PART) {
            let room = self.until(|state| {
                let over = matches!(
                    purpose,
                    Purpose::Run(run, _) if !self.runs.goes_on(run) || state.refusals.to(run).is_some()
                );
                if over || state.queue.len() < QUEUE_MAX { Ok(!over) } else { Err(None) }
            });
            if !room.await? {
                return None;
            }
            let _deciding = self.deciding.lock().await;
            let first = self.decide(part, purpose).await?;
            ready = ready.into_iter().chain(first).min();
        }
        Some(ready)
    }

    /// The lock on decisions is held.
    async fn decide(&self, slices: &[Slice], purpose: Purpose) -> Option<Option<Timestamp>> {
        let names: Vec<String> = slices.iter().map(|slice| slice.name.clone()).collect();
        let incarnation = self.incarnation;
        let known =
            self.ledger(move |ledger| ledger.slices_named(incarnation, names.iter().map(String::as_str)));
        let known = known.await?;
        let replaced = match purpose {
            Purpose::Run(run, Again::Replaced) => {
                let names: Vec<String> = slices.iter().map(|slice| slice.name.clone()).collect();
                let ids =
                    self.ledger(move |ledger| ledger.replaced_ids(run, names.iter().map(String::as_str)));
                ids.await?
            }
            _ => Vec::new(),
        };
        let now = self.now();
        let (mut first, mut lines) = (None, Vec::new());
        let mut counted = Counted::default();
        self.change(|state| {
            for (n, (slice, known)) in slices.iter().zip(&known).enumerate() {
                let (id, old) = (slice.id(Uuid::nil()), replaced.get(n));
                let is_old = old.is_some_and(|old| old.contains(&id));
                let late = slice.ready_at.filter(|at| *at > now);
                match (late, purpose) {
                    (Some(at), Purpose::Look | Purpose::Run(..)) => {
                        first = first.into_iter().chain([at]).min();
                        if let Purpose::Run(run, _) = purpose {
                            lines.push((run, not_ready(slice)));
                        }
                    }
                    (_, Purpose::Run(run, Again::Replaced)) if !is_old => {
                        let purpose = Purpose::Run(run, Again::Never);
                        let taken = known.iter().find(|(known, _)| *known == id).map(|(_, record)| record);
                        match taken.filter(|record| record.run != Some(run) && record.set_aside.is_none()) {
                            // It was announced and taken behind what is replaced.
                            Some(record) if old.is_some_and(|old| !old.is_empty()) => {
                                lines.push((run, told(id, record)));
                            }
                            _ => decide_one(state, slice, known, purpose, &mut counted),
                        }
                    }
                    _ => decide_one(state, slice, known, purpose, &mut counted),
                }
            }
        });
        if let Purpose::Run(run, _) = purpose {
            let lines_of_run = lines.clone();
            self.ledger(move |ledger| ledger.put_run_slices(&lines_of_run)).await?;
            self.runs.update(run, |run| counted.tell(run, slices, &lines));
        }
        Some(first)
    }
}

/// What a part of a list means for a run.
#[derive(Debug, Default)]
struct Counted {
    already: u64,
    expected: u64,
    /// Lines of slices that the run took before a restart.
    done: Vec<RunSlice>,
}

impl Counted {
    fn tell(self, run: &mut Run, slices: &[Slice], lines: &[(Uuid, RunSlice)]) {
        run.slices += slices.len() as u64;
        run.slices_already += self.already;
        run.expected_bytes += self.expected;
        for line in self.done.iter().chain(lines.iter().map(|(_, line)| line)) {
            run.count(line);
        }
    }
}

fn decide_one(state: &mut State, slice: &Slice, known: &Known, purpose: Purpose, counted: &mut Counted) {
    let id = slice.id(Uuid::nil());
    let find = |id: SliceId| known.iter().find(|(known, _)| *known == id).map(|(_, record)| record);
    let record = find(id);
    let bytes = slice.bytes.unwrap_or(0);
    if let Some(flight) = state.flights.get_mut(&id) {
        match purpose {
            Purpose::Look => flight.looked = true,
            Purpose::Run(run, _) => {
                flight.run = Some(run);
                flight.listed = true;
                counted.expected += bytes;
            }
            Purpose::Announced(number) => {
                flight.announcements.push(number);
                *state.announced.entry(number).or_default() += 1;
            }
        }
        return;
    }
    let (run, again) = match (purpose, record) {
        (Purpose::Run(run, again), _) => (run, again != Again::Never),
        (Purpose::Look | Purpose::Announced(_), Some(_)) => return,
        (Purpose::Look, None) => {
            let flight = Flight { looked: true, ..Flight::default() };
            return enqueue(state, slice, id, Progress::default(), flight);
        }
        (Purpose::Announced(number), None) => {
            *state.announced.entry(number).or_default() += 1;
            let flight = Flight { announcements: vec![number], ..Flight::default() };
            return enqueue(state, slice, id, Progress::default(), flight);
        }
    };
    let flight = Flight { run: Some(run), listed: true, ..Flight::default() };
    let Some(record) = record else {
        counted.expected += bytes;
        return enqueue(state, slice, id, Progress::default(), flight);
    };
    if record.run == Some(run) {
        counted.expected += bytes;
        counted.done.push(told(id, record));
    } else if record.set_aside.is_some() {
        counted.expected += bytes;
        enqueue(state, slice, id, progress(record), flight);
    } else if again {
        counted.expected += bytes;
        let id = slice.id(run);
        match (find(id), state.flights.get_mut(&id)) {
            (Some(record), _) => counted.done.push(told(id, record)),
            (None, Some(flight)) => flight.listed = true,
            (None, None) => enqueue(state, slice, id, Progress::default(), flight),
        }
    } else {
        counted.already += 1;
    }
}

/// How far a slice was when it was set aside.
fn progress(record: &SliceRecord) -> Progress {
    Progress {
        chunks: record.chunks,
        records: record.records,
        bytes: record.bytes,
        resume: record.resume.clone(),
    }
}

fn enqueue(state: &mut State, slice: &Slice, id: SliceId, progress: Progress, flight: Flight) {
    state.flights.insert(id, flight);
    state.queue.push_back(Queued { slice: slice.clone(), id, progress });
}
