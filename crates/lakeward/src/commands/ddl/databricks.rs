//! Databricks ("CREATE TABLE" and "read_files" in its SQL reference).

use super::{Statement, Table, back_quoted, escaped_literal, spark};

pub(super) fn statement(table: &Table) -> Statement {
    let mut statement = spark::create(table, &table.url());
    statement.notes.push(String::from(
        "The address must lie in an external location (CREATE EXTERNAL LOCATION) that you may read.",
    ));
    if table.database.is_none() {
        statement.notes.push(String::from("Give a catalog and a schema with --database main.events."));
    }
    if !table.hive_keys().is_empty() {
        statement.text.push_str(&format!(
            "-- Finds the partitions that are there; again for new ones.\nMSCK REPAIR TABLE {};\n",
            table.qualified(back_quoted)
        ));
    }
    let format = match &table.description.format {
        lakeward_model::TableFormat::Parquet { .. } => "parquet",
        lakeward_model::TableFormat::Ndjson { .. } => "json",
        lakeward_model::TableFormat::Csv { .. } => "csv",
    };
    let keys: Vec<&str> = table.hive_keys().iter().map(|key| key.name.as_str()).collect();
    let glob = escaped_literal(&format!("{}{}", table.url(), table.description.glob()));
    statement.text.push_str(&format!(
        "\n-- Or new files as they come, each once (Auto Loader):\n\
         -- CREATE OR REFRESH STREAMING TABLE {} AS SELECT * FROM STREAM read_files(\n--   {glob},\n\
         --   format => '{format}', partitionColumns => {});\n",
        table.beside("_stream", back_quoted),
        escaped_literal(&keys.join(",")),
    ));
    statement
}
