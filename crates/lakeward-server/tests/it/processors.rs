//! The Firehose API's processors and dynamic partitioning: accepted, mapped,
//! described, refused in AWS's words.

use lakeward_columnar::shape::{Processing, Split};
use serde_json::{Value, json};

use crate::harness::{Setup, start};
use crate::streams::{ROLE, describe, done, extended, refused};

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:transform";

/// A processor with its parameters in their order.
fn processor(kind: &str, parameters: &[(&str, &str)]) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|(name, value)| json!({"ParameterName": name, "ParameterValue": value}))
        .collect();
    json!({"Type": kind, "Parameters": parameters})
}

fn processing(processors: &[Value]) -> Value {
    json!({"Enabled": true, "Processors": processors})
}

fn lambda() -> Value {
    processor("Lambda", &[("LambdaArn", ARN)])
}

fn query(text: &str) -> Value {
    processor("MetadataExtraction", &[("MetadataExtractionQuery", text), ("JsonParsingEngine", "JQ-1.6")])
}

/// An extended destination with dynamic partitioning.
fn partitioned(prefix: &str, processors: &[Value], extra: Value) -> Value {
    let mut given = json!({
        "Prefix": prefix, "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
        "DynamicPartitioningConfiguration": {"Enabled": true}, "ProcessingConfiguration": processing(processors),
    });
    given.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    given
}

