//! How long partitioning takes, per row:
//! `cargo run --release -p lakeward-columnar --example partition`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use jiff::tz::TimeZone;
use lakeward_columnar::path::{Kind, Place, Template, partition};
use lakeward_model::clock::Stopwatch;
use lakeward_model::{BatchId, Timestamp};

const ROWS: usize = 400_000;
const START: i64 = 1_783_944_000_000_000;

fn main() {
    let batch: BatchId = serde_json::from_str("\"0d1f5a52-5c5e-8f57-a6a1-c9a1b1a0d001\"").expect("an id");
    let times = |spread: i64, shape: fn(jiff::Timestamp) -> String| -> ArrayRef {
        let at = |row: usize| START + (row as i64).wrapping_mul(spread) % (3 * 3_600_000_000);
        let text = |row| shape(jiff::Timestamp::from_microsecond(at(row)).expect("a time"));
        Arc::new(StringArray::from_iter_values((0..ROWS).map(text)))
    };
    let iso: fn(jiff::Timestamp) -> String = |t| t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    let offset: fn(jiff::Timestamp) -> String = |t| t.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string();
    let spaced: fn(jiff::Timestamp) -> String = |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string();
    // In order over three hours, and jumping about in them.
    let (ordered, shuffled) = (27_000, 7_919_000_003);
    let kinds = StringArray::from_iter_values((0..ROWS).map(|row| format!("kind-{}", row * 7 % 5)));
    let rows = RecordBatch::try_from_iter([
        ("iso", times(ordered, iso)),
        ("offset", times(ordered, offset)),
        ("spaced", times(ordered, spaced)),
        ("shuffled", times(shuffled, iso)),
        (
            "epoch",
            Arc::new(Int64Array::from_iter_values((0..ROWS).map(|r| START / 1_000 + r as i64 * 27))) as _,
        ),
        ("kind", Arc::new(kinds) as _),
    ])
    .expect("a batch");
    let records: Vec<u32> = (0..ROWS as u32).collect();
    let arrivals: Vec<(u32, Timestamp)> =
        (0..ROWS as u32).step_by(500).map(|r| (r, Timestamp(START))).collect();
    let berlin = lakeward_columnar::path::time_zone("Europe/Berlin").expect("a zone");
    for (path, zone) in [
        ("h=!{event:iso:yyyy-MM-dd-HH}/", &TimeZone::UTC),
        ("h=!{event:iso:yyyy-MM-dd-HH}/", &berlin),
        ("h=!{event:offset:yyyy-MM-dd-HH}/", &TimeZone::UTC),
        ("h=!{event:spaced:yyyy-MM-dd-HH}/", &TimeZone::UTC),
        ("h=!{event:epoch:yyyy-MM-dd-HH}/", &TimeZone::UTC),
        ("h=!{event:shuffled:yyyy-MM-dd-HH}/", &TimeZone::UTC),
        ("k=!{event:kind}/h=!{event:iso:HH}/", &TimeZone::UTC),
        ("!{timestamp:yyyy/MM/dd/HH}/", &TimeZone::UTC),
    ] {
        let template = Template::parse(path, Kind::Prefix).expect("valid");
        let place = Place { zone, batch, first_index: 0 };
        let best = (0..15)
            .map(|_| {
                let watch = Stopwatch::start();
                let parts = partition(&template, &rows, &records, &arrivals, &place).len();
                (watch.elapsed(), parts)
            })
            .min()
            .expect("it ran");
        println!("{:>6.2} ns/row {:>6} partitions  {path}", best.0.as_nanos() as f64 / ROWS as f64, best.1);
    }
}
