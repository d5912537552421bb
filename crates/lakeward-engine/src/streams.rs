//! Streams for themselves: made, changed, removed and read without a pipeline.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lakeward_journal::ReadError;
use lakeward_model::{Offset, RecordBlock, StreamName, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::control::ControlError;
use crate::engine::{Shared, blocking};
use crate::intake::AcceptError;

/// A stream as its maker asked for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// Its name.
    pub name: StreamName,
    /// How long its maker promises readers the records; `None` keeps settled
    /// records for the journal's own retention, if there is room. What the
    /// configuration promises is not stored here: it can be lowered there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// Whether it exists without a pipeline.
    #[serde(default)]
    pub made: bool,
    /// What the front door keeps with it. The Kinesis door keeps its shards
    /// here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<serde_json::Value>,
    /// Set while it is being removed: a crash in between is made good at the
    /// next start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
}

impl StreamSpec {
    /// A stream that nobody said anything of.
    #[must_use]
    pub fn new(name: StreamName) -> Self {
        Self { name, retention: None, made: false, owner: None, removing: false }
    }
}

/// Makes, removes and reads streams. Cheap to clone. What it answers is
/// durable.
#[derive(Debug, Clone)]
pub struct Streams {
    pub(crate) shared: Arc<Shared>,
}

impl Streams {
    /// Makes a stream that no pipeline need deliver.
    ///
    /// # Errors
    /// [`ControlError::Exists`], or [`ControlError::Failed`] if the journal or
    /// the ledger failed.
    pub async fn create(&self, spec: StreamSpec) -> Result<(), ControlError> {
        let shared = Arc::clone(&self.shared);
        seen_through(async move { shared.create_stream(StreamSpec { made: true, ..spec }).await }).await
    }

