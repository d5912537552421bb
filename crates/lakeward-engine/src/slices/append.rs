//! What readers read goes into the journal: what is ready becomes one frame,
//! with the cursor that says how far every slice is behind it. Slices that
//! ended go from the cursor into the ledger.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lakeward_model::{Cursor, Keys, Origin, Records, SliceFailure, SliceId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::admit::told;
use super::cursor::{self, CURSOR_BYTES_MAX, Open, Outcome, RESUME_BYTES_MAX};
use super::flow::{Flow, Next, State};
use super::read::{Message, Said, size};
use crate::intake::AcceptError;
use crate::ledger::runs::{RunSlice, RunSliceState};
use crate::ledger::slices::{Settled, SliceRecord};
use crate::source::SourceState;

/// Bytes of records that become one frame, unless one chunk has more.
const FRAME_BYTES: usize = 2 << 20;
/// Most records in a frame of several chunks.
const FRAME_RECORDS: usize = 256 << 10;
/// So many slices that ended go into the ledger at once, or whenever nothing
/// came for a while.
const SETTLE_SLICES: usize = 64;
const SETTLE_AFTER: Duration = Duration::from_millis(50);
/// While others go on, they wait for the ledger this long at most.
const SETTLE_LATEST: Duration = Duration::from_secs(1);
/// Before an append whose outcome is unknown is tried again.
const APPEND_PAUSE: Duration = Duration::from_secs(1);

/// The task that appends.
pub(super) struct Appender {
    flow: Arc<Flow>,
    messages: mpsc::Receiver<Message>,
    /// A message that did not fit into the last frame.
    held: Option<Message>,
    /// Most bytes of records in an append of the journal.
    frame_bytes_max: u64,
    /// Since when a slice that ended waits for the ledger.
    unsettled: Option<Instant>,
}

/// Records that become a frame.
#[derive(Debug, Default)]
struct Frame {
    parts: Vec<Records>,
    bytes: usize,
    records: usize,
    /// Whether some slice got further.
    moved: bool,
}

impl Frame {
    fn fits(&self, records: &Records) -> bool {
        self.parts.is_empty()
            || (self.bytes + size(records) <= FRAME_BYTES && self.records + records.len() <= FRAME_RECORDS)
    }

    fn push(&mut self, records: Records) {
        self.bytes += size(&records);
        self.records += records.len();
        self.moved = true;
        if !records.is_empty() {
            self.parts.push(records);
        }
    }

    /// All records in one buffer.
    fn join(mut self) -> Records {
        if self.parts.len() < 2 {
            return self.parts.pop().unwrap_or_default();
        }
        let mut data = BytesMut::with_capacity(self.parts.iter().map(|part| part.data.len()).sum());
        let mut keys = BytesMut::with_capacity(self.bytes - data.capacity().min(self.bytes));
        let (mut ends, mut key_ends) = (Vec::with_capacity(self.records), Vec::new());
        let keyed = self.parts.iter().any(|part| part.keys.is_some());
        for part in self.parts {
            let (data_at, keys_at) = (length(&data), length(&keys));
            data.extend_from_slice(&part.data);
            if keyed {
                match &part.keys {
                    Some(of_part) => {
                        keys.extend_from_slice(&of_part.data);
                        key_ends.extend(of_part.ends.iter().map(|end| keys_at + end));
                    }
                    None => key_ends.extend(part.ends.iter().map(|_| keys_at)),
                }
            }
            ends.extend(part.ends.iter().map(|end| data_at + end));
        }
        let keys = keyed.then(|| Keys { data: keys.freeze(), ends: key_ends });
        Records { data: Bytes::from(data), ends, keys }
    }
}

fn length(buffer: &BytesMut) -> u32 {
    u32::try_from(buffer.len()).expect("a frame is far below 4 GiB")
}

impl Appender {
    pub(super) fn new(flow: Arc<Flow>, messages: mpsc::Receiver<Message>) -> Self {
        let frame_bytes_max = flow.intake.shared.frame_bytes_max;
        Self { flow, messages, held: None, frame_bytes_max, unsettled: None }
    }

