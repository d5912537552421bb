//! Tests of the decoder, and how to read its result back.

mod declared;
mod drifting;
mod properties;
mod table;

use arrow::array::{Array, AsArray};
use lakeward_model::Records;
use serde_json::{Map, Value};

use super::{DecodeOptions, Decoded, Decoder};
use crate::reassemble::{self, canonical, same};
use crate::schema::{RESCUED, TableSchema, ToArrow};

/// The records as one block.
fn block<R: AsRef<[u8]>>(records: &[R]) -> Records {
    let mut data = Vec::new();
    let mut ends = Vec::new();
    for record in records {
        data.extend_from_slice(record.as_ref());
        ends.push(data.len() as u32);
    }
    Records::new(data.into(), ends)
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

/// What `_rescued` holds in a row.
fn rescued(decoded: &Decoded, row: usize) -> Map<String, Value> {
    reassemble::rescued(&decoded.rows, row)
}

/// The columns of a row, without `_rescued`.
fn columns(decoded: &Decoded, row: usize) -> Map<String, Value> {
    reassemble::columns(&decoded.rows, row)
}

/// The whole row: the columns, and what was rescued back in its place.
fn read_back(decoded: &Decoded, row: usize) -> Value {
    reassemble::row(&decoded.rows, row)
}
