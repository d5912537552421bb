//! Snowflake ("CREATE EXTERNAL TABLE" in its SQL reference).

use lakeward_model::{Column, ColumnType, FileCompression, TableFormat};

use super::{Statement, Table, double_quoted, escaped_literal, list};

pub(super) fn statement(table: &Table) -> Statement {
    let description = &table.description;
    let mut notes = vec![String::from(
        "Replace my_storage_integration by one that may read the bucket (CREATE STORAGE INTEGRATION).",
    )];
    notes.extend(table.note_of_keys());
    notes.extend(table.notes_of_positions());
    if table.is_local() {
        notes.push(String::from("Snowflake reads object stores only; this lake is a local folder."));
    }
    if let FileCompression::Snappy
    | FileCompression::SnappyJava
    | FileCompression::HadoopSnappy
    | FileCompression::Zip = description.format.compression()
    {
        notes.push(format!(
            "Snowflake cannot read {} compression of text; gzip and zstd it can.",
            description.format.compression().name()
        ));
    }
    let keys = table.hive_keys();
    let mut columns: Vec<String> = keys
        .iter()
        .map(|key| {
            let folder = escaped_literal(&format!("/{}=", key.name));
            let value = format!("SPLIT_PART(SPLIT_PART('/' || METADATA$FILENAME, {folder}, 2), '/', 1)");
            let ty = type_of(&key.name_type());
            let value = if ty == "VARCHAR" { value } else { format!("{value}::{ty}") };
            format!("{} {ty} AS ({value})", identifier(&key.name))
        })
        .collect();
    let is_csv = matches!(description.format, TableFormat::Csv { .. });
    for (at, Column { name, ty }) in description.columns.iter().enumerate() {
        // CSV has no names: its values are c1, c2, …
        let value =
            if is_csv { format!("VALUE:c{}", at + 1) } else { format!("VALUE:{}", double_quoted(name)) };
        let is_parquet = matches!(description.format, TableFormat::Parquet { .. });
        let value = match ty {
            // JSON text, except that JSON files have the value itself there.
            ColumnType::Json if is_csv || is_parquet => format!("PARSE_JSON({value}::VARCHAR)"),
            ColumnType::List(_) | ColumnType::Struct(_) if is_csv => format!("PARSE_JSON({value}::VARCHAR)"),
            ColumnType::Binary if !is_parquet => format!("BASE64_DECODE_BINARY({value}::VARCHAR)"),
            ty => format!("{value}::{}", type_of(ty)),
        };
        columns.push(format!("{} {} AS ({value})", identifier(name), type_of(ty)));
    }
    let stage = table.beside("_stage", identifier);
    let mut text = format!(
        "CREATE STAGE IF NOT EXISTS {stage}\nURL = {}\nSTORAGE_INTEGRATION = my_storage_integration;\n\n\
         CREATE EXTERNAL TABLE IF NOT EXISTS {} (\n{}\n)\n",
        escaped_literal(&table.url()),
        table.qualified(identifier),
        list(columns),
    );
    if !keys.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| identifier(&key.name)).collect();
        text.push_str(&format!("PARTITION BY ({})\n", names.join(", ")));
    }
    // A regular expression over the whole path.
    let pattern = regex_of(&description.glob());
    text.push_str(&format!(
        "LOCATION = @{stage}\nAUTO_REFRESH = FALSE\nPATTERN = {}\nFILE_FORMAT = ({});\n\
         -- Finds new files; or set AUTO_REFRESH = TRUE and let the bucket tell Snowflake of them.\n\
         ALTER EXTERNAL TABLE {} REFRESH;\n",
        escaped_literal(&format!(".*{pattern}")),
        file_format(&description.format),
        table.qualified(identifier),
    ));
    Statement { notes, text }
}

/// Simple names become upper case, so that they need no quotes in queries.
fn identifier(name: &str) -> String {
    let is_simple = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    double_quoted(&if is_simple { name.to_uppercase() } else { name.to_string() })
}

fn regex_of(glob: &str) -> String {
    let part = |c: char| match c {
        '*' => String::from("[^/]*"),
        c if c.is_alphanumeric() || "/=_-% ".contains(c) => c.to_string(),
        c => format!("[{c}]"),
    };
    glob.chars().map(part).collect()
}

fn file_format(format: &TableFormat) -> String {
    let compression = match format.compression() {
        FileCompression::Gzip => "GZIP",
        FileCompression::Zstd => "ZSTD",
        FileCompression::None => "NONE",
        _ => "AUTO",
    };
    match format {
        TableFormat::Parquet { .. } => String::from("TYPE = PARQUET USE_LOGICAL_TYPE = TRUE"),
        TableFormat::Ndjson { .. } => format!("TYPE = JSON COMPRESSION = {compression}"),
        TableFormat::Csv { delimiter, header, null, .. } => format!(
            "TYPE = CSV COMPRESSION = {compression} FIELD_DELIMITER = {} SKIP_HEADER = {} FIELD_OPTIONALLY_ENCLOSED_BY = '\"' NULL_IF = ({})",
            escaped_literal(&delimiter.to_string()),
            u8::from(*header),
            escaped_literal(null),
        ),
    }
}

fn type_of(ty: &ColumnType) -> String {
    match ty {
        ColumnType::Bool => String::from("BOOLEAN"),
        ColumnType::Int64 => String::from("NUMBER(19,0)"),
        ColumnType::Float64 => String::from("DOUBLE"),
        ColumnType::Utf8 => String::from("VARCHAR"),
        ColumnType::Timestamp => String::from("TIMESTAMP_NTZ"),
        ColumnType::TimestampTz => String::from("TIMESTAMP_TZ"),
        ColumnType::Date => String::from("DATE"),
        ColumnType::Decimal(precision, scale) => format!("NUMBER({precision},{scale})"),
        ColumnType::Binary => String::from("BINARY"),
        ColumnType::Json | ColumnType::List(_) | ColumnType::Struct(_) => String::from("VARIANT"),
    }
}