    /// Appends until no reader is left.
    pub(super) async fn run(mut self) {
        self.settle().await;
        loop {
            let ended = self.ended() > 0;
            let message = match self.held.take() {
                Some(held) => Some(held),
                None => tokio::select! {
                    biased;
                    message = self.messages.recv() => message,
                    () = self.flow.starved.notified(), if ended => {
                        self.settle().await;
                        continue;
                    }
                    () = tokio::time::sleep(SETTLE_AFTER), if ended => {
                        self.settle().await;
                        continue;
                    }
                },
            };
            let Some(message) = message else { break };
            let frame = self.gather(message);
            if !self.append(frame).await {
                return;
            }
            let (ended, weight, waits) = {
                let state = self.flow.state();
                let ended = state.open.values().filter(|open| open.outcome.is_some()).count();
                let weight: usize = state.open.values().map(Open::weight).sum();
                (ended, weight, ended < state.flights.len())
            };
            let since = (ended > 0).then(|| self.unsettled.unwrap_or_else(Instant::now));
            self.unsettled = since;
            let is_late = since.is_some_and(|since| since.elapsed() >= SETTLE_LATEST);
            let is_full = ended >= SETTLE_SLICES || weight > CURSOR_BYTES_MAX * 3 / 4;
            if ended > 0 && (is_late || is_full || !waits) {
                self.settle().await;
            }
        }
        self.settle().await;
    }

    fn ended(&self) -> usize {
        self.flow.state().open.values().filter(|open| open.outcome.is_some()).count()
    }

    /// Takes what is ready, as far as it fits into one frame.
    fn gather(&mut self, first: Message) -> Frame {
        let mut frame = Frame::default();
        self.take(first, &mut frame);
        while let Ok(message) = self.messages.try_recv() {
            if matches!(&message.said, Said::Chunk(chunk, ..) if !frame.fits(&chunk.records)) {
                self.held = Some(message);
                break;
            }
            self.take(message, &mut frame);
        }
        frame
    }

    fn take(&self, message: Message, frame: &mut Frame) {
        let Message { id, reading, said } = message;
        let is_it = |it: &&mut Open| it.reading == reading && it.outcome.is_none();
        if let Said::Failed(SliceFailure::Source(failure), opened) = &said {
            let next = {
                let mut state = self.flow.state();
                let is_its = state.open.get_mut(&id).filter(is_it).is_some();
                is_its.then(|| state.failed_at(id, reading, *opened, failure))
            };
            match next {
                None => {}
                Some(Next::SetAside(reason)) => self.flow.change(|state| set_aside(state, id, reason)),
                Some(Next::Again { alone }) => {
                    // Left alone for a while before it is tried again.
                    self.flow.failed_at(failure, alone);
                    self.flow.change(|state| state.wait_again(id));
                }
            }
            return;
        }
        let mut trouble = None;
        self.flow.change(|state| {
            let Some(open) = state.open.get_mut(&id).filter(is_it) else { return };
            let works = matches!(said, Said::Chunk(..) | Said::Ended);
            match said {
                Said::Chunk(chunk, is_last, _room) => {
                    if let Some(problem) = self.problem(&chunk) {
                        return set_aside(state, id, problem);
                    }
                    let progress = &mut open.progress;
                    progress.chunks += 1;
                    progress.records += chunk.records.len() as u64;
                    progress.bytes += chunk.records.data.len() as u64;
                    progress.resume = Some(chunk.resume);
                    frame.push(chunk.records);
                    trouble = chunk.trouble;
                    if is_last {
                        open.outcome = Some(Outcome::Taken);
                    }
                }
                Said::Ended => open.outcome = Some(Outcome::Taken),
                Said::Failed(SliceFailure::Broken(reason), _) => {
                    open.outcome = Some(Outcome::SetAside(reason))
                }
                Said::Failed(SliceFailure::Gone(reason), _) => {
                    let nothing = open.progress.chunks == 0;
                    let outcome = if nothing { Outcome::Gone } else { Outcome::SetAside };
                    open.outcome = Some(outcome(reason));
                }
                Said::Failed(SliceFailure::Source(_), _) => {}
            }
            if works {
                state.worked_at(id, reading);
            }
        });
        if trouble.is_some() {
            self.flow.tell(|status| status.last_error = trouble);
        }
    }

