use lakeward_columnar::shape::{CsvOptions, FileCompression, Output, Shape};
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
    Table {
        description: describe("flag-events", &address(url), &shape, &columns()).expect("a table"),
        name: "flag_events".into(),
        database: Some("lake".into()),
        lake: LakeConfig { region: Some("eu-west-1".into()), ..LakeConfig::at(url) },
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
