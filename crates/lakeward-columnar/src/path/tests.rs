use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int64Array,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use jiff::tz::TimeZone;
use lakeward_model::{BatchId, LakePath, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::process::PartitionKey;
use crate::shape::Naming;

fn batch_id() -> BatchId {
    serde_json::from_str("\"0d1f5a52-5c5e-8f57-a6a1-c9a1b1a0d001\"").expect("an id")
}

fn micros(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().expect("an instant").as_microsecond())
}

fn evaluate(template: &str, kind: Kind) -> String {
    let zone = TimeZone::UTC;
    Template::parse(template, kind).unwrap_or_else(|e| panic!("{template}: {e}")).evaluate(&Moment {
        arrival: micros("2026-07-13T14:05:09Z"),
        zone: &zone,
        batch: batch_id(),
        index: 0,
        error_output_type: "processing-failed",
    })
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("a batch")
}

fn split(template: &str, rows: &RecordBatch) -> Vec<Partition> {
    let template = Template::parse(template, Kind::Prefix).unwrap_or_else(|e| panic!("{template}: {e}"));
    let records: Vec<u32> = (0..rows.num_rows() as u32).collect();
    let place = Place { zone: &TimeZone::UTC, batch: batch_id(), first_index: 0 };
    let parts = partition(&template, rows, &records, &[(0, micros("2026-07-13T14:05:09Z"))], &place);
    for part in &parts {
        assert_valid(&part.prefix);
    }
    let mut seen: Vec<usize> = parts.iter().flat_map(|p| p.rows.iter().cloned().flatten()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..rows.num_rows()).collect::<Vec<_>>(), "every row is in one partition");
    parts
}

fn assert_valid(prefix: &str) {
    assert!(prefix.len() <= 512, "{prefix:?} is too long");
    LakePath::new(format!("{prefix}object")).unwrap_or_else(|e| panic!("{e}"));
}

/// Prefix and number of rows of each partition.
fn summary(parts: &[Partition]) -> Vec<(&str, usize)> {
    parts.iter().map(|p| (p.prefix.as_str(), p.rows.iter().map(ExactSizeIterator::len).sum())).collect()
}

