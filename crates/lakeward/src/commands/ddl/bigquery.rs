//! BigQuery ("CREATE EXTERNAL TABLE" in its data definition language).

use lakeward_model::{Column, ColumnType, FileCompression, TableFormat};

use super::{Statement, Table, escaped_back_quoted, escaped_literal, list};

pub(super) fn statement(table: &Table) -> Statement {
    let description = &table.description;
    let mut notes = vec![String::from(
        "Replace aws-us-east-1.my_connection by a BigLake connection that may read the bucket (BigQuery Omni for S3).",
    )];
    if table.database.is_none() {
        notes.push(String::from(
            "Give a data set with --database my_project.my_dataset, in the bucket's region.",
        ));
    }
    notes.extend(table.note_of_keys());
    notes.extend(table.notes_of_positions());
    if table.is_local() {
        notes.push(String::from("BigQuery reads object stores only; this lake is a local folder."));
    }
    let compression = description.format.compression();
    if !matches!(compression, FileCompression::None | FileCompression::Gzip) {
        notes.push(format!("BigQuery cannot read {} compression of text; gzip it can.", compression.name()));
    }
    let mut columns = Vec::new();
    let is_csv = matches!(description.format, TableFormat::Csv { .. });
    for (at, Column { name, ty }) in description.columns.iter().enumerate() {
        match (is_name(name), type_of(ty, &description.format)) {
            // CSV is read by position: it keeps its place.
            (false, Some(ty)) if is_csv => {
                let name_there = description.name_of_place(at);
                notes.push(format!(
                    "The column {name:?} is called {name_there}: BigQuery takes no such name."
                ));
                columns.push(format!("{} {ty}", escaped_back_quoted(&name_there)));
            }
            (true, Some(ty)) => columns.push(format!("{} {ty}", escaped_back_quoted(name))),
            _ => notes
                .push(format!("The column {name:?} is left out: BigQuery cannot have its name or its type.")),
        }
    }
    let keys = table.hive_keys();
    let mut text = format!(
        "CREATE EXTERNAL TABLE IF NOT EXISTS {} (\n{}\n)\n",
        table.qualified(escaped_back_quoted),
        list(columns)
    );
    if !keys.is_empty() {
        let key = |key: &&lakeward_model::PartitionKey| {
            let ty = type_of(&key.name_type(), &description.format).unwrap_or_default();
            format!("{} {ty}", escaped_back_quoted(&key.name))
        };
        text.push_str(&format!("WITH PARTITION COLUMNS (\n{}\n)\n", list(keys.iter().map(key))));
    }
    text.push_str("WITH CONNECTION `aws-us-east-1.my_connection`\n");
    let location = table.url();
    let mut options = match &description.format {
        TableFormat::Parquet { .. } => {
            vec![String::from("format = 'PARQUET'"), String::from("enable_list_inference = true")]
        }
        TableFormat::Ndjson { .. } => vec![String::from("format = 'NEWLINE_DELIMITED_JSON'")],
        TableFormat::Csv { delimiter, header, null, .. } => vec![
            String::from("format = 'CSV'"),
            format!("field_delimiter = {}", escaped_literal(&delimiter.to_string())),
            format!("skip_leading_rows = {}", u8::from(*header)),
            format!("null_marker = {}", escaped_literal(null)),
            String::from("allow_quoted_newlines = true"),
        ],
    };
    if compression == FileCompression::Gzip {
        options.push(String::from("compression = 'GZIP'"));
    }
    // One asterisk is allowed, and it reaches across folders.
    let uri = format!("{location}*{}", description.format.extension());
    options.push(format!("uris = [{}]", escaped_literal(&uri)));
    if !keys.is_empty() {
        options
            .push(format!("hive_partition_uri_prefix = {}", escaped_literal(location.trim_end_matches('/'))));
    }
    text.push_str(&format!("OPTIONS (\n{}\n);\n", list(options)));
    Statement { notes, text }
}

/// "Column names" in BigQuery's "Specify a schema", without its flexible names.
fn is_name(name: &str) -> bool {
    name.len() <= 300
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn type_of(ty: &ColumnType, format: &TableFormat) -> Option<String> {
    let is_text = !matches!(format, TableFormat::Parquet { .. });
    let is_csv = matches!(format, TableFormat::Csv { .. });
    Some(match ty {
        ColumnType::List(_) | ColumnType::Struct(_) if is_csv => String::from("STRING"),
        ColumnType::Bool => String::from("BOOL"),
        ColumnType::Int64 => String::from("INT64"),
        ColumnType::Float64 => String::from("FLOAT64"),
        // In JSON files the value itself stands there.
        ColumnType::Json if is_text && !is_csv => String::from("JSON"),
        ColumnType::Utf8 | ColumnType::Json => String::from("STRING"),
        ColumnType::Timestamp => String::from("DATETIME"),
        ColumnType::TimestampTz => String::from("TIMESTAMP"),
        ColumnType::Date => String::from("DATE"),
        // "Decimal types": 29 digits before the point and 9 behind it.
        ColumnType::Decimal(precision, scale) if *scale <= 9 && precision - scale <= 29 => {
            format!("NUMERIC({precision}, {scale})")
        }
        ColumnType::Decimal(precision, scale) => format!("BIGNUMERIC({precision}, {scale})"),
        ColumnType::Binary => String::from("BYTES"),
        // An array of arrays is none in BigQuery.
        ColumnType::List(item) if matches!(**item, ColumnType::List(_)) => return None,
        ColumnType::List(item) => format!("ARRAY<{}>", type_of(item, format)?),
        ColumnType::Struct(fields) => {
            let fields = fields.iter().filter(|field| is_name(&field.name));
            let fields: Vec<String> = fields
                .filter_map(|field| {
                    Some(format!("{} {}", escaped_back_quoted(&field.name), type_of(&field.ty, format)?))
                })
                .collect();
            if fields.is_empty() {
                return None;
            }
            format!("STRUCT<{}>", fields.join(", "))
        }
    })
}
