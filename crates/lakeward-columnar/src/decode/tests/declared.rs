//! Declared columns and contracts.

use serde_json::json;

use super::*;
use crate::shape::Contract;

fn options(columns: &[(&str, &str)]) -> DecodeOptions {
    let columns = columns.iter().map(|(path, word)| ((*path).to_owned(), word.parse().unwrap()));
    DecodeOptions { columns: columns.collect(), ..DecodeOptions::default() }
}

fn schema(columns: Value) -> TableSchema {
    TableSchema { version: 3, columns: serde_json::from_value(columns).unwrap() }
}

/// Decodes each value into a column `v` of the declared type; `None` is a
/// value that must be rescued as it came.
#[track_caller]
fn check(word: &str, values: &[(&str, Option<Value>)]) {
    let records: Vec<_> = values.iter().map(|(json, _)| format!("{{\"v\":{json}}}")).collect();
    let decoded = decode_with(&TableSchema::default(), options(&[("v", word)]), &records);
    assert_eq!(decoded.rejected, []);
    assert_eq!(decoded.schema.describe()[0], ("v".to_owned(), word.to_owned()));
    for (row, (json, expected)) in values.iter().enumerate() {
        let column = columns(&decoded, row).remove("v");
        assert_eq!(column, *expected, "{json}");
        let rescued = decoded.rows.column_by_name(RESCUED).filter(|column| column.is_valid(row));
        let rescued = rescued.map(|column| column.as_string::<i32>().value(row).to_owned());
        assert_eq!(rescued, expected.is_none().then(|| format!("{{\"v\":{json}}}")), "{json}");
        assert_eq!(decoded.rescued_rows.contains(&(row as u32)), expected.is_none());
    }
    // The same with the schema that came of it and one record in its own block.
    for (row, record) in records.iter().enumerate() {
        let again = decode_with(&decoded.schema, options(&[("v", word)]), std::slice::from_ref(record));
        assert_eq!(columns(&again, 0), columns(&decoded, row));
        assert_eq!(again.schema.columns, decoded.schema.columns);
    }
}

#[test]
fn declared_columns_take_what_means_the_same() {
    let is = |value: Value| Some(value);
    check(
        "bool",
        &[
            ("true", is(json!(true))),
            ("\"false\"", is(json!(false))),
            ("\"True\"", None),
            ("1", None),
            ("\"\"", None),
            ("[true]", None),
        ],
    );
    check(
        "int64",
        &[
            ("\"123\"", is(json!(123))),
            ("-7", is(json!(-7))),
            ("5.0", is(json!(5))),
            ("1e3", is(json!(1000))),
            ("9007199254740993.0", is(json!(9_007_199_254_740_993_i64))),
            ("\"-9223372036854775808\"", is(json!(i64::MIN))),
            ("1.5", None),
            ("9007199254740992.5", None),
            ("\"1.5\"", None),
            ("\"5.0\"", None),
            ("\"007\"", None),
            ("\" 1\"", None),
            ("\"-0\"", None),
            ("9223372036854775808", None),
            ("\"\"", None),
            ("true", None),
            ("{}", None),
        ],
    );
    check(
        "float64",
        &[
            ("1", is(json!(1.0))),
            ("\"1.5\"", is(json!(1.5))),
            ("\"-12\"", is(json!(-12.0))),
            ("\"9007199254740993\"", None),
            ("9007199254740993", None),
            ("\"1e400\"", None),
            ("\"1e-400\"", None),
            ("\"NaN\"", None),
            ("\"1,5\"", None),
            ("false", None),
        ],
    );
    check(
        "string",
        &[
            ("\"x\\n\"", is(json!("x\n"))),
            ("12.500", is(json!("12.500"))),
            ("1E400", is(json!("1E400"))),
            ("true", is(json!("true"))),
            ("[1]", None),
            ("{\"a\":1}", None),
        ],
    );
    check("json", &[("{\"a\": 1}", is(json!({"a": 1}))), ("1", is(json!(1))), ("\"x\"", is(json!("x")))]);
    check(
        "decimal(6,2)",
        &[
            ("1234.56", is(json!("1234.56"))),
            ("\"0.10\"", is(json!("0.10"))),
            ("-1e3", is(json!("-1000.00"))),
            ("1.500", is(json!("1.50"))),
            ("0.001", None),
            ("10000", None),
            ("\"1.2.3\"", None),
            ("true", None),
        ],
    );
}