fn runs(runs: &[(usize, usize)]) -> Vec<std::ops::Range<usize>> {
    runs.iter().map(|(start, end)| *start..*end).collect()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn templates_evaluate_as_firehose_does() {
    let check =
        |template: &str, expect: &str| assert_eq!(evaluate(template, Kind::Prefix), expect, "{template}");
    check("", "2026/07/13/14/");
    check("legacy", "legacy2026/07/13/14/");
    check("data/", "data/2026/07/13/14/");
    check("a!b{c}/", "a!b{c}/2026/07/13/14/");
    check("d/!{timestamp:yyyy}/!{timestamp:MM-dd'T'HH}/", "d/2026/07-13T14/");
    check("!{timestamp:'dt='yyyy/MM}/", "dt=2026/07/");
    check("d/!{event:a}/!{event:t:HH}/", "d/__missing__/__missing__/");
    let errors = |template: &str, expect: &str| assert_eq!(evaluate(template, Kind::ErrorPrefix), expect);
    errors("errors/", "errors/");
    errors("e/!{firehose:error-output-type}/!{timestamp:yyyy}/", "e/processing-failed/2026/");
}

#[test]
fn random_strings_follow_from_the_batch() {
    let text = evaluate("r/!{firehose:random-string}/!{firehose:random-string}/", Kind::Prefix);
    assert_eq!(text, evaluate("r/!{firehose:random-string}/!{firehose:random-string}/", Kind::Prefix));
    let [_, a, b, _] = text.split('/').collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(a != b && [a, b].iter().all(|s| s.len() == 11 && s.bytes().all(|c| c.is_ascii_alphanumeric())));
}

#[test]
fn what_is_wrong_with_a_template_is_said_exactly() {
    use TemplateError as E;
    let check = |template: &str, kind: Kind, expect: TemplateError| {
        assert_eq!(Template::parse(template, kind), Err(expect), "{template}");
    };
    let (data, error) = (Kind::Prefix, Kind::ErrorPrefix);
    check(&"x".repeat(1025), data, E::TooLong { characters: 1025 });
    check(&"x".repeat(513), data, E::EvaluatesTooLong);
    check("a/!{timestamp:yyyy", data, E::Unterminated { expression: "!{timestamp:yyyy".into() });
    check("!{timestamp}", data, E::Malformed { expression: "timestamp".into() });
    check("!{event:}", data, E::Malformed { expression: "event:".into() });
    check("!{event::yyyy}", data, E::Malformed { expression: "event::yyyy".into() });
    let unknown =
        |namespace: &str, suggestion| E::UnknownNamespace { namespace: namespace.into(), suggestion };
    check("!{Timestamp:yyyy}", data, unknown("Timestamp", Some("timestamp")));
    check("!{partitionKey:a}", data, unknown("partitionKey", Some("partitionKeyFromQuery")));
    check("!{nope:a}", data, unknown("nope", None));
    check("!{firehose:random}", data, E::UnknownFirehoseValue { value: "random".into() });
    check("!{firehose:error-output-type}/", data, E::ErrorOutputTypeInPrefix);
    check("e/!{timestamp:yyyy}/", error, E::ErrorOutputTypeMissing);
    check("!{event:a}/", error, E::NotInErrorPrefix { namespace: "event" });
    check("!{partitionKeyFromQuery:a}/", error, E::NotInErrorPrefix { namespace: "partitionKeyFromQuery" });
    for namespace in ["partitionKeyFromQuery", "partitionKeyFromLambda"] {
        let expect = E::NeedsDynamicPartitioning { namespace, key: "k".into() };
        check(&format!("!{{{namespace}:k}}/"), data, expect);
    }
    let letter = PatternError::UnknownLetter { letter: 'T', suggestion: Some("'T'") };
    check("!{timestamp:ddTHH}", data, E::Pattern { pattern: "ddTHH".into(), error: letter });
    for (template, reason) in [
        ("/data/", "it has an empty segment"),
        ("a//b/", "it has an empty segment"),
        ("a/../b/", "it has a `.` or `..` segment"),
        ("!{timestamp:'../'}", "it has a `.` or `..` segment"),
        ("!{timestamp:yyyy/}/", "it has an empty segment"),
        ("a\\b/", "it has a control character or a backslash"),
        ("a\n/", "it has a control character or a backslash"),
    ] {
        check(template, data, E::NotAPath { reason });
    }
}

#[test]
fn partition_keys_are_hidden_columns_whose_slashes_are_folders() {
    let text = "d/!{partitionKeyFromQuery:day}/c=!{partitionKeyFromLambda:c}/!{event:k}/!{partitionKeyFromQuery:day}/";
    let template = Template::parse(text, Kind::KeyedPrefix).expect("valid");
    let keys = [PartitionKey::Query("day".into()), PartitionKey::Lambda("c".into())];
    assert_eq!(template.partition_keys(), keys);
    assert_eq!((template.event_columns().collect::<Vec<_>>(), template.reads_events()), (vec!["k"], true));
    assert_eq!(template.hive_columns(), Vec::<&str>::new());
    let values = [["2026/07", "a/../b"], ["2026/07", "a/../b"], ["x", "."]].map(|row| row.map(String::from));
    let hidden = key_columns(&keys, values.iter().map(<[String; 2]>::as_slice));
    // Records may have a field of the hidden column's name; it does not count.
    let name = "partitionKeyFromQuery:day";
    let columns = vec![("k", texts(&[Some("1"); 3])), (name, texts(&[Some("forged"); 3]))];
    let own = columns.into_iter().map(|(name, column)| (String::from(name), column));
    let schema = hidden.schema();
    let all = schema.fields().iter().map(|f| f.name().clone()).zip(hidden.columns().to_vec());
    let batch =
        RecordBatch::try_from_iter_with_nullable(all.chain(own).map(|(n, c)| (n, c, true))).expect("rows");
    let place = Place { zone: &TimeZone::UTC, batch: batch_id(), first_index: 0 };
    let parts = partition(&template, &batch, &[0, 1, 2], &[(0, Timestamp(0))], &place);
    assert_eq!(summary(&parts), [("d/2026/07/c=a/%2E./b/1/2026/07/", 2), ("d/x/c=%2E/1/x/", 1)]);
    assert!(parts.iter().all(|part| part.exact), "a key is no column of the file");
    assert!(Template::parse("a/", Kind::KeyedPrefix).expect("valid").partition_keys().is_empty());
    let none = key_columns(&[], values.iter().map(|_| [].as_slice()));
    assert_eq!((none.num_columns(), none.num_rows()), (0, 3));
}

#[test]
fn an_error_prefix_goes_with_a_prefix() {
    let prefix = |text| Template::parse(text, Kind::Prefix).expect("valid");
    let dynamic = prefix("a/year=!{timestamp:yyyy}/");
    assert_eq!(require_error_prefix(&dynamic, None), Err(ErrorPrefixRequired));
    assert_eq!(require_error_prefix(&dynamic, Some(&dynamic.default_error())), Ok(()));
    assert_eq!(require_error_prefix(&prefix("a/"), None), Ok(()));
    let default = |text| {
        let moment = Moment {
            arrival: micros("2026-07-13T14:05:09Z"),
            zone: &TimeZone::UTC,
            batch: batch_id(),
            index: 0,
            error_output_type: "processing-failed",
        };
        let template = prefix(text).default_error();
        assert_eq!((template.kind(), template.has_expressions()), (Kind::ErrorPrefix, true));
        template.evaluate(&moment)
    };
    assert_eq!(default("a/year=!{timestamp:yyyy}/"), "a/processing-failed/2026/07/13/14/");
    assert_eq!(default("legacy"), "legacyprocessing-failed/2026/07/13/14/");
    assert_eq!(default("!{timestamp:yyyy}/"), "processing-failed/2026/07/13/14/");
    assert_eq!(default(""), "processing-failed/2026/07/13/14/");
}

#[test]
fn hive_columns_are_whole_folders_under_their_own_name() {
    let check = |template: &str, expect: &[&str]| {
        let template = Template::parse(template, Kind::Prefix).expect("valid");
        assert_eq!(template.hive_columns(), expect, "{template:?}");
    };
    check("a=!{event:a}/x/b=!{event:b}/", &["a", "b"]);
    check("d/a=!{event:a}/d/a=!{event:a}/", &["a"]);
    check("za=!{event:a}/", &[]);
    check("b=!{event:a}/", &[]);
    check("a=!{event:a}-x/", &[]);
    check("a=!{event:a}", &[]);
    check("a=!{event:a:yyyy}/", &[]);
    check("c.d=!{event:c.d}/", &[]);
    check("!{timestamp:yyyy}a=!{event:a}/", &[]);
}

#[test]
fn times_of_every_kind_of_column() {
    let hours = ["2026-07-13T14:05:09Z", "2026-07-13 14:59:59.999999", "2026-07-13T17:00:00+02:00"];
    let epoch: Vec<i64> =
        hours.iter().map(|h| instant::TimeReader::default().read(h.as_bytes()).expect("a time")).collect();
    let numbers = |unit: i64| -> Vec<i64> { epoch.iter().map(|m| m / unit).collect() };
    let columns: Vec<ArrayRef> = vec![
        texts(&hours.map(Some)),
        Arc::new(hours.map(Some).into_iter().collect::<DictionaryArray<Int32Type>>()),
        arrow::compute::cast(&texts(&hours.map(Some)), &DataType::Utf8View).expect("a cast"),
        arrow::compute::cast(&texts(&hours.map(Some)), &DataType::LargeUtf8).expect("a cast"),
        Arc::new(Int64Array::from(numbers(1_000_000))),
        Arc::new(Int64Array::from(numbers(1_000))),
        Arc::new(Int64Array::from(numbers(1))),
        Arc::new(Float64Array::from_iter_values(epoch.iter().map(|m| *m as f64 / 1e6))),
        Arc::new(TimestampMillisecondArray::from(numbers(1_000)).with_timezone("Europe/Berlin")),
        Arc::new(TimestampMillisecondArray::from(numbers(1_000))),
        arrow::compute::cast(&Int64Array::from(numbers(1_000_000)), &DataType::UInt32).expect("a cast"),
        Arc::new(TimestampMicrosecondArray::from(epoch.clone())),
        Arc::new(TimestampMicrosecondArray::from(epoch.clone()).with_timezone("UTC")),
        Arc::new(
            Decimal128Array::from_iter_values(epoch.iter().map(|m| i128::from(*m)))
                .with_precision_and_scale(18, 6)
                .expect("a precision"),
        ),
    ];
    for column in columns {
        let kind = column.data_type().clone();
        let parts = split("h=!{event:t:yyyy-MM-dd-HH}/", &rows(vec![("t", column)]));
        assert_eq!(summary(&parts), [("h=2026-07-13-14/", 2), ("h=2026-07-13-15/", 1)], "{kind}");
    }
}

#[test]
fn values_of_every_kind_of_column() {
    let micros = 1_783_951_509_500_000;
    let columns: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(BooleanArray::from(vec![false])), "v=false/"),
        (Arc::new(Date32Array::from(vec![20_647])), "v=2026-07-13/"),
        (Arc::new(TimestampMicrosecondArray::from(vec![micros])), "v=2026-07-13T14%3A05%3A09.500/"),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")),
            "v=2026-07-13T14%3A05%3A09.500Z/",
        ),
        (
            Arc::new(Decimal128Array::from(vec![-150]).with_precision_and_scale(9, 2).expect("a precision")),
            "v=-1.50/",
        ),
    ];
    for (column, path) in columns {
        let parts = split("v=!{event:v}/", &rows(vec![("v", Arc::clone(&column))]));
        assert_eq!(summary(&parts), [(path, 1)]);
        let nulls = arrow::array::new_null_array(column.data_type(), 1);
        let parts = split("v=!{event:v}/!{event:v:yyyy}/", &rows(vec![("v", nulls)]));
        assert_eq!(summary(&parts), [("v=__missing__/__missing__/", 1)]);
    }
    let day: ArrayRef = Arc::new(Date32Array::from(vec![20_647]));
    assert_eq!(
        summary(&split("!{event:v:yyyy/MM/dd HH}/", &rows(vec![("v", day)]))),
        [("2026/07/13 00/", 1)]
    );
    let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]));
    assert_eq!(summary(&split("!{event:v:yyyy}/", &rows(vec![("v", far)]))), [("__missing__/", 1)]);
}

