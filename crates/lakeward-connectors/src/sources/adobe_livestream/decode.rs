//! From the bytes of a connection to records: gunzip and split, both as the
//! bytes arrive, and never more at a time than the page has room for.

use std::io::{self, Write};

use bytes::{Buf, Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use lakeward_model::Records;

/// Bytes of records after which a page is full.
pub(super) const PAGE_BYTES: usize = 4 << 20;

/// The records of the next page.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    data: BytesMut,
    ends: Vec<u32>,
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.data.len() >= PAGE_BYTES
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn push(&mut self, parts: [&[u8]; 2]) {
        parts.iter().for_each(|part| self.data.extend_from_slice(part));
        let end = u32::try_from(self.data.len()).expect("a page is far below 4 GiB");
        self.ends.push(end);
    }

    /// The records, and none from now on.
    pub(super) fn take(&mut self) -> Records {
        let ends = std::mem::take(&mut self.ends);
        Records::new(self.data.split().freeze(), ends)
    }

    /// The last record.
    pub(super) fn last(&self) -> Option<&[u8]> {
        let end = *self.ends.last()? as usize;
        let start = self.ends.len().checked_sub(2).map_or(0, |before| self.ends[before] as usize);
        self.data.get(start..end)
    }
}

/// One connection's bytes on their way to records.
#[derive(Debug)]
pub(super) struct Decoder {
    packing: Packing,
    /// Bytes that came and had no room yet.
    waiting: Bytes,
    splitter: Splitter,
}

#[derive(Debug)]
enum Packing {
    /// What it is shows the first byte, because the head did not say.
    Unknown,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Plain,
}

impl Packing {
    fn gzip() -> Self {
        Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
    }
}

impl Decoder {
    /// For a body that is gzip, or of which that is not known.
    pub(super) fn new(is_gzip: bool, record_max: usize) -> Self {
        let packing = if is_gzip { Packing::gzip() } else { Packing::Unknown };
        Self {
            packing,
            waiting: Bytes::new(),
            splitter: Splitter { partial: Vec::new(), overlong: 0, record_max },
        }
    }

    /// Whether bytes wait for room; until they had some, no more may be fed.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes what came; [`Self::decode`] makes records of it.
    pub(super) fn feed(&mut self, bytes: Bytes) {
        debug_assert!(self.waiting.is_empty(), "what waits comes first");
        self.waiting = bytes;
    }

    /// Makes records until nothing waits or the page is full.
    ///
    /// # Errors
    /// It is no gzip. The records before the fault are in `out`.
    pub(super) fn decode(&mut self, out: &mut Gathered) -> io::Result<()> {
        if let (Packing::Unknown, Some(first)) = (&self.packing, self.waiting.first()) {
            // RFC 1952, 2.3.1: ID1. No JSON begins with it.
            self.packing = if *first == 0x1f { Packing::gzip() } else { Packing::Plain };
        }
        match &mut self.packing {
            Packing::Unknown => {}
            Packing::Plain => {
                let text = std::mem::take(&mut self.waiting);
                self.splitter.split(&text, out);
            }
            Packing::Gzip(gunzip) => {
                while !self.waiting.is_empty() && !out.is_full() {
                    let taken = gunzip.write(&self.waiting);
                    // What it has made before the fault is good.
                    self.splitter.split(gunzip.get_ref(), out);
                    gunzip.get_mut().clear();
                    match taken? {
                        0 => return Err(io::ErrorKind::InvalidData.into()),
                        taken => self.waiting.advance(taken),
                    }
                }
                if self.waiting.is_empty() {
                    gunzip.flush()?;
                    self.splitter.split(gunzip.get_ref(), out);
                    gunzip.get_mut().clear();
                }
            }
        }
        Ok(())
    }

    /// The connection ended in order: a last record without a line end counts
    /// if it is whole. How many bytes of a record that is not whole are left.
    pub(super) fn end(&mut self, out: &mut Gathered) -> usize {
        self.splitter.end(out)
    }

    /// How many records were longer than they may be, since the last time.
    pub(super) fn overlong(&mut self) -> u64 {
        std::mem::take(&mut self.splitter.overlong)
    }
}

/// Cuts text at line ends. Adobe separates records by CR LF, and by LF in older
/// descriptions; a record has neither within, because JSON escapes them. What
/// is empty between two of them says only that the connection lives.
#[derive(Debug)]
struct Splitter {
    /// The beginning of a record whose end did not come yet.
    partial: Vec<u8>,
    overlong: u64,
    record_max: usize,
}

