use lakeward_columnar::shape::{CsvOptions, FileCompression, Output, Shape};
use lakeward_connectors::AwsAccess;
use lakeward_connectors::catalogs::glue::projection::Projection;
use lakeward_connectors::destinations::lake::LakeConfig;
use lakeward_model::TableSchema;
use serde_json::json;

use super::*;

fn columns() -> TableSchema {
    let columns = serde_json::from_value(json!([
        {"name": "id", "type": "utf8"},
        {"name": "order", "type": "int64"},
        {"name": "it's \"odd\" `name`, yes", "type": "float64"},
        {"name": "at", "type": "timestamptz"},
        {"name": "day_of", "type": "date"},
        {"name": "price", "type": {"decimal": [18, 4]}},
        {"name": "ctx", "type": {"struct": [{"name": "Tier", "type": "utf8"}, {"name": "a-b", "type": "bool"}]}},
        {"name": "tags", "type": {"list": "utf8"}},
        {"name": "area", "type": "utf8"},
        {"name": "_rescued", "type": "json"},
    ]));
    TableSchema { version: 3, columns: columns.expect("columns") }
}

fn table(url: &str, output: Output, path: &str) -> Table {
    let shape = Shape { output, path: path.into(), ..Shape::default() };
    let aws = AwsAccess { region: Some("eu-west-1".into()), ..AwsAccess::default() };
    Table {
        description: describe("flag-events", &address(url), &shape, &columns()).expect("a table"),
        name: "flag_events".into(),
        database: Some("lake".into()),
        lake: LakeConfig { aws, ..LakeConfig::at(url) },
        projection: None,
    }
}

const HOURLY: &str = "events/day=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/area=!{event:area}/";

fn told(table: &Table) -> String {
    use clap::ValueEnum;
    let all = Dialect::value_variants().iter().map(|dialect| {
        let Statement { notes, text } = dialect.statement(table);
        let notes: String = notes.iter().map(|note| format!("-- {note}\n")).collect();
        format!("======== {dialect:?}\n{notes}{text}\n")
    });
    all.collect()
}

#[test]
fn parquet_in_a_bucket() {
    insta::assert_snapshot!(told(&table("s3://b/p/", Output::default(), HOURLY)));
}

#[test]
fn json_in_a_folder() {
    let output = Output::Ndjson { compression: FileCompression::Gzip };
    insta::assert_snapshot!(told(&table("file:///data/lake", output, HOURLY)));
}

#[test]
fn csv_without_hive_folders() {
    let output = Output::Csv(CsvOptions {
        delimiter: ';',
        compression: FileCompression::Zstd,
        ..CsvOptions::default()
    });
    insta::assert_snapshot!(told(&table("s3://b", output, "logs/")));
}

#[test]
fn projection() {
    let mut table = table("s3://b/p/", Output::default(), HOURLY);
    table.projection =
        Some(Projection { from: "2024-01-01".into(), values: [("area".into(), vec!["a".into()])].into() });
    insta::assert_snapshot!(athena::statement(&table).text);
}

#[test]
fn declared_columns_are_put_together() {
    let shape: Shape = serde_json::from_value(json!({
        "columns": {"a": "int64", "c.d": "json", "c.\"e.f\"": "date", "g": "decimal(9,2)"}
    }))
    .expect("a shape");
    let declared = columns_declared(&shape).expect("columns");
    let told: Vec<String> =
        declared.describe().into_iter().map(|(path, ty)| format!("{path} {ty}")).collect();
    assert_eq!(told, ["a int64", "c.\"e.f\" date", "c.d json", "g decimal(9,2)"]);
    assert_eq!(columns_declared(&Shape { sql: Some("SELECT 1".into()), ..shape }), None);
}

/// A table of these text columns.
fn table_of(names: &[&str], output: Output, path: &str) -> Table {
    let column = |name: &&str| Column { name: String::from(*name), ty: ColumnType::Utf8 };
    let schema = TableSchema { version: 1, columns: names.iter().map(column).collect() };
    let shape = Shape { output: output.clone(), path: path.into(), ..Shape::default() };
    Table {
        description: describe("p", "s3://b/", &shape, &schema).expect("a table"),
        ..table("s3://b/", output, path)
    }
}

#[test]
fn no_name_breaks_out_of_its_quotes() {
    let evil = "x\\`) AS SELECT 1; --";
    let table = table_of(&["id", evil, "\\"], Output::default(), "p/");
    let text = clickhouse::statement(&table).text;
    assert!(text.contains("  `x\\\\\\`) AS SELECT 1; --`,\n  `\\\\`"), "{text}");
    // And within a literal.
    assert!(text.contains(r"`x\\\\\\`) AS SELECT 1; --` Nullable(String), `\\\\` Nullable"), "{text}");
    assert_eq!(escaped_back_quoted("a\\`b\n"), r"`a\\\`b\n`");
}

#[test]
fn csv_keeps_the_place_of_a_column_that_a_folder_hides() {
    let table = |header| {
        let csv = Output::Csv(CsvOptions { header, ..CsvOptions::default() });
        table_of(&["id", "day", "n"], csv, "day=!{timestamp:yyyy-MM-dd}/")
    };
    for dialect in
        [Dialect::Athena, Dialect::Spark, Dialect::Snowflake, Dialect::Bigquery, Dialect::RedshiftSpectrum]
    {
        let Statement { notes, text } = dialect.statement(&table(true));
        let lower = text.to_lowercase();
        let place = lower.find("column_2");
        assert!(place.is_some() && place < lower.find("`n` ").or_else(|| lower.find("\"n\" ")), "{text}");
        assert!(notes.iter().any(|note| note.contains("\"day\" is called column_2")), "{notes:?}");
    }
    assert!(snowflake::statement(&table(true)).text.contains("VALUE:c3"));
    // By the header the others find their own; without one they count too.
    for (dialect, own) in [(Dialect::Clickhouse, "column_2` "), (Dialect::Duckdb, "'column_2': ")] {
        assert!(!dialect.statement(&table(true)).text.contains("column_2"), "{dialect:?}");
        assert!(dialect.statement(&table(false)).text.contains(own), "{dialect:?}");
    }
}
