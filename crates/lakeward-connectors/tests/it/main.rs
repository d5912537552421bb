//! The connectors against real folders, servers and processes.

mod amplitude;
mod clickhouse;
mod functions;
mod glue;
mod kinesis;
mod livestream;
mod local;
mod objects;
mod postgres;
mod s3;

use lakeward_connectors::AwsAccess;
use lakeward_model::Secret;

/// A service at this address that knows one key.
fn aws_at(endpoint: &str) -> AwsAccess {
    AwsAccess {
        endpoint: Some(endpoint.into()),
        region: Some("eu-west-1".into()),
        access_key_id: Some("AKID".into()),
        secret_access_key: Some(Secret::new("hush")),
        ..AwsAccess::default()
    }
}