#[tokio::test]
async fn every_processor_becomes_the_pipelines() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let given = partitioned(
        "d/!{partitionKeyFromQuery:c}/!{partitionKeyFromLambda:y}/!{timestamp:yyyy}/",
        &[
            // The order in the request does not matter.
            processor("AppendDelimiterToRecord", &[("Delimiter", "\\n")]),
            query("{c: .customer}"),
            processor("RecordDeAggregation", &[("SubRecordType", "DELIMITED"), ("Delimiter", "IyM=")]),
            processor("Decompression", &[("CompressionFormat", "GZIP")]),
            processor(
                "Lambda",
                &[
                    ("BufferIntervalInSeconds", "90"),
                    ("NumberOfRetries", "5"),
                    ("LambdaArn", ARN),
                    ("BufferSizeInMBs", "0.5"),
                ],
            ),
        ],
        json!({}),
    );
    done(&server, "CreateDeliveryStream", extended("s", given.clone())).await;
    let spec = server.control.get("s").unwrap();
    assert_eq!(spec.shape.path, given["Prefix"].as_str().unwrap());
    assert_eq!((spec.batch.bytes, spec.batch.age.as_secs()), (128 << 20, 300));
    let found = spec.shape.processing;
    let lambda = found.lambda.clone().unwrap();
    assert_eq!(lambda.function, json!({"type": "lambda_arn", "arn": ARN}));
    assert_eq!(lambda.name, ARN);
    assert_eq!((lambda.bytes, lambda.retries, lambda.concurrency), (512 << 10, 5, 5));
    let expect = Processing {
        decompress: true,
        split: Some(Split::Delimiter("##".into())),
        lambda: found.lambda.clone(),
        partition_query: Some("{c: .customer}".into()),
        delimiter: Some("\n".into()),
    };
    assert_eq!(found, expect);

    let described = describe(&server, "s").await;
    let destination = &described["Destinations"][0];
    let extended_s3 = &destination["ExtendedS3DestinationDescription"];
    assert_eq!(
        extended_s3["DynamicPartitioningConfiguration"],
        json!({"Enabled": true, "RetryOptions": {"DurationInSeconds": 300}})
    );
    assert_eq!(extended_s3["BufferingHints"], json!({"SizeInMBs": 128, "IntervalInSeconds": 300}));
    let told = &extended_s3["ProcessingConfiguration"];
    assert_eq!(
        told["Processors"].as_array().unwrap()[..4],
        given["ProcessingConfiguration"]["Processors"].as_array().unwrap()[..4]
    );
    let parameters = [
        ("LambdaArn", ARN),
        ("NumberOfRetries", "5"),
        ("RoleArn", ROLE),
        ("BufferSizeInMBs", "0.5"),
        ("BufferIntervalInSeconds", "90"),
    ];
    assert_eq!(told["Processors"][4], processor("Lambda", &parameters));
    assert_eq!(destination["S3DestinationDescription"]["ProcessingConfiguration"], Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn a_lambda_has_defaults_and_an_update_replaces_the_processors() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    done(
        &server,
        "CreateDeliveryStream",
        extended("s", json!({"ProcessingConfiguration": processing(&[lambda()])})),
    )
    .await;
    let processors = async || {
        let described = describe(&server, "s").await;
        described["Destinations"][0]["ExtendedS3DestinationDescription"]["ProcessingConfiguration"].clone()
    };
    let defaults = [
        ("LambdaArn", ARN),
        ("NumberOfRetries", "3"),
        ("RoleArn", ROLE),
        ("BufferSizeInMBs", "1"),
        ("BufferIntervalInSeconds", "60"),
    ];
    assert_eq!(processors().await, processing(&[processor("Lambda", &defaults)]));
    let found = server.control.get("s").unwrap().shape.processing.lambda.unwrap();
    assert_eq!((found.bytes, found.retries), (1 << 20, 3));

    let update = |version: &str, processing: Value| {
        json!({
            "DeliveryStreamName": "s", "CurrentDeliveryStreamVersionId": version,
            "DestinationId": "destinationId-000000000001",
            "ExtendedS3DestinationUpdate": {"ProcessingConfiguration": processing},
        })
    };
    // Without Enabled it is kept and described, and does nothing.
    let append = processor("AppendDelimiterToRecord", &[]);
    done(&server, "UpdateDestination", update("1", json!({"Processors": [append]}))).await;
    assert_eq!(processors().await, json!({"Enabled": false, "Processors": [append]}));
    assert!(server.control.get("s").unwrap().shape.processing.is_nothing());
    done(&server, "UpdateDestination", update("2", processing(&[append]))).await;
    assert_eq!(server.control.get("s").unwrap().shape.processing.delimiter.as_deref(), Some("\n"));
    let json_records = processor("RecordDeAggregation", &[("SubRecordType", "JSON")]);
    done(&server, "UpdateDestination", update("3", processing(&[json_records]))).await;
    assert_eq!(server.control.get("s").unwrap().shape.processing.split, Some(Split::Json));
    // A legacy destination has no processors at AWS.
    let mut legacy = extended("legacy", json!({"ProcessingConfiguration": processing(&[lambda()])}));
    legacy["S3DestinationConfiguration"] = legacy["ExtendedS3DestinationConfiguration"].take();
    done(&server, "CreateDeliveryStream", legacy).await;
    assert!(server.control.get("legacy").unwrap().shape.processing.is_nothing());
    server.stop().await;
}

