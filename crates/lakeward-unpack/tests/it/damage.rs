//! Files that were cut off or changed never pass for files with other records.

use lakeward_unpack::{Format, Options, UnpackError};
use proptest::prelude::*;

use crate::support::{gzip, parquet_rows, read, read_as, read_from, stored, stream, zip, zstd};

const LINES: &[u8] = b"{\"a\":1,\"text\":\"one two three\"}\n{\"a\":2,\"text\":\"one two three\"}\n";

fn packed() -> Vec<(&'static str, Vec<u8>)> {
    let gz = gzip(LINES);
    vec![
        ("gzip", gz.clone()),
        ("gzip in gzip", gzip(&gz)),
        ("zstd", zstd(LINES)),
        ("zip of two", zip(&[("x/", b""), ("a", LINES), ("b.gz", &gz)])),
        ("stored zip", stored(&[("a", LINES), ("b.gz", &gz), ("c.zip", &stored(&[("d", LINES)]))])),
    ]
}

#[test]
fn a_file_that_is_cut_anywhere_is_an_error() {
    for (name, bytes) in packed() {
        assert!(read(&bytes, name).is_ok());
        // An empty file is a file of no records, unless its name says more.
        for end in 1..bytes.len() {
            let from_file = read(&bytes[..end], name);
            assert!(
                matches!(from_file, Err(UnpackError::Corrupt { .. })),
                "{name} cut at {end}: {from_file:?}"
            );
            let streamed = read_from(stream(&bytes[..end]), name, &Options::default(), None);
            let refused = matches!(streamed, Err(UnpackError::Corrupt { .. } | UnpackError::NeedsFile(_)));
            assert!(refused, "{name} cut at {end}: {streamed:?}");
        }
    }
}

#[test]
fn a_file_with_a_flipped_bit_is_an_error_or_the_same() {
    for (name, bytes) in packed() {
        let expected = read(&bytes, name).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match read(&flipped, name) {
                Ok(records) => assert_eq!(records, expected, "{name}, bit {bit}"),
                Err(UnpackError::Corrupt { .. } | UnpackError::Limit { .. }) => {}
                Err(error) => panic!("{name}, bit {bit}: {error}"),
            }
        }
    }
}

#[test]
fn zips_with_bytes_missing_or_added_in_the_middle_are_errors() {
    let bytes = zip(&[("a", LINES), ("b", LINES)]);
    for at in 0..bytes.len() {
        let missing = [&bytes[..at], &bytes[at + 1..]].concat();
        assert!(read(&missing, "a").is_err(), "without byte {at}");
        let added = [&bytes[..at], b"x", &bytes[at..]].concat();
        assert!(read(&added, "a").is_err(), "one more at {at}");
    }
}

#[test]
fn a_damaged_parquet_file_never_panics() {
    let bytes = parquet_rows(50);
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            drop(read(&changed, "a"));
        }
    }
}

/// Bytes that get further than random ones do.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let whole: Vec<Vec<u8>> = packed()
        .into_iter()
        .map(|(_, bytes)| bytes)
        .chain([LINES.to_vec(), b"[{\"a\":[1,\"x\\\"\"]},2]".to_vec(), b"a,b\n\"1\",2\n".to_vec()])
        .collect();
    let changed = (
        prop::sample::select(whole),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    );
    let changed = changed.prop_map(|(mut bytes, changes)| {
        changes.into_iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = byte);
        bytes
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), changed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic_and_all_readings_end(bytes in nearly()) {
        for format in [Format::Auto, Format::Ndjson, Format::Json, Format::Csv, Format::Parquet] {
            let options = Options { format, ..Options::default() };
            let from_file = read_as(&bytes, &options);
            let streamed = read_from(stream(&bytes), "file", &options, None);
            if !matches!(streamed, Err(UnpackError::NeedsFile(_))) {
                prop_assert_eq!(from_file.ok(), streamed.ok());
            }
        }
    }
}
