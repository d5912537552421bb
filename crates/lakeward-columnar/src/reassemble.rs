//! Rows back to the records that they came from, for tests of what is lost.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, TimestampMicrosecondType,
};
use serde_json::{Map, Value};

use crate::dotted;
use crate::schema::{JSON_METADATA, RESCUED};

/// The value of a column in a row; null where there is none, objects without
/// their nulls, an instant as `@` and its microseconds.
pub(crate) fn cell(column: &dyn Array, field: &Field, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match field.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 if field.metadata().contains_key(JSON_METADATA) => {
            serde_json::from_str(column.as_string::<i32>().value(row)).unwrap()
        }
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Timestamp(_, zone) => {
            assert!(zone.as_deref().is_none_or(|zone| zone == "UTC"));
            format!("@{}", column.as_primitive::<TimestampMicrosecondType>().value(row)).into()
        }
        DataType::Date32 => format!("day {}", column.as_primitive::<Date32Type>().value(row)).into(),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        DataType::Binary => format!("{:?}", column.as_binary::<i32>().value(row)).into(),
        DataType::Struct(fields) => {
            let values = fields.iter().zip(column.as_struct().columns());
            let values = values.map(|(field, column)| (field.name().clone(), cell(column, field, row)));
            Value::Object(values.filter(|(_, value)| !value.is_null()).collect())
        }
        DataType::List(item) => {
            let elements = column.as_list::<i32>().value(row);
            (0..elements.len()).map(|i| cell(&elements, item, i)).collect()
        }
        other => panic!("no column has the type {other}"),
    }
}

/// What `_rescued` holds in a row.
pub(crate) fn rescued(rows: &RecordBatch, row: usize) -> Map<String, Value> {
    let Some(column) = rows.column_by_name(RESCUED) else { return Map::new() };
    let column = column.as_string::<i32>();
    if column.is_null(row) { Map::new() } else { serde_json::from_str(column.value(row)).unwrap() }
}

/// The columns of a row, without `_rescued`.
pub(crate) fn columns(rows: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = rows.schema();
    let cells = schema.fields().iter().zip(rows.columns());
    let cells = cells.filter(|(field, _)| field.name() != RESCUED);
    let cells = cells.map(|(field, column)| (field.name().clone(), cell(column, field, row)));
    cells.filter(|(_, value)| !value.is_null()).collect()
}

/// The whole row: the columns, and what was rescued back in its place.
pub(crate) fn row(rows: &RecordBatch, row: usize) -> Value {
    let mut whole = Value::Object(columns(rows, row));
    let mut rescued: Vec<_> =
        rescued(rows, row).into_iter().map(|(path, value)| (dotted::split(&path).unwrap(), value)).collect();
    rescued.sort_by_key(|(path, _)| path.len());
    for (path, value) in rescued {
        let mut place = &mut whole;
        for name in path {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = place.as_object_mut().unwrap().entry(name).or_insert(Value::Null);
        }
        *place = value;
    }
    canonical(&whole)
}

/// The paths of a row that have a value in their column and another in
/// `_rescued`. A rescued list replaces its column's: that is no such path.
pub(crate) fn doubled(rows: &RecordBatch, row: usize) -> Vec<String> {
    let columns = Value::Object(columns(rows, row));
    let is_doubled = |path: &str, rescued: &Value| {
        let names = dotted::split(path).unwrap();
        let found = names.iter().try_fold(&columns, |place, name| place.get(name));
        found.is_some_and(|value| !(value.is_null() || value.is_array() && rescued.is_array()))
    };
    rescued(rows, row)
        .into_iter()
        .filter(|(path, value)| is_doubled(path, value))
        .map(|(path, _)| path)
        .collect()
}

/// The value without the nulls in its objects.
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name.clone(), canonical(value))).collect())
        }
        Value::Array(elements) => elements.iter().map(canonical).collect(),
        other => other.clone(),
    }
}

/// Whether two canonical values are the same: 1 and 1.0 are.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => a == b,
            (Some(int), None) => b.as_f64().is_some_and(|float| float as i128 == int),
            (None, Some(int)) => a.as_f64().is_some_and(|float| float as i128 == int),
            // serde_json's own parser is not always the nearest.
            (None, None) => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                (a - b).abs() <= a.abs() * 4.0 * f64::EPSILON + 1e-320
            }
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
