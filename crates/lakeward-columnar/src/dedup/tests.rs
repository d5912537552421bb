//! What is the same key, and what is not.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array,
    Int64Array, ListArray, NullArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Int32Type, Int64Type};
use lakeward_model::Timestamp;

use super::*;

const SEED: u64 = 42;

fn rows(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, a)| (*n, Arc::clone(a), true))).unwrap()
}

fn keys_at(rows: &RecordBatch, columns: &[&str], time: Option<&str>, seed: u64) -> Vec<Option<Key>> {
    let records: Vec<u32> = (0..rows.num_rows() as u32).collect();
    let arrivals = [(0, Timestamp(1_000_000)), (2, Timestamp(2_000_000))];
    let columns: Vec<String> = columns.iter().map(|c| (*c).to_string()).collect();
    let times = KeyTimes { row_records: &records, arrivals: &arrivals, column: time };
    row_keys(rows, &columns, &times, seed).unwrap()
}

/// The fingerprints over a column of one name.
fn of(array: impl arrow::array::Array + 'static) -> Vec<Option<u128>> {
    let rows = rows(&[("a", Arc::new(array))]);
    keys_at(&rows, &["a"], None, SEED).into_iter().map(|key| key.map(|key| key.fingerprint)).collect()
}

fn of_number(number: i64) -> Option<u128> {
    of(Int64Array::from(vec![number]))[0]
}

#[test]
fn numbers_count_by_value() {
    let one = of_number(1);
    assert!(one.is_some());
    assert_eq!(of(Int32Array::from(vec![1])), [one]);
    assert_eq!(of(UInt64Array::from(vec![1])), [one]);
    assert_eq!(of(Float64Array::from(vec![1.0])), [one]);
    assert_eq!(of(Decimal128Array::from(vec![100]).with_precision_and_scale(10, 2).unwrap()), [one]);
    assert_eq!(of(Float64Array::from(vec![0.0, -0.0])), [of_number(0); 2]);
    assert_eq!(of(Float64Array::from(vec![-9_007_199_254_740_992.0])), [of_number(-(1 << 53))]);
    let all = of(Float64Array::from(vec![1.5, 1e300, -1e300, f64::INFINITY, f64::NAN, 1e-300]));
    for (at, value) in all.iter().enumerate() {
        assert!(value.is_some() && !all[..at].contains(value) && *value != one, "{at}");
    }
    assert_ne!(of_number((1 << 53) + 1), of_number(1 << 53), "integers are exact");
    let decimals = of(Decimal128Array::from(vec![150, 15, 0]).with_precision_and_scale(10, 2).unwrap());
    assert_eq!(of(Decimal128Array::from(vec![15]).with_precision_and_scale(10, 1).unwrap())[0], decimals[0]);
    assert_ne!(decimals[0], decimals[1]);
    assert_eq!(decimals[2], of_number(0));
}

#[test]
fn kinds_are_told_apart() {
    let all = [
        of(StringArray::from(vec!["1"]))[0],
        of(StringArray::from(vec![""]))[0],
        of_number(1),
        of_number(0),
        of(BooleanArray::from(vec![true]))[0],
        of(BooleanArray::from(vec![false]))[0],
        of(TimestampMicrosecondArray::from(vec![1]))[0],
        of(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]))[0],
        of(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([None])]))[0],
        of(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(Vec::<Option<i64>>::new())]))[0],
    ];
    for (at, value) in all.iter().enumerate() {
        assert!(value.is_some(), "{at}");
        assert!(!all[..at].contains(value), "{at}");
    }
}

#[test]
fn layouts_make_no_difference() {
    let text = of(StringArray::from(vec![Some("x"), None, Some("yy")]));
    assert_eq!(of(StringViewArray::from(vec![Some("x"), None, Some("yy")])), text);
    assert_eq!(of([Some("x"), None, Some("yy")].into_iter().collect::<DictionaryArray<Int32Type>>()), text);
    assert_eq!(text[1], None);
    let day = of(Date32Array::from(vec![1]))[0];
    assert_eq!(of(TimestampMicrosecondArray::from(vec![86_400_000_000])), [day]);
    assert_eq!(of(TimestampMillisecondArray::from(vec![86_400_000]).with_timezone("UTC")), [day]);
    assert_eq!(of(NullArray::new(2)), [None, None]);
}

#[test]
fn values_are_delimited_and_ordered() {
    let two = |a: Option<&str>, b: Option<&str>| {
        let rows = rows(&[
            ("a", Arc::new(StringArray::from(vec![a])) as ArrayRef),
            ("b", Arc::new(StringArray::from(vec![b]))),
        ]);
        keys_at(&rows, &["a", "b"], None, SEED)[0].map(|key| key.fingerprint)
    };
    let all = [
        two(Some("a"), Some("bc")),
        two(Some("ab"), Some("c")),
        two(Some("bc"), Some("a")),
        two(Some("abc"), None),
        two(None, Some("abc")),
        two(Some("abc"), Some("")),
    ];
    for (at, value) in all.iter().enumerate() {
        assert!(value.is_some() && !all[..at].contains(value), "{at}");
    }
    assert_eq!(two(None, None), None);
}

