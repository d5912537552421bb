//! The load: connections that post prepared requests, flat out or at a rate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use lakeward_loadgen::http::Connection;
use lakeward_model::clock::Stopwatch;

use crate::Events;
use crate::requests::{Door, Target};

/// Posts events for a while and prints one line of JSON with what it saw.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    events: Events,
    /// The server, as `http://host:port`.
    #[arg(long)]
    url: String,
    /// The stream.
    #[arg(long)]
    stream: String,
    /// A bearer token, if the server asks for one.
    #[arg(long)]
    token: Option<String>,
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Records in a request.
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Records per second over all connections, or `max`.
    #[arg(long, default_value = "max", value_parser = rate)]
    rate: Rate,
    /// How long to post.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Stop after this many records were acknowledged, even if time is left.
    #[arg(long)]
    records: Option<u64>,
    /// Memory for prepared requests, in MiB: each is sent again after all
    /// others were.
    #[arg(long, default_value_t = 128)]
    ring_mib: usize,
}

/// Records per second; `None` is as fast as it goes.
type Rate = Option<f64>;

#[allow(clippy::unnecessary_wraps, reason = "a clap parser answers Result")]
fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(None),
        _ => text
            .parse()
            .ok()
            .filter(|rate| *rate > 0.0)
            .map(Some)
            .ok_or_else(|| format!("{text:?} is no rate")),
    }
}

/// What one connection saw.
struct Seen {
    /// Microseconds from the moment the request was due to its answer.
    due: Histogram<u64>,
    /// Microseconds from the moment it was sent.
    sent: Histogram<u64>,
    records: u64,
    refused: u64,
    failed: u64,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        Ok(Self { due: histogram.clone(), sent: histogram, records: 0, refused: 0, failed: 0 })
    }
}

impl Load {
    pub(crate) fn run(&self, door: Door) -> anyhow::Result<()> {
        let host =
            self.url.strip_prefix("http://").context("--url starts with http://")?.trim_end_matches('/');
        ensure!(self.connections > 0 && self.batch > 0, "at least one connection and one record");
        let ring = Arc::new(self.ring(door, host)?);
        let clock = Stopwatch::start();
        let workers: Vec<_> = (0..self.connections)
            .map(|index| {
                let (load, ring, host) = (self.clone(), Arc::clone(&ring), host.to_owned());
                std::thread::spawn(move || load.connection(door, &host, &ring, index, clock))
            })
            .collect();
        let mut all = Seen::new()?;
        for worker in workers {
            let seen = worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??;
            all.due.add(&seen.due)?;
            all.sent.add(&seen.sent)?;
            all.records += seen.records;
            all.refused += seen.refused;
            all.failed += seen.failed;
        }
        print_report(&all, clock.elapsed());
        Ok(())
    }

    fn ring(&self, door: Door, host: &str) -> anyhow::Result<Vec<Vec<u8>>> {
        let budget = self.ring_mib << 20;
        let events = budget as u64 / self.events.kind.typical_bytes();
        let mut generator = self.events.generator(events);
        let target = Target { host, stream: &self.stream, token: self.token.as_deref() };
        let mut ring = Vec::new();
        let mut bytes = 0;
        while bytes < budget {
            let request = door.request(&target, &mut generator, self.batch);
            bytes += request.len();
            ring.push(request);
        }
        Ok(ring)
    }

    fn connection(
        &self,
        door: Door,
        host: &str,
        ring: &[Vec<u8>],
        index: usize,
        clock: Stopwatch,
    ) -> anyhow::Result<Seen> {
        let timeout = Duration::from_secs(60);
        let mut connection =
            Connection::open(host, timeout).with_context(|| format!("no connection to {host}"))?;
        let mut seen = Seen::new()?;
        let end = Duration::from_secs_f64(self.seconds);
        let share = self.records.map(|records| records / self.connections as u64);
        for turn in 0.. {
            let due = self.due(index, turn, clock.elapsed());
            if due >= end || share.is_some_and(|share| seen.records >= share) {
                break;
            }
            std::thread::sleep(due.saturating_sub(clock.elapsed()));
            let sent = clock.elapsed();
            let request = &ring[(index + turn as usize * self.connections) % ring.len()];
            match connection.send(request) {
                Ok(answer) if answer.status == 200 => {
                    let now = clock.elapsed();
                    seen.due.saturating_record(micros(now.saturating_sub(due)));
                    seen.sent.saturating_record(micros(now.saturating_sub(sent)));
                    let accepted = door.accepted(&answer.body, self.batch as u64);
                    seen.records += accepted;
                    seen.refused += self.batch as u64 - accepted;
                }
                Ok(answer) if matches!(answer.status, 429 | 500 | 503) => {
                    seen.refused += self.batch as u64;
                    std::thread::sleep(Duration::from_millis(
                        answer.retry_after.map_or(20, |s| s * 1_000).min(2_000),
                    ));
                }
                Ok(answer) => {
                    anyhow::bail!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
                }
                Err(_) => {
                    seen.failed += self.batch as u64;
                    connection = Connection::open(host, timeout).context("the server went away")?;
                }
            }
        }
        Ok(seen)
    }

    /// When this connection's request number `turn` is due. A late answer
    /// does not move the later ones, so a stall is not hidden.
    fn due(&self, index: usize, turn: u64, now: Duration) -> Duration {
        match self.rate {
            None => now,
            Some(rate) => {
                let before = turn * self.connections as u64 + index as u64;
                Duration::from_secs_f64(before as f64 * self.batch as f64 / rate)
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn print_report(seen: &Seen, elapsed: Duration) {
    let milliseconds =
        |histogram: &Histogram<u64>, quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    let quantiles = |histogram: &Histogram<u64>| {
        format!(
            "{{\"p50\":{:.3},\"p99\":{:.3},\"max\":{:.3}}}",
            milliseconds(histogram, 0.5),
            milliseconds(histogram, 0.99),
            milliseconds(histogram, 1.0)
        )
    };
    println!(
        "{{\"requests\":{},\"records\":{},\"refused\":{},\"failed\":{},\"seconds\":{:.3},\"records_per_second\":{:.0},\
         \"ack_ms\":{},\"ack_from_send_ms\":{}}}",
        seen.due.len(),
        seen.records,
        seen.refused,
        seen.failed,
        elapsed.as_secs_f64(),
        seen.records as f64 / elapsed.as_secs_f64(),
        quantiles(&seen.due),
        quantiles(&seen.sent),
    );
}
