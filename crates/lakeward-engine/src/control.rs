//! Control: making, changing and removing pipelines while the process runs.

use std::sync::Arc;

use lakeward_columnar::build::SliceCounts;
use lakeward_columnar::schema::TableSchema;
use lakeward_model::{Offset, SliceId, StreamName};

use crate::engine::Shared;
use crate::ledger::{BatchKey, BatchRecord, Quarantined, ReplayAnswer};
use crate::source::SourceStatus;
use crate::spec::PipelineSpec;
use crate::status::PipelineStatus;
use crate::stored::{self, From, StoredRecord};

/// Makes, changes and removes pipelines. Cheap to clone. What it answers is
/// durable.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
}

/// Why a change was not made. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// What was to be made, a pipeline or a stream, exists: choose another name,
    /// or update it.
    #[error("a pipeline or a stream named {0} exists already")]
    Exists(String),
    /// There is no pipeline or no stream of that name.
    #[error("there is no pipeline or stream named {0}")]
    NotFound(String),
    /// The pipeline comes from the configuration file: change it there.
    #[error("pipeline {0} comes from the configuration file; change it there")]
    Configured(String),
    /// The request cannot work as it is.
    #[error("{0}")]
    Invalid(String),
    /// The ledger or the journal failed.
    #[error("{0}")]
    Failed(String),
}

impl Control {
    /// Creates a pipeline and, if need be, its stream, and starts it.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn create(&self, spec: PipelineSpec) -> Result<(), ControlError> {
        self.seen_through(|shared| async move { shared.create(spec).await }).await
    }

    /// Replaces a pipeline's settings. A batch that is planned is finished as
    /// it was planned; the next one follows the new settings.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn update(&self, spec: PipelineSpec) -> Result<(), ControlError> {
        self.seen_through(|shared| async move { shared.update(spec).await }).await
    }

    /// Removes a pipeline; if no other delivers its stream, the stream and its
    /// undelivered records go too, as Firehose's DeleteDeliveryStream does.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn delete(&self, name: &str) -> Result<(), ControlError> {
        let name = name.to_string();
        self.seen_through(|shared| async move { shared.delete(&name).await }).await
    }

    /// Lets records leave a pipeline's quarantine: they are delivered as if
    /// they had just come. Each leaves once, however often it is asked for.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn replay(&self, name: &str, records: Vec<Quarantined>) -> Result<ReplayAnswer, ControlError> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_string());
        let queued = tokio::spawn(async move { shared.replay(&name, records).await });
        queued.await.map_err(|error| ControlError::Failed(error.to_string()))?
    }

    /// Up to `limit` offsets of a source ([`BatchRecord::source`]) that left the
    /// pipeline's quarantine, from `from` on, ascending.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or [`ControlError::Failed`] if the ledger
    /// cannot be read.
    pub async fn replayed(
        &self,
        name: &str,
        source: uuid::Uuid,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<Offset>, ControlError> {
        let name = self.existing(name)?;
        self.shared.on_ledger(move |ledger| ledger.replayed(&name, source, from, limit)).await
    }

    /// Every version of a pipeline's columns, the oldest first; none before its
    /// first batch with columns.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or [`ControlError::Failed`] if the ledger
    /// cannot be read.
    pub async fn schema_versions(&self, name: &str) -> Result<Vec<TableSchema>, ControlError> {
        let name = self.existing(name)?;
        self.shared.on_ledger(move |ledger| ledger.schema_versions(&name)).await
    }

    fn existing(&self, name: &str) -> Result<String, ControlError> {
        match self.shared.spec(name) {
            Some(_) => Ok(name.to_string()),
            None => Err(ControlError::NotFound(name.to_string())),
        }
    }

    /// Makes a change as a task of its own: a client that hangs up must not
    /// leave a pipeline stopped half-way.
    async fn seen_through<F>(&self, change: impl FnOnce(Arc<Shared>) -> F) -> Result<(), ControlError>
    where
        F: Future<Output = Result<(), ControlError>> + Send + 'static,
    {
        let change = tokio::spawn(change(Arc::clone(&self.shared)));
        change.await.map_err(|error| ControlError::Failed(error.to_string()))?
    }

    /// The pipeline's settings, if it exists.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<PipelineSpec> {
        self.shared.spec(name)
    }

    /// Every pipeline's settings, by name.
    #[must_use]
    pub fn list(&self) -> Vec<PipelineSpec> {
        self.shared.specs()
    }

    /// The settings of pipelines that were made through an API, by name. They
    /// hold no credentials.
    #[must_use]
    pub fn list_made(&self) -> Vec<PipelineSpec> {
        self.shared.made()
    }

    /// Every pipeline's numbers now, by name.
    #[must_use]
    pub fn status(&self) -> Vec<PipelineStatus> {
        self.shared.status()
    }

    /// Every source's numbers now, in the order of the configuration.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.shared.sources.status()
    }

    /// Up to `limit` committed batches, those behind `after`: what `lakeward
    /// audit` compares with the lake.
    ///
    /// # Errors
    /// [`ControlError::Failed`] if the ledger cannot be read.
    pub async fn batches(
        &self,
        after: Option<BatchKey>,
        limit: usize,
    ) -> Result<Vec<BatchRecord>, ControlError> {
        self.shared.on_ledger(move |ledger| ledger.batches(after.as_ref(), limit)).await
    }

    /// What became of the records of these slices in a pipeline so far, in
    /// their order; zeros for one of which nothing is settled.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], or [`ControlError::Failed`] if the ledger
    /// cannot be read.
    pub async fn slice_counts(
        &self,
        name: &str,
        slices: Vec<SliceId>,
    ) -> Result<Vec<SliceCounts>, ControlError> {
        let name = self.existing(name)?;
        self.shared.on_ledger(move |ledger| ledger.counts_of_slices(&name, &slices)).await
    }

    /// The slices that a committed batch has records of, ascending.
    ///
    /// # Errors
    /// [`ControlError::Failed`] if the ledger cannot be read.
    pub async fn slices_of_batch(&self, batch: BatchKey) -> Result<Vec<SliceId>, ControlError> {
        self.shared.on_ledger(move |ledger| ledger.slices_of_batch(&batch)).await
    }

    /// Records of a stream as they were received, for a person to look at.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] if there is no such stream, or
    /// [`ControlError::Failed`] if the journal cannot be read.
    pub async fn records(&self, stream: &StreamName, from: From) -> Result<Vec<StoredRecord>, ControlError> {
        let (journal, stream) = (self.shared.journal.clone(), stream.clone());
        crate::engine::blocking(move || stored::read(&journal, &stream, from)).await?
    }
}
