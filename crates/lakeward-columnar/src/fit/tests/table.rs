//! What comes of what, one line each.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use serde_json::{Value, json};

use crate::fit::{FitOptions, Fitted, fit};
use crate::reassemble;
use crate::schema::{JSON_METADATA, RESCUED, TableSchema, ToArrow};
use crate::shape::Contract;

fn schema(columns: Value) -> TableSchema {
    TableSchema { version: 3, columns: serde_json::from_value(columns).unwrap() }
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn fitted(rows: &RecordBatch, schema: &TableSchema) -> Fitted {
    let fitted = fit(rows, None, schema, &FitOptions::default()).unwrap();
    assert_eq!(fitted.rows.schema(), fitted.schema.to_arrow());
    assert_eq!(fitted.rows.num_rows(), rows.num_rows());
    fitted
}

/// A column `v` of an unknown table: its type and its values.
#[track_caller]
fn check_new(array: ArrayRef, ty: &str, values: Value) {
    let fitted = fitted(&rows(vec![("v", array)]), &TableSchema::default());
    assert_eq!(fitted.schema.describe()[0], ("v".to_owned(), ty.to_owned()));
    assert_eq!(seen(&fitted), values);
    assert_eq!(fitted.schema.version, 1);
}

/// The same in a table that has it as `ty`. `values` are the column's, then
/// what was rescued.
#[track_caller]
fn check_known(array: ArrayRef, ty: Value, values: Value, rescued: Value) {
    let schema = schema(json!([{"name": "v", "type": ty}]));
    let fitted = fitted(&rows(vec![("v", array)]), &schema);
    assert_eq!(seen(&fitted), values);
    let lost: Vec<Value> = (0..fitted.rows.num_rows())
        .map(|row| reassemble::rescued(&fitted.rows, row).remove("v").unwrap_or_default())
        .collect();
    assert_eq!(Value::Array(lost.clone()), rescued);
    let misfits: Vec<_> = (0u32..).zip(&lost).filter(|(_, v)| !v.is_null()).map(|(row, _)| row).collect();
    assert_eq!((fitted.rescued, fitted.misfits), (misfits.len() as u64, misfits));
}

fn seen(fitted: &Fitted) -> Value {
    let schema = fitted.rows.schema();
    let Some((index, field)) = schema.column_with_name("v") else { return Value::Null };
    let column = fitted.rows.column(index);
    (0..column.len()).map(|row| reassemble::cell(column, field, row)).collect()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn every_type_has_a_stored_type() {
    check_new(Arc::new(Int8Array::from(vec![Some(-1), None])), "int64", json!([-1, null]));
    check_new(Arc::new(UInt32Array::from(vec![u32::MAX])), "int64", json!([u32::MAX]));
    check_new(Arc::new(UInt64Array::from(vec![1, u64::MAX])), "int64", json!([1, null]));
    check_new(Arc::new(Float32Array::from(vec![0.5])), "float64", json!([0.5]));
    check_new(Arc::new(BooleanArray::from(vec![true])), "bool", json!([true]));
    check_new(Arc::new(LargeStringArray::from(vec!["x"])), "string", json!(["x"]));
    check_new(Arc::new(StringViewArray::from(vec!["x"])), "string", json!(["x"]));
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
    check_new(Arc::new(words), "string", json!(["a", null, "a"]));
    check_new(Arc::new(BinaryArray::from(vec![&b"\xff"[..]])), "binary", json!(["[255]"]));
    check_new(Arc::new(BinaryViewArray::from(vec![&b"\xff"[..]])), "binary", json!(["[255]"]));
    check_new(Arc::new(Date32Array::from(vec![-1])), "date", json!(["day -1"]));
    check_new(Arc::new(Date64Array::from(vec![-86_400_000])), "date", json!(["day -1"]));
    check_new(Arc::new(TimestampSecondArray::from(vec![7])), "timestamp", json!(["@7000000"]));
    check_new(Arc::new(TimestampSecondArray::from(vec![i64::MAX])), "timestamp", json!([null]));
    check_new(Arc::new(TimestampMillisecondArray::from(vec![7])), "timestamp", json!(["@7000"]));
    check_new(Arc::new(TimestampNanosecondArray::from(vec![-1, 1999])), "timestamp", json!(["@-1", "@1"]));
    let zoned = TimestampMicrosecondArray::from(vec![7]).with_timezone("+02:00");
    check_new(Arc::new(zoned), "timestamptz", json!(["@7"]));
    let nanos = TimestampNanosecondArray::from(vec![7_000]).with_timezone("UTC");
    check_new(Arc::new(nanos), "timestamptz", json!(["@7"]));
    let money = Decimal128Array::from(vec![150]).with_precision_and_scale(9, 2).unwrap();
    check_new(Arc::new(money), "decimal(9,2)", json!(["1.50"]));
    let money = Decimal256Array::from(vec![i256::from_i128(150)]).with_precision_and_scale(60, 2).unwrap();
    check_new(Arc::new(money), "decimal(38,2)", json!(["1.50"]));
    let round = Decimal128Array::from(vec![15]).with_precision_and_scale(4, -2).unwrap();
    check_new(Arc::new(round), "decimal(6,0)", json!(["1500"]));
    check_new(Arc::new(Time64MicrosecondArray::from(vec![3_600_000_000])), "string", json!(["01:00:00"]));
    check_new(Arc::new(DurationSecondArray::from(vec![60])), "string", json!(["PT60S"]));
    let numbers = || vec![Some(vec![Some(1), None]), None, Some(vec![])];
    let lists = ListArray::from_iter_primitive::<Int16Type, _, _>(numbers());
    check_new(Arc::new(lists), "int64[]", json!([[1, null], null, []]));
    let large = LargeListArray::from_iter_primitive::<Int16Type, _, _>(numbers());
    check_new(Arc::new(large), "int64[]", json!([[1, null], null, []]));
    let fixed = vec![Some(vec![Some(1), None]), None];
    let fixed = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(fixed, 2);
    check_new(Arc::new(fixed), "int64[]", json!([[1, null], null]));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).unwrap();
    check_new(Arc::new(map.finish()), "json", json!([{"k": 1}]));
    let void = ListArray::new_null(Arc::new(Field::new("item", DataType::Null, true)), 1);
    check_new(Arc::new(void), "json", json!([null]));
    let empty = StructArray::new_empty_fields(2, Some(NullBuffer::from(vec![true, false])));
    check_new(Arc::new(empty), "json", json!([{}, null]));
}

#[test]
fn what_has_no_type_has_no_column() {
    let nulls: ArrayRef = Arc::new(NullArray::new(2));
    let batch = rows(vec![("v", Arc::clone(&nulls)), ("w", texts(&[Some("x"), None]))]);
    let fitted_new = fitted(&batch, &TableSchema::default());
    assert_eq!(fitted_new.schema.describe(), [("w".to_owned(), "string".to_owned())]);
    check_known(nulls, json!("date"), json!([null, null]), json!([null, null]));
    // Rows of nothing at all are still rows.
    let none = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(2)),
    );
    assert_eq!(fitted(&none.unwrap(), &TableSchema::default()).rows.num_columns(), 1);
}

