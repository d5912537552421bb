//! The Firehose API's streams: made, described, changed, kept over a restart.

use serde_json::{Value, json};

use crate::harness::{Server, Setup, call, start};

pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/firehose";

pub(crate) fn extended(name: &str, extra: Value) -> Value {
    let mut s3 = json!({"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::my-bucket"});
    s3.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"DeliveryStreamName": name, "ExtendedS3DestinationConfiguration": s3})
}

pub(crate) async fn describe(server: &Server, name: &str) -> Value {
    let reply = call(server.addr, "DescribeDeliveryStream", &json!({"DeliveryStreamName": name})).await;
    reply.json()["DeliveryStreamDescription"].clone()
}

/// Expects a refusal.
pub(crate) async fn refused(server: &Server, operation: &str, input: Value, kind: &str, message: &str) {
    let reply = call(server.addr, operation, &input).await;
    assert_eq!(reply.json(), json!({"__type": kind, "message": message}), "{operation} {input}");
    assert_eq!(reply.status, 400);
}

pub(crate) async fn done(server: &Server, operation: &str, input: Value) -> Value {
    let reply = call(server.addr, operation, &input).await;
    assert_eq!(reply.status, 200, "{operation} {input}: {:?}", reply.json());
    reply.json()
}

#[tokio::test]
async fn a_stream_is_a_pipeline_and_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let mut input = extended(
        "orders",
        json!({
            "Prefix": "in/!{timestamp:yyyy}/", "ErrorOutputPrefix": "bad/!{firehose:error-output-type}/",
            "BufferingHints": {"SizeInMBs": 3, "IntervalInSeconds": 60}, "CompressionFormat": "GZIP",
            "CustomTimeZone": "Europe/Berlin", "FileExtension": ".ndjson.gz",
        }),
    );
    input["Tags"] = json!([{"Key": "team", "Value": "data"}]);
    let created = done(&server, "CreateDeliveryStream", input.clone()).await;
    let arn = "arn:aws:firehose:us-east-1:000000000000:deliverystream/orders";
    assert_eq!(created, json!({"DeliveryStreamARN": arn}));
    refused(
        &server,
        "CreateDeliveryStream",
        input,
        "ResourceInUseException",
        "Firehose orders under accountId 000000000000 already exists",
    )
    .await;

    let spec = server.control.get("orders").unwrap();
    assert_eq!(spec.shape.path, "in/!{timestamp:yyyy}/");
    assert_eq!(spec.shape.error_path.as_deref(), Some("bad/!{firehose:error-output-type}/"));
    assert_eq!(spec.shape.time_zone, "Europe/Berlin");
    assert_eq!((spec.batch.bytes, spec.batch.age.as_secs()), (3 << 20, 60));
    assert_eq!(spec.destination, json!({"type": "lake", "url": "s3://my-bucket/"}));
    let shape = serde_json::to_value(&spec.shape).unwrap();
    assert_eq!(
        (&shape["output"]["format"], &shape["output"]["compression"], &shape["output"]["newline"]),
        (&json!("verbatim"), &json!("gzip"), &json!("as_is"))
    );
    assert_eq!(
        shape["naming"],
        json!({"style": "firehose", "stream": "orders", "version": 1, "extension": ".ndjson.gz"})
    );

    let mut before = describe(&server, "orders").await;
    server.stop().await;
    let server = start(dir.path(), Setup::default()).await;
    let after = describe(&server, "orders").await;
    assert_eq!(after, before);
    let created = before["CreateTimestamp"].take();
    assert!(created.as_f64().is_some_and(|t| t > 1.7e9), "{created}");
    let legacy = json!({
        "RoleARN": ROLE, "BucketARN": "arn:aws:s3:::my-bucket",
        "Prefix": "in/!{timestamp:yyyy}/", "ErrorOutputPrefix": "bad/!{firehose:error-output-type}/",
        "BufferingHints": {"SizeInMBs": 3, "IntervalInSeconds": 60}, "CompressionFormat": "GZIP",
        "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": false},
    });
    let mut extended = legacy.clone();
    extended.as_object_mut().unwrap().extend(
        json!({
            "ProcessingConfiguration": {"Enabled": false, "Processors": []}, "S3BackupMode": "Disabled",
            "CustomTimeZone": "Europe/Berlin", "FileExtension": ".ndjson.gz",
        })
        .as_object()
        .unwrap()
        .clone(),
    );
    let expect = json!({
        "DeliveryStreamName": "orders", "DeliveryStreamARN": arn, "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"}, "DeliveryStreamType": "DirectPut",
        "VersionId": "1", "CreateTimestamp": null, "HasMoreDestinations": false,
        "Destinations": [{
            "DestinationId": "destinationId-000000000001",
            "S3DestinationDescription": legacy, "ExtendedS3DestinationDescription": extended,
        }],
    });
    assert_eq!(before, expect);
    assert_eq!(
        done(&server, "PutRecord", json!({"DeliveryStreamName": "orders", "Record": {"Data": "e30="}})).await
            ["Encrypted"],
        json!(false)
    );
    assert_eq!(
        done(&server, "DeleteDeliveryStream", json!({"DeliveryStreamName": "orders"})).await,
        json!({})
    );
    let gone = "Firehose orders under account 000000000000 not found.";
    for operation in ["DescribeDeliveryStream", "DeleteDeliveryStream", "ListTagsForDeliveryStream"] {
        refused(
            &server,
            operation,
            json!({"DeliveryStreamName": "orders"}),
            "ResourceNotFoundException",
            gone,
        )
        .await;
    }
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_created() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let check = async |input: Value, message: &str| {
        refused(&server, "CreateDeliveryStream", input, "InvalidArgumentException", message).await;
    };
    let one = "Exactly one destination configuration is supported for a Firehose";
    check(json!({"DeliveryStreamName": "s"}), one).await;
    let mut two = extended("s", json!({}));
    two["S3DestinationConfiguration"] = two["ExtendedS3DestinationConfiguration"].clone();
    check(two, one).await;
    check(
        json!({"DeliveryStreamName": "s", "SplunkDestinationConfiguration": {"HECEndpoint": "x"}}),
        "SplunkDestinationConfiguration is not supported by Lakeward yet.",
    )
    .await;
    let mut msk = extended("s", json!({}));
    msk["DeliveryStreamType"] = json!("MSKAsSource");
    check(msk, "DeliveryStreamType MSKAsSource is not supported by Lakeward yet.").await;
    let kinesis = |kind: &str, arn: Option<&str>| {
        let mut input = extended("s", json!({}));
        input["DeliveryStreamType"] = json!(kind);
        if let Some(arn) = arn {
            input["KinesisStreamSourceConfiguration"] = json!({"KinesisStreamARN": arn, "RoleARN": ROLE});
        }
        input
    };
    let arn = |name| format!("arn:aws:kinesis:us-east-1:000000000000:stream/{name}");
    check(
        kinesis("KinesisStreamAsSource", None),
        "KinesisStreamSourceConfiguration is required for KinesisStreamAsSource delivery stream type.",
    )
    .await;
    check(
        kinesis("DirectPut", Some(&arn("events"))),
        "KinesisStreamSourceConfiguration is not allowed for DirectPut delivery stream type.",
    )
    .await;
    check(kinesis("KinesisStreamAsSource", Some(&arn("none"))), "Kinesis stream none not found.").await;
    let foreign = "arn:aws:kinesis:us-east-1:999999999999:stream/events";
    let message = "Kinesis stream events under account 999999999999 not found.";
    check(kinesis("KinesisStreamAsSource", Some(foreign)), message).await;
    let check = async |extra: Value, message: &str| check(extended("s", extra), message).await;
    check(
        json!({"BufferingHints": {"SizeInMBs": 5}}),
        "Both SizeInMBs and IntervalInSeconds are required to configure BufferingHints.",
    )
    .await;
    check(json!({"S3BackupMode": "Enabled"}), "S3BackupMode Enabled is not supported by Lakeward yet.").await;
    check(
        json!({"Prefix": "a/!{partitionKeyFromQuery:k}/"}),
        "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is enabled.",
    )
    .await;
    check(
        json!({"Prefix": "a/!{timestamp:yyyy}/"}),
        "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions.",
    )
    .await;
    check(
        json!({"ErrorOutputPrefix": "e/!{timestamp:yyyy}/"}),
        "ErrorOutputPrefix must contain !{firehose:error-output-type} when it contains expressions.",
    )
    .await;
    check(json!({"CustomTimeZone": "Mars/Olympus"}), "CustomTimeZone Mars/Olympus is not a valid time zone.")
        .await;
    let conversion = |serializer: Value| {
        json!({
            "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "d", "TableName": "t"},
            "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
            "OutputFormatConfiguration": {"Serializer": serializer},
        })
    };
    let parquet = conversion(json!({"ParquetSerDe": {}}));
    check(
        json!({"DataFormatConversionConfiguration": parquet, "CompressionFormat": "GZIP"}),
        "CompressionFormat must be UNCOMPRESSED when data format conversion is enabled.",
    )
    .await;
    check(
        json!({"DataFormatConversionConfiguration": parquet, "BufferingHints": {"SizeInMBs": 63, "IntervalInSeconds": 60}}),
        "BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled.",
    )
    .await;
    check(
        json!({"DataFormatConversionConfiguration": {"Enabled": true}}),
        "InputFormatConfiguration is required when data format conversion is enabled.",
    )
    .await;
    check(
        json!({"DataFormatConversionConfiguration": conversion(json!({"OrcSerDe": {}}))}),
        "OrcSerDe is not supported by Lakeward yet.",
    )
    .await;
    refused(
        &server,
        "CreateDeliveryStream",
        extended("s", json!({"CompressionFormat": "LZ4"})),
        "ValidationException",
        "1 validation error detected: Value at 'extendedS3DestinationConfiguration.compressionFormat' failed to \
         satisfy constraint: Member must satisfy enum value set: [ZIP, HADOOP_SNAPPY, Snappy, GZIP, UNCOMPRESSED]",
    )
    .await;
    assert_eq!(server.control.list().len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn parquet_conversion_and_its_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let conversion = json!({
        "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "d", "TableName": "t"},
        "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
        "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {"Compression": "GZIP"}}},
    });
    done(
        &server,
        "CreateDeliveryStream",
        extended("p", json!({"DataFormatConversionConfiguration": conversion})),
    )
    .await;
    let spec = server.control.get("p").unwrap();
    let shape = serde_json::to_value(&spec.shape).unwrap();
    assert_eq!(
        (&shape["output"]["format"], &shape["output"]["compression"]),
        (&json!("parquet"), &json!("gzip"))
    );
    assert_eq!((spec.batch.bytes, spec.batch.age.as_secs()), (128 << 20, 300));
    let described = describe(&server, "p").await;
    let destination = &described["Destinations"][0]["ExtendedS3DestinationDescription"];
    assert_eq!(destination["BufferingHints"], json!({"SizeInMBs": 128, "IntervalInSeconds": 300}));
    assert_eq!(destination["DataFormatConversionConfiguration"]["Enabled"], json!(true));

    let update = json!({
        "DeliveryStreamName": "p", "CurrentDeliveryStreamVersionId": "1",
        "DestinationId": "destinationId-000000000001",
        "ExtendedS3DestinationUpdate": {"DataFormatConversionConfiguration": {"Enabled": false}, "CompressionFormat": "ZIP"},
    });
    done(&server, "UpdateDestination", update.clone()).await;
    let described = describe(&server, "p").await;
    assert_eq!(described["VersionId"], json!("2"));
    assert!(described["LastUpdateTimestamp"].is_f64());
    let destination = &described["Destinations"][0]["ExtendedS3DestinationDescription"];
    assert_eq!(
        destination["DataFormatConversionConfiguration"]["SchemaConfiguration"]["TableName"],
        json!("t")
    );
    let shape = serde_json::to_value(&server.control.get("p").unwrap().shape).unwrap();
    assert_eq!(
        (&shape["output"]["format"], &shape["output"]["compression"]),
        (&json!("verbatim"), &json!("zip"))
    );
    assert_eq!(shape["naming"]["version"], json!(2));
    refused(
        &server,
        "UpdateDestination",
        update.clone(),
        "ConcurrentModificationException",
        "Cannot update firehose: p since the current version id: 2 and specified version id: 1 do not match",
    )
    .await;
    let mut elsewhere = update;
    elsewhere["CurrentDeliveryStreamVersionId"] = json!("2");
    elsewhere["DestinationId"] = json!("other");
    refused(
        &server,
        "UpdateDestination",
        elsewhere,
        "InvalidArgumentException",
        "Destination Id other not found",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_kinesis_stream_is_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/events";
    let before = json!({"DeliveryStreamName": "events", "Record": {"Data": "e30="}});
    done(&server, "PutRecord", before).await;
    let mut input = extended("to-lake", json!({}));
    input["DeliveryStreamType"] = json!("KinesisStreamAsSource");
    input["KinesisStreamSourceConfiguration"] = json!({"KinesisStreamARN": arn, "RoleARN": ROLE});
    done(&server, "CreateDeliveryStream", input).await;
    assert_eq!(server.control.get("to-lake").unwrap().stream.as_str(), "events");
    // What came before is another's: a delivery stream that is made anew delivers nothing twice.
    let status = server.control.status().into_iter().find(|status| status.pipeline == "to-lake").unwrap();
    assert_eq!((status.received, status.pending), (0, 0));

    let described = describe(&server, "to-lake").await;
    assert_eq!(described["DeliveryStreamType"], "KinesisStreamAsSource");
    let source = &described["Source"]["KinesisStreamSourceDescription"];
    assert_eq!((&source["KinesisStreamARN"], &source["RoleARN"]), (&json!(arn), &json!(ROLE)));
    let listed =
        done(&server, "ListDeliveryStreams", json!({"DeliveryStreamType": "KinesisStreamAsSource"})).await;
    assert_eq!(listed["DeliveryStreamNames"], json!(["to-lake"]));

    let refusal = "This operation is not permitted on KinesisStreamAsSource delivery stream type.";
    let record = json!({"DeliveryStreamName": "to-lake", "Record": {"Data": "e30="}});
    refused(&server, "PutRecord", record.clone(), "InvalidArgumentException", refusal).await;
    server.stop().await;
    let server = start(dir.path(), Setup::default()).await;
    refused(&server, "PutRecord", record, "InvalidArgumentException", refusal).await;

    // The stream was there before, and stays.
    done(&server, "DeleteDeliveryStream", json!({"DeliveryStreamName": "to-lake"})).await;
    done(&server, "PutRecord", json!({"DeliveryStreamName": "events", "Record": {"Data": "e30="}})).await;
    server.stop().await;
}

#[tokio::test]
async fn lists_tags_and_encryption() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    for name in ["a1", "a2", "z"] {
        done(&server, "CreateDeliveryStream", extended(name, json!({}))).await;
    }
    let list = async |input: Value| done(&server, "ListDeliveryStreams", input).await;
    let names =
        |names: &[&str], more: bool| json!({"DeliveryStreamNames": names, "HasMoreDeliveryStreams": more});
    assert_eq!(list(json!({})).await, names(&["a1", "a2", "events", "other", "z"], false));
    assert_eq!(list(json!({"Limit": 2})).await, names(&["a1", "a2"], true));
    let rest = json!({"Limit": 9, "ExclusiveStartDeliveryStreamName": "a2"});
    assert_eq!(list(rest).await, names(&["events", "other", "z"], false));
    assert_eq!(list(json!({"DeliveryStreamType": "MSKAsSource"})).await, names(&[], false));

    let stream = |extra: Value| {
        let mut input = json!({"DeliveryStreamName": "z"});
        input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        input
    };
    let tags: Vec<_> = (0..50).map(|i| json!({"Key": format!("k{i:02}"), "Value": "v"})).collect();
    done(&server, "TagDeliveryStream", stream(json!({"Tags": tags}))).await;
    done(&server, "TagDeliveryStream", stream(json!({"Tags": [{"Key": "k00"}]}))).await;
    refused(
        &server,
        "TagDeliveryStream",
        stream(json!({"Tags": [{"Key": "one-more"}]})),
        "LimitExceededException",
        "A Firehose may have at most 50 tags.",
    )
    .await;
    done(&server, "UntagDeliveryStream", stream(json!({"TagKeys": ["k01", "none"]}))).await;
    let page = done(&server, "ListTagsForDeliveryStream", stream(json!({"Limit": 2}))).await;
    assert_eq!(page, json!({"Tags": [{"Key": "k00"}, {"Key": "k02", "Value": "v"}], "HasMoreTags": true}));
    let last =
        done(&server, "ListTagsForDeliveryStream", stream(json!({"ExclusiveStartTagKey": "k48"}))).await;
    assert_eq!(last, json!({"Tags": [{"Key": "k49", "Value": "v"}], "HasMoreTags": false}));

    let encrypted = async || {
        let put = json!({"DeliveryStreamName": "z", "Record": {"Data": "e30="}});
        let encryption = describe(&server, "z").await["DeliveryStreamEncryptionConfiguration"].clone();
        (done(&server, "PutRecord", put).await["Encrypted"].clone(), encryption)
    };
    assert_eq!(encrypted().await, (json!(false), json!({"Status": "DISABLED"})));
    done(&server, "StartDeliveryStreamEncryption", stream(json!({}))).await;
    assert_eq!(encrypted().await, (json!(true), json!({"Status": "ENABLED", "KeyType": "AWS_OWNED_CMK"})));
    done(&server, "StopDeliveryStreamEncryption", stream(json!({}))).await;
    assert_eq!(encrypted().await, (json!(false), json!({"Status": "DISABLED"})));
    let keyless = json!({"DeliveryStreamEncryptionConfigurationInput": {"KeyType": "CUSTOMER_MANAGED_CMK"}});
    refused(
        &server,
        "StartDeliveryStreamEncryption",
        stream(keyless),
        "InvalidArgumentException",
        "KeyARN is required when KeyType is CUSTOMER_MANAGED_CMK.",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn configured_pipelines_are_described_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Setup::default()).await;
    let described = describe(&server, "events").await;
    assert_eq!(described["DeliveryStreamStatus"], json!("ACTIVE"));
    assert_eq!(
        described["Destinations"][0]["ExtendedS3DestinationDescription"]["BucketARN"],
        json!("arn:aws:s3:::configured-bucket")
    );
    let message = "Firehose events was not created through this API: change it in Lakeward's configuration.";
    let tags = json!({"DeliveryStreamName": "events", "Tags": [{"Key": "k"}]});
    refused(&server, "TagDeliveryStream", tags, "ResourceInUseException", message).await;
    let delete = json!({"DeliveryStreamName": "events"});
    refused(&server, "DeleteDeliveryStream", delete, "ResourceInUseException", message).await;
    server.stop().await;
}
