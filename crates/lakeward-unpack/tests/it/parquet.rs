//! Parquet.

use lakeward_unpack::{Options, UnpackError, Unpacking};

use crate::support::{gzip, message, parquet_rows, read, stream, texts, zip};

#[test]
fn rows_are_objects_with_their_nulls() {
    let records = read(&parquet_rows(3000), "whatever").unwrap();
    assert_eq!(records.len(), 3000);
    assert_eq!(records[0], (None, r#"{"id":0,"text":null}"#.into(), 1));
    assert_eq!(records[2999], (None, r#"{"id":2999,"text":"text\n2999"}"#.into(), 3000));
    assert!(records.iter().enumerate().all(|(i, (_, text, _))| text.starts_with(&format!("{{\"id\":{i},"))));
    assert_eq!(texts(&read(&parquet_rows(0), "a.parquet").unwrap()), [""; 0]);
}

#[test]
fn it_has_to_be_in_a_file_unless_something_is_around_it() {
    let bytes = parquet_rows(10);
    let refused = Unpacking::open(stream(&bytes), "a", &Options::default(), None);
    assert!(matches!(refused, Err(UnpackError::NeedsFile(lakeward_unpack::Packing::Parquet))));
    for packed in [gzip(&bytes), zip(&[("a.parquet", &bytes)])] {
        assert_eq!(read(&packed, "a").unwrap().len(), 10);
    }
}

#[test]
fn a_cut_or_foreign_file_is_an_error() {
    let bytes = parquet_rows(100);
    for end in 4..bytes.len() {
        assert!(matches!(read(&bytes[..end], "a"), Err(UnpackError::Corrupt { .. })), "cut at {end}");
    }
    let options = Options { format: lakeward_unpack::Format::Parquet, ..Options::default() };
    let error = message(crate::support::read_as(b"{}", &options));
    assert_eq!(error, "byte 0: it is no Parquet file");
}
