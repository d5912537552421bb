//! How fast records become columns, beside simd-json's tokeniser on the same
//! bytes: one thread, CPU seconds of the operating system.
//!
//! `cargo run --release -p lakeward-columnar --example decode [-- FILE…]`
//! reads NDJSON files; without one it draws 64 MiB of each kind of event.

use lakeward_columnar::decode::{DecodeOptions, Decoder};
use lakeward_columnar::schema::TableSchema;
use lakeward_loadgen::Kind;
use lakeward_model::Records;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the engine reads from the journal at a time, about.
const BLOCK: usize = 1 << 20;
const DRAWN: u64 = 64 << 20;
const ROUNDS: usize = 5;

fn main() {
    let files: Vec<String> = std::env::args().skip(1).collect();
    println!(
        "events                   B/event   decode GB/s   Mevent/s   again GB/s   simd-json GB/s   ratio"
    );
    if files.is_empty() {
        for kind in Kind::ALL {
            measure(kind.as_str(), &blocks(&kind.draw(DRAWN)));
        }
    }
    for file in files {
        let text = std::fs::read(&file).expect("the file can be read");
        let name = std::path::Path::new(&file).file_name().unwrap_or_default().to_string_lossy();
        measure(&name, &blocks(&text));
    }
}

fn measure(name: &str, records: &[Records]) {
    let bytes: usize = records.iter().map(|block| block.data.len()).sum();
    let events: usize = records.iter().map(Records::len).sum();
    let (mut first, mut again, mut tape) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let (seconds, schema) = decode(records, &TableSchema::default(), events);
        first = first.min(seconds);
        again = again.min(decode(records, &schema, events).0);
        tape = tape.min(tokenise(records));
    }
    let speed = |seconds: f64| bytes as f64 / seconds / 1e9;
    println!(
        "{name:<24} {:>7} {:>13.2} {:>10.2} {:>12.2} {:>16.2} {:>7.2}",
        bytes / events,
        speed(first),
        events as f64 / first / 1e6,
        speed(again),
        speed(tape),
        tape / first,
    );
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Decodes everything into one batch: a new decoder, new buffers, finished
/// arrays.
fn decode(blocks: &[Records], schema: &TableSchema, events: usize) -> (f64, TableSchema) {
    let start = cpu();
    let expected_bytes = blocks.iter().map(|block| block.data.len() as u64).sum();
    let mut decoder = Decoder::new(schema, DecodeOptions { expected_bytes, ..DecodeOptions::default() });
    for block in blocks {
        decoder.push_records(block).expect("far below 2 GiB");
    }
    let decoded = decoder.finish();
    let seconds = cpu() - start;
    assert_eq!((decoded.rows.num_rows(), decoded.rejected.len(), decoded.rescued), (events, 0, 0));
    (seconds, decoded.schema)
}

/// Tokenises every record with buffers that are used again. The bytes are
/// copied before, as simd-json writes into them.
fn tokenise(blocks: &[Records]) -> f64 {
    let mut copies: Vec<Vec<u8>> = blocks.iter().map(|block| block.data.to_vec()).collect();
    let mut buffers = simd_json::Buffers::default();
    let mut tape = simd_json::Tape::null().reset();
    let start = cpu();
    for (copy, block) in copies.iter_mut().zip(blocks) {
        let mut start = 0;
        for &end in &block.ends {
            let mut filled = tape.reset();
            simd_json::fill_tape(&mut copy[start..end as usize], &mut buffers, &mut filled)
                .expect("valid JSON");
            assert!(filled.0.len() > 8);
            tape = filled.reset();
            start = end as usize;
        }
    }
    cpu() - start
}

/// Lines as blocks of records, each with its newline.
fn blocks(text: &[u8]) -> Vec<Records> {
    let mut blocks = Vec::new();
    let (mut data, mut ends) = (Vec::new(), Vec::new());
    for line in text.split_inclusive(|&b| b == b'\n') {
        data.extend_from_slice(line);
        ends.push(data.len() as u32);
        if data.len() >= BLOCK {
            blocks.push(Records::new(std::mem::take(&mut data).into(), std::mem::take(&mut ends)));
        }
    }
    if !ends.is_empty() {
        blocks.push(Records::new(data.into(), ends));
    }
    blocks
}
