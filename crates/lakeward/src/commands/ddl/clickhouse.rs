//! ClickHouse: a view of the table functions `s3` and `file`, which read the
//! folders' names anew with every query.

use lakeward_model::{Column, ColumnType, TableFormat};

use super::{Statement, Table, escaped_back_quoted, escaped_literal, list};

pub(super) fn statement(table: &Table) -> Statement {
    let description = &table.description;
    let mut notes: Vec<String> = table.note_of_keys().into_iter().collect();
    let has_header = matches!(description.format, TableFormat::Csv { header: true, .. });
    let columns: Vec<&Column> =
        description.columns.iter().filter(|column| !has_header || !table.is_hidden(column)).collect();
    let definitions = columns.iter().map(|Column { name, ty }| {
        let ty = match (&description.format, ty) {
            // CSV has nested values as JSON text, and text has binary as base64.
            (TableFormat::Csv { .. }, ColumnType::List(_) | ColumnType::Struct(_)) => {
                String::from("Nullable(String)")
            }
            _ => type_of(ty),
        };
        format!("{} {ty}", escaped_back_quoted(name))
    });
    let structure = definitions.collect::<Vec<_>>().join(", ");
    let (format, settings) = reader(&description.format);
    let glob = description.glob();
    let source = if table.is_local() {
        notes.push(String::from("The folder must lie in ClickHouse's user_files_path."));
        format!(
            "file(\n    {},\n    '{format}',\n    {}\n  )",
            escaped_literal(&format!("{}{glob}", description.location)),
            escaped_literal(&structure)
        )
    } else {
        notes.push(String::from("Credentials come from ClickHouse's environment, or stand behind the address: s3('…', 'key', 'secret', …)."));
        format!(
            "s3(\n    {},\n    '{format}',\n    {}\n  )",
            escaped_literal(&address(table, &glob)),
            escaped_literal(&structure)
        )
    };
    let mut selected: Vec<String> = columns.iter().map(|column| escaped_back_quoted(&column.name)).collect();
    for key in table.hive_keys() {
        let folder = escaped_literal(&format!("/{}=([^/]*)/", regex(&key.name)));
        let text = format!("decodeURLComponent(extract(_path, {folder}))");
        let value = match key.name_type() {
            ColumnType::Date => format!("toDate32({text})"),
            ColumnType::Int64 => format!("toInt64({text})"),
            _ if key.optional => format!("nullIf({text}, '__missing__')"),
            _ => text,
        };
        selected.push(format!("{value} AS {}", escaped_back_quoted(&key.name)));
    }
    let text = format!(
        "CREATE OR REPLACE VIEW {} AS\nSELECT\n{}\nFROM\n  {source}\nSETTINGS {};\n",
        table.qualified(escaped_back_quoted),
        list(selected),
        settings.join(", "),
    );
    Statement { notes, text }
}

/// The bucket behind HTTP, in the lake's own way.
fn address(table: &Table, glob: &str) -> String {
    let path = table.description.location.trim_start_matches("s3://");
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    match &table.lake.aws.endpoint {
        Some(endpoint) => format!("{}/{bucket}/{key}{glob}", endpoint.trim_end_matches('/')),
        None => {
            let region = table.lake.aws.region.as_deref().unwrap_or("us-east-1");
            format!("https://{bucket}.s3.{region}.amazonaws.com/{key}{glob}")
        }
    }
}

fn reader(format: &TableFormat) -> (&'static str, Vec<String>) {
    // The keys are taken from the path here, the same in every release.
    let mut settings = vec![String::from("use_hive_partitioning = 0")];
    let name = match format {
        TableFormat::Parquet { .. } => {
            settings.push(String::from("input_format_parquet_allow_missing_columns = 1"));
            "Parquet"
        }
        TableFormat::Ndjson { .. } => {
            settings.push(String::from("date_time_input_format = 'best_effort'"));
            settings.push(String::from("input_format_json_read_objects_as_strings = 1"));
            "JSONEachRow"
        }
        TableFormat::Csv { delimiter, header, null, .. } => {
            settings.push(format!("format_csv_delimiter = {}", escaped_literal(&delimiter.to_string())));
            settings.push(format!("format_csv_null_representation = {}", escaped_literal(null)));
            settings.push(String::from("date_time_input_format = 'best_effort'"));
            if *header { "CSVWithNames" } else { "CSV" }
        }
    };
    (name, settings)
}

fn regex(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_alphanumeric() || c == '_' { c.to_string() } else { format!("\\{c}") })
        .collect()
}

/// Nothing is Nullable around a tuple or an array: an absent one is empty.
fn type_of(ty: &ColumnType) -> String {
    let nullable = |ty: &str| format!("Nullable({ty})");
    match ty {
        ColumnType::Bool => nullable("Bool"),
        ColumnType::Int64 => nullable("Int64"),
        ColumnType::Float64 => nullable("Float64"),
        ColumnType::Utf8 | ColumnType::Json | ColumnType::Binary => nullable("String"),
        ColumnType::Timestamp => nullable("DateTime64(6)"),
        ColumnType::TimestampTz => nullable("DateTime64(6, 'UTC')"),
        ColumnType::Date => nullable("Date32"),
        ColumnType::Decimal(precision, scale) => nullable(&format!("Decimal({precision}, {scale})")),
        ColumnType::List(item) => format!("Array({})", type_of(item)),
        ColumnType::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|field| format!("{} {}", escaped_back_quoted(&field.name), type_of(&field.ty)));
            format!("Tuple({})", fields.collect::<Vec<_>>().join(", "))
        }
    }
}
