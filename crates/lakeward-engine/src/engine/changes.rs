//! Making, changing and removing pipelines while the engine runs.

use std::sync::{Arc, Mutex, OnceLock};

use lakeward_model::{Offset, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::{Running, Shared, blocking};
use crate::catalog::{self, Registering};
use crate::control::ControlError;
use crate::folder::Folder;
use crate::ledger::{Progress, Quarantined, ReplayAnswer};
use crate::pipeline::{Builder, Pipeline};
use crate::spec::PipelineSpec;
use crate::status::PipelineState;

impl Shared {
    pub(crate) async fn create(&self, spec: PipelineSpec) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        if self.running().contains_key(&spec.name) {
            return Err(ControlError::Exists(spec.name));
        }
        self.check(&spec)?;
        let stored = spec.clone();
        self.on_ledger(move |ledger| ledger.put_pipeline(&stored)).await?;
        info!(pipeline = spec.name, stream = %spec.stream, "pipeline created");
        let progress = self.register(&spec).await?;
        self.start(spec, false, progress)
    }

    pub(crate) async fn update(&self, spec: PipelineSpec) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        self.check(&spec)?;
        let before = self.changeable(&spec.name)?;
        let stored = spec.clone();
        if before == (PipelineSpec { owner: before.owner.clone(), ..spec.clone() }) {
            // Only what the front door keeps with it: nothing that runs changes.
            self.on_ledger(move |ledger| ledger.put_pipeline(&stored)).await?;
            if let Some(running) = self.running().get_mut(&spec.name) {
                running.spec = spec;
            }
            return Ok(());
        }
        self.on_ledger(move |ledger| ledger.put_pipeline(&stored)).await?;
        self.stop(&spec.name).await;
        match self.register(&spec).await {
            Ok(progress) => self.start(spec, false, progress),
            Err(error) => {
                // The pipeline goes on as it was until the next start.
                let progress = self.register(&before).await?;
                self.start(before, false, progress)?;
                Err(error)
            }
        }
    }

    /// Lets records leave a pipeline's quarantine.
    pub(crate) async fn replay(
        &self,
        name: &str,
        mut records: Vec<Quarantined>,
    ) -> Result<ReplayAnswer, ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        // An arrival in the future would end the window of every dedup key.
        let now = self.clock.now();
        for record in &mut records {
            record.received_at = record.received_at.clamp(Timestamp(0), now);
        }
        if !self.running().contains_key(name) {
            return Err(ControlError::NotFound(name.to_string()));
        }
        let pipeline = name.to_string();
        let (answer, progress) =
            self.on_ledger(move |ledger| ledger.queue_replay(&pipeline, &records)).await?;
        if let Some(running) = self.running().get(name) {
            progress.announce(&running.replayed);
        }
        info!(pipeline = name, queued = answer.queued, already = answer.already, "records leave quarantine");
        Ok(answer)
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let spec = self.changeable(name)?;
        self.stop(name).await;
        // The stream goes first: if we die in between, the pipeline is there
        // without records, and is deleted again. The other way round a stream
        // made anew would find delivered records and deliver them again.
        let is_others = |other: &Running| other.spec.stream == spec.stream && other.spec.name != name;
        if !self.running().values().any(is_others) && !self.outlives_pipelines(&spec.stream).await? {
            self.remove_with_records(&spec.stream).await?;
        }
        let removed = name.to_string();
        self.on_ledger(move |ledger| ledger.remove_pipeline(&removed)).await?;
        Folder::new(&self.state, name).remove();
        self.running().remove(name);
        self.retention.forget(&spec.stream, name);
        info!(pipeline = name, stream = %spec.stream, "pipeline deleted");
        Ok(())
    }

    /// The settings of a pipeline that was made through an API.
    fn changeable(&self, name: &str) -> Result<PipelineSpec, ControlError> {
        match self.running().get(name) {
            None => Err(ControlError::NotFound(name.to_string())),
            Some(running) if running.configured => Err(ControlError::Configured(name.to_string())),
            Some(running) => Ok(running.spec.clone()),
        }
    }

    /// Stops a pipeline's task and waits for its end. The pipeline stays
    /// visible meanwhile.
    async fn stop(&self, name: &str) {
        let task = self.running().get_mut(name).and_then(|running| {
            running.stop.cancel();
            running.task.take()
        });
        if let Some(task) = task {
            task.await.unwrap_or(false);
        }
    }

    fn check(&self, spec: &PipelineSpec) -> Result<(), ControlError> {
        lakeward_columnar::build::check(&spec.shape)
            .map_err(|error| ControlError::Invalid(error.to_string()))?;
        if let Some(function) = &spec.shape.processing.lambda {
            (self.connectors.function)(&spec.name, function).map_err(ControlError::Invalid)?;
        }
        if let Some(sql) = &spec.shape.sql {
            (self.connectors.sql)(sql).map_err(|error| ControlError::Invalid(error.to_string()))?;
        }
        if let Some(catalog) = &spec.catalog {
            (self.connectors.catalog)(catalog, &spec.name).map_err(ControlError::Invalid)?;
        }
        (self.connectors.destination)(&spec.destination).map_err(ControlError::Invalid).map(drop)
    }

    /// Makes sure that the pipeline's stream exists and that the ledger knows
    /// where the pipeline stands in it.
    pub(super) async fn register(&self, spec: &PipelineSpec) -> Result<Progress, ControlError> {
        let journal = self.journal.clone();
        let stream = spec.stream.clone();
        let incarnation = blocking(move || journal.create(&stream))
            .await?
            .map_err(|error| ControlError::Failed(error.to_string()))?
            .incarnation;
        let (retention, journal) = (Arc::clone(&self.retention), self.journal.clone());
        let (name, stream, from_latest) = (spec.name.clone(), spec.stream.clone(), spec.from_latest);
        let (oldest, next) = blocking(move || retention.join(&journal, &stream, &name)).await?;
        let start = if from_latest { next } else { oldest };
        let (name, stream) = (spec.name.clone(), spec.stream.clone());
        let (known, unfinished) =
            self.on_ledger(move |ledger| Ok((ledger.progress(&name)?, ledger.unfinished(&name)?))).await?;
        if let Some(known) = known {
            if known.stream != stream {
                return Err(ControlError::Invalid(format!(
                    "the pipeline delivered the stream {} until now; give the new one another name, so that nothing is delivered twice",
                    known.stream
                )));
            }
            // A replay's span is not of the stream.
            let planned = unfinished.filter(|plan| plan.replay.is_none()).map(|plan| plan.span.to);
            let needed = planned.unwrap_or(known.delivered_to);
            let end = self.journal.tail(&stream).map_or(Offset(0), |tail| tail.end);
            if known.incarnation == incarnation && end < needed {
                return Err(ControlError::Failed(format!(
                    "the journal of {stream} ends at {end}, but the ledger is at {needed}: the journal lost its end, or the two come from different backups; restore both from one"
                )));
            }
        }
        let (name, stream, no_catalog) = (spec.name.clone(), spec.stream.clone(), spec.catalog.is_none());
        // In this order: what begins behind it is taken later.
        let under_way = crate::slices::under_way(&self.journal, &stream);
        let (dedup, now) = (spec.shape.dedup.clone(), self.clock.now());
        let progress = self
            .on_ledger(move |ledger| {
                if no_catalog {
                    ledger.forget_catalog(&name)?;
                }
                crate::dedup::begin(ledger, &name, dedup.as_ref(), now, under_way)?;
                ledger.register(&name, &stream, incarnation, start)
            })
            .await?;
        self.retention.advance(&spec.stream, &spec.name, progress.delivered_to);
        Ok(progress)
    }

    /// Starts a registered pipeline's task.
    pub(super) fn start(
        &self,
        spec: PipelineSpec,
        configured: bool,
        progress: Progress,
    ) -> Result<(), ControlError> {
        let opened = (self.connectors.destination)(&spec.destination).map_err(ControlError::Invalid)?;
        let incarnation = progress.incarnation;
        let destination = opened.name.clone();
        let (progress_sender, progress) = watch::channel(progress);
        let (state_sender, state) = watch::channel(PipelineState::Idle);
        let stop = CancellationToken::new();
        let registering =
            catalog::start(&spec, &destination, &self.connectors, &self.ledger, &progress, &stop)?;
        let catalog = registering.as_ref().map(Registering::status);
        let pipeline = Pipeline {
            spec: Arc::new(spec.clone()),
            journal: self.journal.clone(),
            ledger: Arc::clone(&self.ledger),
            clock: Arc::clone(&self.clock),
            destination: opened,
            configured,
            connectors: self.connectors.clone(),
            sql: Mutex::default(),
            function: Mutex::default(),
            folder: Folder::new(&self.state, &spec.name),
            keys: OnceLock::new(),
            retention: Arc::clone(&self.retention),
            incarnation,
            draining: self.draining.clone(),
            stop: stop.clone(),
            progress: progress_sender.clone(),
            state: state_sender,
            blocking: TaskTracker::new(),
            builder: Builder::start(),
        };
        let task = (!self.rests).then(|| tokio::spawn(catalog::beside(pipeline.run(), registering)));
        self.add_stream(&spec.stream);
        let name = spec.name.clone();
        let running = Running {
            spec,
            configured,
            destination,
            progress,
            replayed: progress_sender,
            state,
            catalog,
            stop,
            task,
        };
        self.running().insert(name, running);
        Ok(())
    }
}
