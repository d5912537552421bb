//! DuckDB: a view of the files, which sees new ones with every query.

use lakeward_model::{ColumnType, FileCompression, TableFormat};

use super::{Statement, Table, double_quoted, list, literal};

pub(super) fn statement(table: &Table) -> Statement {
    let description = &table.description;
    let mut notes: Vec<String> = table.note_of_keys().into_iter().collect();
    let compression = description.format.compression();
    if !matches!(compression, FileCompression::None | FileCompression::Gzip | FileCompression::Zstd) {
        notes.push(format!(
            "DuckDB cannot read {} compression of text; gzip and zstd it can.",
            compression.name()
        ));
    }
    let keys = table.hive_keys();
    let mut options: Vec<String> = Vec::new();
    let function = match &description.format {
        TableFormat::Parquet { .. } => {
            options.push(String::from("union_by_name = true"));
            "read_parquet"
        }
        TableFormat::Ndjson { .. } => {
            options.push(String::from("format = 'newline_delimited'"));
            options.push(format!("columns = {{{}}}", columns(table)));
            "read_json"
        }
        TableFormat::Csv { delimiter, header, null, .. } => {
            options.push(format!("delim = {}", literal(&delimiter.to_string())));
            options.push(format!("header = {header}"));
            options.push(String::from("quote = '\"'"));
            options.push(String::from("escape = '\"'"));
            options.push(format!("nullstr = {}", literal(null)));
            if *header {
                options.push(String::from("union_by_name = true"));
                options.push(format!("types = {{{}}}", columns(table)));
            } else {
                options.push(format!("columns = {{{}}}", columns(table)));
            }
            "read_csv"
        }
    };
    options.push(format!("hive_partitioning = {}", !keys.is_empty()));
    if !keys.is_empty() {
        let types = keys.iter().map(|key| format!("{}: {}", literal(&key.name), type_of(&key.name_type())));
        options.push(format!("hive_types = {{{}}}", types.collect::<Vec<_>>().join(", ")));
    }
    // A folder without a value is null.
    let missing: Vec<String> = keys
        .iter()
        .filter(|key| key.optional)
        .map(|key| format!("nullif({0}, '__missing__') AS {0}", double_quoted(&key.name)))
        .collect();
    let replaced =
        if missing.is_empty() { String::new() } else { format!(" REPLACE ({})", missing.join(", ")) };
    let files = literal(&format!("{}{}", description.location, description.glob()));
    let text = format!(
        "{}CREATE OR REPLACE VIEW {} AS\nSELECT *{replaced}\nFROM {function}(\n{}\n);\n",
        secret(table),
        table.qualified(double_quoted),
        list(std::iter::once(files).chain(options)),
    );
    Statement { notes, text }
}

/// How DuckDB reaches a bucket: with credentials from AWS's usual places.
fn secret(table: &Table) -> String {
    if table.is_local() {
        return String::new();
    }
    let mut settings = vec![String::from("TYPE s3"), String::from("PROVIDER credential_chain")];
    settings.push(format!("REGION {}", literal(table.lake.aws.region.as_deref().unwrap_or("us-east-1"))));
    if let Some(endpoint) = &table.lake.aws.endpoint {
        let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        settings.push(format!("ENDPOINT {}", literal(host.trim_end_matches('/'))));
        settings.push(format!("USE_SSL {}", scheme == "https"));
        if table.lake.path_style.unwrap_or(true) {
            settings.push(String::from("URL_STYLE 'path'"));
        }
    }
    format!(
        "INSTALL httpfs;\nLOAD httpfs;\nINSTALL aws;\nLOAD aws;\nCREATE OR REPLACE SECRET lakeward (\n{}\n);\n\n",
        list(settings)
    )
}

fn columns(table: &Table) -> String {
    let is_csv = matches!(table.description.format, TableFormat::Csv { .. });
    let has_header = matches!(table.description.format, TableFormat::Csv { header: true, .. });
    let column = |column: &lakeward_model::Column| {
        let is_nested = matches!(column.ty, ColumnType::List(_) | ColumnType::Struct(_));
        // CSV has nested values as JSON text; text has binary as base64.
        let ty = match &column.ty {
            _ if is_csv && is_nested => String::from("VARCHAR"),
            ColumnType::Binary => String::from("VARCHAR"),
            ty => type_of(ty),
        };
        format!("{}: {}", literal(&column.name), literal(&ty))
    };
    let is_read = |column: &&lakeward_model::Column| !has_header || !table.is_hidden(column);
    table.description.columns.iter().filter(is_read).map(column).collect::<Vec<_>>().join(", ")
}

fn type_of(ty: &ColumnType) -> String {
    match ty {
        ColumnType::Bool => String::from("BOOLEAN"),
        ColumnType::Int64 => String::from("BIGINT"),
        ColumnType::Float64 => String::from("DOUBLE"),
        ColumnType::Utf8 => String::from("VARCHAR"),
        ColumnType::Json => String::from("JSON"),
        ColumnType::Timestamp => String::from("TIMESTAMP"),
        ColumnType::TimestampTz => String::from("TIMESTAMPTZ"),
        ColumnType::Date => String::from("DATE"),
        ColumnType::Decimal(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        ColumnType::Binary => String::from("BLOB"),
        ColumnType::List(item) => format!("{}[]", type_of(item)),
        ColumnType::Struct(fields) => {
            let fields =
                fields.iter().map(|field| format!("{} {}", double_quoted(&field.name), type_of(&field.ty)));
            format!("STRUCT({})", fields.collect::<Vec<_>>().join(", "))
        }
    }
}
