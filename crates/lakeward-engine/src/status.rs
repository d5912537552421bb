//! What a pipeline is doing, for people and for `lakeward status --json`.

use std::time::Duration;

use lakeward_model::{Offset, StreamName};
use serde::{Deserialize, Serialize};

use crate::catalog::CatalogStatus;
use crate::ledger::{Counts, Progress, Replays};

/// A pipeline's numbers at one instant.
///
/// Invariant: `received == counts.settled() + pending`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineStatus {
    /// Its name.
    pub pipeline: String,
    /// The stream it delivers.
    pub stream: StreamName,
    /// Which incarnation of the stream the offsets belong to.
    pub incarnation: uuid::Uuid,
    /// Where it delivers to, without secrets.
    pub destination: String,
    /// Records accepted since the pipeline began.
    pub received: u64,
    /// What became of those that are settled.
    #[serde(flatten)]
    pub counts: Counts,
    /// Records accepted and not yet settled, and those on their way out of
    /// quarantine.
    pub pending: u64,
    /// Records that left quarantine so far: pending or settled once more.
    #[serde(default)]
    pub replayed: u64,
    /// How many of those are settled once more.
    #[serde(default)]
    pub replays_settled: u64,
    /// Everything before this offset is settled.
    pub delivered_to: Offset,
    /// Age of the oldest pending record, in seconds; 0 if there is none.
    pub lag_seconds: f64,
    /// What it is doing.
    pub state: PipelineState,
    /// How far its catalog is, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogStatus>,
}

impl PipelineStatus {
    /// The numbers of a pipeline whose stream ends at `end`.
    #[must_use]
    pub fn new(
        pipeline: String,
        destination: String,
        progress: &Progress,
        end: Offset,
        lag: Duration,
        state: PipelineState,
    ) -> Self {
        let Replays { records_queued, records_settled, .. } = progress.replays;
        let pending = end.0.saturating_sub(progress.delivered_to.0);
        Self {
            pipeline,
            stream: progress.stream.clone(),
            incarnation: progress.incarnation,
            destination,
            received: end.0.max(progress.delivered_to.0) - progress.start.0,
            counts: progress.net_counts(),
            pending: pending + records_queued - records_settled,
            replayed: records_queued,
            replays_settled: records_settled,
            delivered_to: progress.delivered_to,
            lag_seconds: lag.as_secs_f64(),
            state,
            catalog: None,
        }
    }
}

/// What a pipeline is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PipelineState {
    /// Nothing is pending, or a batch is filling.
    #[default]
    Idle,
    /// A batch is being delivered.
    Delivering,
    /// The destination failed; the same batch is tried again.
    Retrying {
        /// Tries so far.
        attempts: u32,
        /// What the destination said last.
        error: String,
    },
    /// It stopped; `code` has a page in `docs/errors/`.
    Halted {
        /// For instance `LW-2001`.
        code: String,
        /// What happened and what to do.
        error: String,
    },
}