#[test]
fn rows_without_a_value_are_missing() {
    let time = texts(&[Some("2026-07-13T14:05:09Z"), None, Some("soon"), Some("")]);
    let parts = split("h=!{event:t:HH}/", &rows(vec![("t", time)]));
    assert_eq!(summary(&parts), [("h=14/", 1), ("h=__missing__/", 3)]);
    let none: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let parts = split("x!{event:nope}y/!{event:t:HH}/!{event:t}/", &rows(vec![("t", none)]));
    assert_eq!(summary(&parts), [("x__missing__y/__missing__/true/", 1)]);
    assert!(!parts[0].exact);
    assert_eq!(split("!{event:t:HH}/", &rows(vec![("t", texts(&[]))])), []);
}

#[test]
fn values_group_rows_in_order_of_first_sight() {
    let kinds = texts(&[Some("b"), Some("a"), Some("b"), Some("b"), None]);
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(1), Some(-2), None]));
    let parts = split("k=!{event:k}/n=!{event:n}/", &rows(vec![("k", kinds), ("n", counts)]));
    let expect = [
        ("k=b/n=1/", runs(&[(0, 1), (2, 3)]), true),
        ("k=a/n=1/", runs(&[(1, 2)]), true),
        ("k=b/n=-2/", runs(&[(3, 4)]), true),
        ("k=__missing__/n=__missing__/", runs(&[(4, 5)]), false),
    ];
    let found: Vec<_> = parts.iter().map(|p| (p.prefix.as_str(), p.rows.clone(), p.exact)).collect();
    assert_eq!(found, expect);
}

