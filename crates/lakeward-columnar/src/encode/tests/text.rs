//! NDJSON and CSV, to the byte.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema};

use super::{batch, runs, strings};
use crate::encode::{EncodeError, encode};
use crate::shape::{CsvOptions, CsvQuote, FileCompression, Output};

fn ndjson(batch: &RecordBatch) -> String {
    let output = Output::Ndjson { compression: FileCompression::None };
    let whole = encode(&output, batch, &runs(batch, usize::MAX)).unwrap();
    let parts = encode(&output, batch, &runs(batch, 1)).unwrap();
    assert_eq!(whole, parts, "runs give the same text");
    assert_eq!(whole.extension, ".ndjson");
    String::from_utf8(whole.body.to_vec()).unwrap()
}

fn csv(options: CsvOptions, batch: &RecordBatch) -> String {
    let whole = encode(&Output::Csv(options.clone()), batch, &runs(batch, usize::MAX)).unwrap();
    let parts = encode(&Output::Csv(options), batch, &runs(batch, 1)).unwrap();
    assert_eq!(whole, parts, "runs give the same text");
    String::from_utf8(whole.body.to_vec()).unwrap()
}

fn check_json(column: ArrayRef, expect: &str) {
    assert_eq!(ndjson(&batch(vec![("v", column)])), expect);
}

#[test]
fn json_scalars() {
    check_json(
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        "{\"v\":true}\n{}\n{\"v\":false}\n",
    );
    check_json(
        Arc::new(Int64Array::from(vec![i64::MIN, -1, i64::MAX])),
        "{\"v\":-9223372036854775808}\n{\"v\":-1}\n{\"v\":9223372036854775807}\n",
    );
    check_json(
        Arc::new(Float64Array::from(vec![1.0, -0.0, 1e21, 0.1, f64::NAN, f64::INFINITY])),
        "{\"v\":1.0}\n{\"v\":-0.0}\n{\"v\":1e21}\n{\"v\":0.1}\n{}\n{}\n",
    );
    check_json(
        strings(&[Some(""), Some("a\"b\\c\n\u{1}\u{7f}é🦀"), None]),
        "{\"v\":\"\"}\n{\"v\":\"a\\\"b\\\\c\\n\\u0001\u{7f}é🦀\"}\n{}\n",
    );
    check_json(
        Arc::new(TimestampMicrosecondArray::from(vec![0, 1_705_329_000_123_456, -1]).with_timezone("UTC")),
        "{\"v\":\"1970-01-01T00:00:00Z\"}\n{\"v\":\"2024-01-15T14:30:00.123456Z\"}\n{\"v\":\"1969-12-31T23:59:59.999999Z\"}\n",
    );
    check_json(Arc::new(Int32Array::from(vec![7])), "{\"v\":7}\n");
    check_json(Arc::new(Date32Array::from(vec![19_737])), "{\"v\":\"2024-01-15\"}\n");
    check_json(Arc::new(BinaryArray::from(vec![&b"\0\xff"[..]])), "{\"v\":\"AP8=\"}\n");
    let decimal = Decimal128Array::from(vec![1234, -5]).with_precision_and_scale(10, 2).unwrap();
    check_json(Arc::new(decimal), "{\"v\":12.34}\n{\"v\":-0.05}\n");
}

fn list(values: ArrayRef, ends: &[i32], valid: Vec<bool>) -> ArrayRef {
    let offsets =
        OffsetBuffer::new(std::iter::once(0).chain(ends.iter().copied()).collect::<Vec<_>>().into());
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Arc::new(ListArray::new(item, offsets, values, Some(NullBuffer::from(valid))))
}

