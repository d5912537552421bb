//! Encodes three realistic tables with the `parquet` crate's `ArrowWriter` and
//! with ours, both with zstd level 1, and prints speed and size side by side.
//!
//! `cargo run --release -p lakeward-columnar --example encode [rows] [directory]`:
//! with a directory, our files are left there.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema};
use lakeward_columnar::encode::encode;
use lakeward_columnar::shape::{Output, ParquetOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Small numbers more often than large ones.
    fn skewed(&mut self, limit: u64) -> u64 {
        let bound = self.below(limit) + 1;
        self.below(bound)
    }

    fn uuid(&mut self) -> String {
        let n = (u128::from(self.next()) << 64) | u128::from(self.next());
        let hex = format!("{n:032x}");
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}

const START: i64 = 1_705_329_000_000_000;
const FLAGS: [&str; 12] = [
    "checkout-button-color",
    "new-onboarding-flow",
    "pricing-page-layout",
    "search-ranking-v3",
    "lesson-reminder-time",
    "trial-length-days",
    "recommendations-model",
    "signup-social-proof",
    "dark-mode-default",
    "streak-freeze-offer",
    "paywall-copy",
    "audio-player-v2",
];
const WORDS: [&str; 8] =
    ["de", "spain", "treatment-b", "iPhone 15", "screen viewed", "Berlin", "Android", "en"];

fn text(rows: usize, mut value: impl FnMut(usize) -> Option<String>) -> ArrayRef {
    Arc::new((0..rows).map(&mut value).collect::<StringArray>())
}

fn pick(rows: usize, random: &mut Random, of: &[&str]) -> ArrayRef {
    Arc::new((0..rows).map(|_| Some(of[random.skewed(of.len() as u64) as usize])).collect::<StringArray>())
}

fn ints(rows: usize, mut value: impl FnMut(usize) -> Option<i64>) -> ArrayRef {
    Arc::new((0..rows).map(&mut value).collect::<Int64Array>())
}

fn times(rows: usize, random: &mut Random, delay: i64) -> ArrayRef {
    let micros = (0..rows as i64).map(|i| START + delay + i * 4_000 + random.below(900_000).cast_signed());
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

fn structure(columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let fields: Vec<Field> =
        columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
    Arc::new(StructArray::new(fields.into(), columns.into_iter().map(|(_, c)| c).collect(), None))
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, c)| c).collect())
        .expect("the columns are equally long")
}

fn evaluations(rows: usize, random: &mut Random) -> RecordBatch {
    let users: Vec<u64> = (0..rows).map(|_| random.skewed(200_000)).collect();
    let context = structure(vec![
        ("key", text(rows, |i| Some(format!("user-{}", users[i])))),
        ("kind", text(rows, |_| Some("user".into()))),
        ("name", text(rows, |i| Some(format!("Name {}", users[i] % 40)))),
        ("tier", text(rows, |i| Some(WORDS[(users[i] % 3) as usize].into()))),
    ]);
    table(vec![
        ("timestamp", times(rows, random, 0)),
        ("flag_key", pick(rows, random, &FLAGS)),
        ("evaluation_context", context),
        ("country", pick(rows, random, &WORDS)),
        ("flag_value", pick(rows, random, &WORDS[..4])),
        ("variation_index", ints(rows, |i| Some((users[i] % 4) as i64))),
        ("reason_kind", pick(rows, random, &WORDS[..3])),
        (
            "metadata",
            structure(vec![
                ("source", text(rows, |_| Some("launchdarkly-python-hook".into()))),
                ("version", text(rows, |_| Some("1.0".into()))),
            ]),
        ),
    ])
}

