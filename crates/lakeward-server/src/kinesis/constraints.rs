//! The constraints of the Kinesis API's inputs.

use std::sync::LazyLock;

use serde_json::Value;

use crate::aws::constraints::Model;
use crate::aws::fault::Fault;

static MODEL: LazyLock<Model> = LazyLock::new(|| Model::read(include_str!("../../model/kinesis.json")));

/// Checks an operation's input.
///
/// # Errors
/// See [`Model::check`].
pub(super) fn check(operation: &str, input: &Value) -> Result<(), Fault> {
    MODEL.check(operation, input)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words() {
        let check = |operation: &str, input: Value, expect: &str| {
            let got = super::check(operation, &input)
                .map_or_else(|f| format!("{}: {}", f.kind, f.message), |()| "ok".into());
            assert_eq!(got, expect, "{input}");
        };
        let put = |key: Value| json!({"StreamName": "s", "Data": "YQ==", "PartitionKey": key});
        check("PutRecord", put(json!("k".repeat(256))), "ok");
        check(
            "PutRecord",
            put(json!("k".repeat(257))),
            "ValidationException: 1 validation error detected: Value at 'partitionKey' failed to satisfy constraint: \
             Member must have length less than or equal to 256",
        );
        check(
            "PutRecord",
            put(Value::Null),
            "ValidationException: 1 validation error detected: Value at 'partitionKey' failed to satisfy constraint: \
             Member must not be null",
        );
        check(
            "PutRecords",
            json!({"StreamName": "s", "Records": [{"Data": "YQ==", "PartitionKey": ""}]}),
            "ValidationException: 1 validation error detected: Value at 'records.1.member.partitionKey' failed to \
             satisfy constraint: Member must have length greater than or equal to 1",
        );
        check(
            "GetShardIterator",
            json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "OLDEST"}),
            "ValidationException: 1 validation error detected: Value at 'shardIteratorType' failed to satisfy \
             constraint: Member must satisfy enum value set: [AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, \
             LATEST, AT_TIMESTAMP]",
        );
        check(
            "GetRecords",
            json!({"ShardIterator": "a", "Limit": 10_001}),
            "ValidationException: 1 validation error detected: Value at 'limit' failed to satisfy constraint: Member \
             must have value less than or equal to 10000",
        );
        check(
            "CreateChannel",
            json!({}),
            "UnknownOperationException: CreateChannel is not supported by Lakeward.",
        );
        check("Nothing", json!({}), "UnknownOperationException: ");
    }
}
