//! CSV.

use lakeward_unpack::{Csv, Format, Options};
use proptest::prelude::*;

use crate::support::{message, read_as, texts};

fn options(csv: Csv) -> Options {
    Options { format: Format::Csv, csv, ..Options::default() }
}

#[test]
fn rows_are_objects_of_strings() {
    let table: [(&str, &[&str]); 12] = [
        ("", &[]),
        ("a,b", &[]),
        ("a,b\n1,2", &[r#"{"a":"1","b":"2"}"#]),
        ("b,a\r\n1,2\r\n", &[r#"{"b":"1","a":"2"}"#]),
        ("a,b\n,\n", &[r#"{"a":"","b":""}"#]),
        ("a,b\n\"\",\"x\"\"y, z\"\n", &[r#"{"a":"","b":"x\"y, z"}"#]),
        ("a,b\n\"1\n2\",3\n4,5\n", &[r#"{"a":"1\n2","b":"3"}"#, r#"{"a":"4","b":"5"}"#]),
        ("a\n1\n\n2\n", &[r#"{"a":"1"}"#, r#"{"a":"2"}"#]),
        ("\u{feff}a\né\\\t\n", &[r#"{"a":"é\\\t"}"#]),
        ("\"a \"\"x\"\"\"\n1\n", &[r#"{"a \"x\"":"1"}"#]),
        // Rows that are none are handed on as they are.
        ("a,b\n1\n1,2,\"3,4\"\n5,6\n", &["1", "1,2,\"3,4\"", r#"{"a":"5","b":"6"}"#]),
        ("a,b\n1,2\n\n\n", &[r#"{"a":"1","b":"2"}"#]),
    ];
    for (text, expected) in table {
        let records = read_as(text.as_bytes(), &options(Csv::default())).unwrap();
        assert_eq!(texts(&records), expected, "{text:?}");
        assert!(records.iter().zip(1..).all(|((_, _, line), number)| *line == number));
    }
    let latin1 = read_as(b"a,b\n\xe9,1\n2,3\n", &options(Csv::default())).unwrap();
    assert_eq!(texts(&latin1), ["\u{fffd},1", r#"{"a":"2","b":"3"}"#]);
}

#[test]
fn delimiters_and_names_can_be_chosen() {
    let named = |columns: &[&str]| Csv {
        delimiter: b'\t',
        header: false,
        columns: columns.iter().map(ToString::to_string).collect(),
    };
    let read = |csv| read_as(b"1\t2\n3\t4\n", &options(csv)).unwrap();
    assert_eq!(texts(&read(named(&["x", "y"]))), [r#"{"x":"1","y":"2"}"#, r#"{"x":"3","y":"4"}"#]);
    let numbered = [r#"{"column_1":"1","column_2":"2"}"#, r#"{"column_1":"3","column_2":"4"}"#];
    assert_eq!(texts(&read(named(&[]))), numbered);
    let spaces = Csv { delimiter: b' ', ..Csv::default() };
    assert_eq!(texts(&read_as(b"a b\n1 2", &options(spaces)).unwrap()), [r#"{"a":"1","b":"2"}"#]);
}

#[test]
fn any_byte_delimits_also_those_that_hive_writes() {
    for delimiter in (0..128_u8).filter(|byte| !byte.is_ascii_alphabetic() && !b"\"\n\r".contains(byte)) {
        let csv = Csv { delimiter, header: false, columns: vec!["x".into(), "y".into()] };
        // The first 8 bytes of a file must be text.
        let text = [b"kkkkkkkk", &[delimiter][..], b"l\nm", &[delimiter], b"n\n"].concat();
        let records = read_as(&text, &options(csv.clone())).unwrap();
        assert_eq!(texts(&records), [r#"{"x":"kkkkkkkk","y":"l"}"#, r#"{"x":"m","y":"n"}"#], "{delimiter}");
        let open = [&text[..], b"\"o", &[delimiter], b"p\n"].concat();
        assert!(message(read_as(&open, &options(csv))).contains("is not closed"), "{delimiter}");
    }
}

#[test]
fn bad_headers_and_open_quotes_are_errors() {
    let table: [(&[u8], &str); 6] = [
        (b"a,a\n1,2\n", "record 1: two columns are named `a`"),
        (b"a,,b\n1,2,3\n", "record 1: a column has no name"),
        (b"a, \n", "record 1: a column has no name"),
        (b"aaaaaaaaaaaaaaaa,\xe9\n", "record 1: the header is not UTF-8"),
        (
            b"a,b\n1,2\n3,\"4\n5,6\n",
            "record 2: a quoted field is not closed, in the row that starts in line 3",
        ),
        (b"\"a", "record 1: a quoted field is not closed, in the row that starts in line 1"),
    ];
    for (text, expected) in table {
        assert_eq!(message(read_as(text, &options(Csv::default()))), expected, "{text:?}");
    }
}

proptest! {
    /// What the library `csv` writes comes back, field by field.
    #[test]
    fn fields_come_back(rows in prop::collection::vec([".{0,12}", "[\"\n\r, a]{0,6}"], 1..20)) {
        let mut writer = ::csv::WriterBuilder::new().quote_style(::csv::QuoteStyle::Always).from_writer(Vec::new());
        writer.write_record(["a", "b"]).unwrap();
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let records = read_as(&writer.into_inner().unwrap(), &options(Csv::default())).unwrap();
        let read: Vec<[String; 2]> = records
            .iter()
            .map(|(_, record, _)| {
                let value: serde_json::Value = serde_json::from_str(record).unwrap();
                ["a", "b"].map(|name| value[name].as_str().unwrap().to_string())
            })
            .collect();
        prop_assert_eq!(read, rows);
    }
}