fn lessons(rows: usize, random: &mut Random) -> RecordBatch {
    let kinds: Vec<u64> = (0..rows).map(|_| random.below(100)).collect();
    let names = [
        "lesson:started",
        "lesson:finished",
        "payment:order:created",
        "payment:order:completed",
        "account:created",
        "account:removed",
    ];
    let name = |kind: u64| names[[45, 80, 88, 95, 99, 100].iter().position(|&k| kind < k).unwrap_or(5)];
    let when = |kinds: &[u64], i: usize, range: std::ops::Range<u64>| range.contains(&kinds[i]);
    let amounts =
        (0..rows).map(|i| when(&kinds, i, 80..95).then(|| [9.99, 12.99, 299.0][random.below(3) as usize]));
    let amounts: ArrayRef = Arc::new(amounts.collect::<Float64Array>());
    let durations = (0..rows).map(|i| when(&kinds, i, 45..80).then(|| random.below(9_000) as f64 / 10.0));
    let durations: ArrayRef = Arc::new(durations.collect::<Float64Array>());
    let created =
        (0..rows).map(|i| (START + i as i64 * 4_000) as f64 / 1e6 + random.below(900_000) as f64 / 1e6);
    let created: ArrayRef = Arc::new(Float64Array::from_iter_values(created));
    table(vec![
        ("event_uuid", text(rows, |_| Some(random.uuid()))),
        ("event_name", text(rows, |i| Some(name(kinds[i]).into()))),
        ("created_at", created),
        ("user_id", ints(rows, |_| Some(random.skewed(200_000).cast_signed()))),
        ("device", pick(rows, random, &WORDS[..4])),
        ("app_version", text(rows, |_| Some(format!("7.{}.{}", 30 + random.skewed(12), random.below(4))))),
        ("lesson_id", ints(rows, |i| when(&kinds, i, 0..80).then(|| random.skewed(40_000).cast_signed()))),
        ("language", text(rows, |i| when(&kinds, i, 0..80).then(|| WORDS[random.skewed(6) as usize].into()))),
        (
            "level",
            text(rows, |i| {
                when(&kinds, i, 0..80).then(|| ["a1", "a2", "b1"][random.below(3) as usize].into())
            }),
        ),
        ("duration_s", durations),
        ("score", ints(rows, |i| when(&kinds, i, 45..80).then(|| random.below(101).cast_signed()))),
        (
            "order_id",
            ints(rows, |i| when(&kinds, i, 80..95).then(|| 80_000_000 + random.below(1 << 26).cast_signed())),
        ),
        ("plan", text(rows, |i| when(&kinds, i, 80..95).then(|| WORDS[random.below(4) as usize].into()))),
        ("amount", amounts),
        (
            "currency",
            text(rows, |i| when(&kinds, i, 80..95).then(|| ["EUR", "USD"][random.below(2) as usize].into())),
        ),
        (
            "signup_source",
            text(rows, |i| when(&kinds, i, 95..100).then(|| WORDS[random.below(4) as usize].into())),
        ),
    ])
}

fn analytics(rows: usize, random: &mut Random) -> RecordBatch {
    let users: Vec<u64> = (0..rows).map(|_| random.skewed(200_000)).collect();
    let devices: Vec<String> = users.iter().map(|&u| Random(u).uuid()).collect();
    let events: Vec<u64> = (0..rows).map(|_| random.skewed(8)).collect();
    let null = |data_type: &DataType| new_null_array(data_type, rows);
    let properties = structure(vec![
        ("screen", pick(rows, random, &WORDS[..7])),
        ("button", text(rows, |i| (events[i] == 1).then(|| "continue".into()))),
        ("position", ints(rows, |i| (events[i] == 1).then(|| random.below(6).cast_signed()))),
        ("lesson_id", ints(rows, |i| (events[i] == 2).then(|| random.skewed(40_000).cast_signed()))),
        ("elapsed_ms", ints(rows, |i| (events[i] == 2).then(|| random.below(60_000).cast_signed()))),
    ]);
    let paying: BooleanArray = users.iter().map(|u| (u % 9 == 0).then_some(true)).collect();
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("insert_id", text(rows, |_| Some(random.uuid()))),
        ("amplitude_id", ints(rows, |i| Some(700_000_000_000 + users[i] as i64))),
        ("app", ints(rows, |_| Some(412_077))),
        ("client_event_time", times(rows, random, -15_000)),
        ("client_upload_time", times(rows, random, 200_000)),
        ("device_id", text(rows, |i| Some(devices[i].clone()))),
        ("event_id", ints(rows, |i| Some((i % 5_000) as i64))),
        ("event_properties", properties),
        ("event_time", times(rows, random, 0)),
        (
            "ip_address",
            text(rows, |i| {
                let u = users[i];
                Some(format!("{}.{}.{}.{}", 20 + u % 180, u / 7 % 256, u / 11 % 256, random.below(256)))
            }),
        ),
        ("is_attribution_event", Arc::new(BooleanArray::from(vec![false; rows]))),
        ("paying", Arc::new(paying)),
        ("processed_time", times(rows, random, 2_300_000)),
        ("server_received_time", times(rows, random, 235_000)),
        ("server_upload_time", times(rows, random, 241_000)),
        (
            "session_id",
            ints(rows, |i| {
                Some(START / 1_000_000 * 1_000 + i as i64 / 450_000 + (users[i] % 1_800_000) as i64)
            }),
        ),
        (
            "user_creation_time",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(
                    users.iter().map(|&u| START + u as i64 * 61_000_000),
                )
                .with_timezone("UTC"),
            ),
        ),
        ("user_id", text(rows, |i| (!users[i].is_multiple_of(4)).then(|| format!("user-{}", users[i])))),
        ("streak", ints(rows, |_| Some(random.skewed(400).cast_signed()))),
        ("uuid", text(rows, |_| Some(random.uuid()))),
    ];
    for name in [
        "country",
        "data_type",
        "device_brand",
        "device_family",
        "device_model",
        "device_type",
        "event_type",
        "language",
        "library",
        "os_name",
        "os_version",
        "platform",
        "version_name",
        "course",
        "tier",
    ] {
        columns.push((name, pick(rows, random, &WORDS)));
    }
    let names: Vec<String> = (0..50).map(|i| format!("rare_{i}")).collect();
    for (i, name) in names.iter().enumerate() {
        let column = match i % 10 {
            0 => text(rows, |_| (random.below(200) == 0).then(|| "spring-30".into())),
            1 => ints(rows, |_| (random.below(1000) == 0).then_some(5)),
            2..5 => null(&DataType::Int64),
            _ => null(&DataType::Utf8),
        };
        columns.push((name, column));
    }
    table(columns)
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below 1e9"))
}

