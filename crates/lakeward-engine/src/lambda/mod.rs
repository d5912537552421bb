//! Firehose's Lambda transform: cuts a batch's pieces into calls, reads what
//! the function says of each piece, and keeps it.
//!
//! A function need not say the same twice, so its replies are durable before
//! anything that follows from them leaves the process: [`Replies`] is a file of
//! the batch, [`invoke_all`] asks for what is not in it yet, and
//! [`Replies::outcomes`] reads it in the order of the pieces. A crash at any
//! point costs calls, never consistency.

mod call;
mod chunk;
mod event;
mod frame;
mod invoke;
mod replies;
mod reply;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lakeward_columnar::process::Processor;
use lakeward_columnar::shape::{Lambda, Processing};
use lakeward_model::{InvokeFailure, InvokeFailureKind, Offset, RecordBlock, Records, StreamName, Timestamp};

use crate::status::PipelineState;

pub use invoke::{InvokeAllError, invoke_all};
pub use replies::{Outcomes, Replies, RepliesError};

/// How a function is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The pipeline's name, for log and metrics.
    pub pipeline: String,
    /// What the event calls the stream: `arn:aws:firehose:…`.
    pub stream_arn: String,
    /// What the event calls the delivery stream and its source if records came
    /// from Kinesis: `arn:aws:firehose:…`, `arn:aws:kinesis:…`.
    pub kinesis_arns: [String; 2],
    /// What the event calls the region.
    pub region: String,
    /// Most bytes of pieces in one call, before base64. The event stays below
    /// 6 MB in any case.
    pub bytes: u64,
    /// Most pieces in one call; at least 1.
    pub records: usize,
    /// Tries after the first, where the function failed.
    pub retries: u32,
    /// Calls at the same time; at least 1.
    pub concurrency: usize,
    /// Whether the records wait, however long, while the function cannot be
    /// reached or refuses us. Otherwise they fail after the retries, as in
    /// Firehose.
    pub wait: bool,
}

impl Settings {
    /// The settings of a pipeline's function, with `arn` for what the ARNs of
    /// its streams have in common. A delivery stream is named as the stream
    /// that clients put records into, or as the pipeline if that is a Kinesis
    /// stream.
    #[must_use]
    pub fn new(pipeline: &str, arn: &StreamArn, stream: &StreamName, function: &Lambda) -> Self {
        let StreamArn { region, account_id } = arn;
        let delivery = |name: &str| format!("arn:aws:firehose:{region}:{account_id}:deliverystream/{name}");
        let source = format!("arn:aws:kinesis:{region}:{account_id}:stream/{stream}");
        Self {
            pipeline: pipeline.to_string(),
            stream_arn: delivery(stream.as_str()),
            kinesis_arns: [delivery(pipeline), source],
            region: region.clone(),
            bytes: function.bytes,
            records: function.records,
            retries: function.retries,
            concurrency: function.concurrency,
            wait: function.wait,
        }
    }
}

/// What the ARNs of streams have besides their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamArn {
    /// The region.
    pub region: String,
    /// The account.
    pub account_id: String,
}

/// What a function is given of the records that `blocks` yields.
pub fn pieces<E, I: Iterator<Item = Result<RecordBlock, E>>>(
    processing: &Processing,
    blocks: I,
) -> impl Iterator<Item = Result<Arrived, E>> + use<E, I> {
    // What comes behind the function does not matter here.
    let before = Processing { partition_query: None, delimiter: None, ..processing.clone() };
    blocks.map(move |block| {
        block.map(|block| {
            let processor = Processor::new(&before, Vec::new()).expect("the shape was checked");
            let pieces = processor.before_lambda(&block);
            Arrived { records: pieces.records, at: block.received_at, first: block.first, of: pieces.of }
        })
    })
}

/// Pieces of records that arrived together: a block of the journal after the
/// processors that come before the function.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The pieces.
    pub records: Records,
    /// When they were received.
    pub at: Timestamp,
    /// The offset of the block's first record.
    pub first: Offset,
    /// For each piece the index of its record; `None`: each is a record.
    pub of: Option<Vec<u32>>,
}

/// What is heard of the calls while they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A call was answered.
    Answered,
    /// A call failed, and is made again after a pause.
    Failed {
        /// How.
        failure: InvokeFailure,
        /// Calls for these pieces so far.
        attempts: u32,
        /// The pause.
        pause: Duration,
    },
}

/// Who listens.
pub type Listener = Arc<dyn Fn(&Heard) + Send + Sync>;

impl Heard {
    /// What the pipeline shows while this holds; `None` for an answer.
    #[must_use]
    pub fn state(&self) -> Option<PipelineState> {
        let Self::Failed { failure, attempts, .. } = self else { return None };
        let error = failure.to_string();
        Some(match failure.kind {
            InvokeFailureKind::Refused => PipelineState::Halted { code: "LW-2101".to_string(), error },
            _ => PipelineState::Retrying { attempts: *attempts, error },
        })
    }
}