impl Splitter {
    fn split(&mut self, text: &[u8], out: &mut Gathered) {
        let mut rest = text;
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            let (record, behind) = (&rest[..at], &rest[at + 1..]);
            rest = behind;
            let before = std::mem::take(&mut self.partial);
            if before.iter().chain(record).all(u8::is_ascii_whitespace) {
                continue;
            }
            let room = self.record_max.saturating_sub(before.len());
            if record.len() > room || before.len() > self.record_max {
                self.overlong += 1;
            }
            let kept = &before[..before.len().min(self.record_max)];
            out.push([kept, &record[..record.len().min(room)]]);
            // The buffer is used again.
            self.partial = before;
            self.partial.clear();
        }
        // One byte more tells that it is too long.
        let room = (self.record_max + 1).saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&rest[..rest.len().min(room)]);
    }

    fn end(&mut self, out: &mut Gathered) -> usize {
        let partial = std::mem::take(&mut self.partial);
        if partial.iter().all(u8::is_ascii_whitespace) {
            return 0;
        }
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&partial).is_ok();
        if whole && partial.len() <= self.record_max {
            out.push([&partial, b""]);
            return 0;
        }
        partial.len()
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(out: &mut Gathered) -> Vec<String> {
        let records = out.take();
        records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
    }

    fn decoded(decoder: &mut Decoder, pieces: &[&[u8]]) -> Vec<String> {
        let mut out = Gathered::default();
        let mut all = Vec::new();
        for piece in pieces {
            decoder.feed(Bytes::copy_from_slice(piece));
            while decoder.is_waiting() {
                decoder.decode(&mut out).unwrap();
                all.extend(lines(&mut out));
            }
        }
        decoder.end(&mut out);
        all.extend(lines(&mut out));
        all
    }

    #[test]
    fn records_end_at_line_ends_and_empty_ones_are_none() {
        let check = |text: &str, expect: &[&str]| {
            let found = decoded(&mut Decoder::new(true, 100), &[&gzip(text.as_bytes())]);
            assert_eq!(found, expect, "{text:?}");
            // A proxy that unpacks is forgiven.
            assert_eq!(decoded(&mut Decoder::new(false, 100), &[text.as_bytes()]), expect, "{text:?}");
        };
        check("", &[]);
        check("\r\n\r\n \r\n\n", &[]);
        check("{\"a\":1}\r\n{\"a\":2}\r\n", &["{\"a\":1}", "{\"a\":2}"]);
        check("{\"a\":1}\n\n{\"a\":2}\n\r\n", &["{\"a\":1}", "{\"a\":2}"]);
        check("not JSON\r\n", &["not JSON"]);
        check("{\"a\":1}\r\n{\"a\":2}", &["{\"a\":1}", "{\"a\":2}"]);
        check("{\"a\":1}\r\n{\"a\":", &["{\"a\":1}"]);
    }

    #[test]
    fn a_record_that_is_too_long_keeps_its_beginning() {
        let text = format!("{}\r\n{{}}\r\n{}\r\n", "x".repeat(25), "y".repeat(10));
        for pieces in [vec![text.as_bytes()], text.as_bytes().chunks(3).collect()] {
            let mut decoder = Decoder::new(false, 10);
            let found = decoded(&mut decoder, &pieces);
            assert_eq!(found, ["x".repeat(10), "{}".into(), "y".repeat(10)]);
            assert_eq!((decoder.overlong(), decoder.overlong()), (1, 0));
        }
    }

    #[test]
    fn a_page_that_is_full_leaves_the_rest_for_the_next() {
        let line = format!("{{\"a\":\"{}\"}}\r\n", "x".repeat(1000));
        let packed = gzip(line.repeat(20_000).as_bytes());
        assert!(packed.len() < 1 << 20, "{}", packed.len());
        let (mut decoder, mut out) = (Decoder::new(true, 1 << 20), Gathered::default());
        decoder.feed(Bytes::from(packed));
        let (mut all, mut pages) = (0, 0);
        while decoder.is_waiting() {
            decoder.decode(&mut out).unwrap();
            let records = out.take();
            assert!(records.data.len() < PAGE_BYTES + (64 << 10), "{}", records.data.len());
            all += records.len();
            pages += 1;
        }
        assert_eq!((all, pages), (20_000, 5));
    }

    #[test]
    fn garbage_is_told_and_what_came_before_it_stays() {
        let mut bytes = gzip(b"{\"a\":1}\r\n");
        bytes.extend_from_slice(b"this is no gzip at all");
        let (mut decoder, mut out) = (Decoder::new(true, 100), Gathered::default());
        decoder.feed(Bytes::from(bytes));
        assert!(decoder.decode(&mut out).is_err());
        assert_eq!(lines(&mut out), ["{\"a\":1}"]);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_records(
            records in prop::collection::vec("[a-z{}\":, 0-9é]{0,40}", 0..30),
            cut in 1usize..40,
            gzipped: bool,
        ) {
            let text: String = records.iter().map(|record| format!("{record}\r\n")).collect();
            let bytes = if gzipped { gzip(text.as_bytes()) } else { text.clone().into_bytes() };
            let expect: Vec<&String> =
                records.iter().filter(|record| !record.bytes().all(|b| b.is_ascii_whitespace())).collect();
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            let found = decoded(&mut Decoder::new(gzipped, 1000), &pieces);
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expect);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), is_gzip: bool) {
            let (mut decoder, mut out) = (Decoder::new(is_gzip, 50), Gathered::default());
            if !bytes.is_empty() {
                decoder.feed(Bytes::from(bytes));
                let _ = decoder.decode(&mut out);
            }
        }
    }
}
