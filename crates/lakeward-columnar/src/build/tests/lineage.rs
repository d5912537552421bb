//! Columns and folders by where records came from.

use super::*;
use crate::build::{ShapeError, check};
use crate::shape::{Contract, OnMismatch, Processing, Split};
use lakeward_model::ColumnType;

const VIDEO: &str = r#""section_id":145,"category":"video""#;
const QUIZ: &str = r#""section_id":7,"category":"a/b""#;

fn shape(output: Output, path: &str) -> Shape {
    Shape { output, path: path.into(), ..Shape::default() }
}

fn none(_: &[u8]) -> Outcome {
    unreachable!("there is no function")
}

fn record(text: &str, key: Option<Vec<u8>>) -> Given {
    (text.into(), key)
}

/// Two files and a record from nowhere.
fn given() -> Vec<Vec<Given>> {
    vec![
        vec![
            record(r#"{"n":1}"#, lineage(1, "s/145/x.jsonl.gz", 1, VIDEO)),
            record(r#"{"n":2,"section_id":145}"#, lineage(1, "s/145/x.jsonl.gz", 2, VIDEO)),
            record(r#"{"n":3}"#, lineage(2, "s/7/y#0.jsonl", 1, QUIZ)),
        ],
        vec![record(r#"{"n":4}"#, None)],
    ]
}

fn folders(built: &Built) -> Vec<(String, usize)> {
    data(built).into_iter().map(|(folder, lines)| (folder, lines.len())).collect()
}

#[test]
fn what_names_say_becomes_columns() {
    let built = built(&shape(ndjson(), "x/!{timestamp:yyyy}/"), &given(), none);
    let expect = [
        r#"{"n":1,"section_id":145,"category":"video"}"#,
        r#"{"n":2,"section_id":145,"category":"video"}"#,
        r#"{"n":3,"section_id":7,"category":"a/b"}"#,
        r#"{"n":4}"#,
    ];
    assert_eq!(data(&built), [("x/2023/".into(), expect.map(String::from).to_vec())]);
    let columns = built.schemas.expect("new columns").table.columns;
    let types: Vec<_> = columns.iter().map(|column| (column.name.as_str(), &column.ty)).collect();
    let expect =
        [("n", &ColumnType::Int64), ("section_id", &ColumnType::Int64), ("category", &ColumnType::Utf8)];
    assert_eq!(types, expect);
}

#[test]
fn files_and_lines_are_columns_of_every_piece() {
    let shape = Shape {
        lineage: true,
        processing: Processing { split: Some(Split::Json), ..Processing::default() },
        ..shape(ndjson(), "x/!{timestamp:yyyy}/")
    };
    let given = vec![
        vec![record("{\"n\":0}", None)],
        vec![
            record("{broken", lineage(1, "f.gz", 1, "")),
            record("{\"n\":1}{\"n\":2}", lineage(1, "f.gz", 2, "")),
            record("{\"n\":3}", None),
        ],
    ];
    let built = built(&shape, &given, none);
    let expect = [
        r#"{"n":0}"#,
        r#"{"n":1,"_file":"f.gz","_line":2}"#,
        r#"{"n":2,"_file":"f.gz","_line":2}"#,
        r#"{"n":3}"#,
    ];
    assert_eq!(data(&built)[0].1, expect);
    let quarantined = built.files.iter().find(|file| file.role == Role::Quarantine).expect("a record failed");
    let line: serde_json::Value = serde_json::from_slice(&quarantined.body).expect("a line");
    assert_eq!(line["data"], "{broken", "its bytes as they came");
}

#[test]
fn a_field_of_the_record_is_no_mismatch() {
    let shape = Shape {
        on_mismatch: OnMismatch::Fail,
        contract: Contract::Evolve,
        lineage: true,
        ..shape(ndjson(), "x/!{timestamp:yyyy}/")
    };
    let own = r#"{"n":1,"section_id":9,"category":"own","_file":"own"}"#;
    let given = vec![vec![record(own, lineage(1, "f", 1, VIDEO))]];
    let built = built(&shape, &given, none);
    let expect = r#"{"n":1,"section_id":9,"category":"own","_file":"own","_line":1}"#;
    assert_eq!((data(&built)[0].1[0].as_str(), built.counts.rescued), (expect, 0));
}

#[test]
fn folders_by_the_source_for_every_format() {
    for output in [ndjson(), verbatim(), Output::default()] {
        let check = |path: &str, expect: &[(&str, u64)]| {
            let built = built(&shape(output.clone(), path), &given(), none);
            let found: Vec<_> = built
                .files
                .iter()
                .map(|file| (&file.path.as_str()[..file.path.as_str().rfind('/').unwrap() + 1], file.rows))
                .collect();
            assert_eq!(found, expect, "{path} {output:?}");
        };
        check("!{source:stem}/", &[("x.jsonl/", 2), ("y%230.jsonl/", 1), ("__missing__/", 1)]);
        check(
            "a/!{source:file}/",
            &[("a/s/145/x.jsonl.gz/", 2), ("a/s/7/y%230.jsonl/", 1), ("a/__missing__/", 1)],
        );
        check(
            "section_id=!{source:section_id}/!{source:category}/",
            &[
                ("section_id=145/video/", 2),
                ("section_id=7/a%2Fb/", 1),
                ("section_id=__missing__/__missing__/", 1),
            ],
        );
        check("!{source:nothing}/", &[("__missing__/", 4)]);
    }
}

#[test]
fn a_stem_may_begin_the_name() {
    let built = built(&shape(verbatim(), "python-import/!{source:stem}-"), &given()[..1], none);
    let names: Vec<_> = built.files.iter().map(|file| file.path.as_str().to_owned()).collect();
    assert_eq!(names.len(), 2);
    assert!(names[0].starts_with("python-import/x.jsonl-0d1f5a52-"), "{names:?}");
    assert!(names[1].starts_with("python-import/y%230.jsonl-0d1f5a52-"), "{names:?}");
    // Verbatim files hold what came, byte by byte.
    let bodies: Vec<_> = built.files.iter().map(|file| file.body.as_ref()).collect();
    assert_eq!(bodies, [&b"{\"n\":1}\n{\"n\":2,\"section_id\":145}\n"[..], b"{\"n\":3}\n"]);
}

/// A folder takes the place of a column only if both say the same.
#[test]
fn no_value_is_lost_to_a_folder() {
    let given = vec![vec![
        record(r#"{"n":1}"#, lineage(1, "x", 1, VIDEO)),
        record(r#"{"n":2,"section_id":9}"#, lineage(2, "y", 1, QUIZ)),
        record(r#"{"n":3,"section_id":5}"#, None),
    ]];
    let built = built(&shape(ndjson(), "section_id=!{source:section_id}/"), &given, none);
    let expect = [
        ("section_id=145/", r#"{"n":1,"category":"video"}"#),
        ("section_id=7/", r#"{"n":2,"section_id":9,"category":"a/b"}"#),
        ("section_id=__missing__/", r#"{"n":3,"section_id":5}"#),
    ];
    let found = data(&built);
    assert_eq!(found, expect.map(|(folder, line)| (folder.to_string(), vec![line.to_string()])));
}

#[test]
fn a_time_in_a_name_is_a_time() {
    let fields = r#""at":"2026-03-01T05:00:00Z""#;
    let given = vec![vec![record("{}", lineage(1, "x", 1, fields)), record("{}", lineage(1, "x", 2, ""))]];
    let built = built(&shape(verbatim(), "!{source:at:yyyy/MM/dd/HH}/"), &given, none);
    assert_eq!(folders(&built), [("2026/03/01/05/".to_string(), 1), ("__missing__/".to_string(), 1)]);
}

#[test]
fn a_function_sees_records_as_they_came() {
    let lambda = crate::shape::Lambda::one_at_a_time();
    let shape = Shape {
        processing: Processing { lambda: Some(lambda), ..Processing::default() },
        ..shape(ndjson(), "!{source:stem}/")
    };
    let outcome = |piece: &[u8]| {
        assert!(!piece.windows(7).any(|bytes| bytes == b"section"), "{piece:?}");
        match piece {
            b"{\"n\":2}" => Outcome::Dropped,
            _ => Outcome::Ok { data: "{\"m\":true}".into(), keys: Vec::new() },
        }
    };
    let of = |n: u64| {
        record(&format!("{{\"n\":{n}}}"), lineage(1, &format!("f{n}"), n, &format!("\"section_id\":{n}")))
    };
    let built = built(&shape, &[vec![of(1), of(2), of(3)], vec![of(4)]], outcome);
    let expect = [("f1/", 1), ("f3/", 3), ("f4/", 4)];
    let expect =
        expect.map(|(folder, n)| (folder.into(), vec![format!("{{\"m\":true,\"section_id\":{n}}}")]));
    assert_eq!(data(&built), expect);
}

#[test]
fn verbatim_files_have_no_columns_for_a_lineage() {
    let shape = Shape { lineage: true, ..shape(verbatim(), "x/") };
    let Err(error) = check(&shape) else { panic!("it has no columns") };
    assert_eq!((error.field(), matches!(error, ShapeError::Verbatim { .. })), ("lineage", true));
    for wrong in ["!{source:}/", "!{source}/", "!{source:at:QQQQQQ}/"] {
        assert!(check(&self::shape(ndjson(), wrong)).is_err(), "{wrong}");
    }
    let in_errors = Shape {
        error_path: Some("!{source:stem}/!{firehose:error-output-type}/".into()),
        ..Shape::default()
    };
    assert_eq!(check(&in_errors).map_err(|error| error.field()), Err("error_path"));
}

/// Amplitude's times: a space, six digits, no zone, UTC.
#[test]
fn times_with_a_space_are_times() {
    let mut shape = shape(ndjson(), "!{event:server_upload_time:yyyy/MM/dd/HH}/!{event:event_time:yyyy}/");
    shape.columns.insert("event_time".into(), crate::shape::ColumnMode::Timestamp);
    let text =
        r#"{"server_upload_time":"2020-11-24 09:59:58.880000","event_time":"2019-12-31 23:59:59.000001"}"#;
    let built = built(&shape, &[vec![record(text, None)]], none);
    let expect =
        r#"{"event_time":"2019-12-31T23:59:59.000001","server_upload_time":"2020-11-24 09:59:58.880000"}"#;
    assert_eq!(data(&built), [("2020/11/24/09/2019/".into(), vec![expect.to_string()])]);
    assert_eq!(built.counts.rescued, 0);
}
