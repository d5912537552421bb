//! An S3 destination as the API describes it, and the pipeline that it means.
//!
//! The configuration is kept as the JSON that was given, completed with AWS's
//! defaults; [`S3`] is the part of it that decides what the pipeline does.
//! What Lakeward cannot do yet is refused by name, never ignored.

use std::time::Duration;

use lakeward_columnar::path::{self, Kind, Template, TemplateError};
use lakeward_columnar::shape::{
    FileCompression, Naming, Newline, Output, ParquetCompression, ParquetOptions, Shape,
};
use lakeward_engine::BatchLimits;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::partitioning::{self, Partitioning, Rules};
use super::processors::{self, Processors};

const BUFFER_MEBIBYTES: u64 = 5;
const BUFFER_MEBIBYTES_CONVERSION: u64 = 128;
const BUFFER_MEBIBYTES_CONVERSION_MIN: u64 = 64;
const BUFFER_SECONDS: u64 = 300;

/// The members that decide something.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct S3 {
    #[serde(rename = "BucketARN")]
    bucket_arn: String,
    prefix: Option<String>,
    error_output_prefix: Option<String>,
    buffering_hints: Option<Hints>,
    compression_format: Option<String>,
    processing_configuration: Option<Processors>,
    s3_backup_mode: Option<String>,
    data_format_conversion_configuration: Option<Conversion>,
    dynamic_partitioning_configuration: Option<Partitioning>,
    file_extension: Option<String>,
    custom_time_zone: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Hints {
    #[serde(rename = "SizeInMBs")]
    mebibytes: Option<u64>,
    #[serde(rename = "IntervalInSeconds")]
    seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Conversion {
    enabled: Option<bool>,
    schema_configuration: Option<Value>,
    input_format_configuration: Option<Value>,
    output_format_configuration: Option<Value>,
}

impl Conversion {
    /// Left out means on.
    fn is_on(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// Adds AWS's defaults to a configuration, as it is then described.
pub(super) fn complete(mut config: Map<String, Value>) -> Map<String, Value> {
    config.retain(|_, value| !value.is_null());
    let converts = config
        .get("DataFormatConversionConfiguration")
        .is_some_and(|c| c.get("Enabled").and_then(Value::as_bool).unwrap_or(true));
    let mebibytes = match (partitions(&config), converts) {
        (true, _) => partitioning::BUFFER_MEBIBYTES,
        (false, true) => BUFFER_MEBIBYTES_CONVERSION,
        (false, false) => BUFFER_MEBIBYTES,
    };
    let defaults = [
        ("BufferingHints", json!({"SizeInMBs": mebibytes, "IntervalInSeconds": BUFFER_SECONDS})),
        ("CompressionFormat", json!("UNCOMPRESSED")),
        ("EncryptionConfiguration", json!({"NoEncryptionConfig": "NoEncryption"})),
        ("CloudWatchLoggingOptions", json!({"Enabled": false})),
        ("ProcessingConfiguration", json!({"Enabled": false, "Processors": []})),
        ("S3BackupMode", json!("Disabled")),
    ];
    for (member, default) in defaults {
        config.entry(member).or_insert(default);
    }
    let role = config.get("RoleARN").cloned();
    if let Some(processing) = config.get_mut("ProcessingConfiguration") {
        processors::complete(processing, role.as_ref());
        if let Value::Object(processing) = processing {
            processing.entry("Enabled").or_insert(json!(false));
        }
    }
    if let Some(Value::Object(dynamic)) = config.get_mut("DynamicPartitioningConfiguration") {
        dynamic.retain(|_, value| !value.is_null());
        if *dynamic.entry("Enabled").or_insert(json!(false)) == true {
            dynamic
                .entry("RetryOptions")
                .or_insert(json!({"DurationInSeconds": partitioning::RETRY_SECONDS}));
        }
    }
    if let Some(Value::Object(conversion)) = config.get_mut("DataFormatConversionConfiguration") {
        conversion.entry("Enabled").or_insert(json!(true));
    }
    config
}

/// Whether dynamic partitioning is on.
pub(super) fn partitions(config: &Map<String, Value>) -> bool {
    config.get("DynamicPartitioningConfiguration").is_some_and(|dynamic| dynamic["Enabled"] == true)
}

/// Changes a configuration as UpdateDestination does: members that are left
/// out keep their value, DataFormatConversionConfiguration is merged member by
/// member, everything else is replaced whole.
pub(super) fn merge(config: &mut Map<String, Value>, update: &Map<String, Value>) {
    for (member, value) in update {
        match (member.as_str(), value) {
            (_, Value::Null) => {}
            ("DataFormatConversionConfiguration", Value::Object(changed)) => {
                let kept = config.entry(member).or_insert_with(|| json!({}));
                if let Value::Object(kept) = kept {
                    kept.extend(
                        changed.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())),
                    );
                }
            }
            _ => {
                config.insert(member.clone(), value.clone());
            }
        }
    }
}

impl S3 {
    /// Reads and checks a configuration that [`complete`] has completed.
    pub(super) fn read(config: &Map<String, Value>, rules: Rules) -> Result<Self, Fault> {
        let s3: Self = Self::deserialize(config).map_err(|e| Fault::serialization(e.to_string()))?;
        s3.refuse_what_is_absent()?;
        s3.processors().check()?;
        s3.check_conversion(rules)?;
        s3.check_hints()?;
        s3.check_prefixes(rules)?;
        Ok(s3)
    }

    /// The bucket's name.
    pub(super) fn bucket(&self) -> &str {
        self.bucket_arn.rsplit(":::").next().unwrap_or_default()
    }

    fn conversion(&self) -> Option<&Conversion> {
        self.data_format_conversion_configuration.as_ref().filter(|c| c.is_on())
    }

    fn processors(&self) -> Processors {
        self.processing_configuration.clone().unwrap_or_default()
    }

    fn partitioning(&self) -> Partitioning {
        self.dynamic_partitioning_configuration.unwrap_or_default()
    }

    fn refuse_what_is_absent(&self) -> Result<(), Fault> {
        if self.s3_backup_mode.as_deref() == Some("Enabled") {
            return Err(Fault::invalid_argument("S3BackupMode Enabled is not supported by Lakeward yet."));
        }
        Ok(())
    }

    /// In the order in which AWS checks (contract, section 2.7).
    fn check_conversion(&self, rules: Rules) -> Result<(), Fault> {
        let Some(conversion) = self.conversion() else { return Ok(()) };
        let invalid = |message: &str| Err(Fault::invalid_argument(message));
        if self.compression_format.as_deref().is_some_and(|c| c != "UNCOMPRESSED") {
            return invalid("CompressionFormat must be UNCOMPRESSED when data format conversion is enabled.");
        }
        let mebibytes = self.buffering_hints.and_then(|h| h.mebibytes);
        if mebibytes.is_some_and(|m| m < BUFFER_MEBIBYTES_CONVERSION_MIN) {
            rules.broken(
                "BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled.",
            )?;
        }
        let parts = [
            ("InputFormatConfiguration", &conversion.input_format_configuration),
            ("OutputFormatConfiguration", &conversion.output_format_configuration),
            ("SchemaConfiguration", &conversion.schema_configuration),
        ];
        for (name, part) in parts {
            if part.is_none() {
                return invalid(&format!("{name} is required when data format conversion is enabled."));
            }
        }
        check_deserializer(
            &conversion.input_format_configuration.as_ref().unwrap_or(&Value::Null)["Deserializer"],
        )?;
        parquet(conversion).map(|_| ())
    }

    fn check_hints(&self) -> Result<(), Fault> {
        match self.buffering_hints {
            Some(
                Hints { mebibytes: Some(_), seconds: None } | Hints { mebibytes: None, seconds: Some(_) },
            ) => Err(Fault::invalid_argument(
                "Both SizeInMBs and IntervalInSeconds are required to configure BufferingHints.",
            )),
            _ => Ok(()),
        }
    }

    fn check_prefixes(&self, rules: Rules) -> Result<(), Fault> {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let error_prefix = self.error_output_prefix.as_deref().unwrap_or_default();
        let (partitioning, processors) = (self.partitioning(), self.processors());
        let parsed = template("Prefix", prefix, partitioning.kind())?;
        let hints = self.buffering_hints.unwrap_or_default();
        partitioning.check(&parsed, &processors, (hints.mebibytes, hints.seconds), rules)?;
        partitioning::check_compiles(&processors.processing()?, parsed.partition_keys())?;
        if !error_prefix.is_empty() {
            template("ErrorOutputPrefix", error_prefix, Kind::ErrorPrefix)?;
        } else if has_expression(prefix) {
            return Err(Fault::invalid_argument(
                "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions.",
            ));
        }
        match self.custom_time_zone.as_deref() {
            None | Some("") => Ok(()),
            Some(zone) => path::time_zone(zone).map(|_| ()).map_err(|_| {
                Fault::invalid_argument(format!("CustomTimeZone {zone} is not a valid time zone."))
            }),
        }
    }

    /// What the pipeline's files look like and where they lie.
    pub(super) fn shape(&self, stream: &str, version: u64) -> Result<Shape, Fault> {
        let time_zone = self.custom_time_zone.clone().filter(|z| !z.is_empty());
        let output = match self.conversion() {
            Some(conversion) => Output::Parquet(parquet(conversion)?),
            None => Output::Verbatim { compression: self.compression(), newline: Newline::AsIs },
        };
        let extension = self.file_extension.clone().filter(|e| !e.is_empty());
        Ok(Shape {
            output,
            // A static prefix gets Firehose's default date appended there.
            path: self.prefix.clone().unwrap_or_default(),
            error_path: self.error_output_prefix.clone().filter(|p| !p.is_empty()),
            time_zone: time_zone.unwrap_or_else(|| String::from("UTC")),
            naming: Naming::Firehose { stream: stream.to_owned(), version, extension },
            processing: self.processors().processing()?,
            ..Shape::default()
        })
    }

    /// When a batch is cut.
    pub(super) fn limits(&self) -> BatchLimits {
        let hints = self.buffering_hints.unwrap_or_default();
        BatchLimits {
            bytes: hints.mebibytes.unwrap_or(BUFFER_MEBIBYTES) << 20,
            age: Duration::from_secs(hints.seconds.unwrap_or(BUFFER_SECONDS)),
            ..BatchLimits::default()
        }
    }

    fn compression(&self) -> FileCompression {
        match self.compression_format.as_deref() {
            Some("GZIP") => FileCompression::Gzip,
            Some("ZIP") => FileCompression::Zip,
            Some("Snappy") => FileCompression::SnappyJava,
            Some("HADOOP_SNAPPY") => FileCompression::HadoopSnappy,
            _ => FileCompression::None,
        }
    }
}

/// Checks a prefix, with AWS's words where they are known.
fn template(member: &str, prefix: &str, kind: Kind) -> Result<Template, Fault> {
    Template::parse(prefix, kind).map_err(|error| {
        Fault::invalid_argument(match error {
            TemplateError::NeedsDynamicPartitioning { .. } => String::from(
                "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic \
                 Partitioning is enabled.",
            ),
            TemplateError::ErrorOutputTypeMissing => String::from(
                "ErrorOutputPrefix must contain !{firehose:error-output-type} when it contains expressions.",
            ),
            error => format!("{member} is invalid: {error}."),
        })
    })
}

fn has_expression(prefix: &str) -> bool {
    prefix.contains("!{")
}

/// Columns are inferred, so a deserializer's options that would rename or
/// reinterpret values cannot be followed.
fn check_deserializer(deserializer: &Value) -> Result<(), Fault> {
    let not_yet =
        |what: &str| Err(Fault::invalid_argument(format!("{what} is not supported by Lakeward yet.")));
    let filled = |v: &Value| match v {
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        _ => v == &Value::Bool(true),
    };
    let (open_x, hive) = (&deserializer["OpenXJsonSerDe"], &deserializer["HiveJsonSerDe"]);
    match (open_x.is_object(), hive.is_object()) {
        (true, false) | (false, true) => {}
        _ => {
            return Err(Fault::invalid_argument(
                "Deserializer must have exactly one of OpenXJsonSerDe and HiveJsonSerDe.",
            ));
        }
    }
    if filled(&hive["TimestampFormats"]) {
        return not_yet("HiveJsonSerDe.TimestampFormats");
    }
    if filled(&open_x["ColumnToJsonKeyMappings"]) {
        return not_yet("OpenXJsonSerDe.ColumnToJsonKeyMappings");
    }
    if filled(&open_x["ConvertDotsInJsonKeysToUnderscores"]) {
        return not_yet("OpenXJsonSerDe.ConvertDotsInJsonKeysToUnderscores");
    }
    Ok(())
}

fn parquet(conversion: &Conversion) -> Result<ParquetOptions, Fault> {
    let serializer = &conversion.output_format_configuration.as_ref().unwrap_or(&Value::Null)["Serializer"];
    let (parquet, orc) = (&serializer["ParquetSerDe"], &serializer["OrcSerDe"]);
    match (parquet.is_object(), orc.is_object()) {
        (true, false) => {}
        (false, true) => return Err(Fault::invalid_argument("OrcSerDe is not supported by Lakeward yet.")),
        _ => {
            return Err(Fault::invalid_argument(
                "Serializer must have exactly one of ParquetSerDe and OrcSerDe.",
            ));
        }
    }
    if parquet["WriterVersion"] == "V2" {
        return Err(Fault::invalid_argument(
            "ParquetSerDe.WriterVersion V2 is not supported by Lakeward yet.",
        ));
    }
    let compression = match parquet["Compression"].as_str() {
        Some("GZIP") => ParquetCompression::Gzip,
        Some("UNCOMPRESSED") => ParquetCompression::None,
        _ => ParquetCompression::Snappy,
    };
    let dictionary = parquet["EnableDictionaryCompression"].as_bool().unwrap_or(true);
    Ok(ParquetOptions { compression, dictionary, ..ParquetOptions::default() })
}