fn user(fields: &[(&str, ArrayRef)], nulls: Option<Vec<bool>>) -> ArrayRef {
    let columns = fields.iter().map(|(_, a)| Arc::clone(a)).collect();
    let fields: Vec<Field> =
        fields.iter().map(|(name, a)| Field::new(*name, a.data_type().clone(), true)).collect();
    Arc::new(StructArray::new(fields.into(), columns, nulls.map(Into::into)))
}

#[test]
fn structs_outlive_their_schema() {
    let id: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(8), None]));
    let before = user(&[("id", Arc::clone(&id))], None);
    let more: ArrayRef = Arc::new(StringArray::from(vec![None, Some("x"), None]));
    let after = user(&[("id", Arc::clone(&id)), ("more", more)], None);
    let (before, after) = (rows(&[("u", before)]), rows(&[("u", after)]));
    let (old, new) = (keys_at(&before, &["u"], None, SEED), keys_at(&after, &["u"], None, SEED));
    assert_eq!(old[0], new[0], "a null field is an absent one");
    assert_ne!(old[1], new[1]);
    // A path into it, with a null struct, and a column that is not there.
    let some = rows(&[("u", user(&[("id", id)], Some(vec![true, false, true])))]);
    let keys = keys_at(&some, &["u.id", "u.none", "none"], None, SEED);
    assert!(keys[0].is_some());
    assert_eq!(keys[1..], [None, None]);
    let plain = rows(&[("u.id", Arc::new(Int64Array::from(vec![7])) as ArrayRef)]);
    assert_eq!(keys_at(&plain, &["u.id", "u.none", "none"], None, SEED)[0], keys[0]);
}

#[test]
fn the_seed_changes_every_key() {
    let rows = rows(&[("a", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]);
    assert_ne!(keys_at(&rows, &["a"], None, 1), keys_at(&rows, &["a"], None, 2));
    assert_ne!(content_key(b"x", Timestamp(0), 1), content_key(b"x", Timestamp(0), 2));
}

/// Stored keys must be known by every later release.
#[test]
fn fingerprints_are_pinned() {
    let fingerprints = [
        of_number(1),
        of(StringArray::from(vec!["0198c0de-7e57-7000-8000-000000000001"]))[0],
        of(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]))[0],
        Some(content_key(b"{\"a\":1}\n", Timestamp(0), SEED).fingerprint),
    ];
    assert_eq!(fingerprints, PINNED.map(Some));
}

const PINNED: [u128; 4] = [
    60677718435527928104901065269229909069,
    335202480785087672185095783165216875886,
    161950224523566245627420299943371042090,
    242795116495742626492808860517530346826,
];

#[test]
fn content_is_the_record_without_its_line_end() {
    let key = |record: &[u8]| content_key(record, Timestamp(5), SEED);
    assert_eq!(key(b"{}\r\n"), key(b"{}"));
    assert_eq!(key(b"{}\n"), key(b"{}"));
    assert_ne!(key(b"{} "), key(b"{}"));
    assert_ne!(key(b"\n{}"), key(b"{}"));
    assert_eq!(key(b"{}").at, Timestamp(5));
}

#[test]
fn times_come_from_the_column_and_never_from_the_future() {
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]));
    let at = |time: ArrayRef| {
        let rows = rows(&[("id", Arc::clone(&id)), ("t", time)]);
        let keys = keys_at(&rows, &["id"], Some("t"), SEED);
        keys.into_iter().map(|key| key.unwrap().at.0).collect::<Vec<_>>()
    };
    let texts = vec![
        Some("1970-01-01T00:00:00.5Z"),
        Some("soon"),
        Some("2100-01-01T00:00:00Z"),
        None,
        Some("1969-12-31T23:59:59Z"),
    ];
    let expect = [500_000, 1_000_000, 2_000_000, 2_000_000, -1_000_000];
    assert_eq!(at(Arc::new(StringArray::from(texts.clone()))), expect);
    assert_eq!(at(Arc::new(StringViewArray::from(texts))), expect);
    let micros = TimestampMicrosecondArray::from(vec![
        Some(500_000),
        None,
        Some(i64::MAX),
        Some(9_000_000),
        Some(-1_000_000),
    ]);
    assert_eq!(at(Arc::new(micros)), expect);
    let millis =
        TimestampMillisecondArray::from(vec![Some(500), None, Some(9_000), Some(9_000), Some(-1_000)]);
    assert_eq!(at(Arc::new(millis)), expect);
    let seconds = Float64Array::from(vec![Some(0.5), Some(f64::NAN), Some(1e18), None, Some(-1.0)]);
    assert_eq!(at(Arc::new(seconds)), expect);
    assert_eq!(
        at(Arc::new(BooleanArray::from(vec![true; 5]))),
        [1_000_000, 1_000_000, 2_000_000, 2_000_000, 2_000_000]
    );
}
