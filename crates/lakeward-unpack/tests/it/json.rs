//! JSON arrays and documents.

use lakeward_unpack::{Format, Options};
use proptest::prelude::*;

use crate::support::{message, read_as, texts};

fn options() -> Options {
    Options { format: Format::Json, ..Options::default() }
}

#[test]
fn values_are_cut_out_raw() {
    let table: [(&str, &[&str]); 16] = [
        ("", &[]),
        (" \n", &[]),
        ("[]", &[]),
        ("[ ]\n[]", &[]),
        ("[1]", &["1"]),
        ("[1 , true,null, \"a\"]", &["1", "true", "null", "\"a\""]),
        (r#"[{"a":"]}\"[,"},[1,[2]]]"#, &[r#"{"a":"]}\"[,"}"#, "[1,[2]]"]),
        (r#"[{"a":"\\"},{"b":"\\\""}]"#, &[r#"{"a":"\\"}"#, r#"{"b":"\\\""}"#]),
        ("[\n{\r\n\"a\" :\n1\n}\n,\n{}\n]\n", &["{  \"a\" : 1 }", "{}"]),
        ("{\"a\":1}", &["{\"a\":1}"]),
        ("{\"a\":1}{\"b\":2}\n{\"c\":3}", &["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]),
        ("\u{1e}{\"a\":1}\n\u{1e}{\"b\":2}\n", &["{\"a\":1}", "{\"b\":2}"]),
        ("1 2\n\"x\"3", &["1", "2", "\"x\"", "3"]),
        ("[1][2]{}", &["1", "2", "{}"]),
        // A line break in a string is no JSON, and stays what it is.
        ("[\"a\nb\"]", &["\"a\nb\""]),
        ("\u{feff}[1]", &["1"]),
    ];
    for (text, expected) in table {
        let records = read_as(text.as_bytes(), &options()).unwrap();
        assert_eq!(texts(&records), expected, "{text:?}");
        assert!(records.iter().zip(1..).all(|((_, _, line), number)| *line == number));
    }
}

#[test]
fn what_is_no_json_around_the_values_is_an_error() {
    let table = [
        ("[1,2", "record 3: it is cut off: an array is not closed"),
        ("[{\"a\":1},{\"b\"", "record 2: it is cut off: an object, an array or a string is not closed"),
        ("[\"a", "record 1: it is cut off: an object, an array or a string is not closed"),
        ("[1,]", "record 2: there is `]` where no JSON has it"),
        ("[,1]", "record 1: there is `,` where no JSON has it"),
        ("[1 2]", "record 2: there is `2` where no JSON has it"),
        ("{\"a\":1},{\"b\":2}", "record 2: there is `,` where no JSON has it"),
        ("[1]]", "record 2: there is `]` where no JSON has it"),
        ("[1}", "record 2: there is `}` where no JSON has it"),
        ("[\u{1e}1]", "record 1: there is `\\u{1e}` where no JSON has it"),
    ];
    for (text, expected) in table {
        assert_eq!(message(read_as(text.as_bytes(), &options())), expected, "{text:?}");
    }
}

proptest! {
    /// Whatever the values are, an array of them comes out as they went in, as
    /// do the values without the array.
    #[test]
    fn arrays_come_apart(texts in prop::collection::vec(".{0,20}", 0..20), pretty: bool) {
        let values: Vec<serde_json::Value> =
            texts.iter().enumerate().map(|(i, text)| serde_json::json!({ "i": [i, { text: text }], "t": text })).collect();
        let write = |value: &serde_json::Value| {
            if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }.unwrap()
        };
        let array = write(&serde_json::Value::Array(values.clone()));
        let documents: String = values.iter().map(write).collect();
        for text in [array, documents] {
            let records = read_as(text.as_bytes(), &options()).unwrap();
            prop_assert!(records.iter().all(|(_, record, _)| !record.contains('\n')));
            let read: Vec<serde_json::Value> =
                records.iter().map(|(_, record, _)| serde_json::from_str(record).unwrap()).collect();
            prop_assert_eq!(&read, &values);
        }
    }
}
