//! What is kept of a delivery stream beside its pipeline, and how the stream is
//! described.

use std::collections::BTreeMap;

use lakeward_engine::PipelineSpec;
use lakeward_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::destination;
use crate::kinesis::Arn;

/// The one destination that a stream has.
pub(super) const DESTINATION_ID: &str = "destinationId-000000000001";

/// The members of S3DestinationDescription; the extended one has more.
pub(super) const LEGACY_MEMBERS: [&str; 8] = [
    "RoleARN",
    "BucketARN",
    "Prefix",
    "ErrorOutputPrefix",
    "BufferingHints",
    "CompressionFormat",
    "EncryptionConfiguration",
    "CloudWatchLoggingOptions",
];

/// Kept in [`PipelineSpec::owner`], stored with the pipeline in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    /// VersionId, +1 per UpdateDestination.
    pub(super) version: u64,
    pub(super) created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) updated: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) throughput_hint: Option<Value>,
    /// The Kinesis stream that it delivers; records cannot be put into it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<KinesisSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) encryption: Option<Encryption>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, Option<String>>,
    /// The ExtendedS3DestinationConfiguration, completed.
    pub(super) destination: Map<String, Value>,
}

/// KinesisStreamSourceConfiguration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KinesisSource {
    pub(super) stream_arn: String,
    pub(super) role_arn: String,
}

impl KinesisSource {
    /// The name of the stream.
    pub(super) fn stream(&self) -> Option<&str> {
        Arn::parse(&self.stream_arn).map(|arn| arn.stream)
    }
}

/// Server-side encryption, which is kept and described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Encryption {
    pub(super) enabled: bool,
    pub(super) key_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_arn: Option<String>,
}

/// The owner's document is tagged, so that another front door's is not taken
/// for ours.
#[derive(Serialize, Deserialize)]
struct Owner {
    firehose: Document,
}

impl Document {
    /// The document of a pipeline that the Firehose API made.
    pub(super) fn of(spec: &PipelineSpec) -> Option<Self> {
        let owner = spec.owner.as_ref()?;
        Owner::deserialize(owner).ok().map(|o| o.firehose)
    }

    pub(super) fn into_owner(self) -> Value {
        serde_json::to_value(Owner { firehose: self }).expect("a document is JSON")
    }

    /// DeliveryStreamType.
    pub(super) fn kind(&self) -> &'static str {
        if self.source.is_some() { "KinesisStreamAsSource" } else { "DirectPut" }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.encryption.as_ref().is_some_and(|e| e.enabled)
    }

    /// A document for a pipeline that the configuration made, so that it can be
    /// described like the others.
    pub(super) fn synthesised(spec: &PipelineSpec, account: &str) -> Self {
        let url = spec.destination["url"].as_str().unwrap_or_default();
        let bucket =
            url.strip_prefix("s3://").and_then(|rest| rest.split('/').next()).filter(|b| !b.is_empty());
        let given = json!({
            "RoleARN": format!("arn:aws:iam::{account}:role/lakeward"),
            "BucketARN": format!("arn:aws:s3:::{}", bucket.unwrap_or("lake")),
            "Prefix": spec.shape.path,
            "BufferingHints": {
                "SizeInMBs": (spec.batch.bytes >> 20).clamp(1, 128),
                "IntervalInSeconds": spec.batch.age.as_secs().min(900),
            },
        });
        let given = given.as_object().cloned().unwrap_or_default();
        Self {
            version: 1,
            created: Timestamp(0),
            updated: None,
            throughput_hint: None,
            source: None,
            encryption: None,
            tags: BTreeMap::new(),
            destination: destination::complete(given),
        }
    }

    /// DeliveryStreamDescription.
    pub(super) fn describe(&self, name: &str, arn: &str, after: Option<&str>) -> Value {
        let mut description = json!({
            "DeliveryStreamName": name,
            "DeliveryStreamARN": arn,
            "DeliveryStreamStatus": "ACTIVE",
            "DeliveryStreamEncryptionConfiguration": self.describe_encryption(),
            "DeliveryStreamType": self.kind(),
            "VersionId": self.version.to_string(),
            "CreateTimestamp": seconds(self.created),
            "Destinations": [],
            "HasMoreDestinations": false,
        });
        if let Some(updated) = self.updated {
            description["LastUpdateTimestamp"] = seconds(updated);
        }
        if let Some(hint) = &self.throughput_hint {
            description["Source"] = json!({"DirectPutSourceDescription": hint});
        }
        if let Some(KinesisSource { stream_arn, role_arn }) = &self.source {
            description["Source"] = json!({"KinesisStreamSourceDescription": {
                "KinesisStreamARN": stream_arn,
                "RoleARN": role_arn,
                "DeliveryStartTimestamp": seconds(self.created),
            }});
        }
        if after.is_none_or(|after| after < DESTINATION_ID) {
            description["Destinations"] = json!([self.describe_destination()]);
        }
        json!({"DeliveryStreamDescription": description})
    }

    fn describe_destination(&self) -> Value {
        let mut extended = self.destination.clone();
        if let Some(backup) = extended.remove("S3BackupConfiguration") {
            extended.insert(String::from("S3BackupDescription"), backup);
        }
        let legacy: Map<String, Value> = LEGACY_MEMBERS
            .iter()
            .filter_map(|m| extended.get(*m).map(|v| ((*m).to_owned(), v.clone())))
            .collect();
        json!({
            "DestinationId": DESTINATION_ID,
            "S3DestinationDescription": legacy,
            "ExtendedS3DestinationDescription": extended,
        })
    }

    fn describe_encryption(&self) -> Value {
        match &self.encryption {
            Some(Encryption { enabled: true, key_type, key_arn }) => {
                let mut described = json!({"Status": "ENABLED", "KeyType": key_type});
                if let Some(arn) = key_arn {
                    described["KeyARN"] = json!(arn);
                }
                described
            }
            _ => json!({"Status": "DISABLED"}),
        }
    }
}

/// Fractional seconds since the epoch, to the millisecond.
fn seconds(at: Timestamp) -> Value {
    json!(at.millis() as f64 / 1_000.0)
}
