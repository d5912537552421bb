//! What an append costs: `cargo run --release -p lakeward-journal --example
//! append -- [MiB] [records per append] [bytes per record] [appenders]`.
//!
//! Appends to a journal in a temporary folder and prints the wall rate, the
//! CPU time of the process, and how long opening and reading took.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lakeward_journal::{Journal, Options};
use lakeward_model::clock::{Stopwatch, SystemClock};
use lakeward_model::{Offset, Origin, Records, StreamName};

/// CPU seconds of this process, in user code and in the kernel.
fn cpu_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // Linux counts these in hundredths of a second for user space.
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a number") / 100.0;
    (ticks(11), ticks(12))
}

fn argument(number: usize, default: usize) -> usize {
    std::env::args().nth(number).map_or(default, |text| text.parse().expect("a number"))
}

fn block(records: usize, bytes: usize) -> Records {
    let data: Vec<u8> = (0..records * bytes).map(|i| (i * 31 % 251) as u8).collect();
    let ends = (1..=records).map(|i| u32::try_from(i * bytes).expect("small")).collect();
    Records::new(Bytes::from(data), ends)
}

async fn append_all(
    journal: &Journal,
    stream: &StreamName,
    block: &Records,
    appends: usize,
    appenders: usize,
) {
    let tasks = (0..appenders).map(|_| {
        let (journal, stream, block) = (journal.clone(), stream.clone(), block.clone());
        tokio::spawn(async move {
            let mut slowest = 0_f64;
            for _ in 0..appends / appenders {
                let watch = Stopwatch::start();
                journal.append(&stream, block.clone(), Origin::Push(None)).await.expect("appended");
                slowest = slowest.max(watch.elapsed().as_secs_f64());
            }
            slowest
        })
    });
    let mut slowest = 0_f64;
    for task in tasks.collect::<Vec<_>>() {
        slowest = slowest.max(task.await.expect("no panic"));
    }
    println!("slowest append     {:8.1} ms", slowest * 1e3);
}

fn open(dir: &Path) -> Journal {
    let options = Options { disk_bytes_max: 64 << 30, ..Options::default() };
    Journal::open(dir, options, Arc::new(SystemClock)).expect("opens")
}

fn report(what: &str, bytes: f64, watch: Stopwatch, before: (f64, f64)) {
    let (wall, after) = (watch.elapsed().as_secs_f64(), cpu_seconds());
    let (user, system) = (after.0 - before.0, after.1 - before.1);
    println!(
        "{what:<8} {:8.0} MB/s wall, {wall:6.2} s wall, {:8.0} MB per CPU-second (user {user:.2} s, system {system:.2} s)",
        bytes / 1e6 / wall,
        bytes / 1e6 / (user + system),
    );
}

fn main() {
    let (mib, records) = (argument(1, 1024), argument(2, 500));
    let (record_bytes, appenders) = (argument(3, 300), argument(4, 8));
    let dir = tempfile::tempdir_in(".").expect("a folder");
    let stream = StreamName::new("bench").expect("a good name");
    let journal = open(dir.path());
    journal.create(&stream).expect("created");
    let block = block(records, record_bytes);
    let appends = (mib << 20) / block.data.len() / appenders * appenders;
    let bytes = (appends * block.data.len()) as f64;
    println!("{appends} appends of {records} records of {record_bytes} bytes by {appenders} appenders");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let (watch, before) = (Stopwatch::start(), cpu_seconds());
    runtime.block_on(append_all(&journal, &stream, &block, appends, appenders));
    report("append", bytes, watch, before);
    journal.close();
    drop(journal);

    let (watch, before) = (Stopwatch::start(), cpu_seconds());
    let journal = open(dir.path());
    report("open", bytes, watch, before);

    let (watch, before) = (Stopwatch::start(), cpu_seconds());
    let mut next = Offset(0);
    loop {
        let blocks = journal.read(&stream, next, 8 << 20).expect("readable");
        let Some(last) = blocks.last() else { break };
        next = last.first.plus(last.records.len() as u64);
    }
    assert_eq!(next.0 as usize, appends * records);
    report("read", bytes, watch, before);
}
