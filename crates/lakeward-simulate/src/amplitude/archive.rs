//! ZIP archives as a streaming writer makes them: never seeking back, so that
//! the first byte leaves before the last one is known. Own, and not the library
//! that the connector reads with: a mistake of one must not hide the other's.
//!
//! Layout: APPNOTE.TXT 6.3.9, sections 4.3.7 (local header), 4.3.9 (data
//! descriptor), 4.3.12 (central directory), 4.3.14 to 4.3.16 (ends), 4.5.3
//! (ZIP64).

use std::io::{self, Write};

use flate2::{Compression, Crc};

use super::hour::Hour;

/// A ZIP archive on its way out.
pub(super) struct Zip<W> {
    out: W,
    written: u64,
    entries: Vec<Entry>,
    /// ZIP64 fields everywhere, though the sizes would fit without.
    zip64: bool,
}

struct Entry {
    name: String,
    method: u16,
    flags: u16,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
    /// MS-DOS's: time in the low half, date in the high one.
    modified: u32,
}

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Sizes and checksum follow the data instead of going before it.
const DESCRIPTOR: u16 = 1 << 3;
/// A directory, as MS-DOS says it.
const DIRECTORY: u32 = 0x10;
/// Instead of a number that needs a ZIP64 field.
const ELSEWHERE: u32 = u32::MAX;

/// The checksum that ZIP and gzip use.
pub(super) fn crc32(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}

impl<W: Write> Zip<W> {
    pub(super) fn new(out: W, zip64: bool) -> Self {
        Self { out, written: 0, entries: Vec::new(), zip64 }
    }

    /// An entry for a folder; its name ends with a slash.
    pub(super) fn directory(&mut self, name: String, hour: Hour) -> io::Result<()> {
        let entry = self.entry(name, STORED, 0, hour);
        self.local(&entry)?;
        self.entries.push(entry);
        Ok(())
    }

    /// A member as it is. Its size and checksum stand before it.
    pub(super) fn stored(&mut self, name: String, data: &[u8], crc: u32, hour: Hour) -> io::Result<()> {
        let mut entry = self.entry(name, STORED, 0, hour);
        (entry.crc, entry.size, entry.packed) = (crc, data.len() as u64, data.len() as u64);
        self.local(&entry)?;
        self.put(data)?;
        self.entries.push(entry);
        Ok(())
    }

    /// A member that is compressed on the way, so its sizes and checksum
    /// follow it in a data descriptor.
    pub(super) fn deflated(
        &mut self,
        name: String,
        data: &[u8],
        crc: u32,
        hour: Hour,
        level: Compression,
    ) -> io::Result<()> {
        let mut entry = self.entry(name, DEFLATED, DESCRIPTOR, hour);
        self.local(&entry)?;
        let begin = self.written;
        let mut encoder = flate2::write::DeflateEncoder::new(Counted(self), level);
        encoder.write_all(data)?;
        encoder.finish()?;
        (entry.crc, entry.size, entry.packed) = (crc, data.len() as u64, self.written - begin);
        let mut descriptor = b"PK\x07\x08".to_vec();
        descriptor.extend(crc.to_le_bytes());
        for size in [entry.packed, entry.size] {
            if self.zip64 {
                descriptor.extend(size.to_le_bytes());
            } else {
                // Members are a few megabytes.
                descriptor.extend(u32::try_from(size).map_err(io::Error::other)?.to_le_bytes());
            }
        }
        self.put(&descriptor)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Writes the central directory and gives back what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let begin = self.written;
        for entry in std::mem::take(&mut self.entries) {
            let central = central(&entry, self.zip64);
            self.put(&central)?;
            self.entries.push(entry);
        }
        let (count, size) = (self.entries.len() as u64, self.written - begin);
        let end = ends(count, begin, size, self.written, self.zip64);
        self.put(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&self, name: String, method: u16, flags: u16, hour: Hour) -> Entry {
        let modified = dos_time(hour);
        Entry { name, method, flags, crc: 0, packed: 0, size: 0, offset: self.written, modified }
    }

    fn local(&mut self, entry: &Entry) -> io::Result<()> {
        let mut header = b"PK\x03\x04".to_vec();
        header.extend(version(self.zip64).to_le_bytes());
        header.extend(entry.flags.to_le_bytes());
        header.extend(entry.method.to_le_bytes());
        header.extend(entry.modified.to_le_bytes());
        header.extend(entry.crc.to_le_bytes());
        let mut extra = Vec::new();
        if self.zip64 {
            header.extend([ELSEWHERE; 2].map(u32::to_le_bytes).concat());
            extra.extend(1_u16.to_le_bytes());
            extra.extend(16_u16.to_le_bytes());
            extra.extend([entry.size, entry.packed].map(u64::to_le_bytes).concat());
        } else {
            for size in [entry.packed, entry.size] {
                header.extend(u32::try_from(size).map_err(io::Error::other)?.to_le_bytes());
            }
        }
        header.extend(short(entry.name.len())?.to_le_bytes());
        header.extend(short(extra.len())?.to_le_bytes());
        header.extend(entry.name.as_bytes());
        header.extend(extra);
        self.put(&header)
    }

    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        self.out.write_all(data)?;
        self.written += data.len() as u64;
        Ok(())
    }
}