    /// Makes sure that a stream exists that a client named first: `lakeward
    /// dev` makes one, and its pipeline.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn ensure(&self, name: &StreamName) -> Result<(), AcceptError> {
        if self.shared.has_stream(name) { Ok(()) } else { self.shared.create_on_first_use(name).await }
    }

    /// Replaces what is kept of an existing stream; whether it was made stays
    /// as it is.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or [`ControlError::Failed`] if the ledger
    /// failed.
    pub async fn update(&self, spec: StreamSpec) -> Result<(), ControlError> {
        let shared = Arc::clone(&self.shared);
        seen_through(async move { shared.update_stream(spec).await }).await
    }

    /// Removes a stream and all its records.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] while pipelines
    /// ([`pipelines`](Self::pipelines)) deliver it or the configuration names
    /// it; [`ControlError::Failed`] if the journal or the ledger failed: the
    /// caller asks again.
    pub async fn remove(&self, name: &StreamName) -> Result<(), ControlError> {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        seen_through(async move { shared.remove_stream(&name).await }).await
    }

    /// What is kept of a stream, if it exists: nothing of the configuration's.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or [`ControlError::Failed`] if the ledger
    /// failed.
    pub async fn get(&self, name: &StreamName) -> Result<StreamSpec, ControlError> {
        if !self.shared.has_stream(name) {
            return Err(ControlError::NotFound(name.to_string()));
        }
        let wanted = name.clone();
        let stored = self.shared.on_ledger(move |ledger| ledger.stream(&wanted)).await?;
        Ok(stored.unwrap_or_else(|| StreamSpec::new(name.clone())))
    }

    /// The retention that the configuration gives a stream. Readers are promised
    /// the longer of it and of what is kept ([`StreamSpec::retention`]).
    #[must_use]
    pub fn configured_retention(&self, name: &StreamName) -> Option<Duration> {
        self.shared.configured_retention(name)
    }

    /// Whether there is such a stream. The journal may hold records of others,
    /// which nobody has any more.
    #[must_use]
    pub fn exists(&self, name: &StreamName) -> bool {
        self.shared.has_stream(name)
    }

    /// The streams that there are, by name.
    #[must_use]
    pub fn names(&self) -> Vec<StreamName> {
        self.shared.streams()
    }

    /// The pipelines that deliver a stream, by name.
    #[must_use]
    pub fn pipelines(&self, name: &StreamName) -> Vec<String> {
        self.shared.specs().into_iter().filter(|spec| spec.stream == *name).map(|spec| spec.name).collect()
    }

    /// The oldest record that can be read and the one that comes next; `None`
    /// if there is no such stream.
    #[must_use]
    pub fn ends(&self, name: &StreamName) -> Option<(Offset, Offset)> {
        self.shared.journal.tail(name).map(|tail| (tail.start, tail.end))
    }

    /// Drawn when the stream was made; another one after it was removed and
    /// made anew.
    #[must_use]
    pub fn incarnation(&self, name: &StreamName) -> Option<uuid::Uuid> {
        self.shared.journal.incarnation(name)
    }

    /// Tells every change of the stream's durable end.
    #[must_use]
    pub fn watch(&self, name: &StreamName) -> Option<watch::Receiver<Offset>> {
        self.shared.journal.watch(name)
    }

    /// When the newest record was received; 0 if there is none that is still
    /// kept. Times never go back in a stream.
    ///
    /// # Errors
    /// [`ControlError::Failed`] if the process is stopping.
    pub async fn newest(&self, name: &StreamName) -> Result<Timestamp, ControlError> {
        let (journal, name) = (self.shared.journal.clone(), name.clone());
        blocking(move || {
            let last = journal.tail(&name).and_then(|tail| tail.end.0.checked_sub(1));
            last.and_then(|last| journal.received_at(&name, Offset(last))).unwrap_or_default()
        })
        .await
    }

    /// Reads durable records from `from` on: the rest of the append that holds
    /// it, then whole appends, up to `bytes_max` bytes but at least one append.
    /// Empty if there is nothing yet. Records that are no longer kept are
    /// passed over: the first block may start behind `from`.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or [`ControlError::Failed`] if the journal
    /// cannot be read.
    pub async fn read(
        &self,
        name: &StreamName,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<RecordBlock>, ControlError> {
        let (journal, name) = (self.shared.journal.clone(), name.clone());
        blocking(move || {
            let mut from = from;
            loop {
                match journal.read(&name, from, bytes_max) {
                    Ok(blocks) => return Ok(blocks),
                    Err(ReadError::Trimmed { start }) if start > from => from = start,
                    Err(ReadError::UnknownStream) => return Err(ControlError::NotFound(name.to_string())),
                    Err(error) => return Err(ControlError::Failed(error.to_string())),
                }
            }
        })
        .await?
    }

    /// The first record that was received at `at` or later; the next one to
    /// come, if there is none.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or [`ControlError::Failed`] if the journal
    /// cannot be read.
    pub async fn received_from(&self, name: &StreamName, at: Timestamp) -> Result<Offset, ControlError> {
        let (journal, name) = (self.shared.journal.clone(), name.clone());
        blocking(move || {
            let tail = journal.tail(&name).ok_or_else(|| ControlError::NotFound(name.to_string()))?;
            // Times never go back in a stream.
            let (mut low, mut high) = (tail.start.0, tail.end.0);
            while low < high {
                let middle = low + (high - low) / 2;
                match journal.received_at(&name, Offset(middle)) {
                    Some(received) if received >= at => high = middle,
                    // A record that was trimmed meanwhile is older than any.
                    Some(_) | None => low = middle + 1,
                }
            }
            Ok(Offset(low))
        })
        .await?
    }
}

/// Makes a change as a task of its own: a client that hangs up must not leave
/// it half made.
async fn seen_through<T: Send + 'static>(
    change: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> Result<T, ControlError> {
    tokio::spawn(change).await.map_err(|error| ControlError::Failed(error.to_string()))?
}

impl Shared {
    /// Takes up the streams that exist for themselves, and finishes removals
    /// that a crash cut short. What else something is kept of is the answer.
    pub(crate) async fn recover_streams(
        &self,
        configured: Vec<StreamSpec>,
    ) -> Result<Vec<StreamSpec>, ControlError> {
        let mut others = Vec::new();
        for spec in self.on_ledger(|ledger| ledger.streams()).await? {
            if spec.removing {
                self.finish_removal(&spec.name).await?;
            } else if spec.made {
                self.open_stream(&spec.name, spec.retention).await?;
            } else {
                others.push(spec);
            }
        }
        for spec in configured {
            let name = spec.name.clone();
            let stored = self.on_ledger(move |ledger| ledger.stream(&name)).await?;
            // What clients asked for since is a promise too.
            let retention = spec.retention.max(stored.and_then(|stored| stored.retention));
            self.open_stream(&spec.name, retention).await?;
            let mut configured = self.configured_streams.write().unwrap_or_else(PoisonError::into_inner);
            configured.insert(spec.name, spec.retention);
        }
        Ok(others)
    }

    /// Promises what readers of the pipelines' streams were promised. Of a
    /// stream whose last pipeline is gone nothing is promised: its records wait
    /// until a pipeline is configured again.
    pub(crate) fn promise_again(&self, kept: &[StreamSpec]) {
        for spec in kept.iter().filter(|spec| self.has_stream(&spec.name)) {
            self.retention.promise(&spec.name, spec.retention);
        }
    }