#[test]
fn dotted_paths_reach_into_structs() {
    let fields = Fields::from(vec![Field::new("b.c", DataType::Utf8, true)]);
    let nulls = NullBuffer::from(vec![true, false]);
    let inner = StructArray::new(
        fields,
        vec![texts(&[Some("v"), Some("hidden by the null around it")])],
        Some(nulls),
    );
    let batch = rows(vec![("a", Arc::new(inner)), ("x.y", texts(&[Some("1"), Some("2")]))]);
    assert_eq!(summary(&split("!{event:a.b.c}/", &batch)), [("v/", 1), ("__missing__/", 1)]);
    assert_eq!(summary(&split("!{event:x.y}/", &batch)), [("1/", 1), ("2/", 1)]);
    assert_eq!(summary(&split("!{event:a}/", &batch)), [("__missing__/", 2)]);
    assert_eq!(summary(&split("!{event:a.b}/!{event:a.b.c.d}/", &batch)), [("__missing__/__missing__/", 2)]);
}

#[test]
fn hostile_values_stay_in_their_folder() {
    let long = "/".repeat(5_000);
    let hostile = [
        "../../etc/passwd",
        "..",
        ".",
        "",
        "/",
        "a/b",
        "a\\b",
        "\0",
        "%2F",
        "\u{202e}",
        &long,
        "\n",
        "..\\..",
    ];
    let values = texts(&hostile.map(Some));
    for template in [
        "!{event:v}/",
        "a.!{event:v}.b/",
        ".!{event:v}",
        "!{event:v}!{event:v}!{event:v}/",
        "v=!{event:v}/w/",
    ] {
        let parts = split(template, &rows(vec![("v", ArrayRef::clone(&values))]));
        assert_eq!(parts.len(), hostile.len(), "different values, different folders: {template}");
        let slashes = template.matches('/').count();
        assert!(parts.iter().all(|p| p.prefix.matches('/').count() == slashes), "{template}");
        let fits = |p: &Partition| p.prefix.split('/').all(|folder| folder.len() <= 255);
        assert!(parts.iter().all(fits), "file systems take folders of 255 bytes: {template}");
    }
}

