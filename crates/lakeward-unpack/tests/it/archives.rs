//! Zips.

use std::io::{Cursor, Write};

use lakeward_unpack::{Archive, Limits, Options, UnpackError, Unpacking};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use crate::support::{Record, file, gzip, message, read, rest, stored, zip, zip_as};

fn record(member: &str, text: &str, line: u64) -> Record {
    (Some(member.into()), text.into(), line)
}

#[test]
fn members_are_read_in_the_directorys_order() {
    let gzipped = gzip(b"{\"a\":1}\n{\"a\":2}\n");
    let members: [(&str, &[u8]); 6] = [
        ("203138/", b""),
        ("203138/203138_2020-11-24_9#627.json.gz", &gzipped),
        ("../../etc/passwd", b"{\"b\":1}"),
        ("__MACOSX/._x", b"\0\0\0"),
        ("empty", b""),
        ("a.csv", b"x\n1\n"),
    ];
    for bytes in [zip(&members), stored(&members)] {
        let expected = [
            record("203138/203138_2020-11-24_9#627.json.gz", "{\"a\":1}", 1),
            record("203138/203138_2020-11-24_9#627.json.gz", "{\"a\":2}", 2),
            record("../../etc/passwd", "{\"b\":1}", 1),
            record("a.csv", "{\"x\":\"1\"}", 1),
        ];
        assert_eq!(read(&bytes, "export").unwrap(), expected);
        let archive = Archive::open(file(&bytes), &Limits::default()).unwrap();
        let named: Vec<(usize, &str)> =
            archive.members().iter().map(|m| (m.index, m.name.as_str())).collect();
        assert_eq!(named.len(), 5, "the folder is no member");
        assert_eq!(named[0], (1, "203138/203138_2020-11-24_9#627.json.gz"));
        assert_eq!(archive.members()[0].unpacked, gzipped.len() as u64);
    }
    assert_eq!(read(&zip(&[]), "empty.zip").unwrap(), []);
}

#[test]
fn chosen_members_are_read_in_the_chosen_order() {
    let bytes = zip(&[("d/", b""), ("0", b"{\"i\":0}"), ("1", b"{\"i\":1}"), ("2", b"{\"i\":2}")]);
    let open = |members: &[usize]| Unpacking::open_members(file(&bytes), &Options::default(), members, None);
    let records = rest(&mut open(&[3, 1]).unwrap(), 100).unwrap();
    assert_eq!(records, [record("2", "{\"i\":2}", 1), record("0", "{\"i\":0}", 1)]);
    assert_eq!(rest(&mut open(&[]).unwrap(), 100).unwrap(), []);
    for missing in [0, 4] {
        let error = open(&[missing]).err().map(|error| error.to_string());
        assert_eq!(error, Some(format!("byte 0: the zip has no member {missing}")));
    }
}

#[test]
fn both_of_two_members_with_one_name_are_read() {
    let mut bytes = stored(&[("aa", b"{\"i\":1}"), ("ab", b"{\"i\":2}")]);
    let at: Vec<usize> = memchr::memmem::find_iter(&bytes, b"ab").collect();
    assert_eq!(at.len(), 2);
    at.into_iter().for_each(|at| bytes[at + 1] = b'a');
    assert_eq!(read(&bytes, "a").unwrap(), [record("aa", "{\"i\":1}", 1), record("aa", "{\"i\":2}", 1)]);
}

#[test]
fn zip64_and_streamed_members_are_read() {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let large = zip_as(&[("a", b"{\"i\":1}")], options.large_file(true));
    assert_eq!(read(&large, "a").unwrap(), [record("a", "{\"i\":1}", 1)]);
    // More members than 16 bits can count.
    let names: Vec<String> = (0..66_000).map(|i| format!("{i}")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"1"[..])).collect();
    let many = stored(&members);
    assert_eq!(read(&many, "a").unwrap().len(), 66_000);
    let few = Limits { members_max: 65_999, ..Limits::default() };
    let error = Archive::open(file(&many), &few).err();
    assert!(matches!(error, Some(UnpackError::Limit { limit: "members_max", .. })));
    // Written to a pipe: sizes and checksum stand behind the member.
    let mut writer = zip::ZipWriter::new_stream(Vec::new());
    writer.start_file("a", options).unwrap();
    writer.write_all(b"{\"i\":1}").unwrap();
    let streamed = writer.finish().unwrap().into_inner();
    assert!(memchr::memmem::find(&streamed, b"PK\x07\x08").is_some());
    assert_eq!(read(&streamed, "a").unwrap(), [record("a", "{\"i\":1}", 1)]);
}

#[test]
fn comments_are_passed_and_other_ends_are_not_taken_for_the_end() {
    let mut writer = zip::ZipWriter::new(Cursor::new(zip(&[])));
    writer.set_comment("PK\u{5}\u{6} is how a directory ends").unwrap();
    writer.start_file("a", SimpleFileOptions::default()).unwrap();
    writer.write_all(b"{}").unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    assert_eq!(read(&bytes, "a").unwrap(), [record("a", "{}", 1)]);
    // A whole zip in a zip that is cut off behind it.
    let inner = stored(&[("inner", b"{\"inner\":true}")]);
    let outer = stored(&[("inner.zip", &inner), ("b", b"{\"b\":1}")]);
    let end = memchr::memmem::find(&outer, &inner).unwrap() + inner.len();
    let error = message(read(&outer[..end], "a"));
    assert_eq!(
        error,
        "byte 0: the zip's directory does not lie where it says: bytes are missing or were added"
    );
}

/// Sets a 16-bit field in each header with this signature.
fn set(bytes: &mut [u8], signature: &[u8], at: usize, value: u16) {
    let headers: Vec<usize> = memchr::memmem::find_iter(bytes, signature).collect();
    for header in headers {
        bytes[header + at..header + at + 2].copy_from_slice(&value.to_le_bytes());
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let whole = stored(&[("a", b"{\"a\":1}"), ("b", b"{\"b\":1}")]);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        message(read(&bytes, "a.zip"))
    };
    let encrypted = changed(&|bytes| {
        set(bytes, b"PK\x01\x02", 8, 1);
    });
    assert_eq!(encrypted, "a: byte 0: the zip's member is encrypted, which cannot be read");
    let method = changed(&|bytes| {
        set(bytes, b"PK\x01\x02", 10, 14);
        set(bytes, b"PK\x03\x04", 8, 14);
    });
    assert!(method.starts_with("a: byte 0: the zip's member is packed by method 14; only"), "{method}");
    let parts = changed(&|bytes| set(bytes, b"PK\x05\x06", 4, 1));
    assert_eq!(parts, "byte 0: the zip is one of several parts, which cannot be read");
    let data = changed(&|bytes| {
        let at = memchr::memmem::find(bytes, b"{\"b\"").unwrap();
        bytes[at + 2] = b'c';
    });
    assert_eq!(data, "b: byte 0: the zip's member does not have the checksum that the zip's directory says");
}
