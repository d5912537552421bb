//! What comes of what, one line each.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use serde_json::{Value, json};

use super::*;
use crate::decode::DecodeError;
use crate::schema::{Column, ColumnType};
use crate::shape::ColumnMode;

/// Decodes the records; `rows` lists, per row, the columns and what was
/// rescued.
#[track_caller]
fn check(records: &[&str], ty: Value, rows: &[(Value, Value)]) {
    check_in(&json!([]), records, ty, rows);
}

/// The same with columns that the schema has already.
#[track_caller]
fn check_in(schema: &Value, records: &[&str], ty: Value, rows: &[(Value, Value)]) {
    let schema = TableSchema { version: 7, columns: serde_json::from_value(schema.clone()).unwrap() };
    check_with(&schema, DecodeOptions::default(), records, ty, rows);
}

#[track_caller]
fn check_with(
    schema: &TableSchema,
    options: DecodeOptions,
    records: &[&str],
    ty: Value,
    rows: &[(Value, Value)],
) {
    let decoded = decode_with(schema, options, records);
    assert_eq!(decoded.rejected, [], "{records:?}");
    let got: Vec<_> = (0..decoded.rows.num_rows())
        .map(|row| (columns(&decoded, row).into(), rescued(&decoded, row).into()))
        .collect();
    assert_eq!(got, rows, "{records:?}");
    assert_eq!(serde_json::to_value(&decoded.schema.columns).unwrap(), ty, "{records:?}");
    let changed = decoded.schema.columns != schema.columns;
    assert_eq!(decoded.schema.version, schema.version + u64::from(changed));
    let values = rows.iter().map(|(_, rescued)| rescued.as_object().unwrap().len() as u64).sum::<u64>();
    assert!(decoded.rescued >= values);
}

fn column(name: &str, ty: &str) -> Value {
    json!({"name": name, "type": ty})
}

fn rescue_column() -> Value {
    column("_rescued", "json")
}