/// Counts what a compressor writes.
struct Counted<'a, W>(&'a mut Zip<W>);

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.put(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The version of ZIP that a reader must know: 2.0, or 4.5 for ZIP64.
fn version(zip64: bool) -> u16 {
    if zip64 { 45 } else { 20 }
}

fn short(length: usize) -> io::Result<u16> {
    u16::try_from(length).map_err(io::Error::other)
}

/// A number's 32-bit field, and what goes into the ZIP64 field if it is there.
fn split(number: u64, zip64: bool) -> (u32, Option<u64>) {
    match u32::try_from(number) {
        Ok(fits) if !zip64 && fits != ELSEWHERE => (fits, None),
        _ => (ELSEWHERE, Some(number)),
    }
}

fn central(entry: &Entry, zip64: bool) -> Vec<u8> {
    let (packed, packed64) = split(entry.packed, zip64);
    let (size, size64) = split(entry.size, zip64);
    let (offset, offset64) = split(entry.offset, zip64);
    // In this order, and only those whose own field is full.
    let long: Vec<u64> = [size64, packed64, offset64].into_iter().flatten().collect();
    let needs = version(!long.is_empty()).to_le_bytes();
    let mut out = b"PK\x01\x02".to_vec();
    out.extend(needs);
    out.extend(needs);
    out.extend(entry.flags.to_le_bytes());
    out.extend(entry.method.to_le_bytes());
    out.extend(entry.modified.to_le_bytes());
    out.extend([entry.crc, packed, size].map(u32::to_le_bytes).concat());
    out.extend((entry.name.len() as u16).to_le_bytes());
    let extra = if long.is_empty() { 0 } else { 4 + 8 * long.len() as u16 };
    out.extend(extra.to_le_bytes());
    // No comment, the first disk, no internal attributes.
    out.extend([0; 6]);
    let attributes = if entry.name.ends_with('/') { DIRECTORY } else { 0 };
    out.extend([attributes, offset].map(u32::to_le_bytes).concat());
    out.extend(entry.name.as_bytes());
    if !long.is_empty() {
        out.extend([1_u16, 8 * long.len() as u16].map(u16::to_le_bytes).concat());
        out.extend(long.into_iter().flat_map(u64::to_le_bytes));
    }
    out
}

/// The end of the central directory, with its ZIP64 form before it if a number
/// needs it.
fn ends(count: u64, begin: u64, size: u64, at: u64, zip64: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let long = zip64 || count >= 0xFFFF || begin >= u64::from(ELSEWHERE) || size >= u64::from(ELSEWHERE);
    if long {
        out.extend(b"PK\x06\x06");
        out.extend(44_u64.to_le_bytes());
        out.extend([45_u16, 45].map(u16::to_le_bytes).concat());
        out.extend([0; 8]);
        out.extend([count, count, size, begin].map(u64::to_le_bytes).concat());
        out.extend(b"PK\x06\x07");
        out.extend([0; 4]);
        out.extend(at.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
    }
    out.extend(b"PK\x05\x06");
    out.extend([0; 4]);
    let short = if long { u16::MAX } else { count as u16 };
    out.extend([short, short].map(u16::to_le_bytes).concat());
    let (size, begin) = if long { (ELSEWHERE, ELSEWHERE) } else { (size as u32, begin as u32) };
    out.extend([size, begin].map(u32::to_le_bytes).concat());
    out.extend([0; 2]);
    out
}

fn dos_time(hour: Hour) -> u32 {
    let civil = hour.civil();
    let year = u32::try_from((civil.year() - 1980).clamp(0, 127)).unwrap_or_default();
    let (month, day) = (civil.month().unsigned_abs(), civil.day().unsigned_abs());
    let date = year << 9 | u32::from(month) << 5 | u32::from(day);
    date << 16 | u32::from(civil.hour().unsigned_abs()) << 11
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ends of an archive beyond 4 GiB, which no test writes: the fields
    /// are full, and the numbers stand in the ZIP64 record.
    #[test]
    fn large_archives_have_zip64_ends() {
        let begin = 5_000_000_000_u64;
        let out = ends(70_000, begin, 1_000, begin + 1_000, false);
        assert_eq!(out[..4], *b"PK\x06\x06");
        assert_eq!(out[24..32], 70_000_u64.to_le_bytes());
        assert_eq!(out[48..56], begin.to_le_bytes());
        assert_eq!(out[56..60], *b"PK\x06\x07");
        assert_eq!(out[64..72], (begin + 1_000).to_le_bytes());
        assert_eq!(out[76..80], *b"PK\x05\x06");
        assert_eq!(out[84..96], [0xFF; 12]);
        assert_eq!(out.len(), 98);
        assert_eq!(ends(3, 10, 20, 30, false).len(), 22);
        let entry = Entry {
            name: "a".into(),
            method: STORED,
            flags: 0,
            crc: 1,
            packed: 2,
            size: 3,
            offset: begin,
            modified: 0,
        };
        let central = central(&entry, false);
        // Only the offset is long: its field is full, and it stands alone.
        assert_eq!(central[42..46], [0xFF; 4]);
        assert_eq!(central[47..51], [1, 0, 8, 0]);
        assert_eq!(central[51..], begin.to_le_bytes());
    }
}
