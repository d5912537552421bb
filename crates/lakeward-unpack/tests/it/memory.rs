//! Files of any size are read in little memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufWriter, Read, Seek, Write};

use lakeward_unpack::{Format, Input, Options, Unpacking};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// Counts the live bytes of each thread; a reading stays on its own.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // Not there any more while a thread ends.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: it hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(isize::try_from(layout.size()).unwrap_or(isize::MAX));
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-isize::try_from(layout.size()).unwrap_or(isize::MAX));
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads it whole; gives the records and the peak of memory in bytes.
fn peak(input: Input, format: Format) -> (usize, isize) {
    let before = LIVE.get();
    PEAK.set(before);
    let options = Options { format, ..Options::default() };
    let mut unpacking = Unpacking::open(input, "a", &options, None).unwrap();
    let mut records = 0;
    while let Some(block) = unpacking.next_block(1 << 20).unwrap() {
        records += block.ends.len();
    }
    (records, PEAK.get() - before)
}

#[test]
fn a_large_member_takes_little_memory() {
    let line = format!("{{\"text\":\"{}\"}}\n", "abcdefghij".repeat(10));
    let lines = (300 << 20) / line.len();
    let mut writer = zip::ZipWriter::new(BufWriter::new(tempfile::tempfile().unwrap()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1));
    writer.start_file("a.json", options).unwrap();
    let many = line.repeat(10_000);
    for _ in 0..lines / 10_000 {
        writer.write_all(many.as_bytes()).unwrap();
    }
    let mut file = writer.finish().unwrap().into_inner().unwrap();
    file.rewind().unwrap();
    let (records, peak) = peak(Input::File(file), Format::Auto);
    assert_eq!(records, lines / 10_000 * 10_000);
    assert!(peak < 16 << 20, "{peak} bytes");
}

#[test]
fn long_streams_of_every_format_take_little_memory() {
    let table = [
        (Format::Ndjson, "", "{\"text\":\"one two three\"}\n", ""),
        (Format::Json, "[1", ",\n {\"text\":\"one two three\"}", "]"),
        (Format::Csv, "a,b\n", "one,\"two, three\"\n", ""),
    ];
    for (format, start, each, end) in table {
        let many = each.repeat(10_000);
        let size = many.len() as u64 * 200;
        let bytes = Endless { bytes: many.into_bytes(), at: 0 }.take(size);
        let input = start.as_bytes().chain(bytes).chain(end.as_bytes());
        let (records, peak) = peak(Input::Stream(Box::new(input)), format);
        assert!(records >= 2_000_000, "{format:?}: {records} records");
        assert!(peak < 16 << 20, "{format:?}: {peak} bytes");
    }
}

/// The same bytes again and again.
struct Endless {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.bytes.len() - self.at);
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at = (self.at + count) % self.bytes.len();
        Ok(count)
    }
}
