//! How fast records become columns, beside simd-json's tokeniser on the same
//! bytes: one thread, CPU seconds of the operating system.
//!
//! `cargo run --release -p lakeward-columnar --example decode [-- MiB [rounds]] [kind]`

use std::fmt::Write as _;

use lakeward_columnar::decode::{DecodeOptions, Decoder};
use lakeward_columnar::schema::TableSchema;
use lakeward_model::Records;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the engine reads from the journal at a time, about.
const BLOCK: usize = 1 << 20;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let size = numbers.next().unwrap_or(64) << 20;
    let rounds = numbers.next().unwrap_or(3);
    let chosen = std::env::args().skip(1).find(|argument| argument.parse::<usize>().is_err());
    println!("kind         B/event   decode GB/s   Mevent/s   again GB/s   simd-json GB/s   ratio");
    for (kind, event) in [
        ("evaluation", evaluation as fn(&mut Draw, &mut String)),
        ("lesson", lesson),
        ("analytics", analytics),
    ] {
        if chosen.as_ref().is_some_and(|chosen| chosen != kind) {
            continue;
        }
        let records = generate(size, event);
        let bytes: usize = records.iter().map(|block| block.data.len()).sum();
        let events: usize = records.iter().map(Records::len).sum();
        let (mut first, mut again, mut tape) = (f64::MAX, f64::MAX, f64::MAX);
        for _ in 0..rounds {
            let (seconds, schema) = decode(&records, &TableSchema::default(), events);
            first = first.min(seconds);
            again = again.min(decode(&records, &schema, events).0);
            tape = tape.min(tokenise(&records));
        }
        let speed = |seconds: f64| bytes as f64 / seconds / 1e9;
        println!(
            "{kind:<12} {:>7} {:>13.2} {:>10.2} {:>12.2} {:>16.2} {:>7.2}",
            bytes / events,
            speed(first),
            events as f64 / first / 1e6,
            speed(again),
            speed(tape),
            tape / first,
        );
    }
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

/// Blocks of records, each with its newline.
fn generate(size: usize, event: fn(&mut Draw, &mut String)) -> Vec<Records> {
    let mut draw = Draw(1);
    let mut blocks = Vec::new();
    let mut done = 0;
    while done < size {
        let mut data = String::with_capacity(BLOCK + 4_096);
        let mut ends = Vec::new();
        while data.len() < BLOCK {
            event(&mut draw, &mut data);
            data.push('\n');
            ends.push(data.len() as u32);
        }
        done += data.len();
        blocks.push(Records { data: data.into(), ends });
    }
    blocks
}

/// Deterministic random numbers (xorshift64*).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }

    fn pick(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }

    fn time(&mut self, between: char) -> String {
        let (hour, minute, second) = (self.below(24), self.below(60), self.below(60));
        format!("2024-01-15{between}{hour:02}:{minute:02}:{second:02}.{:06}", self.below(1_000_000))
    }
}

/// A feature-flag evaluation, as the LaunchDarkly hook sends it.
fn evaluation(draw: &mut Draw, out: &mut String) {
    let reason = draw.pick(&["FALLTHROUGH", "RULE_MATCH", "TARGET_MATCH", "OFF"]);
    write!(
        out,
        r#"{{"timestamp":"{}+00:00","flag_key":"{}","evaluation_context":{{"key":"user-{}","kind":"user","name":"{}","tier":"{}","country":"{}"}},"flag_value":"{}","variation_index":{},"reason_kind":"{reason}","metadata":{{"source":"launchdarkly-python-hook","version":"1.0"}}}}"#,
        draw.time('T'),
        draw.pick(&["my-flag", "checkout-redesign", "pricing-2024", "search-ranking-v3", "dark-mode"]),
        draw.below(100_000),
        draw.pick(&["John", "Maria", "Zoë", "Aleksandr", "Li"]),
        draw.pick(&["free", "premium", "enterprise"]),
        draw.pick(&["US", "DE", "BR", "JP"]),
        draw.pick(&["treatment", "control"]),
        draw.below(4),
    )
    .expect("a string takes everything");
}

