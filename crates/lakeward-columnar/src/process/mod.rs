//! What happens to records before they become columns: Firehose's processors.
//!
//! In Firehose's order (developer guide, "Data transformation" and "Dynamic
//! partitioning"): aggregates of the Kinesis Producer Library, inflate, take
//! apart, Lambda function, partition keys, delimiter. What is decoded then gets
//! the columns of its record's lineage ([`lineage`]) and its own text ([`raw`]). Everything here is a pure
//! function of the records, except what a Lambda function says of them: its
//! replies are stored before they are used, and come in as [`Outcome`]s.

mod collect;
mod inflate;
pub(crate) mod lineage;
mod query;
pub(crate) mod raw;
mod split;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use lakeward_model::{RecordBlock, Records, ShardKey, kpl};

use self::collect::Collector;
use self::query::Query;
use crate::shape::{Processing, Split};

/// Most sub-records in one record (Firehose's limit for de-aggregation).
pub const PIECES_MAX: usize = 500;

/// Most bytes of one record when inflated.
pub const INFLATED_BYTES_MAX: u64 = 64 << 20;

/// Most partition keys that one query may give (Firehose's limit).
pub const KEYS_MAX: usize = 50;

/// Firehose's code for a record whose partition keys are not usable.
pub const METADATA_EXTRACTION_FAILED: &str = "DynamicPartitioning.MetadataExtractionFailed";

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

impl PartitionKey {
    /// The name of the hidden column that holds its values when rows are
    /// partitioned; no `!{event:…}` can name it, as it has a colon.
    #[must_use]
    pub fn column(&self) -> String {
        format!("{}:{}", self.namespace(), self.name())
    }

    /// `partitionKeyFromQuery` or `partitionKeyFromLambda`.
    #[must_use]
    pub fn namespace(&self) -> &'static str {
        match self {
            Self::Query(_) => "partitionKeyFromQuery",
            Self::Lambda(_) => "partitionKeyFromLambda",
        }
    }

    /// The key's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Query(name) | Self::Lambda(name) => name,
        }
    }
}

impl Stage {
    /// Firehose's error-output-type.
    #[must_use]
    pub fn error_output_type(self) -> &'static str {
        match self {
            Self::Processing => "processing-failed",
            Self::Conversion => "format-conversion-failed",
        }
    }
}

impl Reason {
    /// A failure before the record became columns, at the first try.
    fn processing(code: &'static str, message: impl Into<String>) -> Self {
        Self { stage: Stage::Processing, code: Cow::Borrowed(code), message: message.into(), attempts: 1 }
    }

    fn metadata(message: impl Into<String>) -> Self {
        Self::processing(METADATA_EXTRACTION_FAILED, message)
    }
}

