//! Amazon Athena ("CREATE TABLE" in its user guide).

use lakeward_connectors::catalogs::glue::{projection, serde_parameters, storage_classes};
use lakeward_connectors::catalogs::hive;
use lakeward_model::TableFormat;

use super::{Statement, Table, back_quoted, escaped_literal, list};

pub(super) fn statement(table: &Table) -> Statement {
    let description = &table.description;
    let hive = hive::columns(description);
    let column = |column: &hive::HiveColumn| format!("{} {}", back_quoted(&column.name), column.ty);
    let mut notes = hive.notes.clone();
    notes.extend(table.notes_of_positions().into_iter().take(1));
    if table.is_local() {
        notes.push(String::from("Athena reads S3 only; this lake is a local folder."));
    }
    let name = table.qualified(back_quoted);
    let (serde, input, output) = storage_classes(&description.format);
    let mut text = format!(
        "CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{}\n)\n",
        list(hive.columns.iter().map(column))
    );
    if !hive.partition_keys.is_empty() {
        text.push_str(&format!("PARTITIONED BY (\n{}\n)\n", list(hive.partition_keys.iter().map(column))));
    }
    let pair = |name: &str, value: &str| format!("{} = {}", escaped_literal(name), escaped_literal(value));
    let parameters = serde_parameters(&description.format);
    text.push_str(&format!(
        "ROW FORMAT SERDE {}\nWITH SERDEPROPERTIES (\n{}\n)\nSTORED AS INPUTFORMAT {}\nOUTPUTFORMAT {}\nLOCATION {}\n",
        escaped_literal(serde),
        list(parameters.iter().map(|(name, value)| pair(name, value))),
        escaped_literal(input),
        escaped_literal(output),
        escaped_literal(&table.url()),
    ));
    let mut properties =
        table.projection.as_ref().map(|p| projection::parameters(description, p)).unwrap_or_default();
    properties.insert("classification".into(), classification(&description.format).into());
    if matches!(description.format, TableFormat::Csv { header: true, .. }) {
        properties.insert("skip.header.line.count".into(), "1".into());
    }
    text.push_str(&format!(
        "TBLPROPERTIES (\n{}\n);\n",
        list(properties.iter().map(|(name, value)| pair(name, value)))
    ));
    if table.projection.is_none() && !hive.partition_keys.is_empty() {
        notes.push(String::from("Athena takes one statement at a time."));
        if table.hive_keys().is_empty() {
            let values = hive.partition_keys.iter().map(|key| format!("{} = '…'", back_quoted(&key.name)));
            let values = values.collect::<Vec<_>>().join(", ");
            let location = escaped_literal(&format!("{}{}", table.url(), description.folders));
            text.push_str(&format!(
                "-- For every partition, unless the pipeline has a catalog (or take --projection):\n\
                 -- ALTER TABLE {name} ADD IF NOT EXISTS PARTITION ({values}) LOCATION {location};\n"
            ));
        } else {
            text.push_str(&format!(
                "-- Finds the partitions that are there; again for new ones, unless the pipeline has a catalog (or take --projection).\n\
                 MSCK REPAIR TABLE {name};\n"
            ));
        }
    }
    Statement { notes, text }
}

fn classification(format: &TableFormat) -> &'static str {
    match format {
        TableFormat::Parquet { .. } => "parquet",
        TableFormat::Ndjson { .. } => "json",
        TableFormat::Csv { .. } => "csv",
    }
}
