use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PLANNED: Timestamp = Timestamp(1_789_014_301_529_123);

fn firehose() -> Naming {
    Naming::Firehose { stream: "s".into(), version: 1, extension: None }
}

fn record(stage: Stage, code: &'static str, data: &[u8]) -> Quarantined {
    let reason = Reason { stage, code: code.into(), message: "why \"so\"".into(), attempts: 4 };
    Quarantined {
        offset: Offset(9),
        received_at: Timestamp(1_789_014_240_448_007),
        reason,
        data: data.to_vec(),
    }
}

fn rendered(records: &[Quarantined], naming: &Naming) -> Vec<u8> {
    let stream = StreamName::new("orders").unwrap();
    let context = Context {
        stream: &stream,
        pipeline: "p",
        configuration: "00ff",
        lambda: Some("arn:aws:lambda:us-east-1:123456789012:function:f"),
        planned_at: PLANNED,
    };
    render(&records.iter().collect::<Vec<_>>(), &context, naming)
}

fn lines(file: &[u8]) -> Vec<Value> {
    let lines = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn our_own_lines() {
    let records = [
        record(Stage::Processing, "Lambda.FunctionError", b"{\"a\":1}\n"),
        record(Stage::Processing, "gzip.malformed", b"\xff\xfe"),
    ];
    let expect = json!({
        "reason": "Lambda.FunctionError", "message": "why \"so\"", "stage": "processing-failed",
        "pipeline": "p", "stream": "orders", "configuration": "00ff", "offset": 9,
        "received_at": "2026-09-10T04:24:00.448007Z", "attempts": 4,
        "lambda": "arn:aws:lambda:us-east-1:123456789012:function:f", "data": "{\"a\":1}\n",
    });
    let file = lines(&rendered(&records, &Naming::Batch));
    assert_eq!(file[0], expect);
    assert_eq!(
        (&file[1]["data_base64"], &file[1]["lambda"], &file[1]["data"]),
        (&json!("//4="), &Value::Null, &Value::Null)
    );
}

#[test]
fn lines_of_firehose() {
    let text = |record| String::from_utf8(rendered(&[record], &firehose())).unwrap();
    assert_eq!(
        text(record(Stage::Processing, "Lambda.ProcessingFailedStatus", b"{}")),
        "{\"rawData\":\"e30=\",\"errorCode\":\"Lambda.ProcessingFailedStatus\",\"errorMessage\":\"why \\\"so\\\"\",\
         \"attemptsMade\":4,\"arrivalTimestamp\":1789014240448,\"attemptEndingTimestamp\":1789014301529,\
         \"lambdaARN\":\"arn:aws:lambda:us-east-1:123456789012:function:f\",\"lakewardOffset\":9}\n"
    );
    assert_eq!(
        text(record(Stage::Processing, "DynamicPartitioning.MetadataExtractionFailed", b"{}")),
        "{\"rawData\":\"e30=\",\"errorCode\":\"DynamicPartitioning.MetadataExtractionFailed\",\
         \"errorMessage\":\"why \\\"so\\\"\",\"attemptsMade\":4,\"arrivalTimestamp\":1789014240448,\
         \"attemptEndingTimestamp\":1789014301529,\"lakewardOffset\":9}\n"
    );
    assert_eq!(
        text(record(Stage::Conversion, "json.syntax", b"{")),
        "{\"attemptsMade\":4,\"arrivalTimestamp\":1789014240448,\"lastErrorCode\":\"DataFormatConversion.ParseError\",\
         \"lastErrorMessage\":\"why \\\"so\\\"\",\"attemptEndingTimestamp\":1789014301529,\"rawData\":\"ew==\",\
         \"sequenceNumber\":null,\"subSequenceNumber\":null,\"dataCatalogTable\":null,\"lakewardOffset\":9}\n"
    );
    for code in ["sql.failed", "schema.mismatch", "json.not_object", "DataFormatConversion.MalformedData"] {
        let told = lines(&rendered(&[record(Stage::Conversion, code, b"")], &firehose()));
        assert_eq!(told[0]["lastErrorCode"], json!("DataFormatConversion.MalformedData"), "{code}");
    }
}

#[test]
fn every_stage_has_its_file() {
    let records = [
        record(Stage::Conversion, "a", b"1"),
        record(Stage::Processing, "b", b"2"),
        record(Stage::Conversion, "c", b"3"),
    ];
    let stages = by_stage(records.iter());
    let told: Vec<_> =
        stages.iter().map(|(s, r)| (s.error_output_type(), r.len(), &*r[0].reason.code)).collect();
    assert_eq!(told, [("processing-failed", 1, "b"), ("format-conversion-failed", 2, "a")]);
    assert!(by_stage([].iter()).is_empty());
}

#[test]
fn error_objects_of_aws_are_read_too() {
    // Two captures of the real service (contract, section 2.8), one with the
    // member's spelling in the documentation, and no newline between them.
    let file = br#"{"rawData":"aGk=","errorCode":"Lambda.ProcessingFailedStatus","errorMessage":"ProcessingFailed status set for record","attemptsMade":1,"arrivalTimestamp":1789014240448,"attemptEndingTimestamp":1789014301529,"lambdaArn":"arn:f"}{"attemptsMade":1,"arrivalTimestamp":1,"lastErrorCode":"DataFormatConversion.MalformedData","lastErrorMessage":"Data does not match the schema.","attemptEndingTimestamp":2,"rawData":"e30=","sequenceNumber":"49","subSequenceNumber":null,"dataCatalogTable":{"catalogId":null,"databaseName":"d"},"more":1}"#;
    let found = read(file).unwrap();
    assert_eq!((found[0].data.as_slice(), found[0].lambda.as_deref()), (b"hi".as_slice(), Some("arn:f")));
    assert_eq!((found[1].reason.stage, found[1].received_at), (Stage::Conversion, Timestamp(1_000)));
}

#[test]
fn what_is_no_quarantine_file() {
    let good = rendered(&[record(Stage::Conversion, "a", b"1")], &Naming::Batch);
    let check = |file: &[u8], words: &str| {
        let error = read(file).expect_err(words);
        assert!(error.record == 2 && error.what.contains(words), "{error}");
    };
    let after = |line: &str| [&good, line.as_bytes()].concat();
    let changed = |from: &str, to: &str| after(&String::from_utf8_lossy(&good).replace(from, to));
    check(&after("{\"a\":1}"), "missing field");
    check(&after("{\"reason\":"), "EOF");
    check(&after("[]"), "");
    check(&changed("\"data\"", "\"other\""), "one of `data`");
    check(&changed("format-conversion-failed", "nope"), "no stage");
    check(&changed("\"data\":\"1\"", "\"data_base64\":\"!\""), "base64");
    check(&changed("\"received_at\":\"2", "\"received_at\":\"soon 2"), "not an instant");
    let arrival = i64::MAX;
    check(
        &after(&format!(
            r#"{{"rawData":"","errorCode":"c","errorMessage":"","attemptsMade":1,"arrivalTimestamp":{arrival},"attemptEndingTimestamp":1}}"#
        )),
        "calendar",
    );
    assert_eq!(read(b"\n"), Ok(Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        records in proptest::collection::vec((any::<Vec<u8>>(), any::<i64>(), any::<u64>(), any::<String>(), any::<bool>()), 0..5),
    ) {
        let records: Vec<Quarantined> = records.into_iter().map(|(data, at, offset, message, converts)| Quarantined {
            offset: Offset(offset),
            received_at: Timestamp(at),
            reason: Reason {
                stage: if converts { Stage::Conversion } else { Stage::Processing },
                code: "sql.failed".into(),
                message,
                attempts: 2,
            },
            data,
        }).collect();
        let found = read(&rendered(&records, &Naming::Batch)).unwrap();
        prop_assert_eq!(found.len(), records.len());
        for (line, record) in found.iter().zip(&records) {
            prop_assert_eq!(&line.data, &record.data);
            prop_assert_eq!(&line.reason, &record.reason);
            prop_assert_eq!((line.received_at, line.offset), (record.received_at, Some(record.offset)));
        }
        let found = read(&rendered(&records, &firehose())).unwrap();
        for (line, record) in found.iter().zip(&records) {
            prop_assert_eq!(&line.data, &record.data);
            prop_assert_eq!((&line.reason.message, line.reason.stage), (&record.reason.message, record.reason.stage));
            prop_assert_eq!(line.received_at.millis(), record.received_at.millis());
        }
    }

    #[test]
    fn no_file_breaks_the_reader(file in any::<Vec<u8>>()) {
        let _ = read(&file);
    }
}
