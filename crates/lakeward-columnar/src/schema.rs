//! The evolving schema of a table: what the ledger keeps between batches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

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

/// A named column, or a field of a struct. Two names that differ only in case
/// are two columns.
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

    /// The Arrow type.
    #[must_use]
    pub fn to_data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Utf8 | Self::Json => DataType::Utf8,
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
            ],
        };
        let stored = r#"{"version":3,"columns":[{"name":"a","type":"int64"},{"name":"b","type":{"struct":[{"name":"c","type":"json"}]}},{"name":"d","type":{"list":"utf8"}}]}"#;
        assert_eq!(serde_json::to_string(&schema).unwrap(), stored);
        assert_eq!(serde_json::from_str::<TableSchema>(stored).unwrap(), schema);
        let arrow = schema.to_arrow();
        assert_eq!(arrow.field(0).data_type(), &DataType::Int64);
        let DataType::Struct(inner) = arrow.field(1).data_type() else { panic!() };
        assert_eq!(inner[0].metadata()[JSON_METADATA], "true");
    }
}
