//! The streams that the door works with, and the lock that keeps puts and
//! changes of shards apart.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use lakeward_engine::{AcceptError, ControlError, Streams};
use lakeward_model::clock::SharedClock;
use lakeward_model::{Offset, StreamName, Timestamp};
use uuid::Uuid;

use super::document::{Document, Mode, RETENTION_DEFAULT, State};
use super::throttle::Throttle;
use crate::aws::fault::Fault;

/// A stream in use.
///
/// A put holds the lock for reading from routing until its records are
/// durable; a change of shards holds it for writing until the new shards are.
/// So no put is under way when shards change, all records of a closed shard lie
/// before its end, and what is appended later belongs to the new shards, after
/// a crash too.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) name: StreamName,
    pub(super) incarnation: Uuid,
    pub(super) state: tokio::sync::RwLock<State>,
    pub(super) throttle: Throttle,
    /// Set, under the lock, once this is no longer what is stored.
    stale: AtomicBool,
}

impl Live {
    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Call it with the lock held for writing.
    pub(super) fn retire(&self) {
        self.stale.store(true, Ordering::Release);
    }
}

/// All of them.
pub(super) struct Lives {
    pub(super) streams: Streams,
    clock: SharedClock,
    /// Shards of streams that the configuration names.
    configured: BTreeMap<String, u32>,
    known: RwLock<HashMap<StreamName, Arc<Live>>>,
    /// Held while one is made, so that a stream never has two.
    loading: tokio::sync::Mutex<()>,
}

/// What a change sees of its stream.
pub(super) struct Change<'a> {
    pub(super) state: &'a mut State,
    /// Where the journal ends, and stays while the change is made.
    pub(super) end: Offset,
    pub(super) now: Timestamp,
}

/// Why there is no stream to work with.
#[derive(Debug)]
pub(super) enum NoStream {
    Unknown,
    Failed(String),
}

impl From<ControlError> for NoStream {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotFound(_) => Self::Unknown,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Lives {
    pub(super) fn new(streams: Streams, clock: SharedClock, configured: BTreeMap<String, u32>) -> Self {
        let (known, loading) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { streams, clock, configured, known, loading }
    }

    /// The stream, ready to work with; one that has no document yet gets one.
    pub(super) async fn get(&self, name: &StreamName) -> Result<Arc<Live>, NoStream> {
        self.load(name, None).await
    }

    /// The stream for a put: `dev` makes one that does not exist.
    pub(super) async fn get_or_make(&self, name: &StreamName) -> Result<Arc<Live>, NoStream> {
        if let Some(live) = self.known(name) {
            return Ok(live);
        }
        self.ensure(name).await?;
        self.load(name, None).await
    }

    /// Makes a stream with this document, whose incarnation is nil. Made as a
    /// task of its own: a client that hangs up must not leave it half made.
    pub(super) async fn make(
        self: &Arc<Self>,
        name: &StreamName,
        document: Document,
    ) -> Result<(), NoStream> {
        let (lives, name) = (Arc::clone(self), name.clone());
        let task = tokio::spawn(async move { lives.make_now(&name, document).await });
        task.await.unwrap_or_else(|error| Err(NoStream::Failed(error.to_string())))
    }

