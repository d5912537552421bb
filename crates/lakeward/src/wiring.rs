//! The only place that knows which connectors there are.

use std::sync::Arc;

use lakeward_columnar::transform::{Transform, TransformError};
use lakeward_connectors::destinations::lake::{Lake, LakeConfig};
use lakeward_engine::{Connectors, Opened};
use serde::Deserialize;

use crate::config::{Config, DestinationConfig};

/// A destination as pipelines carry it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    /// From the configuration file.
    Configured(Box<DestinationConfig>),
    /// A bucket that a Firehose client named.
    Bucket(Bucket),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename = "bucket")]
struct Bucket {
    bucket: String,
}

/// What the Firehose API stores for a bucket: its name only, so that no
/// credential is ever written to the ledger.
pub(crate) fn bucket(name: &str) -> serde_json::Value {
    serde_json::json!({ "type": "bucket", "bucket": name })
}

/// The lake that a stored destination means.
pub(crate) fn lake_config(
    buckets: &LakeConfig,
    destination: &serde_json::Value,
) -> Result<LakeConfig, String> {
    match Stored::deserialize(destination) {
        Ok(Stored::Configured(configured)) => {
            let DestinationConfig::Lake(lake) = *configured;
            Ok(lake)
        }
        Ok(Stored::Bucket(Bucket { bucket })) => {
            if !is_bucket(&bucket) {
                return Err(format!("{bucket:?} is not the name of a bucket"));
            }
            let mut lake = buckets.clone();
            lake.url = lake.url.replace("{bucket}", &bucket);
            Ok(lake)
        }
        Err(error) => Err(format!("this release does not know the destination: {error}")),
    }
}

/// Bucket naming rules (Amazon S3 user guide, "General purpose bucket naming
/// rules"), with the older capitals and underscores; above all, a name that is
/// no way out of a folder.
fn is_bucket(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let ends = [name.bytes().next(), name.bytes().last()];
    (3..=255).contains(&name.len())
        && name.bytes().all(inner)
        && !name.contains("..")
        && ends.into_iter().flatten().all(|b| b.is_ascii_alphanumeric())
}

/// How the engine reaches what is outside.
pub(crate) fn connectors(config: &Config) -> Connectors {
    let buckets = config.firehose.buckets.clone();
    Connectors {
        destination: Arc::new(move |destination| {
            let config = lake_config(&buckets, destination)?;
            let lake = Lake::open(&config).map_err(|error| error.to_string())?;
            Ok(Opened { name: lake.to_string(), destination: Arc::new(lake) })
        }),
        sql: Arc::new(compile_sql),
    }
}

/// Compiles a pipeline's SQL.
pub(crate) fn compile_sql(sql: &str) -> Result<Arc<dyn Transform>, TransformError> {
    let _ = sql;
    Err(TransformError { message: String::from("SQL is not linked yet"), place: None })
}