#[test]
fn arrival_is_the_oldest_record_of_each_file() {
    let at = |minute: i64| Timestamp(micros("2026-07-13T14:00:00Z").0 + minute * 60_000_000);
    let kinds = rows(vec![("k", texts(&[Some("a"), Some("b"), Some("b"), Some("a"), Some("c")]))]);
    // The clock went backwards between the first two blocks.
    let arrivals = [(0, at(50)), (10, at(40)), (20, at(61))];
    let place = Place { zone: &TimeZone::UTC, batch: batch_id(), first_index: 0 };
    let of = |template: &str| -> Vec<(String, Timestamp)> {
        let template = Template::parse(template, Kind::Prefix).expect("valid");
        let parts = partition(&template, &kinds, &[3, 9, 12, 13, 25], &arrivals, &place);
        parts.into_iter().map(|p| (p.prefix, p.oldest)).collect()
    };
    let expect =
        [("14-40/a/", at(40)), ("14-40/b/", at(40)), ("15-01/c/", at(61))].map(|(p, t)| (p.into(), t));
    assert_eq!(of("!{timestamp:HH-mm}/!{event:k}/"), expect);
    assert_eq!(of("!{timestamp:HH-mm}/"), [(String::from("14-40/"), at(40))]);
}

#[test]
fn cached_stretches_agree_with_formatting_each_row() {
    let zones =
        ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York"];
    let around = [
        "1890-01-01T00:00:00Z",
        "2026-03-29T00:30:00Z",
        "2026-10-25T00:30:00Z",
        "2026-04-04T14:30:00Z",
        "2026-11-01T05:30:00Z",
    ];
    for (zone, start) in zones.iter().flat_map(|z| around.map(|a| (z, a))) {
        let zone = time_zone(zone).expect("a zone");
        let times: Vec<i64> = (0..400).map(|i| micros(start).0 + i * 37_123_457).collect();
        let column: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(times.clone()));
        for pattern in ["yyyy-MM-dd-HH X", "D a", "HH-mm", "ss", "SSS", "Y-w z"] {
            let template = Template::parse(&format!("!{{event:t:{pattern}}}/"), Kind::Prefix).expect("valid");
            let records: Vec<u32> = (0..400).collect();
            let place = Place { zone: &zone, batch: batch_id(), first_index: 0 };
            let batch = rows(vec![("t", ArrayRef::clone(&column))]);
            for part in partition(&template, &batch, &records, &[(0, Timestamp(0))], &place) {
                for row in part.rows.into_iter().flatten() {
                    let mut text = String::new();
                    let at = super::template::zoned(Timestamp(times[row]), &zone);
                    Pattern::parse(pattern).expect("valid").format(&at, &mut text);
                    assert_eq!(part.prefix, text + "/", "{at} by {pattern}");
                }
            }
        }
    }
}

