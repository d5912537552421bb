//! Tests of the decoder, and how to read its result back.

mod properties;
mod table;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use lakeward_model::Records;
use serde_json::{Map, Value};

use super::{DecodeOptions, Decoded, Decoder};
use crate::dotted;
use crate::schema::{JSON_METADATA, RESCUED, TableSchema};

/// The records as one block.
fn block<R: AsRef<[u8]>>(records: &[R]) -> Records {
    let mut data = Vec::new();
    let mut ends = Vec::new();
    for record in records {
        data.extend_from_slice(record.as_ref());
        ends.push(data.len() as u32);
    }
    Records { data: data.into(), ends }
}

fn decode_with<R: AsRef<[u8]>>(schema: &TableSchema, options: DecodeOptions, records: &[R]) -> Decoded {
    let mut decoder = Decoder::new(schema, options);
    decoder.push_records(&block(records)).unwrap();
    let decoded = decoder.finish();
    assert_eq!(decoded.rows.num_rows(), decoded.row_records.len());
    assert_eq!(decoded.rows.schema(), decoded.schema.to_arrow());
    decoded
}

fn decode<R: AsRef<[u8]>>(records: &[R]) -> Decoded {
    decode_with(&TableSchema::default(), DecodeOptions::default(), records)
}

/// The value of a column in a row; null where there is none, objects without
/// their nulls.
fn cell(column: &dyn Array, field: &Field, row: usize) -> Value {
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
fn rescued(decoded: &Decoded, row: usize) -> Map<String, Value> {
    let Some(column) = decoded.rows.column_by_name(RESCUED) else { return Map::new() };
    let column = column.as_string::<i32>();
    if column.is_null(row) { Map::new() } else { serde_json::from_str(column.value(row)).unwrap() }
}

/// The columns of a row, without `_rescued`.
fn columns(decoded: &Decoded, row: usize) -> Map<String, Value> {
    let schema = decoded.rows.schema();
    let cells = schema.fields().iter().zip(decoded.rows.columns());
    let cells = cells.filter(|(field, _)| field.name() != RESCUED);
    let cells = cells.map(|(field, column)| (field.name().clone(), cell(column, field, row)));
    cells.filter(|(_, value)| !value.is_null()).collect()
}

/// The whole row: the columns, and what was rescued back in its place.
fn read_back(decoded: &Decoded, row: usize) -> Value {
    let mut whole = Value::Object(columns(decoded, row));
    let mut rescued: Vec<_> = rescued(decoded, row)
        .into_iter()
        .map(|(path, value)| (dotted::split(&path).unwrap(), value))
        .collect();
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

/// The value without the nulls in its objects.
fn canonical(value: &Value) -> Value {
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
fn same(a: &Value, b: &Value) -> bool {
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