#[tokio::test]
async fn processors_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let with = |parameters: &[(&str, &str)]| processor("Lambda", parameters);
    let split = |parameters: &[(&str, &str)]| processor("RecordDeAggregation", parameters);
    let cases = [
        (vec![with(&[])], "LambdaArn is required when Lambda processor is used."),
        (vec![with(&[("LambdaArn", "arn:aws:s3:::x")])], "Invalid lambda ARN."),
        (
            vec![with(&[("LambdaArn", ARN), ("BufferSizeInMBs", "1")])],
            "Both BufferSizeInMBs and BufferIntervalInSeconds are required to configure buffering for lambda \
             processor.",
        ),
        // A repeated name counts before what is missing, as at AWS.
        (
            vec![with(&[("NumberOfRetries", "1"), ("NumberOfRetries", "2")])],
            "Duplicate ProcessorParameter passed to ProcessingConfiguration.",
        ),
        (vec![lambda(), lambda()], "Cannot have more than 1 Lambda processor."),
        (
            vec![with(&[("LambdaArn", ARN), ("BufferSizeInMBs", "4"), ("BufferIntervalInSeconds", "60")])],
            "BufferSizeInMBs must be between 0.2 and 3.",
        ),
        (
            vec![with(&[("LambdaArn", ARN), ("NumberOfRetries", "many")])],
            "NumberOfRetries many is not a valid number.",
        ),
        (
            vec![processor("Decompression", &[("CompressionFormat", "ZIP")])],
            "CompressionFormat has to be GZIP",
        ),
        (
            vec![processor("CloudWatchLogProcessing", &[("DataMessageExtraction", "true")])],
            "ProcessingConfiguration with a processor of type CloudWatchLogProcessing is not supported by \
             Lakeward yet.",
        ),
        (
            vec![processor("MetadataExtraction", &[("JsonParsingEngine", "JQ-1.6")])],
            "MetadataExtractionQuery is required when MetadataExtraction processor is used.",
        ),
        (vec![query("{a: }")], "MetadataExtractionQuery is invalid: expected term at character 5."),
        (
            vec![query("{a: (now | tostring)}")],
            "MetadataExtractionQuery is invalid: `now` cannot be used: a key must follow from the record, and \
             in finite time.",
        ),
        (vec![split(&[])], "SubRecordType has to be JSON or DELIMITED."),
        (
            vec![split(&[("SubRecordType", "DELIMITED")])],
            "Delimiter is required when SubRecordType is DELIMITED.",
        ),
        (
            vec![split(&[("SubRecordType", "DELIMITED"), ("Delimiter", "##")])],
            "Delimiter must be UTF-8 text, encoded as base64.",
        ),
    ];
    for (processors, message) in cases {
        let input = extended("s", json!({"ProcessingConfiguration": processing(&processors)}));
        refused(&server, "CreateDeliveryStream", input, "InvalidArgumentException", message).await;
    }
    let bad = json!({"Enabled": true, "Processors": [{"Type": "Magic", "Parameters": [{"ParameterName": "Nope"}]}]});
    refused(
        &server,
        "CreateDeliveryStream",
        extended("s", json!({"ProcessingConfiguration": bad})),
        "ValidationException",
        "3 validation errors detected: Value at \
         'extendedS3DestinationConfiguration.processingConfiguration.processors.1.member.parameters.1.member.parameterName' \
         failed to satisfy constraint: Member must satisfy enum value set: [LambdaArn, NumberOfRetries, \
         MetadataExtractionQuery, JsonParsingEngine, RoleArn, BufferSizeInMBs, BufferIntervalInSeconds, SubRecordType, \
         Delimiter, CompressionFormat, DataMessageExtraction]; Value at \
         'extendedS3DestinationConfiguration.processingConfiguration.processors.1.member.parameters.1.member.parameterValue' \
         failed to satisfy constraint: Member must not be null; Value at \
         'extendedS3DestinationConfiguration.processingConfiguration.processors.1.member.type' failed to satisfy \
         constraint: Member must satisfy enum value set: [RecordDeAggregation, Decompression, CloudWatchLogProcessing, \
         Lambda, MetadataExtraction, AppendDelimiterToRecord]",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn what_dynamic_partitioning_needs() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let check = async |given: Value, message: &str| {
        let input = extended("s", given);
        refused(&server, "CreateDeliveryStream", input, "InvalidArgumentException", message).await;
    };
    let by_query = "d/!{partitionKeyFromQuery:k}/";
    let by_lambda = "d/!{partitionKeyFromLambda:k}/";
    let keys = [query("{k: .k}")];
    let hints = |size: u64, interval: u64| json!({"BufferingHints": {"SizeInMBs": size, "IntervalInSeconds": interval}});
    check(
        partitioned(by_query, &keys, hints(63, 60)),
        "BufferingHints.SizeInMBs must be at least 64 when Dynamic Partitioning is enabled.",
    )
    .await;
    check(
        partitioned(by_query, &keys, hints(64, 59)),
        "BufferingHints.IntervalInSeconds must be at least 60 seconds when Dynamic Partitioning is enabled.",
    )
    .await;
    check(
        partitioned("d/!{timestamp:yyyy}/", &[lambda()], json!({})),
        "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled",
    )
    .await;
    let none = "Processing Configuration is not enabled when DataPartitioning is enabled";
    check(partitioned(by_query, &[], json!({})), none).await;
    let off = json!({"ProcessingConfiguration": {"Processors": keys}});
    check(partitioned(by_query, &[], off), none).await;
    check(
        partitioned(by_lambda, &keys, json!({})),
        "Lambda should be present when S3 Prefix contains keys from partitionKeyFromLambda namespace",
    )
    .await;
    check(
        partitioned(by_query, &[lambda()], json!({})),
        "MetadataExtraction processor should be present when S3 Prefix has partitionKeyFromQuery namespace",
    )
    .await;
    let unasked = json!({"DynamicPartitioningConfiguration": {"RetryOptions": {"DurationInSeconds": 1}}});
    check(
        partitioned(by_query, &keys, unasked),
        "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is enabled.",
    )
    .await;
    let no_errors = json!({"ErrorOutputPrefix": null});
    check(
        partitioned(by_query, &keys, no_errors),
        "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions.",
    )
    .await;
    let in_errors =
        json!({"ErrorOutputPrefix": "e/!{firehose:error-output-type}/!{partitionKeyFromQuery:k}/"});
    check(
        partitioned(by_query, &keys, in_errors),
        "ErrorOutputPrefix is invalid: `!{partitionKeyFromQuery:…}` cannot be used in an error prefix.",
    )
    .await;

    done(&server, "CreateDeliveryStream", extended("s", partitioned(by_query, &keys, hints(64, 60)))).await;
    let disable = json!({
        "DeliveryStreamName": "s", "CurrentDeliveryStreamVersionId": "1",
        "DestinationId": "destinationId-000000000001",
        "ExtendedS3DestinationUpdate": {"DynamicPartitioningConfiguration": {"Enabled": false}, "Prefix": "d/"},
    });
    refused(
        &server,
        "UpdateDestination",
        disable,
        "InvalidArgumentException",
        "Dynamic Partitioning can be enabled only when a delivery stream is created, and cannot be disabled.",
    )
    .await;
    server.stop().await;
}