    /// Records that nobody has any more stay, which costs disk.
    pub(crate) fn warn_of_orphans(&self) {
        for stream in self.journal.streams() {
            if !self.has_stream(&stream) {
                warn!(%stream, "the journal holds this stream, but no pipeline delivers it; its records stay until a pipeline is configured");
            }
        }
    }

    /// The retention that the configuration gives a stream.
    fn configured_retention(&self, name: &StreamName) -> Option<Duration> {
        let configured = self.configured_streams.read().unwrap_or_else(PoisonError::into_inner);
        configured.get(name).copied().flatten()
    }

    fn is_configured_stream(&self, name: &StreamName) -> bool {
        self.configured_streams.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Makes the stream's journal, if need be, and lets records in.
    async fn open_stream(&self, name: &StreamName, retention: Option<Duration>) -> Result<(), ControlError> {
        let (journal, stream) = (self.journal.clone(), name.clone());
        blocking(move || journal.create(&stream))
            .await?
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.retention.promise(name, retention);
        self.add_stream(name);
        Ok(())
    }

    async fn create_stream(&self, spec: StreamSpec) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        if self.has_stream(&spec.name) {
            return Err(ControlError::Exists(spec.name.to_string()));
        }
        let stored = spec.clone();
        self.on_ledger(move |ledger| ledger.put_stream(&stored)).await?;
        self.open_stream(&spec.name, spec.retention).await?;
        info!(stream = %spec.name, "stream created");
        Ok(())
    }

    async fn update_stream(&self, spec: StreamSpec) -> Result<(), ControlError> {
        // Not `changes`: a stream that is being made is not there yet, and one
        // that is being removed is not there any more.
        let _one_at_a_time = self.kept_of_streams.lock().await;
        if !self.has_stream(&spec.name) {
            return Err(ControlError::NotFound(spec.name.to_string()));
        }
        let (name, retention) = (spec.name.clone(), spec.retention);
        self.on_ledger(move |ledger| {
            let made = ledger.stream(&spec.name)?.is_some_and(|before| before.made);
            ledger.put_stream(&StreamSpec { made, removing: false, ..spec })
        })
        .await?;
        self.retention.promise(&name, retention.max(self.configured_retention(&name)));
        Ok(())
    }

    async fn remove_stream(&self, name: &StreamName) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        if !self.has_stream(name) {
            return Err(ControlError::NotFound(name.to_string()));
        }
        if self.is_configured_stream(name) {
            return Err(ControlError::Invalid(format!("the configuration file names the stream {name}")));
        }
        if let Some(spec) = self.specs().into_iter().find(|spec| spec.stream == *name) {
            return Err(ControlError::Invalid(format!("pipeline {} delivers the stream {name}", spec.name)));
        }
        self.remove_with_records(name).await?;
        info!(stream = %name, "stream removed");
        Ok(())
    }

    /// Removes a stream durably: once this was begun, it ends, if need be at the
    /// next start.
    pub(crate) async fn remove_with_records(&self, name: &StreamName) -> Result<(), ControlError> {
        {
            let _one_at_a_time = self.kept_of_streams.lock().await;
            let stream = name.clone();
            self.on_ledger(move |ledger| {
                let spec = ledger.stream(&stream)?.unwrap_or_else(|| StreamSpec::new(stream));
                ledger.put_stream(&StreamSpec { removing: true, ..spec })
            })
            .await?;
            // From here on no update undoes it.
            self.drop_stream(name);
        }
        self.finish_removal(name).await
    }

    /// Removes a stream's records, and then all that is known of it.
    async fn finish_removal(&self, name: &StreamName) -> Result<(), ControlError> {
        let (journal, stream) = (self.journal.clone(), name.clone());
        blocking(move || journal.remove(&stream))
            .await?
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.retention.remove(name);
        let stream = name.clone();
        self.on_ledger(move |ledger| ledger.remove_stream(&stream)).await
    }

    /// Whether the stream stays when its last pipeline goes.
    pub(crate) async fn outlives_pipelines(&self, name: &StreamName) -> Result<bool, ControlError> {
        if self.is_configured_stream(name) {
            return Ok(true);
        }
        let stream = name.clone();
        let stored = self.on_ledger(move |ledger| ledger.stream(&stream)).await?;
        Ok(stored.is_some_and(|spec| spec.made))
    }
}
