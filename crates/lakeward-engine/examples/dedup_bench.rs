//! How fast dedup keys are looked up, and what they cost:
//!
//! ```sh
//! cargo run --release -p lakeward-engine --example dedup_bench -- [million keys] [folder]
//! ```
//!
//! Fills a store with batches of 100,000 keys spread over six days of a window
//! of seven, then looks up batches against all of it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::path::Path;
use std::time::Duration;

use lakeward_columnar::dedup::{Key, Seen};
use lakeward_engine::dedup::{DedupState, FILTER_BYTES, KeyStore};
use lakeward_model::clock::Stopwatch;
use lakeward_model::{BatchId, Timestamp, ids};

const WINDOW: Duration = Duration::from_secs(7 * 86_400);
const BATCH: u64 = 100_000;
const START: i64 = 1_783_944_000_000_000;

/// The `n`-th key of all.
fn key(n: u64, at: i64) -> Key {
    let fingerprint = xxhash_rust::xxh3::xxh3_128_with_seed(&n.to_le_bytes(), 7);
    Key { fingerprint, at: Timestamp(at) }
}

fn folder_bytes(dir: &Path) -> u64 {
    // A file may vanish while we look.
    let sizes = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().metadata().map_or(0, |m| m.len()));
    sizes.sum()
}

fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Commits `keys` as one batch.
fn deliver(store: &KeyStore, keys: &[Key]) -> (Duration, Duration) {
    let clock = Stopwatch::start();
    let session = store.session(BatchId(ids::fresh()), WINDOW, None);
    let duplicates = session.duplicates(keys).unwrap();
    let looked_up = clock.elapsed();
    let fresh: Vec<Key> = keys.iter().zip(duplicates).filter(|(_, d)| !d).map(|(key, _)| *key).collect();
    let next = store.next(&session.write(&fresh).unwrap());
    store.committed(next).unwrap();
    (looked_up, clock.elapsed())
}

fn look_up(store: &KeyStore, what: &str, batches: u64, size: u64, known: u64, repeats: u64, now: i64) {
    let mut took = Duration::ZERO;
    let mut found = 0;
    for batch in 0..batches {
        let pick = |n: u64| match n % 100 < repeats {
            true => (batch * size + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) % known,
            false => (1 << 40) + batch * size + n,
        };
        let keys: Vec<Key> = (0..size).map(|n| key(pick(n), now)).collect();
        let session = store.session(BatchId(ids::fresh()), WINDOW, None);
        let clock = Stopwatch::start();
        let duplicates = session.duplicates(&keys).unwrap();
        took += clock.elapsed();
        found += duplicates.iter().filter(|d| **d).count();
    }
    let all = (batches * size) as f64;
    println!(
        "{what}: batches of {size:>7}, {:>5.1} % duplicates: {:>9.0} look-ups/s, {:.2?} a batch",
        found as f64 / all * 100.0,
        all / took.as_secs_f64(),
        took / batches as u32,
    );
}

fn main() {
    let mut args = std::env::args().skip(1);
    let total = args.next().map_or(20, |n| n.parse::<u64>().unwrap()) * 1_000_000;
    let own = tempfile::tempdir().unwrap();
    let dir = args.next().map_or_else(|| own.path().to_path_buf(), Into::into);
    let before = memory("VmRSS");
    let store = KeyStore::open(&dir, &DedupState::fresh(), FILTER_BYTES).unwrap();
    let batches = total / BATCH;
    let step = 6 * 86_400 * 1_000_000 / batches as i64;
    let (mut looked_up, mut took, mut worst, mut slowest) =
        (Duration::ZERO, Duration::ZERO, 0_f64, Duration::ZERO);
    for batch in 0..batches {
        let at = |n: u64| START + batch as i64 * step + n as i64 * step / BATCH as i64;
        let keys: Vec<Key> = (0..BATCH).map(|n| key(batch * BATCH + n, at(n))).collect();
        let (looking, all) = deliver(&store, &keys);
        (looked_up, took, slowest) = (looked_up + looking, took + all, slowest.max(all));
        worst = worst.max(folder_bytes(&dir) as f64 / ((batch + 1) * BATCH) as f64);
    }
    println!(
        "filled: {total} keys in {took:.1?} ({:.0} keys/s; look-up {:.0}/s; slowest batch {slowest:.0?})",
        total as f64 / took.as_secs_f64(),
        total as f64 / looked_up.as_secs_f64(),
    );
    println!("disk: at most {worst:.2} bytes a key while filling, merges included");
    while store.is_merging() {
        std::thread::yield_now();
    }
    let now = START + batches as i64 * step;
    deliver(&store, &[key(1 << 50, now)]);
    let state = store.state();
    println!(
        "disk: {:.2} bytes a key, {} files",
        state.bytes() as f64 / state.keys() as f64,
        state.runs.len()
    );
    println!("memory: {before} MiB before, {} MiB now, {} MiB at most", memory("VmRSS"), memory("VmHWM"));
    drop(store);
    let clock = Stopwatch::start();
    let store = KeyStore::open(&dir, &state, FILTER_BYTES).unwrap();
    println!("open: {:.0?}", clock.elapsed());
    for repeats in [0, 1, 50] {
        look_up(&store, "filters ", 20, 100_000, total, repeats, now);
        look_up(&store, "filters ", 300, 1_000, total, repeats, now);
    }
    drop(store);
    let store = KeyStore::open(&dir, &state, 0).unwrap();
    look_up(&store, "none    ", 3, 100_000, total, 1, now);
    look_up(&store, "none    ", 100, 1_000, total, 1, now);
}