/// The least of several runs, in seconds, and the file.
fn measure<T>(runs: usize, mut run: impl FnMut() -> T) -> (f64, T) {
    let mut best = f64::MAX;
    let mut last = None;
    for _ in 0..runs {
        let start = cpu();
        let result = run();
        best = best.min((cpu() - start).as_secs_f64());
        last = Some(result);
    }
    (best, last.expect("at least one run"))
}

fn theirs(batch: &RecordBatch) -> Vec<u8> {
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a plain schema");
    writer.write(batch).expect("plain values");
    writer.into_inner().expect("plain values")
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments.next().map_or(300_000, |n| n.parse().expect("a number of rows"));
    let directory = arguments.next();
    let only = std::env::var("ONLY").ok();
    let runs = if only.is_some() { 40 } else { 5 };
    let output = Output::Parquet(ParquetOptions::default());
    println!("{rows} rows; MB/s of Arrow bytes, of JSON in brackets, per CPU-second");
    println!(
        "{:<12} {:>9} {:>22} {:>22} {:>7} {:>7}",
        "table", "Arrow MB", "ArrowWriter", "lakeward", "faster", "size"
    );
    type Build = fn(usize, &mut Random) -> RecordBatch;
    let tables: [(&str, Build, f64); 3] =
        [("evaluations", evaluations, 300.0), ("lessons", lessons, 250.0), ("analytics", analytics, 1600.0)];
    for (name, build, json) in tables {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        let batch = build(rows, &mut Random(42));
        let megabytes = batch.get_array_memory_size() as f64 / 1e6;
        let json = json * rows as f64 / 1e6;
        let (our_time, ours) = measure(runs, || {
            encode(&output, &batch, std::slice::from_ref(&(0..rows))).expect("plain values").body
        });
        let (their_time, theirs) = measure(if only.is_some() { 1 } else { runs }, || theirs(&batch));
        let speed = |time: f64| format!("{:.0} ({:.0}) {:.3}s", megabytes / time, json / time, time);
        println!(
            "{name:<12} {megabytes:>9.1} {:>22} {:>22} {:>6.1}x {:>6.1}%  {} / {}",
            speed(their_time),
            speed(our_time),
            their_time / our_time,
            100.0 * ours.len() as f64 / theirs.len() as f64,
            ours.len(),
            theirs.len()
        );
        let small: Vec<RecordBatch> = (0..1_000).map(|i| batch.slice(i * 20 % (rows - 20), 20)).collect();
        let (our_time, _) = measure(runs, || {
            small
                .iter()
                .map(|b| {
                    encode(&output, b, std::slice::from_ref(&(0..b.num_rows())))
                        .expect("plain values")
                        .body
                        .len()
                })
                .sum::<usize>()
        });
        let (their_time, _) = measure(1, || {
            small.iter().take(1_000 / runs.min(20)).map(|b| self::theirs(b).len()).sum::<usize>()
        });
        println!(
            "    files of 20 rows: {:.0} µs each, ArrowWriter {:.0} µs",
            our_time * 1e3,
            their_time * 1e3 * runs.min(20) as f64
        );
        if let Some(directory) = &directory {
            std::fs::write(format!("{directory}/{name}.parquet"), &ours).expect("a writable directory");
            std::fs::write(format!("{directory}/{name}.theirs.parquet"), &theirs)
                .expect("a writable directory");
        }
    }
}
