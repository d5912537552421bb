//! The constraints of the Firehose API's inputs.

use std::sync::LazyLock;

use serde_json::Value;

use super::fault::Fault;
use crate::aws::constraints::Model;

static MODEL: LazyLock<Model> = LazyLock::new(|| Model::read(include_str!("../../model/firehose.json")));

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

    fn check(operation: &str, input: Value, expect: &str) {
        let got = super::check(operation, &input)
            .map_or_else(|f| format!("{}: {}", f.kind, f.message), |()| "ok".into());
        assert_eq!(got, expect, "{input}");
    }

    #[test]
    fn puts() {
        let one = |name: &str, data: Value| json!({"DeliveryStreamName": name, "Record": {"Data": data}});
        check("PutRecord", one("s", json!("YQ==")), "ok");
        check(
            "PutRecord",
            json!({"DeliveryStreamName": "s", "Record": {"Data": "YQ=="}, "Other": [1]}),
            "ok",
        );
        check(
            "PutRecord",
            json!({"DeliveryStreamName": "s!", "Record": {}}),
            "ValidationException: 2 validation errors detected: Value at 'deliveryStreamName' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value at 'record.data' \
             failed to satisfy constraint: Member must not be null",
        );
        check(
            "PutRecord",
            one(&"s".repeat(65), json!("")),
            "ValidationException: 1 validation error detected: Value at 'deliveryStreamName' failed to satisfy \
             constraint: Member must have length less than or equal to 64",
        );
        check("PutRecord", one("s", json!("?")), "SerializationException: record.data is not valid base64");
        check(
            "PutRecord",
            one("s", json!(7)),
            "SerializationException: NUMBER_VALUE can not be converted to Blob at 'record.data'",
        );
        check(
            "PutRecordBatch",
            json!({"DeliveryStreamName": "s", "Records": []}),
            "ValidationException: 1 validation error detected: Value at 'records' failed to satisfy constraint: \
             Member must have length greater than or equal to 1",
        );
        check("PutRecordBatch", json!([]), "SerializationException: Start of list found where not expected");
    }

    #[test]
    fn streams() {
        let s3 = |extra: Value| {
            let mut s3 =
                json!({"RoleARN": "arn:aws:iam::123456789012:role/r", "BucketARN": "arn:aws:s3:::b"});
            s3.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!({"DeliveryStreamName": "s", "ExtendedS3DestinationConfiguration": s3})
        };
        check("CreateDeliveryStream", s3(json!({})), "ok");
        check("CreateDeliveryStream", s3(json!({"CustomTimeZone": "", "FileExtension": ".json.gz"})), "ok");
        check(
            "CreateDeliveryStream",
            s3(json!({"CompressionFormat": "LZ4"})),
            "ValidationException: 1 validation error detected: Value at \
             'extendedS3DestinationConfiguration.compressionFormat' failed to satisfy constraint: Member must \
             satisfy enum value set: [ZIP, HADOOP_SNAPPY, Snappy, GZIP, UNCOMPRESSED]",
        );
        check(
            "CreateDeliveryStream",
            s3(json!({"BufferingHints": {"SizeInMBs": 129, "IntervalInSeconds": -1}})),
            "ValidationException: 2 validation errors detected: Value at \
             'extendedS3DestinationConfiguration.bufferingHints.intervalInSeconds' failed to satisfy constraint: \
             Member must have value greater than or equal to 0; Value at \
             'extendedS3DestinationConfiguration.bufferingHints.sizeInMBs' failed to satisfy constraint: Member \
             must have value less than or equal to 128",
        );
        check(
            "CreateDeliveryStream",
            s3(json!({"FileExtension": "json"})),
            "ValidationException: 1 validation error detected: Value at \
             'extendedS3DestinationConfiguration.fileExtension' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: ^$|\\.[0-9a-z!\\-_.*'()]+",
        );
        check(
            "TagDeliveryStream",
            json!({"DeliveryStreamName": "s", "Tags": [{"Key": "aws:x"}, {"Key": "Größe", "Value": ""}]}),
            "ValidationException: 1 validation error detected: Value at 'tags.1.member.key' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: \
             ^(?!aws:)[\\p{L}\\p{Z}\\p{N}_.:\\/=+\\-@%]*$",
        );
        check("Nothing", json!({}), "UnknownOperationException: ");
    }
}
