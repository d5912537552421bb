//! Limits.

use std::io::Read;

use lakeward_unpack::{Format, Input, Limits, Options, UnpackError};

use crate::support::{file, gzip, read_as, read_from, zip};

fn options(format: Format, limits: Limits) -> Options {
    Options { format, limits, ..Options::default() }
}

fn limit(result: Result<Vec<crate::support::Record>, UnpackError>) -> (&'static str, String) {
    match result {
        Err(UnpackError::Limit { limit, problem, .. }) => (limit, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_may_be_as_large_as_the_limit() {
    let limits = Limits { record_bytes_max: 100, ..Limits::default() };
    let line = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    for (format, before, after) in
        [(Format::Ndjson, "1\n", "\r\n2\n"), (Format::Ndjson, "1\r\n", ""), (Format::Json, "[1,", ",2]")]
    {
        let text = |length| format!("{before}{}{after}", line(length));
        let records = read_as(text(100).as_bytes(), &options(format, limits.clone())).unwrap();
        assert_eq!(records[1].1.len(), 100);
        let (name, problem) = limit(read_as(text(101).as_bytes(), &options(format, limits.clone())));
        assert_eq!(name, "record_bytes_max");
        assert!(problem.ends_with("2: a record is larger than 100 bytes"), "{problem}");
    }
    let csv = |length: usize| format!("a\n1\n{}\n", "x".repeat(length));
    let options = options(Format::Csv, limits);
    assert_eq!(read_as(csv(92).as_bytes(), &options).unwrap()[1].1.len(), 100);
    assert_eq!(limit(read_as(csv(93).as_bytes(), &options)).0, "record_bytes_max");
}

#[test]
fn a_record_without_end_is_not_read_to_its_end() {
    let limits = Limits { record_bytes_max: 1 << 20, ..Limits::default() };
    for (format, start) in
        [(Format::Ndjson, "{"), (Format::Json, "[\""), (Format::Json, "{"), (Format::Csv, "a\n\"")]
    {
        let endless = std::io::Cursor::new(start.as_bytes()).chain(std::io::repeat(b'x'));
        let result = read_from(Input::Stream(Box::new(endless)), "a", &options(format, limits.clone()), None);
        assert_eq!(limit(result).0, "record_bytes_max");
    }
    // Blanks are no record: this one has to end.
    let blank = std::io::repeat(b' ').take(10 << 20);
    let result = read_from(Input::Stream(Box::new(blank)), "a", &options(Format::Json, limits), None);
    assert_eq!(result.unwrap(), []);
}

#[test]
fn bombs_do_not_go_off() {
    let zeros = vec![b'\n'; 80 << 20];
    let limits = Limits { ratio_max: 100, ..Limits::default() };
    for bytes in [gzip(&zeros), zip(&[("a", &zeros)]), zip(&[("a", &gzip(&zeros))])] {
        let (name, problem) = limit(read_as(&bytes, &options(Format::Auto, limits.clone())));
        assert_eq!(name, "ratio_max");
        assert!(problem.contains("it unpacks to more than 100 times its size"), "{problem}");
    }
    let twice = gzip(&gzip(&zeros));
    assert_eq!(limit(read_as(&twice, &options(Format::Auto, Limits::default()))).0, "ratio_max");
    // Many members, each of which is small.
    let members: Vec<(String, Vec<u8>)> =
        (0..20).map(|i| (i.to_string(), b"{\"i\":1}\n".repeat(1000))).collect();
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let limits = Limits { unpacked_bytes_max: 100_000, ..Limits::default() };
    let result = read_from(Input::File(file(&zip(&members))), "a", &options(Format::Auto, limits), None);
    let (name, problem) = limit(result);
    assert_eq!((name, problem.as_str()), ("unpacked_bytes_max", "it unpacks to more than 100000 bytes"));
}