    /// Why a chunk cannot be taken, ever.
    fn problem(&self, chunk: &lakeward_model::Chunk) -> Option<String> {
        let bytes = size(&chunk.records) as u64;
        let ends = chunk.records.ends.len() as u64 * 8;
        if bytes > self.frame_bytes_max || ends > self.frame_bytes_max.max(4 << 20) {
            let most = self.frame_bytes_max;
            return Some(format!(
                "it holds {bytes} bytes that must stay together, and an append takes {most}"
            ));
        }
        (chunk.resume.len() > RESUME_BYTES_MAX)
            .then(|| "its source cannot say briefly enough where it goes on; report this".to_string())
    }

    /// Makes a frame durable, waiting for room if need be; whether it is. What
    /// is not is read again after the next start.
    async fn append(&self, frame: Frame) -> bool {
        if !frame.moved {
            return true;
        }
        let (count, records) = (frame.records as u64, frame.join());
        let cursor = {
            let state = self.flow.state();
            let run_of = |id| state.flights.get(&id).and_then(|flight| flight.run);
            cursor::write(&state.open, run_of)
        };
        let flow = &self.flow;
        loop {
            let origin = Origin::Pull(cursor.clone());
            let pause = match flow.intake.accept(&flow.stream, records.clone(), origin).await {
                Ok(_) => break,
                Err(AcceptError::Draining) => return false,
                Err(AcceptError::Full { retry_after }) => {
                    flow.tell(|status| flow.tell_doing(status, SourceState::Waiting));
                    retry_after
                }
                Err(error) => {
                    // It may have been written nevertheless.
                    if self.is_durable(&cursor) {
                        break;
                    }
                    warn!(source = flow.name, %error, "records were not appended; trying again");
                    flow.tell(|status| status.last_error = Some(error.to_string()));
                    APPEND_PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = flow.stop.cancelled() => return false,
            }
        }
        flow.works();
        metrics::counter!("lakeward_source_records_total", "source" => flow.name.clone()).increment(count);
        flow.tell(|status| {
            status.records += count;
            flow.tell_doing(status, SourceState::Reading);
        });
        true
    }

    fn is_durable(&self, cursor: &Cursor) -> bool {
        let flow = &self.flow;
        flow.intake.shared.journal.last_cursor(&flow.stream).as_ref() == Some(cursor)
    }

    /// Moves slices that ended into the ledger. What they hold is durable.
    async fn settle(&mut self) {
        self.unsettled = None;
        let flow = &self.flow;
        let _deciding = flow.deciding.lock().await;
        let now = flow.now();
        let settled: Vec<Settled> = {
            let state = flow.state();
            let ended = state.open.iter().filter(|(_, open)| open.outcome.is_some());
            ended.map(|(id, open)| settled(&state, *id, open, now)).collect()
        };
        if settled.is_empty() {
            return;
        }
        let (incarnation, stored) = (flow.incarnation, settled.clone());
        let totals = flow.ledger(move |ledger| ledger.settle_slices(incarnation, &stored)).await;
        // After the next start it is done again.
        let Some(totals) = totals else { return };
        let (open, idle) = flow.change(|state| {
            for one in &settled {
                let listed = state.flights.get(&one.id).is_some_and(|flight| flight.listed);
                state.open.remove(&one.id);
                state.land(one.id);
                if let Some((run, line)) = one.told.as_ref().filter(|_| listed) {
                    flow.runs.count(*run, line);
                }
            }
            (state.open.len(), state.flights.is_empty())
        });
        self.report(&settled);
        flow.works();
        flow.tell(|status| {
            if let Some(slices) = &mut status.slices {
                (slices.open, slices.taken, slices.set_aside) = (open as u64, totals.taken, totals.set_aside);
            }
            if idle {
                flow.tell_doing(status, SourceState::Idle);
            }
        });
    }

    fn report(&self, settled: &[Settled]) {
        let name = &self.flow.name;
        let count = |metric: &'static str, of: &dyn Fn(&SliceRecord) -> bool| {
            let those = settled.iter().filter_map(|one| one.record.as_ref()).filter(|record| of(record));
            metrics::counter!(metric, "source" => name.clone()).increment(those.count() as u64);
        };
        count("lakeward_source_slices_taken_total", &|record| record.set_aside.is_none());
        let is_empty = |record: &SliceRecord| record.set_aside.is_none() && record.records == 0;
        count("lakeward_source_slices_empty_total", &is_empty);
        count("lakeward_source_slices_set_aside_total", &|record| record.set_aside.is_some());
        let open = self.flow.state().open.len();
        metrics::gauge!("lakeward_source_slices_open", "source" => name.clone()).set(open as f64);
        for record in settled.iter().filter_map(|one| one.record.as_ref()) {
            if let Some(reason) = &record.set_aside {
                let slice = &record.slice.name;
                warn!(
                    source = name,
                    slice,
                    code = "LW-3002",
                    reason,
                    "a slice was set aside; a run tries it again"
                );
            }
        }
        info!(source = name, slices = settled.len(), "slices taken");
    }
}

