//! What a pipeline is: one stream to one destination, in one shape.

use std::time::Duration;

use lakeward_columnar::shape::Shape;
use lakeward_model::StreamName;
use serde::{Deserialize, Serialize};

/// A pipeline as its maker asked for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineSpec {
    /// Its name, unique in the process; part of every batch id.
    pub name: String,
    /// The stream it delivers.
    pub stream: StreamName,
    /// What its files look like and where they lie.
    pub shape: Shape,
    /// Whether it leaves out what the stream held before the pipeline was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_latest: bool,
    /// When a batch is cut.
    pub batch: BatchLimits,
    /// The destination's configuration; the binary knows how to open it.
    pub destination: serde_json::Value,
    /// The configuration of the catalog that its table is registered in, if
    /// there is one; the binary knows how to open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<serde_json::Value>,
    /// What the front door that made the pipeline keeps with it. The Firehose
    /// API keeps its stream description here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<serde_json::Value>,
}

/// When a batch is cut: at whichever limit is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchLimits {
    /// Bytes of records. Default 128 MiB. A frame of the journal is never
    /// split, so a batch may be larger by less than one append.
    pub bytes: u64,
    /// Records. Default 5,000,000.
    pub records: u64,
    /// Age of the oldest record. Default 60 s.
    pub age: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { bytes: 128 << 20, records: 5_000_000, age: Duration::from_secs(60) }
    }
}
