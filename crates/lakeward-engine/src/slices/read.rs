//! Reading slices: so many at a time, each by a task, into one bounded channel.

use std::sync::Arc;

use lakeward_model::{Chunk, Records, Slice, SliceFailure, SliceId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::cursor::{self, CURSOR_BYTES_MAX, Open, SLICE_BYTES_MAX};
use super::flow::{Flow, Queued, State};

/// Messages between readers and appender.
pub(super) const MESSAGES_MAX: usize = 256;
/// Bytes of chunks that wait for the appender, in KiB: as many as a frame takes.
const WAITING_KIB_MAX: usize = 2 << 10;
/// Up to this size a reader looks behind a chunk before it hands it on: a slice
/// that ends there is in the journal with one frame.
const SMALL_BYTES: usize = 256 << 10;
/// What a reader says.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: SliceId,
    /// Which reading of the slice it is.
    pub(super) reading: u64,
    pub(super) said: Said,
}

/// What a reader says.
#[derive(Debug)]
pub(super) enum Said {
    /// More records; and whether the slice ends behind them.
    Chunk(Chunk, bool, OwnedSemaphorePermit),
    /// The slice ended.
    Ended,
    /// It cannot be read on; and how many slices had been opened by then.
    Failed(SliceFailure, u64),
}

/// Bytes of records and their keys.
pub(super) fn size(records: &Records) -> usize {
    records.data.len() + records.keys.as_ref().map_or(0, |keys| keys.data.len())
}

/// A slice that is opened.
struct Opening {
    slice: Slice,
    id: SliceId,
    reading: u64,
    resume: Option<Vec<u8>>,
    coming: Vec<Slice>,
}

impl Flow {
    /// Opens slices as long as the process runs. Dropping the future stops all
    /// readers.
    pub(super) async fn read(self: Arc<Self>, messages: mpsc::Sender<Message>) {
        let slots = Arc::new(Semaphore::new(self.parallel));
        let room = Arc::new(Semaphore::new(WAITING_KIB_MAX));
        let mut readers = JoinSet::new();
        loop {
            let slot = tokio::select! {
                slot = Arc::clone(&slots).acquire_owned() => slot.expect("it is never closed"),
                () = self.stop.cancelled() => return,
            };
            while let Some(ended) = readers.try_join_next() {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
            let Some(opening) = self.next_slice().await else { return };
            let reader = Reader {
                flow: Arc::clone(&self),
                messages: messages.clone(),
                room: Arc::clone(&room),
                _slot: slot,
            };
            readers.spawn(reader.run(opening));
        }
    }

    /// The next slice to read, once the source may be asked and the cursor has
    /// room for it.
    async fn next_slice(&self) -> Option<Opening> {
        let opening = self.until(|state| {
            if let Some(until) = state.pause() {
                return Err(Some(until));
            }
            let Some(first) = state.queue.front() else { return Err(None) };
            let known = state.open.get(&first.id).map(Open::weight);
            let taken: usize = state.open.values().map(Open::weight).sum::<usize>() - known.unwrap_or(0);
            let mut open = Open::new(first.slice.clone(), first.progress.clone());
            // What is in the cursor already makes it no longer.
            if known.is_none() && taken > 0 && taken.saturating_add(open.weight()) > CURSOR_BYTES_MAX {
                self.starved.notify_one();
                // Those that are in the cursor make room for it.
                let at = state.queue.iter().position(|queued| state.open.contains_key(&queued.id));
                let Some(other) = at.and_then(|at| state.queue.remove(at)) else { return Err(None) };
                open = Open::new(other.slice.clone(), other.progress.clone());
                state.queue.push_front(other);
            }
            let State { queue, readings, .. } = state;
            let Some(Queued { slice, id, progress }) = queue.pop_front() else { return Err(None) };
            *readings += 1;
            open.reading = *readings;
            let fresh = queue.iter().filter(|queued| queued.progress.chunks == 0);
            let coming = fresh.take(self.source.looks_ahead()).map(|queued| queued.slice.clone()).collect();
            let opening = Opening { slice, id, reading: *readings, resume: progress.resume, coming };
            state.open.insert(id, open);
            Ok(opening)
        });
        let opening = opening.await;
        // There is room in the queue.
        self.change(|_| ());
        opening
    }
}

/// The task that reads a slice.
struct Reader {
    flow: Arc<Flow>,
    messages: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    _slot: OwnedSemaphorePermit,
}

impl Reader {
    async fn run(self, opening: Opening) {
        let (id, reading) = (opening.id, opening.reading);
        let said = match self.through(opening).await {
            Ok(true) => return,
            Ok(false) => Said::Ended,
            Err(failure) => Said::Failed(failure, self.flow.state().readings),
        };
        self.say(id, reading, said).await;
    }

    /// Nobody listens only if the process stops.
    async fn say(&self, id: SliceId, reading: u64, said: Said) {
        let _ = self.messages.send(Message { id, reading, said }).await;
    }

    /// Whether it was said already that the slice ended.
    async fn through(&self, opening: Opening) -> Result<bool, SliceFailure> {
        let Opening { slice, id, reading, resume, coming } = opening;
        if cursor::described(&slice) > SLICE_BYTES_MAX {
            let message =
                "its name and what that says are longer than 16 KiB; leave it out with the source's pattern";
            return Err(SliceFailure::Broken(message.into()));
        }
        let mut reader = self.flow.source.open(&slice, id, resume.as_deref(), &coming).await?;
        let mut next = reader.next().await?;
        while let Some(chunk) = next {
            let bytes = size(&chunk.records);
            let room = u32::try_from((bytes >> 10).clamp(1, WAITING_KIB_MAX)).unwrap_or(u32::MAX);
            let room = Arc::clone(&self.room).acquire_many_owned(room).await;
            let room = room.expect("it is never closed");
            if bytes > SMALL_BYTES {
                self.say(id, reading, Said::Chunk(chunk, false, room)).await;
                next = reader.next().await?;
                continue;
            }
            let ahead = reader.next().await;
            let is_last = matches!(ahead, Ok(None));
            if is_last {
                self.flow.change(|state| {
                    if let Some(open) = state.open.get_mut(&id).filter(|open| open.reading == reading) {
                        open.is_last = true;
                    }
                });
            }
            self.say(id, reading, Said::Chunk(chunk, is_last, room)).await;
            if is_last {
                return Ok(true);
            }
            next = ahead?;
        }
        Ok(false)
    }
}