#[test]
fn json_nesting() {
    check_json(
        list(
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
            &[2, 2, 2, 3],
            vec![true, true, false, true],
        ),
        "{\"v\":[1,null]}\n{\"v\":[]}\n{}\n{\"v\":[3]}\n",
    );
    let inner = StructArray::new(
        vec![Field::new("x", DataType::Int64, true), Field::new("y \"", DataType::Utf8, true)].into(),
        vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
            strings(&[Some("a"), None, Some("c")]),
        ],
        Some(NullBuffer::from(vec![true, true, false])),
    );
    check_json(Arc::new(inner), "{\"v\":{\"x\":1,\"y \\\"\":\"a\"}}\n{\"v\":{}}\n{}\n");
    check_json(Arc::new(StructArray::new_empty_fields(2, None)), "{\"v\":{}}\n{\"v\":{}}\n");
}

#[test]
fn json_columns_go_out_raw() {
    let json = HashMap::from([(String::from("lakeward:json"), String::from("true"))]);
    let schema = Arc::new(Schema::new(vec![
        Field::new("free", DataType::Utf8, true).with_metadata(json),
        Field::new("_rescued", DataType::Utf8, true),
        Field::new("text", DataType::Utf8, true),
    ]));
    let columns = vec![
        strings(&[Some("{\"a\":\n[1, 2]}"), Some("null"), Some("{oops")]),
        strings(&[None, Some("{\"b\":1}"), None]),
        strings(&[Some("{}"), None, None]),
    ];
    let batch = RecordBatch::try_new(schema, columns).unwrap();
    let expect = "{\"free\":{\"a\": [1, 2]},\"text\":\"{}\"}\n{\"free\":null,\"_rescued\":{\"b\":1}}\n{\"free\":\"{oops\"}\n";
    assert_eq!(ndjson(&batch), expect);
}

#[test]
fn csv_quotes_what_needs_it() {
    let table = batch(vec![
        ("a,b", strings(&[Some("plain"), Some("say \"hi\""), Some(""), None, Some("l1\r\nl2"), Some(" x")])),
        ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3), None, Some(5), Some(6)]))),
    ]);
    assert_eq!(
        csv(CsvOptions::default(), &table),
        "\"a,b\",n\nplain,1\n\"say \"\"hi\"\"\",\n\"\",3\n,\n\"l1\r\nl2\",5\n\" x\",6\n"
    );
    let options = CsvOptions {
        delimiter: '\t',
        header: false,
        null: String::from("\\N"),
        quote: CsvQuote::All,
        ..CsvOptions::default()
    };
    assert_eq!(
        csv(options, &table),
        "\"plain\"\t\"1\"\n\"say \"\"hi\"\"\"\t\\N\n\"\"\t\"3\"\n\\N\t\\N\n\"l1\r\nl2\"\t\"5\"\n\" x\"\t\"6\"\n"
    );
}

#[test]
fn csv_tells_null_from_its_text() {
    let table = batch(vec![("v", strings(&[Some("NULL"), None, Some("x")]))]);
    let options = CsvOptions { null: String::from("NULL"), header: false, ..CsvOptions::default() };
    assert_eq!(csv(options, &table), "\"NULL\"\nNULL\nx\n");
    let table = batch(vec![("v", strings(&[Some("x"), None]))]);
    assert_eq!(csv(CsvOptions::default(), &table), "v\nx\n\"\"\n", "no line is empty");
}

#[test]
fn csv_values_of_other_types() {
    let values = list(strings(&[Some("a"), Some("b\"")]), &[2, 2], vec![true, false]);
    let table = batch(vec![
        ("l", values),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None]).with_timezone("UTC"))),
        ("f", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.5)]))),
        ("d", Arc::new(Date32Array::from(vec![0, 1]))),
    ]);
    assert_eq!(
        csv(CsvOptions::default(), &table),
        "l,t,f,d\n\"[\"\"a\"\",\"\"b\\\"\"\"\"]\",1970-01-01T00:00:00Z,NaN,1970-01-01\n,,0.5,1970-01-02\n"
    );
}

#[test]
fn csv_refuses_what_readers_could_not_read() {
    let table = batch(vec![("v", strings(&[None]))]);
    for options in [
        CsvOptions { delimiter: '"', ..CsvOptions::default() },
        CsvOptions { delimiter: '→', ..CsvOptions::default() },
        CsvOptions { null: String::from("a,b"), ..CsvOptions::default() },
    ] {
        let refused = encode(&Output::Csv(options), &table, &runs(&table, usize::MAX));
        assert!(matches!(refused, Err(EncodeError::Option { .. })));
    }
}

