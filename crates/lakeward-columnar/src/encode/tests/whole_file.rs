//! Every compression, decoded by code that shares nothing with the encoder.

use std::io::Read;
use std::ops::Range;

use lakeward_model::ContentEncoding;
use proptest::prelude::*;

use crate::encode::{verbatim, verbatim_runs};
use crate::shape::{FileCompression, Newline};

/// Decodes a sequence of big-endian lengths and raw Snappy.
fn snappy_java(body: &[u8]) -> Vec<u8> {
    assert_eq!(body[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let (mut rest, mut out) = (&body[16..], Vec::new());
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let block = snap::raw::Decoder::new().decompress_vec(&rest[4..4 + length]).unwrap();
        assert!(!block.is_empty() && block.len() <= 32 * 1024);
        out.extend(block);
        rest = &rest[4 + length..];
    }
    out
}

fn hadoop_snappy(body: &[u8]) -> Vec<u8> {
    let (mut rest, mut out) = (body, Vec::new());
    while !rest.is_empty() {
        let whole = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let length = u32::from_be_bytes(rest[4..8].try_into().unwrap()) as usize;
        assert!(length <= 256 * 1024, "a block fits the reader's buffer");
        let block = snap::raw::Decoder::new().decompress_vec(&rest[8..8 + length]).unwrap();
        assert_eq!(block.len(), whole);
        out.extend(block);
        rest = &rest[8 + length..];
    }
    out
}

/// Reads a ZIP from its end, as APPNOTE.TXT says to.
fn unzip(body: &[u8]) -> Vec<u8> {
    let u16_at = |at: usize| u16::from_le_bytes(body[at..at + 2].try_into().unwrap()) as usize;
    let u32_at = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap()) as usize;
    let end = body.len() - 22;
    assert_eq!(body[end..end + 4], *b"PK\x05\x06");
    assert_eq!((u16_at(end + 8), u16_at(end + 10)), (1, 1));
    let directory = u32_at(end + 16);
    assert_eq!(directory + u32_at(end + 12), end);
    assert_eq!(body[directory..directory + 4], *b"PK\x01\x02");
    let local = u32_at(directory + 42);
    assert_eq!(body[local..local + 4], *b"PK\x03\x04");
    assert_eq!(body[local + 4..local + 30], body[directory + 6..directory + 32]);
    let name = u16_at(local + 26);
    assert_eq!(body[local + 30..local + 30 + name], body[directory + 46..directory + 46 + name]);
    let start = local + 30 + name + u16_at(local + 28);
    let mut out = Vec::new();
    let compressed = &body[start..start + u32_at(local + 18)];
    assert_eq!(start + compressed.len(), directory);
    flate2::read::DeflateDecoder::new(compressed).take(1 << 30).read_to_end_of_test(&mut out);
    assert_eq!(out.len(), u32_at(local + 22));
    let mut crc = flate2::Crc::new();
    crc.update(&out);
    assert_eq!(crc.sum() as usize, u32_at(local + 14));
    out
}

trait ReadAll {
    fn read_to_end_of_test(self, out: &mut Vec<u8>);
}

impl<R: Read> ReadAll for R {
    fn read_to_end_of_test(self, out: &mut Vec<u8>) {
        lakeward_model::limits::read_capped(self, 1 << 30, out).unwrap();
    }
}

fn decode(compression: FileCompression, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        FileCompression::None => out.extend_from_slice(body),
        FileCompression::Gzip => flate2::read::GzDecoder::new(body).read_to_end_of_test(&mut out),
        FileCompression::Zstd => out = zstd::stream::decode_all(body).unwrap(),
        FileCompression::Snappy => snap::read::FrameDecoder::new(body).read_to_end_of_test(&mut out),
        FileCompression::Zip => out = unzip(body),
        FileCompression::SnappyJava => out = snappy_java(body),
        FileCompression::HadoopSnappy => out = hadoop_snappy(body),
    }
    out
}

const ALL: [FileCompression; 7] = [
    FileCompression::None,
    FileCompression::Gzip,
    FileCompression::Zstd,
    FileCompression::Snappy,
    FileCompression::Zip,
    FileCompression::SnappyJava,
    FileCompression::HadoopSnappy,
];

fn check(records: &[&[u8]], newline: Newline, expect: &[u8]) {
    for compression in ALL {
        let encoded = verbatim(records.iter().copied(), compression, newline).unwrap();
        assert_eq!(decode(compression, &encoded.body), expect, "{compression:?}");
        let again = verbatim(records.iter().copied(), compression, newline).unwrap();
        assert_eq!(encoded, again, "{compression:?}");
    }
}

#[test]
fn records_come_back_as_they_were() {
    check(&[], Newline::Ensure, b"");
    check(&[b"a", b"b\n", b"", b"c\r\n"], Newline::Ensure, b"a\nb\n\nc\r\n");
    check(&[b"a", b"b\n", b"", b"c\r\n"], Newline::AsIs, b"ab\nc\r\n");
}

#[test]
fn runs_of_records_are_files_of_their_own() {
    let records: [&[u8]; 4] = [b"a", b"b\n", b"", b"d"];
    let of = |runs: &[Range<usize>]| {
        verbatim_runs(&records, runs, FileCompression::None, Newline::Ensure).unwrap().body
    };
    assert_eq!(of(&[0..1, 3..4]), b"a\nd\n".as_slice());
    assert_eq!(of(&[1..2, 2..3]), b"b\n\n".as_slice());
    assert_eq!(of(&[]), b"".as_slice());
}

#[test]
fn blocks_end_where_the_containers_say() {
    for size in [32 * 1024_u64 - 1, 32 * 1024, 32 * 1024 + 1, 218_421, 218_422, 218_423, 1_000_000] {
        let record: Vec<u8> = (0..size).map(|i| (i * i % 251) as u8).collect();
        check(&[&record], Newline::AsIs, &record);
    }
}

#[test]
fn names_and_encodings_are_those_of_firehose() {
    let of = |compression| {
        let encoded = verbatim(std::iter::empty(), compression, Newline::AsIs).unwrap();
        (encoded.extension, encoded.content_encoding)
    };
    assert_eq!(of(FileCompression::None), ("", None));
    assert_eq!(of(FileCompression::Gzip), (".gz", Some(ContentEncoding::Gzip)));
    assert_eq!(of(FileCompression::Zip), (".zip", Some(ContentEncoding::Zip)));
    assert_eq!(of(FileCompression::SnappyJava), (".snappy", Some(ContentEncoding::SnappyJava)));
    assert_eq!(of(FileCompression::HadoopSnappy), (".snappy", Some(ContentEncoding::HadoopSnappy)));
    assert_eq!(of(FileCompression::Zstd), (".zst", None));
    assert_eq!(of(FileCompression::Snappy), (".sz", None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_records_come_back(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..200)) {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        check(&records, Newline::AsIs, &records.concat());
    }
}
