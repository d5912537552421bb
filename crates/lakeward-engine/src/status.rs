//! What a pipeline is doing, for people and for `lakeward status --json`.

use lakeward_model::{Offset, StreamName};
use serde::{Deserialize, Serialize};

use crate::ledger::Counts;

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
    /// Everything before this offset is settled.
    pub delivered_to: Offset,
    /// Age of the oldest pending record, in seconds; 0 if there is none.
    pub lag_seconds: f64,
    /// What it is doing.
    pub state: PipelineState,
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