/// A column of every type that a schema knows, the second row null.
fn every_type() -> RecordBatch {
    use crate::schema::{Column, ColumnType, TableSchema, ToArrow};
    let column = |name: &str, ty| Column { name: name.into(), ty };
    let schema = TableSchema {
        version: 1,
        columns: vec![
            column("b", ColumnType::Bool),
            column("i", ColumnType::Int64),
            column("f", ColumnType::Float64),
            column("u", ColumnType::Utf8),
            column("j", ColumnType::Json),
            column("t", ColumnType::Timestamp),
            column("z", ColumnType::TimestampTz),
            column("d", ColumnType::Date),
            column("m", ColumnType::Decimal(9, 2)),
            column("y", ColumnType::Binary),
            column("l", ColumnType::List(Box::new(ColumnType::TimestampTz))),
            column("s", ColumnType::Struct(vec![column("d", ColumnType::Date)])),
        ],
    };
    let micros = || TimestampMicrosecondArray::from(vec![Some(1_705_329_000_500_000), None]);
    let days = || Arc::new(Date32Array::from(vec![Some(19_737), None]));
    let zoned = Arc::new(micros().with_timezone("UTC"));
    let nulls = Some(NullBuffer::from(vec![true, false]));
    let item = Arc::new(Field::new("item", zoned.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([1, 0]);
    let lists = ListArray::new(item, offsets, Arc::new(zoned.slice(0, 1)), nulls.clone());
    let day = Arc::new(Field::new("d", DataType::Date32, true));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Int64Array::from(vec![Some(1), None])),
        Arc::new(Float64Array::from(vec![Some(0.5), None])),
        strings(&[Some("x"), None]),
        strings(&[Some("{\"a\":1}"), None]),
        Arc::new(micros()),
        zoned,
        days(),
        Arc::new(Decimal128Array::from(vec![Some(150), None]).with_precision_and_scale(9, 2).unwrap()),
        Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), None])),
        Arc::new(lists),
        Arc::new(StructArray::new(vec![day].into(), vec![days()], nulls)),
    ];
    RecordBatch::try_new(schema.to_arrow(), columns).unwrap()
}

#[test]
fn every_type_of_a_schema_has_a_text() {
    assert_eq!(
        ndjson(&every_type()),
        "{\"b\":true,\"i\":1,\"f\":0.5,\"u\":\"x\",\"j\":{\"a\":1},\"t\":\"2024-01-15T14:30:00.5\",\"z\":\"2024-01-15T14:30:00.5Z\",\"d\":\"2024-01-15\",\"m\":1.50,\"y\":\"/w==\",\"l\":[\"2024-01-15T14:30:00.5Z\"],\"s\":{\"d\":\"2024-01-15\"}}\n{}\n"
    );
    assert_eq!(
        csv(CsvOptions { header: false, ..CsvOptions::default() }, &every_type()),
        "true,1,0.5,x,\"{\"\"a\"\":1}\",2024-01-15T14:30:00.5,2024-01-15T14:30:00.5Z,2024-01-15,1.50,/w==,\"[\"\"2024-01-15T14:30:00.5Z\"\"]\",\"{\"\"d\"\":\"\"2024-01-15\"\"}\"\n,,,,,,,,,,,\n"
    );
}

#[test]
fn times_beyond_the_calendar_are_numbers() {
    let far = TimestampMicrosecondArray::from(vec![i64::MAX]);
    check_json(Arc::new(far.clone()), "{\"v\":9223372036854775807}\n");
    check_json(Arc::new(far.with_timezone("UTC")), "{\"v\":9223372036854775807}\n");
    check_json(Arc::new(Date32Array::from(vec![i32::MAX])), "{\"v\":2147483647}\n");
}
