//! A ZIP file of one deflated entry, as Firehose writes it.
//!
//! Layout: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local file header),
//! 4.3.12 (central directory header), 4.3.16 (end of central directory).

use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use xxhash_rust::xxh3::Xxh3;

use super::EncodeError;
use super::compress::DEFLATE_LEVEL;

/// The length of the local header: 30 bytes and the name, a uuid's text.
const LOCAL_HEADER: usize = 30 + NAME;
const NAME: usize = 36;

/// The entry while it is written.
pub(super) struct ZipEntry {
    /// Starts with room for the local header.
    encoder: DeflateEncoder<Vec<u8>>,
    crc: flate2::Crc,
    hash: Xxh3,
    length: u64,
}

impl ZipEntry {
    pub(super) fn new() -> Self {
        let body = vec![0; LOCAL_HEADER];
        Self {
            encoder: DeflateEncoder::new(body, flate2::Compression::new(DEFLATE_LEVEL)),
            crc: flate2::Crc::new(),
            hash: Xxh3::new(),
            length: 0,
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, EncodeError> {
        let mut body = self.encoder.finish()?;
        let too_large = || EncodeError::TooLarge { format: "zip", limit: u64::from(u32::MAX) };
        // Without ZIP64, sizes and the directory's place have 32 bits.
        let directory = u32::try_from(body.len()).map_err(|_| too_large())?;
        let length = u32::try_from(self.length).map_err(|_| too_large())?;
        let compressed = directory - LOCAL_HEADER as u32;

        // Firehose names the entry by a uuid. Here it derives from the
        // content, so that the same content gives the same file.
        let name = uuid_text(self.hash.digest128());
        let shared = shared_fields(self.crc.sum(), compressed, length);

        let mut local = Vec::with_capacity(LOCAL_HEADER);
        local.extend_from_slice(b"PK\x03\x04");
        local.extend_from_slice(&shared);
        local.extend_from_slice(&name);
        body[..LOCAL_HEADER].copy_from_slice(&local);

        body.extend_from_slice(b"PK\x01\x02");
        body.extend_from_slice(&20_u16.to_le_bytes());
        body.extend_from_slice(&shared);
        // Comment length, disk, internal and external attributes, and the
        // offset of the local header: all zero.
        body.extend_from_slice(&[0; 14]);
        body.extend_from_slice(&name);

        body.extend_from_slice(b"PK\x05\x06");
        body.extend_from_slice(&[0, 0, 0, 0, 1, 0, 1, 0]);
        body.extend_from_slice(&(46 + NAME as u32).to_le_bytes());
        body.extend_from_slice(&directory.to_le_bytes());
        body.extend_from_slice(&[0, 0]);
        Ok(body)
    }
}

/// The 26 bytes that both headers have alike: from the version needed to the
/// length of the extra field.
fn shared_fields(crc: u32, compressed: u32, length: u32) -> Vec<u8> {
    let mut fields = Vec::with_capacity(26);
    // Version 2.0, no flags, method 8 (deflate), 1980-01-01 00:00:00.
    for value in [20_u16, 0, 8, 0, (1 << 5) | 1] {
        fields.extend_from_slice(&value.to_le_bytes());
    }
    for value in [crc, compressed, length] {
        fields.extend_from_slice(&value.to_le_bytes());
    }
    fields.extend_from_slice(&(NAME as u16).to_le_bytes());
    fields.extend_from_slice(&0_u16.to_le_bytes());
    fields
}

/// The text of a uuid of version 8 (RFC 9562, 5.8) with `bits` for its free bits.
fn uuid_text(bits: u128) -> [u8; NAME] {
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x8 << 76) | (0x2 << 62);
    let digits = format!("{bits:032x}");
    let text = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]]
        .join("-")
        .into_bytes();
    text.try_into().expect("32 digits and 4 dashes")
}

impl Write for ZipEntry {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.encoder.write(bytes)?;
        self.crc.update(&bytes[..taken]);
        self.hash.update(&bytes[..taken]);
        self.length += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
