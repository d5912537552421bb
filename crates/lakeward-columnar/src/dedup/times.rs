//! The time of each row's key.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use lakeward_model::Timestamp;

use super::KeyTimes;
use crate::path::instant::{self, TimeReader};
use crate::path::{Column, find, time_type};

/// The time of each row: see [`KeyTimes::column`].
pub(super) fn times(rows: &RecordBatch, times: &KeyTimes<'_>) -> Vec<Timestamp> {
    let mut of_row = arrivals(times);
    if let Some(column) = times.column.and_then(|path| find(rows, path)) {
        read(&column, &mut of_row);
    }
    of_row
}

fn arrivals(times: &KeyTimes<'_>) -> Vec<Timestamp> {
    let mut block = 0;
    let of_record = |record: &u32| {
        while times.arrivals.get(block + 1).is_some_and(|next| next.0 <= *record) {
            block += 1;
        }
        let (first, arrival) = times.arrivals[block];
        assert!(first <= *record, "records ascend and arrivals cover them");
        arrival
    };
    times.row_records.iter().map(of_record).collect()
}

/// Replaces the arrivals by the column's times, where it has earlier ones.
fn read(column: &Column, of_row: &mut [Timestamp]) {
    let values = &column.values;
    let mut reader = TimeReader::default();
    match values.data_type() {
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            fill(column, of_row, |row| reader.read(texts.value(row).as_bytes()));
        }
        DataType::LargeUtf8 => {
            let texts = values.as_string::<i64>();
            fill(column, of_row, |row| reader.read(texts.value(row).as_bytes()));
        }
        DataType::Utf8View => {
            let texts = values.as_string_view();
            fill(column, of_row, |row| reader.read(texts.value(row).as_bytes()));
        }
        DataType::Int64 => {
            let numbers = values.as_primitive::<Int64Type>().values();
            fill(column, of_row, |row| instant::from_number(numbers[row]));
        }
        DataType::Float64 => {
            let numbers = values.as_primitive::<Float64Type>().values();
            fill(column, of_row, |row| instant::from_float(numbers[row]));
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = values.as_primitive::<TimestampMicrosecondType>().values();
            fill(column, of_row, |row| Some(micros[row]).filter(|m| instant::RANGE.contains(m)));
        }
        other => {
            if let Some(column) = time_type(other).and_then(|target| column.cast(&target)) {
                read(&column, of_row);
            }
        }
    }
}

fn fill(column: &Column, of_row: &mut [Timestamp], mut micros: impl FnMut(usize) -> Option<i64>) {
    for (row, at) in of_row.iter_mut().enumerate() {
        if column.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
            && let Some(micros) = micros(row)
        {
            *at = Timestamp(micros).min(*at);
        }
    }
}