/// A lesson or payment event.
fn lesson(draw: &mut Draw, out: &mut String) {
    let name =
        draw.pick(&["payment:order:created", "payment:order:paid", "lesson:started", "lesson:finished"]);
    write!(
        out,
        r#"{{"event_uuid":"{}","event_name":"{name}","created_at":{}.{:03},"user_id":{},"order_id":{},"amount":{}.{:02},"currency":"{}","is_trial":{},"platform":"{}"}}"#,
        draw.uuid(),
        1_712_502_121 + draw.below(86_400),
        draw.below(1_000),
        draw.below(10_000_000),
        draw.below(1_000_000_000),
        draw.below(500),
        draw.below(100),
        draw.pick(&["USD", "EUR", "BRL"]),
        draw.pick(&["true", "false"]),
        draw.pick(&["ios", "android", "web"]),
    )
    .expect("a string takes everything");
}

/// A product-analytics event with many fields, most of them null, as
/// Amplitude exports it.
fn analytics(draw: &mut Draw, out: &mut String) {
    write!(
        out,
        r#"{{"$insert_id":"{}","$insert_key":null,"$schema":null,"adid":null,"amplitude_attribution_ids":null,"amplitude_event_type":null,"amplitude_id":{},"app":{},"city":"{}","client_event_time":"{}","client_upload_time":"{}","country":"{}","data":{{"path":"/2/httpapi","group_first_event":{{}},"group_ids":{{}}}}"#,
        draw.uuid(),
        100_000_000_000 + draw.below(900_000_000_000),
        draw.below(10) + 150_000,
        draw.pick(&["Berlin", "São Paulo", "New York", "Tokyo"]),
        draw.time(' '),
        draw.time(' '),
        draw.pick(&["Germany", "Brazil", "United States", "Japan"]),
    )
    .expect("a string takes everything");
    write!(
        out,
        r#","data_type":"event","device_brand":null,"device_carrier":null,"device_family":"{}","device_id":"{}","device_manufacturer":null,"device_model":null,"device_type":"{}","dma":null,"event_id":{},"event_properties":{{"screen":"{}","position":{},"duration":{}.{},"is_first":{}}},"event_time":"{}","event_type":"{}","global_user_properties":null,"group_properties":null,"groups":null,"idfa":null,"ip_address":"10.{}.{}.{}","is_attribution_event":null,"language":"{}""#,
        draw.pick(&["iOS", "Android", "Mac OS X"]),
        draw.uuid(),
        draw.pick(&["Apple iPhone", "Google Pixel", "Mac"]),
        draw.below(100_000),
        draw.pick(&["home", "lesson", "checkout"]),
        draw.below(20),
        draw.below(100),
        draw.below(10) + 1,
        draw.pick(&["true", "false"]),
        draw.time(' '),
        draw.pick(&["lesson_opened", "button_clicked", "page_viewed"]),
        draw.below(256),
        draw.below(256),
        draw.below(256),
        draw.pick(&["English", "German", "Portuguese"]),
    )
    .expect("a string takes everything");
    write!(
        out,
        r#","library":"amplitude-ts/2.3.0","location_lat":null,"location_lng":null,"os_name":"{}","os_version":"{}","partner_id":null,"paying":null,"plan":null,"platform":"{}","processed_time":"{}","region":null,"sample_rate":null,"server_received_time":"{}","server_upload_time":"{}","session_id":{},"source_id":null,"start_version":null,"user_creation_time":null,"user_id":"{}","user_properties":{{"plan":"{}","age":null}},"uuid":"{}","version_name":null}}"#,
        draw.pick(&["ios", "android", "mac"]),
        draw.below(18),
        draw.pick(&["iOS", "Android", "Web"]),
        draw.time(' '),
        draw.time(' '),
        draw.time(' '),
        1_705_328_000_000 + draw.below(86_400_000),
        draw.below(1_000_000),
        draw.pick(&["free", "pro"]),
        draw.uuid(),
    )
    .expect("a string takes everything");
}