#[test]
fn values_are_converted_or_rescued() {
    let ints = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let floats = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    let odd = 9_007_199_254_740_993_i64;
    check_known(ints(vec![1, odd]), json!("float64"), json!([1.0, null]), json!([null, odd]));
    check_known(floats(vec![1.0, 1.5]), json!("int64"), json!([1.0, 1.5]), json!([null, null]));
    check_known(floats(vec![f64::INFINITY]), json!("bool"), json!([null]), json!(["inf"]));
    check_known(ints(vec![1]), json!("utf8"), json!([null]), json!([1]));
    check_known(ints(vec![1]), json!("bool"), json!([null]), json!([1]));
    check_known(ints(vec![1]), json!("timestamp"), json!([null]), json!([1]));
    check_known(ints(vec![1]), json!({"decimal": [3, 1]}), json!(["1.0"]), json!([null]));
    check_known(
        floats(vec![0.25, 100.0]),
        json!({"decimal": [3, 1]}),
        json!([null, null]),
        json!([0.25, 100.0]),
    );
    check_known(ints(vec![1]), json!("json"), json!([1]), json!([null]));
    check_known(texts(&[Some("x"), None]), json!("json"), json!(["x", null]), json!([null, null]));
    check_known(texts(&[Some("1")]), json!("int64"), json!([null]), json!(["1"]));
    check_known(texts(&[Some("true")]), json!("bool"), json!([null]), json!(["true"]));
    check_known(texts(&[Some("1.5")]), json!({"decimal": [3, 1]}), json!([null]), json!(["1.5"]));
    check_known(texts(&[Some("x")]), json!("binary"), json!([null]), json!(["x"]));
    let words = texts(&[Some("1970-01-01T00:00:01Z"), Some("1783944000"), Some("soon"), None]);
    let lost = json!([null, "1783944000", "soon", null]);
    check_known(words, json!("timestamptz"), json!(["@1000000", null, null, null]), lost);
    let days = texts(&[Some("1970-01-02"), Some("1970-01-02T01:00:00Z")]);
    check_known(days, json!("date"), json!(["day 1", null]), json!([null, "1970-01-02T01:00:00Z"]));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 86_400_000_000, 1]));
    let lost = json!([null, null, "1970-01-01T00:00:00.000001"]);
    check_known(Arc::clone(&times), json!("date"), json!(["day 0", "day 1", null]), lost);
    check_known(times, json!("timestamptz"), json!(["@0", "@86400000000", "@1"]), json!([null, null, null]));
    check_known(
        Arc::new(Date32Array::from(vec![1])),
        json!("timestamp"),
        json!(["@86400000000"]),
        json!([null]),
    );
    let money: ArrayRef =
        Arc::new(Decimal128Array::from(vec![150, 200]).with_precision_and_scale(9, 2).unwrap());
    check_known(Arc::clone(&money), json!({"decimal": [5, 1]}), json!(["1.5", "2.0"]), json!([null, null]));
    check_known(Arc::clone(&money), json!("int64"), json!([null, 2]), json!([1.5, null]));
    check_known(money, json!("float64"), json!([1.5, 2.0]), json!([null, null]));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)])]));
    check_known(Arc::clone(&list), json!("utf8"), json!([null]), json!([[1]]));
    check_known(Arc::clone(&list), json!("json"), json!([[1]]), json!([null]));
    check_known(list, json!({"list": "bool"}), json!([[null]]), json!([[1]]));
    check_known(ints(vec![1]), json!({"list": "int64"}), json!([null]), json!([1]));
    check_known(ints(vec![1]), json!({"struct": [{"name": "x", "type": "bool"}]}), json!([null]), json!([1]));
}

