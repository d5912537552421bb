//! What lineage costs, in CPU seconds of a whole build to Parquet, beside the
//! same records without keys:
//! `cargo run --release -p lakeward-columnar --example lineage`.

use std::convert::Infallible;

use lakeward_columnar::build::{Input, Schemas, build};
use lakeward_columnar::dedup::Seen;
use lakeward_columnar::shape::Shape;
use lakeward_loadgen::Kind;
use lakeward_model::{
    Keys, Lineage, Offset, RecordBlock, Records, Shard, ShardKey, SliceId, StreamName, Timestamp,
};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BLOCK: usize = 1 << 20;
const DRAWN: u64 = 64 << 20;
const ROUNDS: usize = 5;

fn main() {
    let fields = r#""section_id":145,"category":"video""#;
    let shard = Shard { number: 1, created: 2 };
    let from = |fields| {
        move |line: u64| {
            let mut out = Vec::new();
            let file = "203138/203138_2020-11-24_9#0.json.gz";
            Lineage { slice: SliceId(u128::from(line / 10_000)), file, line, fields }.write(&mut out);
            out
        }
    };
    for kind in Kind::ALL {
        let blocks = blocks(&kind.draw(DRAWN));
        let bytes: usize = blocks.iter().map(|block| block.records.data.len()).sum();
        let plain = measure(&blocks, &Shape::default());
        println!("{:<24} {:>7.3} GB/s without keys", kind.as_str(), bytes as f64 / plain / 1e9);
        let show = |what: &str, key: &dyn Fn(u64) -> Vec<u8>, shape: &Shape| {
            let seconds = measure(&with_keys(&blocks, key), shape);
            println!("{:>24} {:>+7.1} % {what}", "", (seconds / plain - 1.0) * 100.0);
        };
        show("shard keys", &|_| ShardKey { shard, partition_key: "k" }.stored(), &Shape::default());
        show("lineage", &from(""), &Shape::default());
        show("lineage with two parts", &from(fields), &Shape::default());
        show("the same, lineage: true", &from(fields), &Shape { lineage: true, ..Shape::default() });
        let path = "section_id=!{source:section_id}/!{source:stem}/".to_string();
        show("the same, path of parts", &from(fields), &Shape { path, ..Shape::default() });
    }
}

/// The best of some rounds.
fn measure(blocks: &[RecordBlock], shape: &Shape) -> f64 {
    let stream = StreamName::new("events").expect("a name");
    let schemas = Schemas::default();
    let seen: Option<(&dyn Seen, u64)> = None;
    let input = Input {
        batch: serde_json::from_str("\"0d1f5a52-5c5e-8f57-a6a1-c9a1b1a0d001\"").expect("an id"),
        stream: &stream,
        pipeline: "p",
        shape,
        schemas: &schemas,
        planned_at: Timestamp(0),
        expected_bytes: blocks.iter().map(|block| block.records.data.len() as u64).sum(),
        sql: None,
        seen,
        refused: &[],
    };
    let read = || blocks.iter().cloned().map(Ok::<_, Infallible>);
    let round = |_| {
        let start = cpu();
        let built = build(&input, read(), &mut std::iter::empty(), read).expect("it is built");
        assert_eq!(built.counts.quarantined, 0);
        cpu() - start
    };
    (0..ROUNDS).map(round).fold(f64::MAX, f64::min)
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The same records, with keys.
fn with_keys(blocks: &[RecordBlock], key: &dyn Fn(u64) -> Vec<u8>) -> Vec<RecordBlock> {
    let keyed = |block: &RecordBlock| {
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        for line in 0..block.records.len() as u64 {
            data.extend_from_slice(&key(block.first.0 + line));
            ends.push(data.len() as u32);
        }
        let keys = Some(Keys { data: data.into(), ends });
        RecordBlock { records: Records { keys, ..block.records.clone() }, ..*block }
    };
    blocks.iter().map(keyed).collect()
}

/// Lines as blocks of records.
fn blocks(text: &[u8]) -> Vec<RecordBlock> {
    let mut blocks: Vec<RecordBlock> = Vec::new();
    let (mut data, mut ends, mut first) = (Vec::new(), Vec::new(), Offset(0));
    let mut lines = text.split_inclusive(|&b| b == b'\n').peekable();
    while let Some(line) = lines.next() {
        data.extend_from_slice(line);
        ends.push(data.len() as u32);
        if data.len() >= BLOCK || lines.peek().is_none() {
            let records = Records::new(std::mem::take(&mut data).into(), std::mem::take(&mut ends));
            let next = first.plus(records.len() as u64);
            blocks.push(RecordBlock { records, first, received_at: Timestamp(0) });
            first = next;
        }
    }
    blocks
}
