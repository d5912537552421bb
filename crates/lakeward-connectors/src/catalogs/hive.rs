//! Columns in the types of Hive, which Glue, Athena and Redshift Spectrum speak.
//!
//! Names are lower-cased, as those engines take them. What cannot be named
//! there is left out and told: the files keep it.

use lakeward_model::{Column, ColumnType, FileCompression, TableDescription, TableFormat};

/// The longest name of a column (Glue API, `NameString`).
const NAME_MAX: usize = 255;
/// The longest type (Glue API, `ColumnTypeString`).
const TYPE_MAX: usize = 131_072;

/// A column, or a field of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiveColumn {
    /// In lower case.
    pub name: String,
    /// In Hive's words: `array<struct<sku:string>>`.
    pub ty: String,
}

/// The columns of a table, and what a person should know of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HiveColumns {
    /// Those of the files.
    pub columns: Vec<HiveColumn>,
    /// The partition keys.
    pub partition_keys: Vec<HiveColumn>,
    /// What is left out and why, and what the engines cannot read.
    pub notes: Vec<String>,
}

/// A table's columns in Hive's types.
#[must_use]
pub fn columns(table: &TableDescription) -> HiveColumns {
    let mut notes = Vec::new();
    let partition_keys: Vec<HiveColumn> = table
        .partition_keys
        .iter()
        .map(|key| HiveColumn { name: key.name.to_lowercase(), ty: scalar(&key.ty).into() })
        .collect();
    let mut columns: Vec<HiveColumn> = Vec::with_capacity(table.columns.len());
    let told = |name: &str, own: &str, why: &str| format!("the column {own:?} is called {name}: {why}");
    for (name, own) in &table.hidden {
        notes.push(told(name, own, "a partition key has its name"));
    }
    // CSV is read by position: what cannot be named still has its place.
    let is_csv = matches!(table.format, TableFormat::Csv { .. });
    for (at, Column { name, ty }) in table.columns.iter().enumerate() {
        let lower = name.to_lowercase();
        if is_csv && (!is_name(&lower) || columns.iter().any(|other| other.name == lower)) {
            let name_there = table.name_of_place(at);
            notes.push(told(&name_there, name, "Glue takes no such name, or has it already"));
            columns.push(HiveColumn { name: name_there, ty: String::from("string") });
        } else if !is_name(&lower) {
            notes.push(format!("the column {name:?} is left out: Glue takes no such name"));
        } else if columns.iter().any(|other| other.name == lower) {
            notes.push(format!(
                "the column {name:?} is left out: another differs from it only in case, and Glue knows lower case only"
            ));
        } else if let Some(ty) = file_type(ty, &table.format, name, &mut notes) {
            if ty.len() > TYPE_MAX {
                notes.push(format!("the column {name:?} is left out: its type has {} characters", ty.len()));
            } else {
                columns.push(HiveColumn { name: lower, ty });
            }
        }
    }
    notes.extend(unreadable(&table.format));
    HiveColumns { columns, partition_keys, notes }
}

/// Whether Glue takes a name (its API's `NameString`) and Hive, which joins
/// names with commas.
fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(|c| c.is_control() || c == ',')
}

/// What Athena (engine version 3) cannot read of a format ("Hive table
/// compression support by file format" in its user guide).
fn unreadable(format: &TableFormat) -> Option<String> {
    let compression = format.compression();
    let reads = matches!(
        compression,
        FileCompression::None | FileCompression::Gzip | FileCompression::Zstd | FileCompression::HadoopSnappy
    );
    (!reads).then(|| {
        format!(
            "Athena cannot read {} files with {} compression; gzip and zstd it can",
            format.name(),
            compression.name()
        )
    })
}

/// The type of a file's column. Text has less of them: what JSON and CSV write
/// as text stays text, because the SerDes expect other spellings of it.
fn file_type(ty: &ColumnType, format: &TableFormat, path: &str, notes: &mut Vec<String>) -> Option<String> {
    match format {
        TableFormat::Parquet { .. } => nested(ty, false, path, notes),
        TableFormat::Ndjson { .. } => nested(ty, true, path, notes),
        // OpenCSVSerde gives everything as strings.
        TableFormat::Csv { .. } => Some(String::from("string")),
    }
}