#[test]
fn json_text_is_a_value_and_not_its_text() {
    let field =
        Field::new("v", DataType::Utf8, true).with_metadata([(JSON_METADATA.into(), "true".into())].into());
    let array = texts(&[Some("\"x\""), Some("{\"a\":[1]}")]);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
    assert_eq!(seen(&fitted(&batch, &TableSchema::default())), json!(["x", {"a": [1]}]));
    // What a batch of `[]` and `{}` makes a json column fits the list that it is.
    let known_as = |ty: Value, texts: &[Option<&str>]| {
        let batch = RecordBatch::try_new(batch.schema(), vec![self::texts(texts)]).unwrap();
        let fitted = fitted(&batch, &schema(json!([{"name": "v", "type": ty}])));
        let lost: Vec<_> = (0..texts.len()).map(|row| reassemble::rescued(&fitted.rows, row)).collect();
        let types: Vec<_> =
            fitted.schema.describe().into_iter().map(|(path, ty)| format!("{path} {ty}")).collect();
        (seen(&fitted), json!(lost), json!(types))
    };
    let list = known_as(json!({"list": "int64"}), &[Some("[]"), Some("[1,null]"), Some("[1,\"x\"]"), None]);
    let lost = json!([{}, {}, {"v": [1, "x"]}, {}]);
    assert_eq!(list, (json!([[], [1, null], [1, null], null]), lost, json!(["v int64[]", "_rescued json"])));
    let known = json!({"struct": [{"name": "x", "type": "int64"}]});
    let record = known_as(
        known,
        &[Some("{}"), Some("{\"x\":\"1\",\"y\":true}"), Some("{\"x\":1.5}"), Some("1,\"w\":2")],
    );
    let lost = json!([{}, {"v.x": "1"}, {}, {"v": "1,\"w\":2"}]);
    let types = json!(["v.x float64", "v.y bool", "_rescued json"]);
    assert_eq!(record, (json!([{}, {"y": true}, {"x": 1.5}, null]), lost, types));
    let (ints, lost, _) = known_as(json!("int64"), &[Some("1"), Some("\"1\"")]);
    assert_eq!((ints, lost), (json!([1, null]), json!([{}, {"v": "1"}])));
    let known = |ty: &str| schema(json!([{"name": "v", "type": ty}]));
    let text = fitted(&batch, &known("utf8"));
    assert_eq!((seen(&text), text.misfits), (json!(["x", null]), vec![1]));
    assert_eq!(Value::Object(reassemble::rescued(&text.rows, 1)), json!({"v": {"a": [1]}}));
}

