//! The evolving schema of a table: what the ledger keeps between batches.
//!
//! The nouns are [`lakeward_model`]'s; here is how Arrow has them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

pub use lakeward_model::{Change, ChangeKind, Column, ColumnType, RESCUED, TableSchema};

/// The Arrow field metadata key of a string column that holds JSON text; its
/// value is `true`.
pub const JSON_METADATA: &str = "lakeward:json";

/// A schema as Arrow has it.
pub trait ToArrow {
    /// The schema as Arrow has it.
    #[must_use]
    fn to_arrow(&self) -> SchemaRef;
}

impl ToArrow for TableSchema {
    fn to_arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(fields(&self.columns)))
    }
}

/// A column's type as Arrow has it.
pub trait ToArrowType {
    /// A nullable Arrow field of this type.
    #[must_use]
    fn to_field(&self, name: &str) -> Field;

    /// The Arrow type.
    #[must_use]
    fn to_data_type(&self) -> DataType;
}

impl ToArrowType for ColumnType {
    fn to_field(&self, name: &str) -> Field {
        let field = Field::new(name, self.to_data_type(), true);
        match self {
            Self::Json => field.with_metadata(HashMap::from([(JSON_METADATA.into(), "true".into())])),
            _ => field,
        }
    }

    fn to_data_type(&self) -> DataType {
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
