//! Generated records: nothing is lost, nothing panics, and exactly JSON is
//! accepted.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// A value of any type, often of types that conflict.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => (-100i64..100).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        2 => any::<f64>().prop_filter("JSON", |f| f.is_finite()).prop_map(Value::from),
        3 => "[a-z]{0,40}".prop_map(Value::from),
        2 => any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![vec(inner.clone(), 0..5).prop_map(Value::from), fields(inner).prop_map(Value::Object),]
    })
}

fn fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![9 => "[abcd]", 2 => "[abc.\"]{0,3}", 1 => Just("_rescued".to_owned()), 1 => any::<String>()];
    vec((name, value), 0..6).prop_map(|fields| fields.into_iter().collect())
}

fn documents() -> impl Strategy<Value = Vec<Map<String, Value>>> {
    vec(fields(value()), 1..12)
}

/// Writes a value with the keys in another order and with whitespace, as the
/// bits of `seed` say.
fn write_oddly(value: &Value, seed: &mut u64, out: &mut String) {
    let mut draw = |n: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % n
    };
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            for i in (1..fields.len()).rev() {
                fields.swap(i, draw(i as u64 + 1) as usize);
            }
            out.push('{');
            for (i, (name, value)) in fields.into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                out.push_str(["", " ", "\r\n\t"][(*seed >> 40) as usize % 3]);
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push_str([":", ": ", " \n: "][(*seed >> 50) as usize % 3]);
                write_oddly(value, seed, out);
            }
            out.push_str([" }", "}"][(*seed >> 60) as usize % 2]);
        }
        Value::Array(elements) => {
            out.push('[');
            for (i, element) in elements.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { " ," });
                write_oddly(element, seed, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// What the documentation promises to accept, by serde_json.
fn is_record(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_object = |raw: &RawValue| raw.get().starts_with('{');
    serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().all(|document| match document {
        Ok(raw) if is_object(raw) => true,
        Ok(raw) => serde_json::from_str::<Vec<&RawValue>>(raw.get())
            .is_ok_and(|elements| elements.iter().all(|element| is_object(element))),
        Err(_) => false,
    })
}

fn check_rows(decoded: &Decoded, documents: &[Map<String, Value>]) -> Result<(), TestCaseError> {
    prop_assert_eq!(&decoded.rejected, &[]);
    prop_assert_eq!(decoded.rows.num_rows(), documents.len());
    for (row, document) in documents.iter().enumerate() {
        let expected = canonical(&Value::Object(document.clone()));
        let got = read_back(decoded, row);
        prop_assert!(same(&got, &expected), "row {row}: {got} is not {expected}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_reads_back(batches in vec(documents(), 1..4), limit in prop_oneof![Just(1000usize), 0usize..6]) {
        let mut schema = TableSchema::default();
        for documents in batches {
            let records: Vec<_> = documents.iter().map(|d| serde_json::to_string(d).unwrap()).collect();
            let options = DecodeOptions { column_limit: limit, ..DecodeOptions::default() };
            let decoded = decode_with(&schema, options, &records);
            check_rows(&decoded, &documents)?;
            let before = schema.columns.iter().filter(|column| column.name != RESCUED);
            for (old, new) in before.zip(&decoded.schema.columns) {
                prop_assert_eq!(&old.name, &new.name);
            }
            schema = decoded.schema;
        }
    }

    #[test]
    fn order_and_whitespace_change_nothing(documents in documents(), mut seed: u64) {
        let mut records = Vec::new();
        for document in &documents {
            let mut text = String::new();
            write_oddly(&Value::Object(document.clone()), &mut seed, &mut text);
            records.push(text);
        }
        check_rows(&decode(&records), &documents)?;
        check_rows(&decode(&[records.concat()]), &documents)?;
        check_rows(&decode(&[format!("[{}]", records.join(", "))]), &documents)?;
    }

    #[test]
    fn blocks_change_nothing(documents in documents(), cut in any::<prop::sample::Index>()) {
        let records: Vec<_> = documents.iter().map(|d| serde_json::to_string(d).unwrap()).collect();
        let whole = decode(&records);
        let options = DecodeOptions { expected_bytes: 1 << 16, ..DecodeOptions::default() };
        let mut decoder = Decoder::new(&TableSchema::default(), options);
        let (first, second) = records.split_at(cut.index(records.len()));
        for records in [first, &[], second] {
            decoder.push_records(&block(records)).unwrap();
            prop_assert!(decoder.memory() > 0);
        }
        let parts = decoder.finish();
        prop_assert_eq!(&whole.rows, &parts.rows);
        prop_assert_eq!(&whole.row_records, &parts.row_records);
        prop_assert_eq!(&whole.schema, &parts.schema);
        prop_assert_eq!(whole.rescued, parts.rescued);
    }

    #[test]
    fn arbitrary_bytes_never_panic(records in vec(vec(any::<u8>(), 0..80), 0..8)) {
        let decoded = decode(&records);
        for (i, record) in records.iter().enumerate() {
            let rejected = decoded.rejected.iter().any(|rejected| rejected.record as usize == i);
            prop_assert_eq!(!rejected, is_record(record));
        }
    }

    #[test]
    fn exactly_json_is_accepted(
        documents in documents(),
        edits in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..4), 1..8),
        mut seed: u64,
    ) {
        let mut records: Vec<Vec<u8>> = Vec::new();
        for document in &documents {
            let mut text = String::new();
            write_oddly(&Value::Object(document.clone()), &mut seed, &mut text);
            records.push(text.into_bytes());
        }
        let bytes = b"\"\\{}[],: \n019-+.eEtfnu/a\0\x1f\x80\xc3\xef";
        let untouched = records.clone();
        for (place, byte, kind) in edits {
            let which = place.index(records.len());
            let record = &mut records[which];
            let at = place.index(record.len() + 1);
            let byte = bytes[byte.index(bytes.len())];
            match kind {
                0 => record.truncate(at),
                1 => record.insert(at, byte),
                2 if at < record.len() => { record.remove(at); }
                _ if at < record.len() => record[at] = byte,
                _ => {}
            }
        }
        let decoded = decode(&records);
        for (i, record) in records.iter().enumerate() {
            let rejected = decoded.rejected.iter().any(|rejected| rejected.record as usize == i);
            prop_assert_eq!(!rejected, is_record(record), "{:?}", String::from_utf8_lossy(record));
            if record == &untouched[i] {
                let row = decoded.row_records.iter().position(|&r| r as usize == i).unwrap();
                let expected = canonical(&Value::Object(documents[i].clone()));
                prop_assert!(same(&read_back(&decoded, row), &expected));
            }
        }
    }
}
