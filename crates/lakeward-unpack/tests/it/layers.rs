//! What is around the records, several times over.

use std::io;

use lakeward_unpack::{Input, Options, Packing, UnpackError, Unpacking};

use crate::support::{gzip, message, read, read_from, stream, texts, zip, zstd};

const LINES: &[u8] = b"{\"a\":1}\n{\"a\":2}\n";

#[test]
fn layers_are_told_by_bytes() {
    let gz = gzip(LINES);
    let two = [gzip(b"{\"a\":1}\n"), gzip(b""), gzip(b"{\"a\":2}\n")].concat();
    let zipped = zip(&[("x.json.gz", &gz)]);
    let padded = [gz.clone(), vec![0; 512]].concat();
    let frames =
        [b"\x50\x2a\x4d\x18\x02\0\0\0ab".to_vec(), zstd(b"{\"a\":1}\n"), zstd(b"{\"a\":2}\n")].concat();
    let table: [(&str, Vec<u8>); 12] = [
        ("plain.gz", LINES.to_vec()),
        ("x", gz.clone()),
        ("gz in gz", gzip(&gz)),
        ("three and four", gzip(&gzip(&zstd(&gzip(LINES))))),
        ("members", two),
        ("padded", padded),
        ("x.zst", zstd(LINES)),
        ("frames", frames),
        ("zip of gz", zipped.clone()),
        ("gz of zip of gz.gz", gzip(&zipped)),
        ("zip of zip of gz", zip(&[("inner.zip", &zipped)])),
        ("zstd in zip", zip(&[("a", &zstd(LINES))])),
    ];
    for (name, bytes) in table {
        assert_eq!(texts(&read(&bytes, name).unwrap()), ["{\"a\":1}", "{\"a\":2}"], "{name}");
        match read_from(stream(&bytes), name, &Options::default(), None) {
            Err(UnpackError::NeedsFile(Packing::Zip)) => assert!(bytes.starts_with(b"PK"), "{name}"),
            records => assert_eq!(records.unwrap().len(), 2, "{name}"),
        }
    }
    let nested = read(&zip(&[("inner.zip", &zipped)]), "a").unwrap();
    assert_eq!(nested[0].0.as_deref(), Some("inner.zip/x.json.gz"));
    let inner_csv = read(&zip(&[("t.csv.gz", &gzip(b"a\n1\n"))]), "a").unwrap();
    assert_eq!(texts(&inner_csv), ["{\"a\":\"1\"}"]);
}

#[test]
fn what_is_too_deep_or_foreign_is_refused_in_words() {
    let deep = gzip(&gzip(&gzip(&gzip(&gzip(LINES)))));
    let table: [(&str, &[u8], &str); 9] = [
        ("a", &deep, "byte 0: it is packed more than 4 times"),
        ("a.bz2", b"BZh91AY&SY", "byte 0: it is compressed with bzip2, which cannot be read"),
        ("a.xz", b"\xfd7zXZ\0\0\x04", "byte 0: it is compressed with xz, which cannot be read"),
        ("a.avro", b"Obj\x01\x04\x14", "byte 0: it is an Avro file, which cannot be read"),
        ("a.json", b"\xff\xfe{\0\"\0", "byte 0: it is UTF-16, which cannot be read"),
        ("a.json.gz", b"", "byte 0: `a.json.gz` is empty, which no file of that kind is"),
        ("a", b"PK", "byte 0: it is cut off within its first 4 bytes"),
        (
            "a",
            b"\x89PNG\r\n\x1a\n\0",
            "byte 0: its first bytes are neither text nor those of a packing that can be read (zip, gzip, zstd, Parquet)",
        ),
        ("a", b"\x1f\x8b\x07\0\0\0", "byte 0: it is cut off: unexpected end of file"),
    ];
    for (name, bytes, expected) in table {
        assert_eq!(message(read(bytes, name)), expected, "{name}");
    }
    let tar = [vec![b'a'; 257], b"ustar".to_vec(), vec![0; 250]].concat();
    assert_eq!(message(read(&gzip(&tar), "a.tar.gz")), "byte 0: it is a tar archive, which cannot be read");
    let behind = [gzip(LINES), b"\0x".to_vec()].concat();
    assert_eq!(message(read(&behind, "a")), "byte 0: there is something behind the end of the gzip data");
    assert_eq!(read(&gzip(b""), "a.gz").unwrap(), [], "nothing, packed, is nothing");
}

/// Gives some bytes, then fails.
struct Failing(io::Cursor<Vec<u8>>, io::ErrorKind);

impl io::Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(1000);
        let bytes = self.0.read(&mut buffer[..count])?;
        if bytes == 0 { Err(self.1.into()) } else { Ok(bytes) }
    }
}

#[test]
fn a_failing_source_is_never_taken_for_a_damaged_file() {
    let text: String = (0..200_000).map(|i| format!("{{\"i\":{i}}}\n")).collect();
    for bytes in [text.clone().into_bytes(), gzip(text.as_bytes()), zstd(text.as_bytes())] {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData, io::ErrorKind::Other] {
            let half = bytes[..bytes.len() / 2].to_vec();
            let input = Input::Stream(Box::new(Failing(io::Cursor::new(half), kind)));
            let mut unpacking = Unpacking::open(input, "a", &Options::default(), None).unwrap();
            let mut records = 0;
            let error = loop {
                match unpacking.next_block(1 << 16) {
                    Ok(Some(block)) => records += block.ends.len(),
                    Ok(None) => panic!("it did not end"),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, UnpackError::Io(_)), "{error}");
            assert!(records > 1000, "what was read before is handed out: {records}");
            assert!(unpacking.next_block(100).unwrap().is_none(), "nothing comes behind an error");
        }
    }
}

/// Callers read on threads for blocking work.
#[test]
fn a_reading_can_move_between_threads() {
    fn moves<T: Send>() {}
    moves::<Unpacking>();
    moves::<UnpackError>();
    moves::<lakeward_unpack::Archive>();
}