fn nested() -> RecordBatch {
    let items = StructArray::from(vec![
        (
            Arc::new(Field::new("x", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef,
        ),
        (Arc::new(Field::new("y", DataType::Utf8, true)), texts(&[Some("a"), None, None])),
    ]);
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1]);
    let list = ListArray::new(field, offsets, Arc::new(items), None);
    let inner = StructArray::from(vec![
        (Arc::new(Field::new("Id", DataType::Utf8, true)), texts(&[Some("p"), Some("q")])),
        (Arc::new(Field::new("id", DataType::Utf8, true)), texts(&[None, Some("r")])),
    ]);
    rows(vec![("l", Arc::new(list)), ("s", Arc::new(inner)), ("S", texts(&[Some("t"), None]))])
}

#[test]
fn nested_values_fit_field_by_field() {
    let new = fitted(&nested(), &TableSchema::default());
    let names: Vec<_> = new.schema.describe().into_iter().map(|(path, ty)| format!("{path} {ty}")).collect();
    assert_eq!(names, ["l[].x int64", "l[].y string", "s.Id string", "_rescued json"]);
    assert_eq!(Value::Object(reassemble::rescued(&new.rows, 0)), json!({"S": "t"}));
    assert_eq!(Value::Object(reassemble::rescued(&new.rows, 1)), json!({"s.id": "r"}));
    assert_eq!(new.misfits, [0, 1]);

    let known = schema(json!([
        {"name": "l", "type": {"list": {"struct": [{"name": "y", "type": "int64"}]}}},
        {"name": "gone", "type": "date"},
        {"name": "s", "type": {"struct": [{"name": "id", "type": "utf8"}]}},
        {"name": "_rescued", "type": "json"}]));
    let evolved = fitted(&nested(), &known);
    let names: Vec<_> =
        evolved.schema.describe().into_iter().map(|(path, ty)| format!("{path} {ty}")).collect();
    assert_eq!(names, ["l[].y int64", "l[].x int64", "gone date", "s.id string", "_rescued json"]);
    assert_eq!(evolved.schema.version, 4);
    let rescued = json!({"S": "t", "l": [{"x": 1, "y": "a"}, {"x": 2}], "s.Id": "p"});
    assert_eq!(Value::Object(reassemble::rescued(&evolved.rows, 0)), rescued);
    let columns = json!({"l": [{"x": 1}, {"x": 2}], "s": {}});
    assert_eq!(Value::Object(reassemble::columns(&evolved.rows, 0)), columns);

    let with = |contract, column_limit| {
        fit(&nested(), None, &known, &FitOptions { contract, column_limit }).unwrap()
    };
    let frozen = with(Contract::Freeze, 1000);
    assert_eq!(frozen.schema, known);
    assert_eq!(Value::Object(reassemble::rescued(&frozen.rows, 1)), json!({"l": [{"x": 3}], "s.Id": "q"}));
    let lean = with(Contract::DiscardUnknown, 1000);
    assert_eq!((lean.schema, lean.discarded), (known.clone(), 6));
    assert_eq!(
        Value::Object(reassemble::rescued(&lean.rows, 0)),
        json!({"l": [{"x": 1, "y": "a"}, {"x": 2}]})
    );
    let limited = with(Contract::Evolve, 3);
    assert_eq!(limited.schema, known);
    assert_eq!(Value::Object(reassemble::rescued(&limited.rows, 1)), json!({"l": [{"x": 3}], "s.Id": "q"}));
}