#[test]
fn declared_times_take_text_and_epoch_numbers() {
    let at =
        |text: &str| Some(json!(format!("@{}", text.parse::<jiff::Timestamp>().unwrap().as_microsecond())));
    let noon = at("2026-07-13T12:00:00Z");
    let fine = at("2026-07-13T12:00:00.123456Z");
    let values: Vec<(&str, Option<Value>)> = vec![
        ("\"2026-07-13T12:00:00Z\"", noon.clone()),
        ("\"2026-07-13 12:00:00\"", noon.clone()),
        ("\"2026-07-13T14:00:00+02:00\"", noon.clone()),
        ("\"2026-07-13T12:00:00.123456789Z\"", fine.clone()),
        ("\"2026-07-13 12:00:00.123456\"", fine.clone()),
        ("\"2026\\u002d07-13T12:00:00Z\"", noon.clone()),
        ("\"2026-07-13\"", at("2026-07-13T00:00:00Z")),
        ("1783944000", noon.clone()),
        ("1783944000.123456", fine.clone()),
        ("1783944000.1234567", fine.clone()),
        ("1.783944e9", noon.clone()),
        ("1783944000000", noon.clone()),
        ("1783944000123.456", fine.clone()),
        ("1783944000123456", fine.clone()),
        ("1783944000123456789", fine),
        ("\"1783944000\"", noon.clone()),
        ("\"1783944000000\"", noon),
        ("0", at("1970-01-01T00:00:00Z")),
        ("-1.5", at("1969-12-31T23:59:58.5Z")),
        ("999999999999", None),
        ("\"2026\"", None),
        ("\"20260713\"", None),
        ("\"soon\"", None),
        ("\"\"", None),
        ("\"2026-02-30\"", None),
        ("1e300", None),
        ("true", None),
        ("[1]", None),
    ];
    check("timestamp", &values);
    check("timestamptz", &values);
    check(
        "date",
        &[
            ("\"2026-07-13\"", Some(json!("day 20647"))),
            ("\"2026-07-13T23:59:59Z\"", Some(json!("day 20647"))),
            ("\"2026-07-13T23:59:59-02:00\"", Some(json!("day 20648"))),
            ("1783944000", Some(json!("day 20647"))),
            ("-1", Some(json!("day -1"))),
            ("\"13.07.2026\"", None),
            ("false", None),
        ],
    );
}