#[test]
fn objects_are_named_after_their_batch() {
    let zone = time_zone("Europe/Berlin").expect("a zone");
    let name = |naming: &Naming| {
        object_name(naming, batch_id(), 7, micros("2026-07-13T14:05:09Z"), &zone, ".parquet")
    };
    assert_eq!(name(&Naming::Batch), format!("{}-7.parquet", batch_id()));
    let firehose = |extension: Option<&str>| Naming::Firehose {
        stream: "orders".into(),
        version: 3,
        extension: extension.map(String::from),
    };
    let file = batch_id().file(7);
    assert_eq!(name(&firehose(None)), format!("orders-3-2026-07-13-16-05-09-{file}.parquet"));
    assert_eq!(name(&firehose(Some(".json.gz"))), format!("orders-3-2026-07-13-16-05-09-{file}.json.gz"));
}

#[test]
fn unknown_zones_are_refused() {
    assert_eq!(time_zone("Mars/Olympus"), Err(UnknownTimeZone("Mars/Olympus".into())));
}

/// Text that is often nearly a template.
fn template_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        "[a-z./=-]{0,8}",
        "!\\{(timestamp|event|firehose):[a-zA-Z':/.\\[\\]-]{0,12}\\}?",
        Just(String::from("!{event:v}")),
        Just(String::from("!{partitionKeyFromQuery:v}")),
        Just(String::from("!{event:t:yyyy/MM}")),
        Just(String::from("!{timestamp:yyyy/MM/dd/}")),
        Just(String::from("!{firehose:random-string}")),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_template_and_no_value_leaves_the_lake(
        text in template_text(),
        values in proptest::collection::vec(proptest::option::of(any::<String>()), 1..6),
        arrival in any::<i64>(),
    ) {
        let _ = Template::parse(&text, Kind::ErrorPrefix);
        if let Ok(template) = Template::parse(&text, Kind::KeyedPrefix) {
            let column: ArrayRef = Arc::new(StringArray::from(values));
            let key = ArrayRef::clone(&column);
            let columns = [("partitionKeyFromQuery:v", key), ("v", ArrayRef::clone(&column)), ("t", column)];
            let batch = rows(columns.to_vec());
            let records: Vec<u32> = (0..batch.num_rows() as u32).collect();
            let place = Place { zone: &TimeZone::UTC, batch: batch_id(), first_index: 0 };
            for part in partition(&template, &batch, &records, &[(0, Timestamp(arrival))], &place) {
                assert_valid(&part.prefix);
            }
        }
    }

    #[test]
    fn no_text_breaks_the_time_reader(text in "[0-9TZ:+ .-]{0,40}", raw in any::<Vec<u8>>()) {
        let mut reader = instant::TimeReader::default();
        let first = reader.read(text.as_bytes());
        reader.read(&raw);
        prop_assert_eq!(reader.read(text.as_bytes()), first);
        // What jiff also takes for an instant is the same instant.
        if let (Some(ours), Ok(theirs), false) = (first, text.parse::<jiff::Timestamp>(), text.contains(":60")) {
            prop_assert_eq!(ours, theirs.as_microsecond());
        }
    }
}