#[test]
fn contracts_hold_from_the_second_batch_on() {
    let freeze = FitOptions { contract: Contract::Freeze, ..FitOptions::default() };
    let first = fit(&nested(), None, &TableSchema::default(), &freeze).unwrap();
    assert_eq!((first.schema.version, first.misfits.len()), (1, 2));
    let float = rows(vec![("v", Arc::new(Float64Array::from(vec![2.0, 1.5])))]);
    let known = schema(json!([{"name": "v", "type": "int64"}]));
    let second = fit(&float, None, &known, &freeze).unwrap();
    assert_eq!((seen(&second), second.misfits), (json!([2, null]), vec![1]));
}

#[test]
fn what_was_rescued_before_stays() {
    let before = StringArray::from(vec![Some(r#"{"a.b":1,"v":[1,"x"]}"#), None, Some(r#"{"c":2}"#)]);
    let known = schema(json!([{"name": "v", "type": "bool"}, {"name": "_rescued", "type": "json"}]));
    let batch = rows(vec![("v", texts(&[Some("y"), Some("z"), None]))]);
    let check = |fitted: &Fitted| {
        let texts = fitted.rows.column_by_name(RESCUED).unwrap().as_string::<i32>();
        let texts: Vec<_> = texts.iter().map(Option::unwrap).collect();
        assert_eq!(texts, [r#"{"a.b":1,"v":[[1,"x"],"y"]}"#, r#"{"v":"z"}"#, r#"{"c":2}"#]);
        assert_eq!((&fitted.misfits[..], fitted.rescued), (&[0, 1][..], 4));
    };
    check(&fit(&batch, Some(&before), &known, &FitOptions::default()).unwrap());
    let before: ArrayRef = Arc::new(StringViewArray::from_iter(before.iter()));
    let passed = rows(vec![("_rescued", before), ("v", Arc::clone(batch.column(0)))]);
    check(&fit(&passed, None, &known, &FitOptions::default()).unwrap());
    // A column of that name which is something else is a value like others.
    let odd = rows(vec![("_rescued", Arc::new(Int64Array::from(vec![7])))]);
    assert_eq!(Value::Object(reassemble::rescued(&fitted(&odd, &known).rows, 0)), json!({"_rescued": 7}));
    let odd = rows(vec![("_rescued", texts(&[Some("no json")]))]);
    assert_eq!(
        Value::Object(reassemble::rescued(&fitted(&odd, &known).rows, 0)),
        json!({"_rescued": "no json"})
    );
}
