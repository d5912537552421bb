//! The evolving schema of a table: what the ledger keeps between batches.

mod describe;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

pub use self::describe::{Change, ChangeKind};

/// The column that keeps what fits nowhere else: a JSON object of dotted path
/// to original value, null for most rows.
pub const RESCUED: &str = "_rescued";

/// The Arrow field metadata key of a string column that holds JSON text; its
/// value is `true`.
pub const JSON_METADATA: &str = "lakeward:json";

/// The columns of a table, as its files have them. Its JSON form is stored in
/// the ledger and stays readable by later releases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableSchema {
    /// Counts changes; 0 is the empty schema that nothing was written with.
    pub version: u64,
    /// The columns, in the order of the files.
    pub columns: Vec<Column>,
}

/// A named column, or a field of a struct. No new name differs from another in
/// the same place only in case: readers that do not tell them apart (DuckDB,
/// Spark, Athena) would mix the two up, so the later one is rescued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The JSON key, unescaped, otherwise exactly as it came.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub ty: ColumnType,
}

/// What a column holds. Every column is nullable; a JSON null and an absent
/// key are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// 64-bit signed integers.
    Int64,
    /// 64-bit IEEE floats.
    Float64,
    /// Text.
    Utf8,
    /// Any JSON value, as its text.
    Json,
    /// A date and a time of day, in microseconds, in no zone (or in UTC, where
    /// what came had a zone).
    Timestamp,
    /// An instant, in microseconds.
    #[serde(rename = "timestamptz")]
    TimestampTz,
    /// A day of the calendar.
    Date,
    /// Exact numbers: how many digits (1 to 38), and how many of them behind
    /// the point.
    Decimal(u8, u8),
    /// Bytes.
    Binary,
    /// An object with these fields; never empty.
    Struct(Vec<Column>),
    /// An array of values of one type.
    List(Box<ColumnType>),
}

impl TableSchema {
    /// The schema as Arrow has it.
    #[must_use]
    pub fn to_arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(fields(&self.columns)))
    }

    /// Whether it has no column but, perhaps, `_rescued`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.iter().all(|column| column.name == RESCUED)
    }

    /// The column with this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl ColumnType {
    /// A nullable Arrow field of this type.
    #[must_use]
    pub fn to_field(&self, name: &str) -> Field {
        let field = Field::new(name, self.to_data_type(), true);
        match self {
            Self::Json => field.with_metadata(HashMap::from([(JSON_METADATA.into(), "true".into())])),
            _ => field,
        }
    }

    /// How many columns a file has for it, a struct's fields each on its own.
    #[must_use]
    pub fn leaves(&self) -> usize {
        match self {
            Self::Struct(columns) => columns.iter().map(|column| column.ty.leaves()).sum(),
            Self::List(item) => item.leaves(),
            _ => 1,
        }
    }

    /// The Arrow type.
    #[must_use]
    pub fn to_data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Utf8 | Self::Json => DataType::Utf8,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => DataType::Date32,
            Self::Decimal(precision, scale) => DataType::Decimal128(*precision, scale.cast_signed()),
            Self::Binary => DataType::Binary,
            Self::Struct(columns) => DataType::Struct(fields(columns)),
            Self::List(item) => DataType::List(Arc::new(item.to_field(Field::LIST_FIELD_DEFAULT_NAME))),
        }
    }
}

fn fields(columns: &[Column]) -> Fields {
    columns.iter().map(|column| column.ty.to_field(&column.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_stable() {
        let column = |name: &str, ty| Column { name: name.into(), ty };
        let schema = TableSchema {
            version: 3,
            columns: vec![
                column("a", ColumnType::Int64),
                column("b", ColumnType::Struct(vec![column("c", ColumnType::Json)])),
                column("d", ColumnType::List(Box::new(ColumnType::Utf8))),
                column("e", ColumnType::TimestampTz),
                column("f", ColumnType::Decimal(18, 4)),
            ],
        };
        let stored = r#"{"version":3,"columns":[{"name":"a","type":"int64"},{"name":"b","type":{"struct":[{"name":"c","type":"json"}]}},{"name":"d","type":{"list":"utf8"}},{"name":"e","type":"timestamptz"},{"name":"f","type":{"decimal":[18,4]}}]}"#;
        assert_eq!(serde_json::to_string(&schema).unwrap(), stored);
        assert_eq!(serde_json::from_str::<TableSchema>(stored).unwrap(), schema);
        let arrow = schema.to_arrow();
        assert_eq!(arrow.field(0).data_type(), &DataType::Int64);
        let DataType::Struct(inner) = arrow.field(1).data_type() else { panic!() };
        assert_eq!(inner[0].metadata()[JSON_METADATA], "true");
    }
}
