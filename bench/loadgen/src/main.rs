//! `loadgen`: writes event files, and posts events to the front doors while it
//! measures how long each acknowledgement takes.

mod load;
mod requests;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use lakeward_loadgen::{Generator, Kind, Times};

const HOUR: i64 = 3_600_000_000;

/// Realistic events, to a file or to a server.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes newline-delimited JSON to a file.
    Generate(Generate),
    /// Posts NDJSON to `/v1/streams/{stream}/records`.
    Http(load::Load),
    /// Calls Firehose's PutRecordBatch.
    Firehose(load::Load),
    /// Calls Kinesis' PutRecords.
    Kinesis(load::Load),
}

/// Which events.
#[derive(Debug, Clone, Args)]
struct Events {
    /// evaluation, lesson or analytics.
    #[arg(long)]
    kind: Kind,
    /// The same seed gives the same events.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// When the first event happened, in seconds since the epoch.
    #[arg(long, default_value_t = 1_789_948_800)]
    start: i64,
    /// Over how many hours the events spread.
    #[arg(long, default_value_t = 24)]
    hours: i64,
}

impl Events {
    fn generator(&self, events: u64) -> Generator {
        let times = Times { start_micros: self.start * 1_000_000, span_micros: self.hours * HOUR, events };
        Generator::new(self.kind, self.seed, times)
    }
}

#[derive(Debug, Args)]
struct Generate {
    #[command(flatten)]
    events: Events,
    /// Stop at the first line that reaches this size.
    #[arg(long)]
    bytes: u64,
    /// The file.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Generate(generate) => generate.run(),
        Command::Http(load) => load.run(requests::Door::Http),
        Command::Firehose(load) => load.run(requests::Door::Firehose),
        Command::Kinesis(load) => load.run(requests::Door::Kinesis),
    }
}

impl Generate {
    fn run(&self) -> anyhow::Result<()> {
        let mut generator = self.events.generator(self.bytes / self.events.kind.typical_bytes());
        let mut file = std::fs::File::create(&self.out).with_context(|| self.out.display().to_string())?;
        let mut lines = Vec::with_capacity(1 << 20);
        let mut written = 0_u64;
        while written < self.bytes {
            lines.clear();
            while lines.len() < 1 << 20 && written + (lines.len() as u64) < self.bytes {
                generator.line(&mut lines);
            }
            file.write_all(&lines)?;
            written += lines.len() as u64;
        }
        println!("{{\"events\":{},\"bytes\":{written}}}", generator.drawn());
        Ok(())
    }
}