/// The processors of a shape, compiled.
#[derive(Debug)]
pub struct Processor<'a> {
    processing: &'a Processing,
    keys: Vec<PartitionKey>,
    /// Compiled if a key asks for it.
    query: Option<Query>,
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
        let wrong = |field, reason: &str| Err(ProcessingError { field, reason: reason.to_owned() });
        if matches!(&processing.split, Some(Split::Delimiter(text)) if text.is_empty()) {
            return wrong("split", "the delimiter is empty");
        }
        if keys.len() > KEYS_MAX {
            return wrong("path", "it asks for more than 50 partition keys");
        }
        if processing.lambda.is_none() && keys.iter().any(|key| matches!(key, PartitionKey::Lambda(_))) {
            return wrong("lambda", "`!{partitionKeyFromLambda:…}` in the path needs a function here");
        }
        let asked = keys.iter().any(|key| matches!(key, PartitionKey::Query(_)));
        let query = match &processing.partition_query {
            Some(text) => {
                let query = Query::compile(text);
                Some(query.map_err(|reason| ProcessingError { field: "partition_query", reason })?)
            }
            None if asked => {
                return wrong(
                    "partition_query",
                    "`!{partitionKeyFromQuery:…}` in the path needs a jq expression here",
                );
            }
            None => None,
        };
        Ok(Self { processing, keys, query: query.filter(|_| asked) })
    }

    /// Whether every record of the block stays as it is.
    #[must_use]
    pub fn leaves(&self, block: &RecordBlock) -> bool {
        self.processing.is_nothing() && self.keys.is_empty() && !has_aggregate(block)
    }

    /// What happens before the Lambda function: takes aggregates of the Kinesis
    /// Producer Library apart, inflates and splits. If there is a function,
    /// pieces have the keys of their records, those of an aggregate their own.
    ///
    /// Aggregates are known by their digest, whichever door they came through:
    /// one that leaves quarantine comes without its key.
    #[must_use]
    pub fn before_lambda(&self, block: &RecordBlock) -> Pieces {
        let has_aggregate = has_aggregate(block);
        if !self.processing.decompress && self.processing.split.is_none() && !has_aggregate {
            return Pieces { records: block.records.clone(), of: None, failed: Vec::new() };
        }
        let mut out = Collector::new(block.records.data.len(), Vec::new());
        let mut inflated = Vec::new();
        // Only a function is told of keys.
        let keys = block.records.keys.as_ref().filter(|_| self.processing.lambda.is_some());
        for (index, record) in (0..).zip(block.records.iter()) {
            out.enter(index);
            let key = keys.map(|keys| keys.get(index as usize));
            let aggregated = if has_aggregate { kpl::deaggregate(record) } else { None };
            let Some(records) = aggregated else {
                out.beside(key);
                self.take_apart_or_fail(record, &mut inflated, &mut out);
                continue;
            };
            for record in records {
                let own = key.and_then(ShardKey::read).map(|ShardKey { shard, .. }| {
                    ShardKey { shard, partition_key: record.partition_key }.stored()
                });
                out.beside(own.as_deref().or(key));
                self.take_apart_or_fail(record.data, &mut inflated, &mut out);
            }
        }
        out.finish().pieces
    }

    fn take_apart_or_fail(&self, record: &[u8], inflated: &mut Vec<u8>, out: &mut Collector) {
        if let Err(reason) = self.take_apart(record, inflated, out) {
            out.fail(reason);
        }
    }

    fn take_apart(&self, record: &[u8], inflated: &mut Vec<u8>, out: &mut Collector) -> Result<(), Reason> {
        let record = if self.processing.decompress {
            inflate::gzip(record, inflated, INFLATED_BYTES_MAX.min(out.room()))?;
            inflated.as_slice()
        } else {
            record
        };
        match &self.processing.split {
            None => out.push(&[record]),
            Some(Split::Json) => split::json(record, |piece| out.push(&[piece])),
            Some(Split::Delimiter(text)) => {
                split::delimited(record, text.as_bytes(), |piece| out.push(&[piece]))
            }
        }
    }

    /// What happens with and after the Lambda function's outcomes: takes one
    /// for every piece, in order, if there is a function.
    ///
    /// # Panics
    /// There is a function, and fewer outcomes than pieces.
    #[must_use]
    pub fn after_lambda(&self, pieces: Pieces, outcomes: &mut dyn Iterator<Item = Outcome>) -> Processed {
        let is_lambda = self.processing.lambda.is_some();
        if !is_lambda && self.keys.is_empty() && self.processing.delimiter.is_none() {
            return Processed { pieces, keys: Vec::new() };
        }
        let mut out = Collector::new(pieces.records.data.len(), pieces.failed);
        for (index, piece) in (0_u32..).zip(pieces.records.iter()) {
            let record = pieces.of.as_ref().map_or(index, |of| of[index as usize]);
            let outcome = is_lambda.then(|| outcomes.next().expect("every piece has an outcome"));
            out.enter(record);
            if let Err(reason) = self.finish(piece, outcome, &mut out) {
                out.fail(reason);
            }
        }
        out.finish()
    }

    fn finish(&self, piece: &[u8], outcome: Option<Outcome>, out: &mut Collector) -> Result<(), Reason> {
        let (data, lambda_keys) = match &outcome {
            None => (piece, [].as_slice()),
            Some(Outcome::Ok { data, keys }) => (data.as_ref(), keys.as_slice()),
            Some(Outcome::Dropped) => return Ok(()),
            Some(Outcome::Failed(reason)) => return Err(reason.clone()),
        };
        let keys = self.values(data, lambda_keys)?;
        let delimiter = self.processing.delimiter.as_deref().unwrap_or_default();
        out.push(&[data, delimiter.as_bytes()])?;
        if !self.keys.is_empty() {
            out.keys(keys);
        }
        Ok(())
    }

    /// The values of the keys, in their order.
    fn values(&self, data: &[u8], lambda_keys: &[(String, String)]) -> Result<Vec<String>, Reason> {
        let found = self.query.as_ref().map(|query| query.run(data)).transpose().map_err(Reason::metadata)?;
        let value = |key: &PartitionKey| {
            let value = match key {
                PartitionKey::Lambda(name) => {
                    lambda_keys.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone())
                }
                PartitionKey::Query(name) => {
                    let found = found.as_ref().expect("a query is compiled where a key asks for it");
                    found.text(name).map_err(Reason::metadata)?
                }
            };
            let message = || format!("partitionKeys values must not be null or empty ({})", key.name());
            value.filter(|value| !value.is_empty()).ok_or_else(|| Reason::metadata(message()))
        };
        self.keys.iter().map(value).collect()
    }
}

/// Whether there may be an aggregate of the Kinesis Producer Library.
fn has_aggregate(block: &RecordBlock) -> bool {
    block.records.iter().any(kpl::is_marked)
}