/// What a public Terraform module asks for: LocalStack took it, AWS does not.
#[tokio::test]
async fn a_lenient_server_takes_what_other_emulators_take() {
    let given = || {
        partitioned(
            "event-streams/data/",
            &[lambda()],
            json!({
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 30},
                "DataFormatConversionConfiguration": {
                    "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "d", "TableName": "t"},
                    "InputFormatConfiguration": {"Deserializer": {"HiveJsonSerDe": {}}},
                    "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
                },
            }),
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { config: json!({"firehose_strict": false}), ..Setup::default() };
    let server = start(dir.path(), setup).await;
    done(&server, "CreateDeliveryStream", extended("s", given())).await;
    let spec = server.control.get("s").unwrap();
    assert_eq!((spec.batch.bytes, spec.batch.age.as_secs()), (5 << 20, 30));
    assert_eq!(spec.shape.processing.lambda.unwrap().name, ARN);
    // What cannot work is refused here too.
    let mut keyed = given();
    keyed["Prefix"] = json!("d/!{partitionKeyFromQuery:k}/");
    refused(
        &server,
        "CreateDeliveryStream",
        extended("t", keyed),
        "InvalidArgumentException",
        "MetadataExtraction processor should be present when S3 Prefix has partitionKeyFromQuery namespace",
    )
    .await;
    server.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    refused(
        &server,
        "CreateDeliveryStream",
        extended("s", given()),
        "InvalidArgumentException",
        "BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled.",
    )
    .await;
    server.stop().await;
}
