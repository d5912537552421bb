//! A table as Glue has it: what is sent to make one.

use std::collections::BTreeMap;

use lakeward_model::{FileCompression, TableDescription, TableFormat};
use serde_json::{Map, Value, json};

use super::super::hive::{HiveColumn, HiveColumns};
use super::projection::{self, Projection};

const TEXT_IN: &str = "org.apache.hadoop.mapred.TextInputFormat";
const TEXT_OUT: &str = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat";

/// What a format is in Hive: the classes that read it, and the word for it in
/// the parameter `classification` (Glue and Athena user guides).
pub(super) struct Classes {
    pub(super) classification: &'static str,
    pub(super) input: &'static str,
    pub(super) output: &'static str,
    /// The SerDe that we name.
    pub(super) serde: &'static str,
    /// Others that read the same files: what a crawler or a person may have
    /// chosen.
    pub(super) others: &'static [&'static str],
}

pub(super) fn classes(format: &TableFormat) -> Classes {
    match format {
        TableFormat::Parquet { .. } => Classes {
            classification: "parquet",
            input: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            output: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            serde: "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
            others: &[],
        },
        TableFormat::Ndjson { .. } => Classes {
            classification: "json",
            input: TEXT_IN,
            output: TEXT_OUT,
            serde: "org.openx.data.jsonserde.JsonSerDe",
            others: &["org.apache.hive.hcatalog.data.JsonSerDe", "com.amazon.ionhiveserde.IonHiveSerDe"],
        },
        TableFormat::Csv { .. } => Classes {
            classification: "csv",
            input: TEXT_IN,
            output: TEXT_OUT,
            serde: "org.apache.hadoop.hive.serde2.OpenCSVSerde",
            others: &["org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"],
        },
    }
}

/// The SerDe, the input format and the output format of a format's files.
#[must_use]
pub fn storage_classes(format: &TableFormat) -> (&'static str, &'static str, &'static str) {
    let Classes { serde, input, output, .. } = classes(format);
    (serde, input, output)
}

/// The SerDe's parameters.
#[must_use]
pub fn serde_parameters(format: &TableFormat) -> BTreeMap<&'static str, String> {
    match format {
        TableFormat::Parquet { .. } => BTreeMap::from([("serialization.format", "1".into())]),
        TableFormat::Ndjson { .. } => BTreeMap::from([
            ("case.insensitive", "true".into()),
            ("dots.in.keys", "false".into()),
            ("serialization.format", "1".into()),
        ]),
        TableFormat::Csv { delimiter, .. } => BTreeMap::from([
            ("escapeChar", "\\".into()),
            ("quoteChar", "\"".into()),
            ("separatorChar", delimiter.to_string()),
            ("serialization.format", "1".into()),
        ]),
    }
}

/// The table's parameters that are ours: those of projection are set again by
/// every registration, the rest only when the table is made.
pub(super) fn parameters(
    table: &TableDescription,
    projection: Option<&Projection>,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        projection.map(|projection| projection::parameters(table, projection)).unwrap_or_default();
    let mut set = |name: &str, value: &str| all.insert(name.into(), value.into());
    set("EXTERNAL", "TRUE");
    set("classification", classes(&table.format).classification);
    set("typeOfData", "file");
    set("lakeward.pipeline", &table.pipeline);
    match &table.format {
        TableFormat::Parquet { compression } => {
            set("parquet.compression", &compression.to_uppercase());
            set("compressionType", "none");
        }
        TableFormat::Csv { header: true, .. } => {
            set("skip.header.line.count", "1");
            set("compressionType", table.format.compression().name());
        }
        format => {
            set("compressionType", format.compression().name());
        }
    }
    all
}

/// The table as `CreateTable` and `UpdateTable` take it.
pub(super) fn input(
    name: &str,
    table: &TableDescription,
    columns: &HiveColumns,
    projection: Option<&Projection>,
) -> Map<String, Value> {
    let input = json!({
        "Name": name,
        "Description": format!("Made by Lakeward for its pipeline {}", table.pipeline),
        "TableType": "EXTERNAL_TABLE",
        "Parameters": parameters(table, projection),
        "StorageDescriptor": storage(table, &columns.columns, &address(&table.location)),
        // Athena fails on a null here.
        "PartitionKeys": listed(&columns.partition_keys),
    });
    match input {
        Value::Object(members) => members,
        _ => unreachable!("it was written as an object"),
    }
}

/// Where files of these columns lie and how they are read.
pub(super) fn storage(table: &TableDescription, columns: &[HiveColumn], location: &str) -> Value {
    let classes = classes(&table.format);
    json!({
        "Columns": listed(columns),
        "Location": location,
        "InputFormat": classes.input,
        "OutputFormat": classes.output,
        "Compressed": table.format.compression() != FileCompression::None,
        "SerdeInfo": {
            "SerializationLibrary": classes.serde,
            "Parameters": serde_parameters(&table.format),
        },
        "StoredAsSubDirectories": false,
    })
}

pub(super) fn listed(columns: &[HiveColumn]) -> Vec<Value> {
    columns.iter().map(|column| json!({ "Name": column.name, "Type": column.ty })).collect()
}

/// A folder as others address it: a local one is `file:///folder/`, without the
/// `/./` that a relative path of the configuration leaves in it.
#[must_use]
pub fn address(location: &str) -> String {
    if location.contains("://") {
        location.into()
    } else {
        format!("file://{}", location.replace("/./", "/"))
    }
}
