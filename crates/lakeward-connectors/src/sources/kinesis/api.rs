//! The calls to Kinesis that reading needs.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::config::{KinesisConfig, KinesisConfigError};
use super::cursor::{Position, Start};
use crate::aws_json::{AwsError, AwsJson, AwsProblem, AwsService};

const SERVICE: AwsService =
    AwsService { name: "kinesis", target: "Kinesis_20131202", content_type: "application/x-amz-json-1.1" };

/// Most shards that are listed; far more than a cursor has room for. A stream
/// that has more is refused.
const SHARDS_MAX: usize = 20_000;
/// The longest id of a shard (API reference, `ShardId`).
const ID_BYTES_MAX: usize = 128;

/// One stream at Kinesis.
#[derive(Debug)]
pub(super) struct Stream {
    client: AwsJson,
    /// `StreamName` or `StreamARN`, and what it is.
    key: &'static str,
    value: String,
    records_max: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListShardsReply {
    shards: Vec<ShardReply>,
    next_token: Option<String>,
}

/// A shard as it is listed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardReply {
    pub(super) shard_id: String,
    pub(super) parent_shard_id: Option<String>,
    pub(super) adjacent_parent_shard_id: Option<String>,
    #[serde(default)]
    pub(super) hash_key_range: HashKeyRange,
    pub(super) sequence_number_range: SequenceRange,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HashKeyRange {
    pub(super) starting_hash_key: String,
    pub(super) ending_hash_key: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SequenceRange {
    pub(super) starting_sequence_number: String,
    /// There once the shard takes no more records.
    pub(super) ending_sequence_number: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IteratorReply {
    shard_iterator: String,
}

/// What a read gives. A reply without `Records` is none: it would look like the
/// end of a shard.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RecordsReply {
    pub(super) records: Vec<RecordReply>,
    /// Absent at the end of a shard.
    pub(super) next_shard_iterator: Option<String>,
    pub(super) millis_behind_latest: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RecordReply {
    pub(super) sequence_number: String,
    #[serde(deserialize_with = "base64")]
    pub(super) data: Vec<u8>,
    #[serde(default)]
    pub(super) partition_key: String,
}

fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Text;
    impl serde::de::Visitor<'_> for Text {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("base64")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
            base64_simd::STANDARD.decode_to_vec(text).map_err(|_| E::custom("not base64"))
        }
    }
    deserializer.deserialize_str(Text)
}

impl Stream {
    /// Asks nobody yet.
    pub(super) fn open(config: &KinesisConfig) -> Result<Self, KinesisConfigError> {
        let client = AwsJson::open(SERVICE, &config.kinesis(), config.timeout)
            .map_err(|error| KinesisConfigError { setting: error.setting, problem: error.problem })?;
        let (key, value) = match &config.stream_arn {
            Some(arn) => ("StreamARN", arn.clone()),
            None => ("StreamName", config.name().to_string()),
        };
        Ok(Self { client, key, value, records_max: config.records_max })
    }

    fn input(&self, mut input: Value) -> Value {
        input[self.key] = Value::from(self.value.as_str());
        input
    }

    /// One call; in a box, because its future is large.
    async fn call<O: DeserializeOwned>(&self, operation: &str, input: &Value) -> Result<O, AwsError> {
        Box::pin(self.client.call(operation, input)).await
    }

    /// All shards that have records or may get some, by id.
    pub(super) async fn shards(&self) -> Result<Vec<ShardReply>, AwsError> {
        let mut input = self.input(json!({}));
        let mut all = Vec::new();
        loop {
            let reply: ListShardsReply = self.call("ListShards", &input).await?;
            all.extend(reply.shards);
            if all.len() > SHARDS_MAX {
                return Err(AwsError::Answered(strange(format!("more than {SHARDS_MAX} shards"))));
            }
            match reply.next_token.filter(|token| !token.is_empty()) {
                Some(token) => input = json!({ "NextToken": token }),
                None => break,
            }
        }
        if let Some(bad) = all.iter().find(|shard| !(1..=ID_BYTES_MAX).contains(&shard.shard_id.len())) {
            let said = format!("a shard id of {} bytes", bad.shard_id.len());
            return Err(AwsError::Unknown(strange(said)));
        }
        all.sort_by(|a, b| a.shard_id.cmp(&b.shard_id));
        all.dedup_by(|a, b| a.shard_id == b.shard_id);
        Ok(all)
    }

    /// An iterator that gives the record at `position` first, if it is still
    /// there, and all behind it. It holds for five minutes.
    ///
    /// The record of the position itself is wanted although it was read: if it
    /// does not come, it is gone, and others may be gone with it. Kinesis says
    /// nothing of that; it goes on with the oldest record that it has.
    pub(super) async fn iterator(&self, shard: &str, position: &Position) -> Result<String, AwsError> {
        let mut input = self.input(json!({ "ShardId": shard }));
        match position {
            Position::At(Start::TrimHorizon) | Position::Finished => {
                input["ShardIteratorType"] = Value::from("TRIM_HORIZON");
            }
            Position::At(Start::At(at)) => {
                input["ShardIteratorType"] = Value::from("AT_TIMESTAMP");
                input["Timestamp"] = Value::from(at.millis() as f64 / 1_000.0);
            }
            Position::Behind(sequence) | Position::Inside(sequence, _) => {
                input["ShardIteratorType"] = Value::from("AT_SEQUENCE_NUMBER");
                input["StartingSequenceNumber"] = Value::from(sequence.as_str());
            }
        }
        let reply: IteratorReply = self.call("GetShardIterator", &input).await?;
        Ok(reply.shard_iterator)
    }

    /// One read. Asking twice with the same iterator gives the same.
    pub(super) async fn records(&self, iterator: &str) -> Result<RecordsReply, AwsError> {
        let mut input = json!({ "ShardIterator": iterator, "Limit": self.records_max });
        if self.key == "StreamARN" {
            input = self.input(input);
        }
        let mut reply: RecordsReply = self.call("GetRecords", &input).await?;
        reply.next_shard_iterator = reply.next_shard_iterator.filter(|next| !next.is_empty());
        Ok(reply)
    }
}

/// A list of shards that cannot be used.
fn strange(message: String) -> AwsProblem {
    let call = String::from("kinesis ListShards");
    AwsProblem { call, status: None, code: String::new(), message, retry_after: None }
}

impl RecordsReply {
    /// How far the read is behind the newest record, if Kinesis says so.
    pub(super) fn behind(&self) -> Option<Duration> {
        self.millis_behind_latest.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis)
    }
}

/// Whether the shard's readers, all together, ask too often.
pub(super) fn is_throttling(error: &AwsError) -> bool {
    let codes =
        ["ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"];
    codes.contains(&error.code()) || error.problem().status == Some(429)
}

/// Whether a new iterator may be the cure.
pub(super) fn is_about_the_iterator(error: &AwsError) -> bool {
    matches!(error.code(), "ExpiredIteratorException" | "InvalidArgumentException")
}
