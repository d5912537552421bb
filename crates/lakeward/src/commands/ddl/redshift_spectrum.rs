//! Amazon Redshift Spectrum ("CREATE EXTERNAL TABLE" in Redshift's database
//! developer guide).

use lakeward_connectors::catalogs::glue::serde_parameters;
use lakeward_model::{Column, ColumnType, TableFormat};

use super::{Statement, Table, double_quoted, escaped_literal, list};

pub(super) fn statement(table: &Table) -> Statement {
    let description = &table.description;
    let mut notes = vec![
        String::from("Replace the role by one that may read the bucket and the Glue catalog."),
        String::from(
            "If the pipeline has a catalog, the first statement is all: its table is in the schema.",
        ),
    ];
    notes.extend(table.notes_of_positions());
    if table.is_local() {
        notes.push(String::from("Redshift reads S3 only; this lake is a local folder."));
    }
    if table.projection.is_some() {
        notes.push(String::from(
            "Redshift knows no partition projection: it needs partitions that are added.",
        ));
    }
    let database = table.database.clone().unwrap_or_else(|| String::from("lakeward"));
    let mut columns = Vec::new();
    for Column { name, ty } in &description.columns {
        match type_of(ty, &description.format) {
            Some(ty) => columns.push(format!("{} {ty}", double_quoted(&name.to_lowercase()))),
            None => {
                notes.push(format!("The column {name:?} is left out: a nested type cannot name its fields."))
            }
        }
    }
    let name = format!("{}.{}", double_quoted(&database), double_quoted(&table.name));
    let mut text = format!(
        "CREATE EXTERNAL SCHEMA IF NOT EXISTS {}\nFROM DATA CATALOG DATABASE {}\n\
         IAM_ROLE 'arn:aws:iam::123456789012:role/my-spectrum-role'\nCREATE EXTERNAL DATABASE IF NOT EXISTS;\n\n\
         CREATE EXTERNAL TABLE {name} (\n{}\n)\n",
        double_quoted(&database),
        escaped_literal(&database),
        list(columns),
    );
    let keys = &description.partition_keys;
    if !keys.is_empty() {
        // Whatever the files are: a folder's name is no text file.
        let of_folders = TableFormat::Parquet { compression: String::new() };
        let key = |key: &lakeward_model::PartitionKey| {
            let ty = match key.ty {
                ColumnType::Utf8 => String::from("varchar(1024)"),
                ref ty => type_of(ty, &of_folders).unwrap_or_default(),
            };
            format!("{} {ty}", double_quoted(&key.name.to_lowercase()))
        };
        text.push_str(&format!("PARTITIONED BY (\n{}\n)\n", list(keys.iter().map(key))));
    }
    match &description.format {
        TableFormat::Parquet { .. } => text.push_str("STORED AS PARQUET\n"),
        format => {
            let serde = match format {
                TableFormat::Csv { .. } => "org.apache.hadoop.hive.serde2.OpenCSVSerde",
                _ => "org.openx.data.jsonserde.JsonSerDe",
            };
            let parameters = serde_parameters(format);
            let parameters = parameters
                .iter()
                .map(|(name, value)| format!("{} = {}", escaped_literal(name), escaped_literal(value)));
            text.push_str(&format!(
                "ROW FORMAT SERDE {}\nWITH SERDEPROPERTIES (\n{}\n)\nSTORED AS TEXTFILE\n",
                escaped_literal(serde),
                list(parameters)
            ));
        }
    }
    text.push_str(&format!("LOCATION {}", escaped_literal(&table.url())));
    if matches!(description.format, TableFormat::Csv { header: true, .. }) {
        text.push_str("\nTABLE PROPERTIES ('skip.header.line.count' = '1')");
    }
    text.push_str(";\n");
    if !keys.is_empty() {
        let values = keys.iter().map(|key| format!("{} = '…'", double_quoted(&key.name.to_lowercase())));
        text.push_str(&format!(
            "\n-- For every partition, unless the pipeline has a catalog:\n\
             -- ALTER TABLE {name} ADD IF NOT EXISTS PARTITION ({}) LOCATION {};\n",
            values.collect::<Vec<_>>().join(", "),
            escaped_literal(&format!("{}{}", table.url(), description.folders)),
        ));
    }
    Statement { notes, text }
}

fn type_of(ty: &ColumnType, format: &TableFormat) -> Option<String> {
    let is_text = !matches!(format, TableFormat::Parquet { .. });
    if matches!(format, TableFormat::Csv { .. }) {
        return Some(String::from("varchar(65535)"));
    }
    Some(match ty {
        ColumnType::Bool => String::from("boolean"),
        ColumnType::Int64 => String::from("bigint"),
        ColumnType::Float64 => String::from("double precision"),
        ColumnType::Utf8 | ColumnType::Json => String::from("varchar(65535)"),
        ColumnType::Timestamp | ColumnType::TimestampTz | ColumnType::Date | ColumnType::Binary
            if is_text =>
        {
            String::from("varchar(65535)")
        }
        ColumnType::Timestamp | ColumnType::TimestampTz => String::from("timestamp"),
        ColumnType::Date => String::from("date"),
        ColumnType::Binary => String::from("varbyte(1024000)"),
        ColumnType::Decimal(precision, scale) => format!("decimal({precision},{scale})"),
        ColumnType::List(item) => format!("array<{}>", type_of(item, format)?),
        ColumnType::Struct(fields) => {
            let plain =
                |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            let fields = fields.iter().filter(|field| plain(&field.name)).filter_map(|field| {
                Some(format!("{}:{}", field.name.to_lowercase(), type_of(&field.ty, format)?))
            });
            let fields: Vec<String> = fields.collect();
            if fields.is_empty() {
                return None;
            }
            format!("struct<{}>", fields.join(","))
        }
    })
}