#[test]
fn declared_columns_are_there_from_the_start() {
    let options = options(&[("ctx.tier", "string"), ("ctx.deep.at", "timestamptz"), ("\"a.b\"", "int64")]);
    let expected = json!([
        {"name": "a.b", "type": "int64"},
        {"name": "ctx", "type": {"struct": [
            {"name": "deep", "type": {"struct": [{"name": "at", "type": "timestamptz"}]}},
            {"name": "tier", "type": "utf8"}]}},
        {"name": "z", "type": "bool"},
    ]);
    let decoded = decode_with(&TableSchema::default(), options.clone(), &[r#"{"z":true}"#]);
    assert_eq!(serde_json::to_value(&decoded.schema.columns).unwrap(), expected);
    assert_eq!(read_back(&decoded, 0), json!({"z": true}));
    let next = decode_with(&decoded.schema, options, &[r#"{"ctx":{"tier":7,"new":1},"a.b":"5"}"#]);
    assert_eq!(read_back(&next, 0), json!({"ctx": {"tier": "7", "new": 1}, "a.b": 5}));
    // No record at all: the columns are there.
    let none = decode_with(
        &TableSchema::default(),
        super::DecodeOptions { ..self::options(&[("v", "date")]) },
        &[] as &[&str],
    );
    assert_eq!(none.schema.describe(), [("v".to_owned(), "date".to_owned())]);
}

#[test]
fn a_declared_type_goes_before_the_schema() {
    let before = schema(
        json!([{"name": "v", "type": "utf8"}, {"name": "w", "type": {"struct": [{"name": "x", "type": "int64"}]}}]),
    );
    let decoded =
        decode_with(&before, options(&[("v", "timestamp"), ("w", "json")]), &[r#"{"v":0,"w":{"x":1}}"#]);
    assert_eq!(read_back(&decoded, 0), json!({"v": "@0", "w": {"x": 1}}));
    assert_eq!(decoded.schema.version, 4);
    // Without the declaration a time column still takes times, and no more.
    let after =
        decode_with(&decoded.schema, DecodeOptions::default(), &[r#"{"v":"1970-01-01"}"#, r#"{"v":"x"}"#]);
    assert_eq!(columns(&after, 0)["v"], "@0");
    assert_eq!(rescued(&after, 1)["v"], "x");
    // Fields below a column of another type cannot be declared.
    let scalar = schema(json!([{"name": "v", "type": "utf8"}]));
    let decoded = decode_with(&scalar, options(&[("v.x", "date")]), &[r#"{"v":"1"}"#]);
    assert_eq!(decoded.schema.columns, scalar.columns);
}

#[test]
fn declared_fields_may_be_those_of_a_list() {
    let options = options(&[("items.at", "date"), ("items.price", "float64")]);
    let records =
        [r#"{"a":1}"#, r#"{"items":[{"at":"1970-01-02","price":"1.5"},{"x":1}]}"#, r#"{"items":{"at":1}}"#];
    let decoded = decode_with(&TableSchema::default(), options.clone(), &records);
    assert_eq!(read_back(&decoded, 1), json!({"items": [{"at": "day 1", "price": 1.5}, {"x": 1}]}));
    assert_eq!(rescued(&decoded, 2), *json!({"items": {"at": 1}}).as_object().unwrap());
    assert_eq!(decoded.rescued_rows, [2]);
    // What does not fit in a list takes the whole list along.
    let odd = [r#"{"items":[{"at":"x"},{"price":"2"}]}"#];
    let next = decode_with(&decoded.schema, options.clone(), &odd);
    assert_eq!(rescued(&next, 0), *json!({"items": [{"at": "x"}, {"price": "2"}]}).as_object().unwrap());
    // After a malformed record nothing of it is left.
    let torn = ["{}", "{}", r#"{"items":{"at":0,"price":1}"#, r#"{"items":[{"price":2},{"price":3}]}"#];
    let decoded = decode_with(&TableSchema::default(), options, &torn);
    assert_eq!(decoded.rejected.len(), 1);
    assert_eq!(read_back(&decoded, 2), json!({"items": [{"price": 2.0}, {"price": 3.0}]}));
}

#[test]
fn names_that_differ_in_case_stay_apart() {
    let records = [
        r#"{"Id":1,"s":{"K":1,"k":2},"l":[{"x":1,"X":2}],"ID":null}"#,
        r#"{"id":{"a":1},"_Rescued":5}"#,
        r#"{"ÄB":1,"äb":2}"#,
    ];
    let decoded = decode(&records);
    let names: Vec<_> = decoded.schema.describe().into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, ["Id", "s.K", "l[].x", "ÄB", "_rescued"]);
    assert_eq!(Value::Object(rescued(&decoded, 0)), json!({"s.k": 2, "l": [{"x": 1, "X": 2}]}));
    assert_eq!(Value::Object(rescued(&decoded, 1)), json!({"id": {"a": 1}, "_Rescued": 5}));
    assert_eq!(Value::Object(rescued(&decoded, 2)), json!({"äb": 2}));
    assert_eq!(decoded.rescued_rows, [0, 1, 2]);
    // Nulls come to nothing: the name is still free.
    let decoded = decode(&[r#"{"Id":null}"#, r#"{"id":1}"#]);
    assert_eq!((decoded.rescued, columns(&decoded, 1)), (0, json!({"id": 1}).as_object().unwrap().clone()));
    // A schema of before that has both keeps both.
    let both = schema(json!([{"name": "Id", "type": "int64"}, {"name": "id", "type": "utf8"}]));
    let decoded = decode_with(&both, DecodeOptions::default(), &[r#"{"id":"x","Id":1}"#]);
    assert_eq!((decoded.rescued, read_back(&decoded, 0)), (0, json!({"Id": 1, "id": "x"})));
}

#[test]
fn a_frozen_schema_rescues_what_is_new() {
    let frozen = schema(
        json!([{"name": "a", "type": "int64"}, {"name": "s", "type": {"struct": [{"name": "x", "type": "utf8"}]}}, {"name": "l", "type": {"list": {"struct": [{"name": "y", "type": "int64"}]}}}]),
    );
    let records = [
        r#"{"a":1,"new":{"b":[1]},"s":{"x":"1","z":null,"w":2},"l":[{"y":1,"v":2}]}"#,
        r#"{"a":1.5,"A":3,"new":null}"#,
        r#"{"a":2}"#,
        r#"{"new":3,"a":"#,
    ];
    let freeze = DecodeOptions { contract: Contract::Freeze, ..DecodeOptions::default() };
    let decoded = decode_with(&frozen, freeze.clone(), &records);
    assert_eq!(
        Value::Object(rescued(&decoded, 0)),
        json!({"new": {"b": [1]}, "s.w": 2, "l": [{"y": 1, "v": 2}]})
    );
    assert_eq!(Value::Object(rescued(&decoded, 1)), json!({"a": 1.5, "A": 3}));
    assert_eq!((&decoded.rescued_rows[..], decoded.rescued, decoded.discarded), (&[0, 1][..], 5, 0));
    assert_eq!(decoded.schema.columns[..3], frozen.columns[..]);

    let discard = DecodeOptions { contract: Contract::DiscardUnknown, ..DecodeOptions::default() };
    let decoded = decode_with(&frozen, discard.clone(), &records);
    assert_eq!(columns(&decoded, 0), *json!({"a": 1, "s": {"x": "1"}, "l": [{"y": 1}]}).as_object().unwrap());
    assert_eq!(Value::Object(rescued(&decoded, 0)), json!({}));
    assert_eq!(Value::Object(rescued(&decoded, 1)), json!({"a": 1.5}));
    assert_eq!((&decoded.rescued_rows[..], decoded.discarded), (&[1][..], 4));

    // The first batch makes the columns, unless some are declared.
    for contract in [freeze, discard] {
        for empty in [TableSchema::default(), schema(json!([{"name": "_rescued", "type": "json"}]))] {
            let first = decode_with(&empty, contract.clone(), &records[..1]);
            assert_eq!((first.rescued, first.discarded), (0, 0));
        }
        let columns = options(&[("a", "int64")]).columns;
        let first =
            decode_with(&TableSchema::default(), DecodeOptions { columns, ..contract }, &records[..1]);
        assert_eq!(first.rescued + first.discarded, 3);
        assert_eq!(first.schema.columns[0].name, "a");
    }
}