fn set_aside(state: &mut State, id: SliceId, reason: String) {
    if let Some(open) = state.open.get_mut(&id) {
        open.outcome = Some(Outcome::SetAside(reason));
    }
}

/// What the ledger is told of a slice that ended.
fn settled(state: &State, id: SliceId, open: &Open, now: lakeward_model::Timestamp) -> Settled {
    let run = state.flights.get(&id).and_then(|flight| flight.run);
    let record = |set_aside: Option<String>| SliceRecord {
        slice: open.slice.clone(),
        records: open.progress.records,
        bytes: open.progress.bytes,
        taken_at: now,
        run,
        chunks: open.progress.chunks,
        resume: set_aside.as_ref().and(open.progress.resume.clone()),
        set_aside,
    };
    let gone = |reason: &String| RunSlice {
        name: open.slice.name.clone(),
        id,
        state: RunSliceState::Failed,
        records: 0,
        bytes: 0,
        reason: Some(reason.clone()),
    };
    let (record, line) = match &open.outcome {
        Some(Outcome::Gone(reason)) => (None, gone(reason)),
        Some(Outcome::SetAside(reason)) => {
            let record = record(Some(reason.clone()));
            let line = told(id, &record);
            (Some(record), line)
        }
        Some(Outcome::Taken) | None => {
            let record = record(None);
            let line = told(id, &record);
            (Some(record), line)
        }
    };
    Settled { id, record, told: run.map(|run| (run, line)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(texts: &[&str], keys: Option<&[&str]>) -> Records {
        let ends = |texts: &[&str]| {
            let mut end = 0;
            texts
                .iter()
                .map(|text| {
                    end += text.len() as u32;
                    end
                })
                .collect::<Vec<_>>()
        };
        let keys = keys.map(|keys| Keys { data: keys.concat().into(), ends: ends(keys) });
        Records { data: texts.concat().into(), ends: ends(texts), keys }
    }

    #[test]
    fn chunks_become_one_frame_with_their_keys() {
        let mut frame = Frame::default();
        frame.push(records(&["a", "bc"], Some(&["k", ""])));
        frame.push(records(&[], None));
        frame.push(records(&["d"], None));
        frame.push(records(&["", "e"], Some(&["lm", "n"])));
        let joined = frame.join();
        assert_eq!(joined.iter().collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d", b"", b"e"]);
        let keys = joined.keys.expect("keys");
        assert_eq!((0..5).map(|n| keys.get(n)).collect::<Vec<_>>(), [&b"k"[..], b"", b"", b"lm", b"n"]);
        assert_eq!(Frame::default().join(), Records::default());
    }
}
