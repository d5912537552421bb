//! Committing a delivered batch, and trimming the journal.

use std::sync::Arc;

use lakeward_model::clock::Stopwatch;
use lakeward_model::{Offset, Receipt};
use tracing::{error, info, warn};

use super::{Halt, Pipeline, Prepared};
use crate::lambda::Replies;
use crate::ledger::{BatchRecord, Commit};

impl Pipeline {
    /// Commits what was delivered, together with the next plan if it is known,
    /// and trims the journal.
    pub(super) async fn commit(
        self: &Arc<Self>,
        prepared: &Prepared,
        receipt: Receipt,
        next: Option<&Prepared>,
        clock: Stopwatch,
    ) -> Result<(), Halt> {
        let mut counts = prepared.counts;
        counts.files = receipt.files.len() as u64;
        counts.bytes = receipt.files.iter().map(|file| file.bytes).sum();
        let record = BatchRecord {
            pipeline: self.spec.name.clone(),
            incarnation: self.incarnation,
            destination: prepared.plan.destination.clone(),
            batch: prepared.plan.batch,
            span: prepared.plan.span,
            replay: prepared.plan.replay.map(|replay| replay.id),
            counts,
            files: receipt.files,
            committed_at: self.clock.now(),
            replaced_by: None,
        };
        let (plan, next) = (prepared.plan.clone(), next.map(|next| next.plan.clone()));
        let schemas = prepared.schemas_changed.then(|| prepared.after.schemas.clone());
        let pending = prepared.after.in_flight.clone();
        let slices = Arc::clone(&prepared.slices);
        let pipeline = Arc::clone(self);
        let progress = tokio::task::spawn_blocking(move || {
            let keys = pipeline.keys.get().zip(pending).map(|(keys, pending)| (keys, keys.next(&pending)));
            let commit = Commit {
                plan: &plan,
                record: &record,
                slices: &slices,
                schemas: schemas.as_ref(),
                dedup: keys.as_ref().map(|(_, next)| next.state()),
                next: next.as_ref(),
            };
            let progress = pipeline.ledger.commit(&pipeline.spec.name, &commit)?;
            if let Some((keys, next)) = keys {
                keys.committed(next)?;
            }
            if plan.shape.processing.lambda.is_some()
                && let Err(error) = Replies::remove(&pipeline.folder.lambda(), plan.batch)
            {
                // It costs disk, not correctness: the next start removes it.
                warn!(pipeline = pipeline.spec.name, %error, "a function's replies stay on the disk");
            }
            Ok::<_, Halt>(progress)
        })
        .await??;
        let labels = [("pipeline", self.spec.name.clone())];
        metrics::counter!("lakeward_delivered_records_total", &labels).increment(counts.delivered);
        metrics::counter!("lakeward_duplicate_records_total", &labels).increment(counts.duplicates);
        metrics::counter!("lakeward_filtered_records_total", &labels).increment(counts.filtered);
        metrics::counter!("lakeward_quarantined_records_total", &labels).increment(counts.quarantined);
        metrics::counter!("lakeward_delivered_bytes_total", &labels).increment(counts.bytes);
        metrics::histogram!("lakeward_delivery_seconds", &labels).record(clock.elapsed().as_secs_f64());
        info!(pipeline = self.spec.name, batch = %prepared.plan.batch, span = %prepared.plan.span, rows = counts.rows, files = counts.files, bytes = counts.bytes, quarantined = counts.quarantined, "batch delivered");
        let settled = progress.delivered_to;
        progress.announce(&self.progress);
        self.trim(settled).await
    }

    async fn trim(&self, settled: Offset) -> Result<(), Halt> {
        self.retention.advance(&self.spec.stream, &self.spec.name, settled);
        let (journal, stream) = (self.journal.clone(), self.spec.stream.clone());
        let (retention, now) = (Arc::clone(&self.retention), self.clock.now());
        let trimmed = tokio::task::spawn_blocking(move || retention.trim(&journal, &stream, now)).await?;
        if let Err(error) = trimmed {
            // Old segments cost disk, not correctness: the next trim removes them.
            error!(pipeline = self.spec.name, %error, "old journal segments could not be removed");
        }
        Ok(())
    }
}
