//! Apache Spark SQL ("CREATE DATASOURCE TABLE" in its SQL reference; Spark 3.4
//! and later, for TIMESTAMP_NTZ).

use lakeward_model::{Column, ColumnType, FileCompression, TableFormat};

use super::{Statement, Table, back_quoted, escaped_literal, list};

pub(super) fn statement(table: &Table) -> Statement {
    let name = table.qualified(back_quoted);
    let mut statement = create(table, &table.url());
    if table.description.location.starts_with("s3://") {
        statement.notes.push(String::from(
            "Where Spark has Hadoop's S3A, the address begins with s3a:// instead of s3://.",
        ));
    }
    if !table.hive_keys().is_empty() {
        statement.text.push_str(&format!(
            "-- Finds the partitions that are there; again for new ones.\nMSCK REPAIR TABLE {name};\n"
        ));
    }
    statement
}

/// The table itself, which Databricks takes too.
pub(super) fn create(table: &Table, location: &str) -> Statement {
    let description = &table.description;
    let mut notes: Vec<String> = table.note_of_keys().into_iter().chain(table.notes_of_positions()).collect();
    notes.extend(unreadable(description.format.compression()));
    let keys = table.hive_keys();
    let mut columns: Vec<String> =
        description.columns.iter().map(|column| definition(column, &description.format)).collect();
    columns
        .extend(keys.iter().map(|key| format!("{} {}", back_quoted(&key.name), type_of(&key.name_type()))));
    let (format, mut options) = reader(&description.format);
    if keys.is_empty() {
        options.push(("recursiveFileLookup", "true".into()));
    }
    options.push(("pathGlobFilter", format!("*{}", description.format.extension())));
    let options =
        options.iter().map(|(name, value)| format!("{} {}", escaped_literal(name), escaped_literal(value)));
    let mut text = format!(
        "CREATE TABLE IF NOT EXISTS {} (\n{}\n)\nUSING {format}\nOPTIONS (\n{}\n)\n",
        table.qualified(back_quoted),
        list(columns),
        list(options),
    );
    if !keys.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| back_quoted(&key.name)).collect();
        text.push_str(&format!("PARTITIONED BY ({})\n", names.join(", ")));
    }
    text.push_str(&format!("LOCATION {};\n", escaped_literal(location)));
    Statement { notes, text }
}

/// Hadoop's codecs are chosen by the files' extensions.
fn unreadable(compression: FileCompression) -> Option<String> {
    let reads =
        matches!(compression, FileCompression::None | FileCompression::Gzip | FileCompression::HadoopSnappy);
    (!reads).then(|| {
        format!("Spark reads text with {} compression only with its Hadoop codec, which it may not have; gzip it always can.", compression.name())
    })
}

/// The data source and its options.
fn reader(format: &TableFormat) -> (&'static str, Vec<(&'static str, String)>) {
    match format {
        TableFormat::Parquet { .. } => ("PARQUET", Vec::new()),
        TableFormat::Ndjson { .. } => ("JSON", Vec::new()),
        TableFormat::Csv { delimiter, header, null, .. } => (
            "CSV",
            vec![
                ("header", header.to_string()),
                ("sep", delimiter.to_string()),
                // RFC 4180: a quote in a field is doubled, and a field may have line breaks.
                ("escape", "\"".into()),
                ("multiLine", "true".into()),
                ("nullValue", null.clone()),
            ],
        ),
    }
}

fn definition(column: &Column, format: &TableFormat) -> String {
    let is_nested = matches!(column.ty, ColumnType::Struct(_) | ColumnType::List(_) | ColumnType::Binary);
    // CSV has nested values as JSON text.
    let ty = match format {
        TableFormat::Csv { .. } if is_nested => String::from("STRING"),
        TableFormat::Ndjson { .. } if column.ty == ColumnType::Binary => String::from("STRING"),
        _ => type_of(&column.ty),
    };
    format!("{} {ty}", back_quoted(&column.name))
}

pub(super) fn type_of(ty: &ColumnType) -> String {
    match ty {
        ColumnType::Bool => String::from("BOOLEAN"),
        ColumnType::Int64 => String::from("BIGINT"),
        ColumnType::Float64 => String::from("DOUBLE"),
        ColumnType::Utf8 | ColumnType::Json => String::from("STRING"),
        ColumnType::Timestamp => String::from("TIMESTAMP_NTZ"),
        ColumnType::TimestampTz => String::from("TIMESTAMP"),
        ColumnType::Date => String::from("DATE"),
        ColumnType::Decimal(precision, scale) => format!("DECIMAL({precision},{scale})"),
        ColumnType::Binary => String::from("BINARY"),
        ColumnType::List(item) => format!("ARRAY<{}>", type_of(item)),
        ColumnType::Struct(fields) => {
            let fields =
                fields.iter().map(|field| format!("{}: {}", back_quoted(&field.name), type_of(&field.ty)));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
    }
}