    async fn make_now(&self, name: &StreamName, document: Document) -> Result<(), NoStream> {
        match self.ensure(name).await {
            Err(NoStream::Unknown) => {
                let state = State::new(document.clone(), Some(RETENTION_DEFAULT), None);
                match self.streams.create(state.spec(name)).await {
                    Ok(()) | Err(ControlError::Exists(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            other => other?,
        }
        self.load(name, Some(document)).await.map(|_| ())
    }

    /// Forgets a stream that was deleted.
    pub(super) fn forget(&self, live: &Live) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.get(&live.name).is_some_and(|known| known.incarnation == live.incarnation) {
            known.remove(&live.name);
        }
    }

    async fn ensure(&self, name: &StreamName) -> Result<(), NoStream> {
        self.streams.ensure(name).await.map_err(|error| match error {
            AcceptError::UnknownStream(_) => NoStream::Unknown,
            other => NoStream::Failed(other.to_string()),
        })
    }

    /// What is kept of a stream, without keeping anything of one that has
    /// nothing. `None` too if it cannot be read, which whoever uses the stream
    /// is told.
    pub(super) async fn peek(&self, name: &StreamName) -> Option<State> {
        match self.known(name) {
            Some(live) => Some(live.state.read().await.clone()),
            None => {
                let configured = self.streams.configured_retention(name);
                let spec = self.streams.get(name).await.ok()?;
                State::of(&spec, configured, self.streams.incarnation(name)?).ok()?
            }
        }
    }

    fn known(&self, name: &StreamName) -> Option<Arc<Live>> {
        let incarnation = self.streams.incarnation(name)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).filter(|live| live.incarnation == incarnation && !live.is_stale()).cloned()
    }

    /// `made` is what a stream gets that was made just now, by this door.
    async fn load(&self, name: &StreamName, made: Option<Document>) -> Result<Arc<Live>, NoStream> {
        if let Some(live) = self.known(name) {
            return Ok(live);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(live) = self.known(name) {
            return Ok(live);
        }
        let spec = match self.streams.get(name).await {
            Ok(spec) => spec,
            Err(ControlError::NotFound(_)) => {
                self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
                return Err(NoStream::Unknown);
            }
            Err(error) => return Err(error.into()),
        };
        let incarnation = self.streams.incarnation(name).ok_or(NoStream::Unknown)?;
        let configured = self.streams.configured_retention(name);
        let stored = State::of(&spec, configured, incarnation).map_err(|error| {
            NoStream::Failed(format!("what is kept of its shards cannot be read: {error}"))
        })?;
        let state = match stored {
            Some(state) => state,
            None => {
                let shards = self.configured.get(name.as_str()).copied().unwrap_or(1);
                let document = made.unwrap_or_else(|| {
                    Document::new(incarnation, Mode::Provisioned, shards, self.clock.now())
                });
                let document = Document { incarnation, ..document };
                let state = State::new(document, spec.retention, configured);
                self.streams.update(state.spec(name)).await?;
                state
            }
        };
        let live = Arc::new(Live {
            name: name.clone(),
            incarnation,
            state: tokio::sync::RwLock::new(state),
            throttle: Throttle::default(),
            stale: AtomicBool::new(false),
        });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.clone(), Arc::clone(&live));
        Ok(live)
    }

    /// Changes what is kept of a stream; durable when it answers. Made as a
    /// task of its own: a client that hangs up must not leave it half made.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        live: Arc<Live>,
        change: impl FnOnce(Change<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (streams, clock) = (self.streams.clone(), Arc::clone(&self.clock));
        let task = tokio::spawn(async move {
            let mut state = live.state.write().await;
            let (_, end) = streams.ends(&live.name).filter(|_| !live.is_stale()).ok_or_else(busy)?;
            let newest = streams.newest(&live.name).await.map_err(|error| {
                tracing::error!(stream = %live.name, %error, "a stream cannot be read");
                Fault::internal()
            })?;
            // A clock that was set back: the journal's times do not go back, and
            // shards that end before their last records would expire before them.
            let now = clock.now().max(newest).max(state.document.shards.changed_at());
            let mut next = state.clone();
            let answer = change(Change { state: &mut next, end, now })?;
            let horizon = next.horizon(now);
            next.document.shards.prune(horizon);
            let next = State::new(next.document, next.retention, next.configured);
            if next.document != state.document || next.retention != state.retention {
                if let Err(error) = streams.update(next.spec(&live.name)).await {
                    // What is stored now is not known: it is read again.
                    live.retire();
                    tracing::error!(stream = %live.name, %error, "a change of a stream failed");
                    return Err(Fault::internal());
                }
                *state = next;
                live.throttle.keep(|shard| state.document.shards.get(shard).is_some());
            }
            Ok(answer)
        });
        task.await.unwrap_or_else(|_| Err(Fault::internal()))
    }
}

fn busy() -> Fault {
    Fault::in_use("The stream is being changed; try again.")
}
