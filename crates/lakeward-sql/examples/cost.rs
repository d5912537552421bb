//! What SQL costs per row: `cargo run -p lakeward-sql --example cost [rows]`.

use lakeward_columnar::decode::{DecodeOptions, Decoder};
use lakeward_columnar::schema::TableSchema;
use lakeward_columnar::transform::{Pinned, Transform};
use lakeward_model::clock::Stopwatch;
use lakeward_model::{BatchId, Records, Timestamp};
use lakeward_sql::SqlTransform;

const STATEMENTS: &[&str] = &[
    "SELECT flag_key, variation_index, evaluation_context['tier'] AS tier, split_part(flag_key,'-',1) AS area, timestamp FROM input WHERE variation_index IS NOT NULL",
    "SELECT *, split_part(flag_key,'-',1) AS area FROM input",
    "SELECT * FROM input WHERE variation_index = 1",
    "SELECT *, date_trunc('hour', to_timestamp(timestamp)) AS hour FROM input",
    "SELECT flag_key, uuid() AS id FROM input",
    "SELECT json_get_str(payload, 'a', 'b') AS b FROM input",
    "SELECT CAST(flag_key AS BIGINT) AS none FROM input",
];

fn main() {
    let rows: usize = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(200_000);
    let (mut data, mut ends) = (String::new(), Vec::with_capacity(rows));
    for row in 0..rows {
        let index = if row % 10 == 0 { String::from("null") } else { (row % 3).to_string() };
        let line = format!(
            r#"{{"timestamp":"2024-01-15T14:{:02}:{:02}.{:06}+00:00","flag_key":"area{}-flag-{}","evaluation_context":{{"key":"user-{row}","kind":"user","name":"Person {row}","tier":"{}"}},"flag_value":"treatment","variation_index":{index},"reason_kind":"FALLTHROUGH","payload":"{{\"x\":[1,2,3],\"a\":{{\"b\":\"{row}\"}}}}","metadata":{{"source":"launchdarkly-python-hook","version":"1.0"}}}}"#,
            row / 60 % 60,
            row % 60,
            row % 1_000_000,
            row % 7,
            row % 40,
            ["free", "premium"][row % 2],
        );
        data += &line;
        data.push('\n');
        ends.push(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }
    let records = Records::new(data.into(), ends);
    let pinned = Pinned { now: Timestamp(0), batch: BatchId(uuid::Uuid::nil()) };
    for sql in STATEMENTS {
        let compile = Stopwatch::start();
        let transform = match SqlTransform::compile(sql) {
            Ok(transform) => transform,
            Err(error) => return println!("{sql}: {error}"),
        };
        let compile = compile.elapsed();
        let only = transform.reads().map(<[String]>::to_vec);
        let mut decoder =
            Decoder::new(&TableSchema::default(), DecodeOptions { only, ..DecodeOptions::default() });
        if let Err(error) = decoder.push_records(&records) {
            return println!("{error}");
        }
        let decoded = decoder.finish();
        let mut times = Vec::new();
        for _ in 0..4 {
            let watch = Stopwatch::start();
            match transform.apply(&decoded.rows, &pinned) {
                Ok(done) => times.push((watch.elapsed(), done.rows.num_rows(), done.failed.len())),
                Err(error) => return println!("{sql}: {error}"),
            }
        }
        let (first, made, failed) = times[0];
        let best = times.iter().map(|(time, ..)| *time).min().unwrap_or_default();
        println!(
            "{:6.1} ns/row (best of 4; first {:.1}), compiled in {compile:.1?}, {made} rows, {failed} failed: {sql}",
            best.as_nanos() as f64 / rows as f64,
            first.as_nanos() as f64 / rows as f64,
        );
    }
}