#[test]
fn scalars_have_their_types() {
    check(
        &[r#"{"a":1}"#, r#"{"a":-9223372036854775808}"#],
        json!([column("a", "int64")]),
        &[(json!({"a": 1}), json!({})), (json!({"a": i64::MIN}), json!({}))],
    );
    check(
        &[r#"{"a":1712502121.123}"#],
        json!([column("a", "float64")]),
        &[(json!({"a": 1712502121.123}), json!({}))],
    );
    check(
        &[r#"{"a":true}"#, r#"{"a":null}"#, r#"{"a":false}"#],
        json!([column("a", "bool")]),
        &[(json!({"a": true}), json!({})), (json!({}), json!({})), (json!({"a": false}), json!({}))],
    );
    check(
        &[r#"{"a":"NaN"}"#, r#"{"a":""}"#],
        json!([column("a", "utf8")]),
        &[(json!({"a": "NaN"}), json!({})), (json!({"a": ""}), json!({}))],
    );
    check(
        &[r#"{"a":"\u00e9\ud83d\ude00\n\"\\\/"}"#],
        json!([column("a", "utf8")]),
        &[(json!({"a": "é😀\n\"\\/"}), json!({}))],
    );
}

#[test]
fn numbers_are_exact_or_rescued() {
    let float = |text: &str, value: f64| {
        check(
            &[&format!(r#"{{"a":{text}}}"#)],
            json!([column("a", "float64")]),
            &[(json!({ "a": value }), json!({}))],
        );
    };
    float("1e5", 1e5);
    float("1E+2", 100.0);
    float("0.1", 0.1);
    float("123456789.12345678901234567890", 123_456_789.123_456_79);
    float("10000000000000000000", 1e19);
    float("9007199254740993.0", 9_007_199_254_740_992.0);
    float("2.2250738585072014e-308", f64::MIN_POSITIVE);
    float("0e-999", 0.0);
    for text in ["1e400", "-1e400", "1e-400", "18446744073709551615", "9223372036854775809"] {
        let decoded = decode(&[format!(r#"{{"a":{text},"b":1}}"#)]);
        let column = decoded.rows.column_by_name(RESCUED).unwrap().as_string::<i32>();
        assert_eq!(column.value(0), format!(r#"{{"a":{text}}}"#));
        assert_eq!(columns(&decoded, 0), *json!({"b": 1}).as_object().unwrap());
    }
    check(&[r#"{"a":-0}"#], json!([column("a", "int64")]), &[(json!({"a": 0}), json!({}))]);
    let decoded = decode(&[r#"{"a":1.5}"#, r#"{"a":-0}"#, r#"{"a":-0.0}"#]);
    let floats = decoded.rows.column(0).as_primitive::<Float64Type>();
    assert!(floats.value(1).is_sign_negative() && floats.value(2).is_sign_negative());
}

#[test]
fn predicted_numbers_are_read_like_the_first() {
    let numbers = [
        "7",
        "0",
        "-3",
        "12345678",
        "123456789",
        "999999999999999999",
        "9223372036854775807",
        "1.5",
        "0.25",
        "-0.5",
        "12345678.12345678",
        "99999999999.99999999",
        "123456789012.5",
        "0.123456789",
        "1e3",
        "1.5e-3",
        "4503599627370497.5",
        "1712502121.123",
        "0.00000001",
        "100000000.5",
    ];
    for kind in [7..20, 0..7] {
        let records: Vec<_> =
            numbers[kind.clone()].iter().cycle().take(60).map(|n| format!("{{\"a\":{n}}}")).collect();
        let decoded = decode(&records);
        assert_eq!(decoded.rejected, []);
        for (row, record) in records.iter().enumerate() {
            let text = &record[5..record.len() - 1];
            let value = &columns(&decoded, row)["a"];
            assert_eq!(value.as_i64(), text.parse().ok(), "{text}");
            assert_eq!(value.as_f64(), text.parse().ok(), "{text}");
        }
    }
    for bad in ["01", "00.5", "1.", "1.e5", "1.5e", "-", "1x", "1.5.5", "12345678901234567890x", "0x10"] {
        let decoded = decode(&["{\"a\":1.5}", "{\"a\":2.5}", &format!("{{\"a\":{bad}}}"), "{\"a\":3.5}"]);
        assert_eq!((decoded.rejected.len(), decoded.rows.num_rows()), (1, 3), "{bad}");
        let decoded = decode(&["{\"a\":1}", "{\"a\":2}", &format!("{{\"a\":{bad}}}"), "{\"a\":3}"]);
        assert_eq!((decoded.rejected.len(), decoded.rows.num_rows()), (1, 3), "{bad}");
    }
    for bad in ["tru", "falsy", "True", "fals", "truefalse"] {
        let decoded = decode(&["{\"a\":true}", "{\"a\":false}", &format!("{{\"a\":{bad}}}"), "{\"a\":true}"]);
        assert_eq!((decoded.rejected.len(), decoded.rows.num_rows()), (1, 3), "{bad}");
    }
}

#[test]
fn integers_become_floats_if_all_are_exact() {
    let floats = json!([column("a", "float64")]);
    check(
        &[r#"{"a":1}"#, r#"{"a":1.5}"#, r#"{"a":2}"#],
        floats.clone(),
        &[(json!({"a": 1.0}), json!({})), (json!({"a": 1.5}), json!({})), (json!({"a": 2.0}), json!({}))],
    );
    check_in(
        &json!([column("a", "int64")]),
        &[r#"{"a":1}"#, "{}", r#"{"a":1.5}"#],
        floats.clone(),
        &[(json!({"a": 1.0}), json!({})), (json!({}), json!({})), (json!({"a": 1.5}), json!({}))],
    );
    let big = r#"{"a":9007199254740993}"#;
    check(
        &[big, r#"{"a":1.5}"#, r#"{"a":2}"#],
        json!([column("a", "int64"), rescue_column()]),
        &[
            (json!({"a": 9_007_199_254_740_993_i64}), json!({})),
            (json!({}), json!({"a": 1.5})),
            (json!({"a": 2}), json!({})),
        ],
    );
    check(
        &[r#"{"a":1.5}"#, big],
        json!([column("a", "float64"), rescue_column()]),
        &[(json!({"a": 1.5}), json!({})), (json!({}), json!({"a": 9_007_199_254_740_993_i64}))],
    );
}

#[test]
fn new_columns_with_conflicts_become_json() {
    let records = [
        r#"{"a":1}"#,
        r#"{}"#,
        r#"{"a":"x\ny"}"#,
        r#"{"a":{"b":[1,2.50]}}"#,
        r#"{"a":true}"#,
        r#"{"a":null}"#,
    ];
    let rows = records.map(|record| (canonical(&serde_json::from_str(record).unwrap()), json!({})));
    check(&records, json!([column("a", "json")]), &rows);
    let mut reversed = (records, rows);
    reversed.0.reverse();
    reversed.1.reverse();
    check(&reversed.0, json!([column("a", "json")]), &reversed.1);
    let decoded = decode(&[r#"{"a":0.5}"#, r#"{"a":9025216611342274560}"#, r#"{"a":true}"#]);
    let texts = decoded.rows.column(0).as_string::<i32>();
    assert_eq!([texts.value(0), texts.value(1), texts.value(2)], ["0.5", "9025216611342274560", "true"]);
    check(
        &[r#"{"a":[1,"x",null]}"#, r#"{"a":[{"b":1}]}"#],
        json!([{"name": "a", "type": {"list": "json"}}]),
        &[(json!({"a": [1, "x", null]}), json!({})), (json!({"a": [{"b": 1}]}), json!({}))],
    );
}

#[test]
fn what_does_not_fit_the_schema_is_rescued() {
    let schema = json!([column("s", "utf8"), column("o", "float64"), {"name": "t", "type": {"struct": [column("x", "int64")]}},
        {"name": "l", "type": {"list": "int64"}}, column("b", "bool"), column("j", "json")]);
    let with = |more: &[Value]| {
        let mut columns = schema.as_array().unwrap().clone();
        columns.extend_from_slice(more);
        Value::Array(columns)
    };
    let rescued = with(&[rescue_column()]);
    check_in(
        &schema,
        &[r#"{"s":1,"o":"x","t":[],"l":{"y":null},"b":0,"j":7}"#],
        rescued.clone(),
        &[(json!({"j": 7}), json!({"s": 1, "o": "x", "t": [], "l": {"y": null}, "b": 0}))],
    );
    check_in(
        &schema,
        &[r#"{"t":{"x":"y"},"l":[1,"2",3]}"#, r#"{"j":{"k":[ ]}}"#],
        rescued.clone(),
        &[
            (json!({"t": {}, "l": [1, null, 3]}), json!({"t.x": "y", "l": [1, "2", 3]})),
            (json!({"j": {"k": []}}), json!({})),
        ],
    );
    let pinned = with(&[rescue_column()]);
    check_in(&pinned, &[r#"{"o":1}"#], pinned.clone(), &[(json!({"o": 1.0}), json!({}))]);
    check_in(
        &pinned,
        &[r#"{"z":"new"}"#],
        json!(with(&[column("z", "utf8"), rescue_column()])),
        &[(json!({"z": "new"}), json!({}))],
    );
    check_in(
        &json!([{"name": "t", "type": {"struct": [column("x", "int64")]}}]),
        &[r#"{"t":{"y":true}}"#],
        json!([{"name": "t", "type": {"struct": [column("x", "int64"), column("y", "bool")]}}]),
        &[(json!({"t": {"y": true}}), json!({}))],
    );
}

#[test]
fn nothing_is_lost_of_odd_keys_and_strings() {
    check(
        &[r#"{"a":1,"a":2,"b":"x"}"#, r#"{"a":1,"a":null,"a":"z","a":{"a":3}}"#, r#"{"a":null,"a":4}"#],
        json!([column("a", "int64"), column("b", "utf8"), rescue_column()]),
        &[
            (json!({"a": 1, "b": "x"}), json!({"a": 2})),
            (json!({"a": 1}), json!({"a": ["z", {"a": 3}]})),
            (json!({"a": 4}), json!({})),
        ],
    );
    check(
        &[r#"{"_rescued":{"x":1},"a":1}"#],
        json!([column("a", "int64"), rescue_column()]),
        &[(json!({"a": 1}), json!({"_rescued": {"x": 1}}))],
    );
    check(
        &[r#"{"a":1,"A":"x","\u0061":2,"a.b":"","":true}"#, r#"{"a.b":1}"#],
        json!([column("a", "int64"), column("a.b", "json"), column("", "bool"), rescue_column()]),
        &[(json!({"a": 1, "a.b": "", "": true}), json!({"A": "x", "a": 2})), (json!({"a.b": 1}), json!({}))],
    );
    let decoded = decode(&[
        r#"{"s":"a\ud800b","l":[{"s":"\udc00\ud800\ud800"}],"k\udfff":1,"j":1}"#,
        r#"{"j":"\ud800"}"#,
    ]);
    assert_eq!(columns(&decoded, 0)["s"], "a\u{fffd}b");
    assert_eq!(columns(&decoded, 0)["l"], json!([{"s": "\u{fffd}\u{fffd}\u{fffd}"}]));
    let texts = decoded.rows.column_by_name(RESCUED).unwrap().as_string::<i32>();
    let kept = r#"{"k\\udfff":1,"l":[{"s":"\udc00\ud800\ud800"}],"s":"a\ud800b"}"#;
    assert_eq!(texts.value(0), kept);
    let json = decoded.rows.column_by_name("j").unwrap().as_string::<i32>();
    assert_eq!(json.value(1), r#""\ud800""#);
    let long = "x".repeat(1 << 20);
    check(
        &[&format!(r#"{{"a":"{long}"}}"#)],
        json!([column("a", "utf8")]),
        &[(json!({ "a": long }), json!({}))],
    );
    check(
        &[&format!(r#"{{"b":1,"{long}":1}}"#)],
        json!([column("b", "int64"), rescue_column()]),
        &[(json!({"b": 1}), json!({ long: 1 }))],
    );
}

#[test]
fn empty_objects_and_arrays_are_json_if_nothing_else_comes() {
    check(
        &[r#"{"a":{},"b":[],"c":{"d":{}},"e":[[]],"f":[null],"g":1}"#],
        json!([column("a", "json"), column("b", "json"), {"name": "c", "type": {"struct": [column("d", "json")]}},
            {"name": "e", "type": {"list": "json"}}, column("f", "json"), column("g", "int64")]),
        &[(json!({"a": {}, "b": [], "c": {"d": {}}, "e": [[]], "f": [null], "g": 1}), json!({}))],
    );
    check(
        &[r#"{"a":{}}"#, r#"{"a":{"b":1}}"#, r#"{"a":null}"#, r#"{}"#],
        json!([{"name": "a", "type": {"struct": [column("b", "int64")]}}]),
        &[
            (json!({"a": {}}), json!({})),
            (json!({"a": {"b": 1}}), json!({})),
            (json!({}), json!({})),
            (json!({}), json!({})),
        ],
    );
    check(
        &[r#"{"l":[{"a":1,"b":{}},{"a":2}]}"#, r#"{"l":[]}"#, r#"{"l":[{"a":3,"b":{"c":[null,1e-999]}}]}"#],
        json!([{"name": "l", "type": {"list": {"struct": [column("a", "int64"), {"name": "b", "type": {"struct": [column("c", "json")]}}]}}}, rescue_column()]),
        &[
            (json!({"l": [{"a": 1, "b": {}}, {"a": 2}]}), json!({})),
            (json!({"l": []}), json!({})),
            (
                json!({"l": [{"a": 3, "b": {"c": [null, null]}}]}),
                json!({"l": [{"a": 3, "b": {"c": [null, 0.0]}}]}),
            ),
        ],
    );
    check(&["{}", "{}"], json!([rescue_column()]), &[(json!({}), json!({})), (json!({}), json!({}))]);
    check(&[r#"{"a":null}"#], json!([rescue_column()]), &[(json!({}), json!({}))]);
}

#[test]
fn columns_can_be_forced_limited_and_chosen() {
    let modes = |path: &str| DecodeOptions {
        columns: BTreeMap::from([(path.into(), ColumnMode::Json)]),
        ..DecodeOptions::default()
    };
    let empty = TableSchema::default();
    check_with(
        &empty,
        modes("a.b"),
        &[r#"{"a":{"b":{"c":1}}}"#, r#"{"a":{"b":"x"}}"#],
        json!([{"name": "a", "type": {"struct": [column("b", "json")]}}]),
        &[(json!({"a": {"b": {"c": 1}}}), json!({})), (json!({"a": {"b": "x"}}), json!({}))],
    );
    let pinned = TableSchema {
        version: 1,
        columns: serde_json::from_value(
            json!([{"name": "a", "type": {"struct": [{"name": "b", "type": {"struct": [column("c", "utf8")]}}]}}, column("z", "bool")]),
        )
        .unwrap(),
    };
    check_with(
        &pinned,
        modes("a"),
        &[r#"{"a":{"b":1},"z":true}"#],
        json!([column("a", "json"), column("z", "bool")]),
        &[(json!({"a": {"b": 1}, "z": true}), json!({}))],
    );
    let limit = DecodeOptions { column_limit: 2, ..DecodeOptions::default() };
    check_with(
        &empty,
        limit,
        &[r#"{"a":1,"o":{"b":2,"c":{"d":3}},"e":[4],"n":null}"#, r#"{"o":{"b":3}}"#],
        json!([column("a", "int64"), {"name": "o", "type": {"struct": [column("b", "int64")]}}, rescue_column()]),
        &[
            (json!({"a": 1, "o": {"b": 2}}), json!({"o.c": {"d": 3}, "e": [4]})),
            (json!({"o": {"b": 3}}), json!({})),
        ],
    );
    let only = DecodeOptions { only: Some(vec!["z".into(), "y".into()]), ..DecodeOptions::default() };
    check_with(
        &pinned,
        only.clone(),
        &[r#"{"a":{"b":1},"q":[1,{"r":"\\"}],"y":1,"z":5,"_rescued":1}"#],
        json!([column("z", "bool"), column("y", "int64"), rescue_column()]),
        &[(json!({"y": 1}), json!({"z": 5}))],
    );
    assert_eq!(decode_with(&pinned, only, &[r#"{"a":{"b":01}}"#]).rejected.len(), 1);
}

#[test]
fn a_record_holds_any_number_of_objects() {
    let rows = |text: &str| {
        let decoded = decode(&[text, r#"{"i":9}"#]);
        assert_eq!(decoded.rejected, [], "{text:?}");
        let (last, rows) = decoded.row_records.split_last().unwrap();
        assert_eq!(*last, 1);
        assert!(rows.iter().all(|&record| record == 0));
        (0..rows.len()).map(|row| columns(&decoded, row)["i"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(rows(r#"{"i":1}{"i":2}"#), [1, 2]);
    assert_eq!(rows("{\"i\":1}\r\n{\"i\":2}\r\n\r\n"), [1, 2]);
    assert_eq!(rows("\u{feff} {\"i\":1}"), [1]);
    assert_eq!(rows(" [ {\"i\":1} , {\"i\":2} ] {\"i\":3} [] "), [1, 2, 3]);
    assert_eq!(rows(""), [0; 0]);
    let empty = decode(&["", " \r\n\t", "\u{feff}", "[]", r#"{"i":1}"#]);
    assert_eq!((empty.empty, empty.row_records, empty.rejected.len()), (4, vec![4], 0));
}

#[test]
fn malformed_records_are_rejected_alone() {
    let check = |bad: &[u8], code: &str, at: usize| {
        let good = br#"{"a":1,"s":"x","l":[1,2]}"#.as_slice();
        let long = br#"{"a":2,"s":"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"}"#;
        let padded = [good, bad, good, long];
        for records in [&padded[..], &padded[..2]] {
            let decoded = decode(records);
            let shown = String::from_utf8_lossy(bad);
            assert_eq!(decoded.rejected.len(), 1, "{shown}");
            let rejected = &decoded.rejected[0];
            let place = format!("(at byte {at})");
            assert_eq!((rejected.record, rejected.code), (1, code), "{shown}: {}", rejected.message);
            assert!(rejected.message.ends_with(&place), "{shown}: {} not {place}", rejected.message);
            assert_eq!(decoded.schema.columns.len(), 3, "{shown}");
            assert_eq!(decoded.rows.num_rows(), records.len() - 1, "{shown}");
            assert_eq!(columns(&decoded, 0), *json!({"a": 1, "s": "x", "l": [1, 2]}).as_object().unwrap());
            if records.len() > 2 {
                assert_eq!(columns(&decoded, 0), columns(&decoded, 1));
                assert_eq!(columns(&decoded, 2)["a"], 2);
                assert_eq!(decoded.row_records, [0, 2, 3]);
            }
        }
    };
    let syntax = |bad: &str, at| check(bad.as_bytes(), "json.syntax", at);
    syntax(r#"{"a":01}"#, 5);
    syntax(r#"{"a":-}"#, 5);
    syntax(r#"{"a":1.}"#, 5);
    syntax(r#"{"a":1e}"#, 5);
    syntax(r#"{"a":+1}"#, 5);
    syntax(r#"{"a":.5}"#, 5);
    syntax(r#"{"a":NaN}"#, 5);
    syntax(r#"{"a":-Infinity}"#, 5);
    syntax(r#"{"a":nul}"#, 5);
    syntax(r#"{"a":tru}"#, 5);
    syntax(r#"{"a":1,}"#, 7);
    syntax(r#"{,"a":1}"#, 1);
    syntax(r#"{"z":[1,]}"#, 8);
    syntax(r#"{"a" 1}"#, 5);
    syntax(r#"{"a":1 "b":2}"#, 7);
    syntax(r#"{'a':1}"#, 1);
    syntax(r#"{a:1}"#, 1);
    syntax("{\"a\":\"x\ny\"}", 7);
    syntax("{\"new\":{\"k\x01\":1}}", 10);
    syntax(r#"{"s":"\x"}"#, 6);
    syntax(r#"{"s":"\u12g4"}"#, 6);
    syntax(r#"{"a":1"#, 6);
    syntax(r#"{"a":1}{"a":"#, 12);
    syntax(r#"{"a":"x"#, 7);
    syntax(r#"{"a":1}}"#, 7);
    syntax(r#"{"new":1,"a":2} x"#, 16);
    syntax("{\"a\":1}\0", 7);
    syntax("[{\"a\":1},", 9);
    check(b"{\"a\":\"\xff\"}", "json.utf8", 6);
    check(b"{\"new\":1}\xc3", "json.utf8", 9);
    check(b"5", "json.not_object", 0);
    check(br#"{"a":5} "x""#, "json.not_object", 8);
    check(br#"[{"a":1},[2]]"#, "json.not_object", 9);
    check(br#"[null]"#, "json.not_object", 1);
    let deep = |n: usize| format!(r#"{{"d":{}1{}}}"#, "[".repeat(n), "]".repeat(n));
    check(deep(64).as_bytes(), "json.depth", 5 + 63);
    assert_eq!(decode(&[deep(63)]).rejected, []);
}

#[test]
fn what_is_rescued_of_a_record_is_bounded() {
    let name = "n".repeat(1_000);
    let fields = |n: usize| (0..n).map(|i| format!("\"{i}\":\"\\ud800\"")).collect::<Vec<_>>().join(",");
    let record = |n: usize| format!(r#"{{"{name}":{{{}}}}}"#, fields(n));
    let options = DecodeOptions { column_limit: 1, ..DecodeOptions::default() };
    let decoded = decode_with(&TableSchema::default(), options, &[record(10), record(900), record(10)]);
    assert_eq!(decoded.row_records, [0, 2]);
    assert_eq!((decoded.rejected[0].record, decoded.rejected[0].code), (1, "json.too_large"));
    assert_eq!(decoded.rescued, 20);
}

#[test]
fn a_rejected_record_changes_no_type() {
    let decoded = decode(&[r#"{"a":1}"#, r#"{"b":2,"a":"x","c":[{"d":1.5}],"a":1.5"#, r#"{"a":2,"b":"y"}"#]);
    assert_eq!(decoded.rejected.len(), 1);
    let expected = [("a", ColumnType::Int64), ("b", ColumnType::Utf8)];
    assert_eq!(decoded.schema.columns, expected.map(|(name, ty)| Column { name: name.into(), ty }));
}

#[test]
fn nothing_is_pushed_beyond_the_offsets() {
    let mut decoder = Decoder::new(&TableSchema::default(), DecodeOptions::default());
    decoder.taken = super::super::INPUT_MAX - 3;
    let error = decoder.push_records(&block(&["{} \n"])).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { limit: super::super::INPUT_MAX });
    assert_eq!(decoder.rows(), 0);
}

#[test]
fn the_deepest_nesting_fits_the_stack() {
    let options = DecodeOptions { depth_limit: usize::MAX, ..DecodeOptions::default() };
    let lists = |n: usize| format!(r#"{{"d":{}1{}}}"#, "[".repeat(n), "]".repeat(n));
    let structs = |n: usize| format!(r#"{}1{}"#, r#"{"a":"#.repeat(n), "}".repeat(n));
    let records = [lists(63), structs(64), lists(64), structs(65), lists(100_000), structs(64)];
    let decoded = decode_with(&TableSchema::default(), options, &records);
    let rejected: Vec<_> = decoded.rejected.iter().map(|rejected| (rejected.record, rejected.code)).collect();
    assert_eq!(rejected, [2, 3, 4].map(|record| (record, "json.depth")));
    assert_eq!(decoded.row_records, [0, 1, 5]);
}

#[test]
fn lists_and_structs_nest() {
    let record =
        r#"{"l":[[1,2],[],null,[3]],"s":[{"a":[{"b":"x"},null]},{"a":[]},{}],"o":{"p":{"q":[true]}}}"#;
    let value: Value = serde_json::from_str(record).unwrap();
    let decoded = decode(&[record, "{}", record]);
    assert_eq!(Value::Object(columns(&decoded, 0)), value);
    assert_eq!(Value::Object(columns(&decoded, 1)), json!({}));
    assert_eq!(Value::Object(columns(&decoded, 2)), value);
    assert_eq!(decoded.rescued, 0);
}
