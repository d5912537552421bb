//! What is around the records, told by the first bytes.

/// What is around the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A zip archive, also an empty one.
    Zip,
    /// gzip (RFC 1952), also of several members.
    Gzip,
    /// Zstandard (RFC 8878), also if it starts with a skippable frame.
    Zstd,
    /// Apache Parquet.
    Parquet,
    /// Nothing that is known.
    Plain,
}

/// What a file's first bytes, at least 4 if it has so many, say that it is.
#[must_use]
pub fn packing(first_bytes: &[u8]) -> Packing {
    match first_bytes {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..] => Packing::Zip,
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
        [b'P', b'A', b'R', b'1', ..] => Packing::Parquet,
        _ => Packing::Plain,
    }
}

/// Whether it can only be read by seeking.
#[must_use]
pub fn needs_file(packing: Packing) -> bool {
    matches!(packing, Packing::Zip | Packing::Parquet)
}

/// Why these bytes, the first ones (512 at least, if there are so many), are
/// neither packed nor text; `None` if they may be text.
pub(crate) fn not_text(head: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 10] = [
        (b"BZh", "it is compressed with bzip2, which cannot be read"),
        (b"\xfd7zXZ", "it is compressed with xz, which cannot be read"),
        (b"\x04\x22\x4d\x18", "it is compressed with LZ4, which cannot be read"),
        (b"\xff\x06\0\0sNaPpY", "it is compressed with Snappy, which cannot be read"),
        (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive, which cannot be read"),
        (b"Obj\x01", "it is an Avro file, which cannot be read"),
        (b"\xff\xfe", "it is UTF-16, which cannot be read"),
        (b"\xfe\xff", "it is UTF-16, which cannot be read"),
        (b"PARE", "it is an encrypted Parquet file, which cannot be read"),
        (b"%PDF-", "it is a PDF"),
    ];
    if let Some((_, problem)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(problem);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some("it is a tar archive, which cannot be read");
    }
    // A whole file that is the beginning of one of the magic numbers.
    if matches!(
        head,
        b"P" | b"PK" | b"PK\x03" | b"PK\x05" | b"PAR" | b"PA" | b"(" | b"\x28\xb5" | b"\x28\xb5\x2f"
    ) {
        return Some("it is cut off within its first 4 bytes");
    }
    // Where magic numbers stand. What comes behind may be one bad record.
    let start = |length: usize| &head[..head.len().min(length)];
    let control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x1e);
    let utf8 = std::str::from_utf8(start(4)).map_or_else(|e| e.error_len().is_none(), |_| true);
    (start(8).iter().any(control) || !utf8).then_some(
        "its first bytes are neither text nor those of a packing that can be read (zip, gzip, zstd, Parquet)",
    )
}

/// Whether a name promises that something is around the records. A file of
/// that name without any bytes was cut off.
pub(crate) fn is_named_packed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".gz", ".zst", ".zip", ".parquet"].iter().any(|end| name.ends_with(end))
}

/// Whether a name says that the innermost bytes are CSV.
pub(crate) fn is_named_csv(name: &str) -> bool {
    let mut name = name.to_ascii_lowercase();
    while let Some(shorter) = [".gz", ".zst", ".zip"].iter().find_map(|end| name.strip_suffix(end)) {
        name = shorter.to_string();
    }
    name.ends_with(".csv")
}