fn nested(ty: &ColumnType, is_text: bool, path: &str, notes: &mut Vec<String>) -> Option<String> {
    match ty {
        ColumnType::Decimal(precision, scale) => Some(format!("decimal({precision},{scale})")),
        ColumnType::Timestamp | ColumnType::TimestampTz | ColumnType::Date | ColumnType::Binary
            if is_text =>
        {
            Some(String::from("string"))
        }
        ColumnType::List(item) => Some(format!("array<{}>", nested(item, is_text, path, notes)?)),
        ColumnType::Struct(fields) => {
            let mut told: Vec<(String, String)> = Vec::with_capacity(fields.len());
            for Column { name, ty } in fields {
                let lower = name.to_lowercase();
                let path = format!("{path}.{name}");
                if !is_field_name(&lower) {
                    notes.push(format!("the field {path:?} is left out: a Hive type cannot name it"));
                } else if told.iter().any(|(other, _)| *other == lower) {
                    notes.push(format!(
                        "the field {path:?} is left out: another differs from it only in case"
                    ));
                } else if let Some(ty) = nested(ty, is_text, &path, notes) {
                    told.push((lower, ty));
                }
            }
            if told.is_empty() {
                notes.push(format!("the column {path:?} is left out: none of its fields can be named"));
                return None;
            }
            let fields: Vec<String> = told.into_iter().map(|(name, ty)| format!("{name}:{ty}")).collect();
            Some(format!("struct<{}>", fields.join(",")))
        }
        other => Some(scalar(other).into()),
    }
}

/// The types without parameters; text for the rest.
fn scalar(ty: &ColumnType) -> &'static str {
    match ty {
        ColumnType::Bool => "boolean",
        ColumnType::Int64 => "bigint",
        ColumnType::Float64 => "double",
        ColumnType::Timestamp | ColumnType::TimestampTz => "timestamp",
        ColumnType::Date => "date",
        ColumnType::Binary => "binary",
        _ => "string",
    }
}

/// Hive reads a type's names as letters, digits and `_` (`TypeInfoUtils`; it
/// takes a few more, which Athena does not).
fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(format: TableFormat) -> HiveColumns {
        let columns = serde_json::from_value(json!([
            {"name": "Id", "type": "utf8"},
            {"name": "id", "type": "int64"},
            {"name": "at", "type": "timestamptz"},
            {"name": "price", "type": {"decimal": [18, 4]}},
            {"name": "ctx", "type": {"struct": [
                {"name": "Tier", "type": "utf8"}, {"name": "tier", "type": "bool"}, {"name": "a-b", "type": "bool"},
                {"name": "when", "type": "date"}]}},
            {"name": "odd", "type": {"struct": [{"name": "a:b", "type": "bool"}]}},
            {"name": "items", "type": {"list": {"struct": [{"name": "n", "type": "float64"}]}}},
            {"name": "a,b", "type": "bool"},
            {"name": "_rescued", "type": "json"},
        ]))
        .expect("columns");
        columns_of(columns, format)
    }

    fn columns_of(columns: Vec<Column>, format: TableFormat) -> HiveColumns {
        super::columns(&TableDescription {
            pipeline: "p".into(),
            location: "s3://b/".into(),
            columns,
            hidden: std::collections::BTreeMap::new(),
            partition_keys: Vec::new(),
            folders: String::new(),
            deeper: 0,
            format,
        })
    }

    #[test]
    fn types_of_parquet() {
        let got = told(TableFormat::Parquet { compression: "zstd".into() });
        let columns: Vec<_> = got.columns.iter().map(|c| (c.name.as_str(), c.ty.as_str())).collect();
        assert_eq!(
            columns,
            [
                ("id", "string"),
                ("at", "timestamp"),
                ("price", "decimal(18,4)"),
                ("ctx", "struct<tier:string,when:date>"),
                ("items", "array<struct<n:double>>"),
                ("_rescued", "string"),
            ]
        );
        let left_out = ["\"id\"", "\"ctx.tier\"", "\"ctx.a-b\"", "\"odd.a:b\"", "\"odd\"", "\"a,b\""];
        assert_eq!(got.notes.len(), left_out.len(), "{:?}", got.notes);
        for (note, name) in got.notes.iter().zip(left_out) {
            assert!(note.contains(name) && note.contains("left out"), "{note}");
        }
    }

    #[test]
    fn types_of_text() {
        let json = told(TableFormat::Ndjson { compression: FileCompression::Gzip });
        let ty = |got: &HiveColumns, name: &str| {
            got.columns.iter().find(|column| column.name == name).map(|column| column.ty.clone())
        };
        assert_eq!(ty(&json, "at").as_deref(), Some("string"));
        assert_eq!(ty(&json, "ctx").as_deref(), Some("struct<tier:string,when:string>"));
        let csv = TableFormat::Csv {
            compression: FileCompression::Snappy,
            delimiter: ',',
            header: true,
            null: String::new(),
        };
        let csv = told(csv);
        assert!(csv.columns.iter().all(|column| column.ty == "string"), "{csv:?}");
        assert_eq!((csv.columns.len(), csv.columns[1].name.as_str()), (9, "column_2"), "each has its place");
        assert!(csv.notes.iter().any(|note| note.contains("snappy compression")), "{csv:?}");
    }
}
