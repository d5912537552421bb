//! NDJSON, and how formats are told apart.

use lakeward_unpack::{Packing, needs_file, packing};

use crate::support::{read, texts};

#[test]
fn packings_are_told_by_their_first_bytes() {
    let table: [(&[u8], Packing, bool); 10] = [
        (b"PK\x03\x04...", Packing::Zip, true),
        (b"PK\x05\x06", Packing::Zip, true),
        (b"PKEY,value", Packing::Plain, false),
        (b"\x1f\x8b\x08", Packing::Gzip, false),
        (b"\x28\xb5\x2f\xfd", Packing::Zstd, false),
        (b"\x50\x2a\x4d\x18", Packing::Zstd, false),
        (b"PAR1\x15", Packing::Parquet, true),
        (b"PARENT,name", Packing::Plain, false),
        (b"{\"a\":1}", Packing::Plain, false),
        (b"", Packing::Plain, false),
    ];
    for (bytes, expected, in_a_file) in table {
        assert_eq!((packing(bytes), needs_file(packing(bytes))), (expected, in_a_file), "{bytes:?}");
    }
}

#[test]
fn lines_are_records() {
    let table: [(&str, &[(&str, u64)]); 10] = [
        ("", &[]),
        ("\n", &[]),
        ("{\"a\":1}", &[("{\"a\":1}", 1)]),
        ("{\"a\":1}\n", &[("{\"a\":1}", 1)]),
        ("{\"a\":1}\r\n{\"b\":2}\r\n", &[("{\"a\":1}", 1), ("{\"b\":2}", 2)]),
        ("{\"a\":1}\n\n \t\r\n{\"b\":2}\n\n", &[("{\"a\":1}", 1), ("{\"b\":2}", 4)]),
        ("\u{feff}{\"a\":1}\n{\"b\":2}", &[("{\"a\":1}", 1), ("{\"b\":2}", 2)]),
        ("\n\n{\"a\":1}\r", &[("{\"a\":1}", 3)]),
        (" {\"a\":1} \n", &[(" {\"a\":1} ", 1)]),
        // Not JSON: that is for others to say.
        ("{\"a\":\n\"x\n}\n", &[("{\"a\":", 1), ("\"x", 2), ("}", 3)]),
    ];
    for (text, expected) in table {
        // The last one looks like a document over several lines.
        let options =
            lakeward_unpack::Options { format: lakeward_unpack::Format::Ndjson, ..Default::default() };
        let records = crate::support::read_as(text.as_bytes(), &options).unwrap();
        let records: Vec<(&str, u64)> =
            records.iter().map(|(_, text, line)| (text.as_str(), *line)).collect();
        assert_eq!(records, expected, "{text:?}");
    }
}

#[test]
fn formats_are_told_by_bytes_and_csv_by_name() {
    let table: [(&str, &str, &[&str]); 12] = [
        ("a.json", "{\"a\":1}\n{\"b\":2}\n", &["{\"a\":1}", "{\"b\":2}"]),
        ("a.json", "{\"a\":1}{\"b\":2}{\"c\":3}", &["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]),
        ("a", "{\"a\":1} {\"b\":\n2}", &["{\"a\":1}", "{\"b\": 2}"]),
        ("a.ndjson", "[{\"a\":1},{\"b\":2}]", &["{\"a\":1}", "{\"b\":2}"]),
        ("a.json", "\u{feff} [1]", &["1"]),
        ("a", "{\n  \"a\": 1\n}\n", &["{   \"a\": 1 }"]),
        ("a", "{\"a\": [\n1, 2],\n\"b\": 3}", &["{\"a\": [ 1, 2], \"b\": 3}"]),
        // Damaged lines stay lines, so that only they are quarantined.
        ("a", "{\"a\":\"x\n{\"b\":2}\n", &["{\"a\":\"x", "{\"b\":2}"]),
        ("a", "{\"a\":1}}\n{\"b\":2}\n", &["{\"a\":1}}", "{\"b\":2}"]),
        ("a.txt", "a,b\n1,2\n", &["a,b", "1,2"]),
        ("a.csv", "a,b\n1,2\n", &["{\"a\":\"1\",\"b\":\"2\"}"]),
        ("A.CSV.GZ", "a,b\n1,2\n", &["{\"a\":\"1\",\"b\":\"2\"}"]),
    ];
    for (name, text, expected) in table {
        assert_eq!(texts(&read(text.as_bytes(), name).unwrap()), expected, "{text:?}");
    }
}

#[test]
fn long_lines_and_many_lines_are_read() {
    let lines: Vec<String> =
        (0..20_000).map(|i| format!("{{\"i\":{i},\"s\":\"{}\"}}", "x".repeat(i % 97))).collect();
    let long = format!("{{\"s\":\"{}\"}}", "y".repeat(5 << 20));
    let text = format!("{}\n{long}\n{}", lines.join("\n"), lines.join("\r\n"));
    let records = read(text.as_bytes(), "a").unwrap();
    let expected: Vec<&str> = lines.iter().chain([&long]).chain(&lines).map(String::as_str).collect();
    assert!(texts(&records) == expected);
    assert!(records.iter().zip(1..).all(|((_, _, line), number)| *line == number));
}
