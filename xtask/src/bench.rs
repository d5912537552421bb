//! `cargo xtask bench`: see bench/README.md.

use std::process::Command;

use clap::{Args, ValueEnum};

use crate::cache::Cache;
use crate::steps::{Steps, cargo, run};

/// What to measure. Without a name: everything.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One measurement.
    measurement: Option<Measurement>,
    /// Arguments for its script, after `--`.
    #[arg(last = true, requires = "measurement")]
    arguments: Vec<String>,
}

/// A measurement, each a script in bench/.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// NDJSON to partitioned Parquet, beside DuckDB, Polars, ClickHouse and pyarrow.
    Decode,
    /// Records per CPU-second from the socket to the S3 server.
    Intake,
    /// Resident memory at the limits.
    Memory,
    /// What SQL and dedup cost beside none.
    Shape,
    /// Days of an Amplitude export into S3, beside curl, unzip and gunzip.
    Export,
    /// Rows into a ClickHouse table, beside clickhouse-connect.
    Clickhouse,
    /// Hits of an Adobe Livestream that one core takes.
    Livestream,
}

impl Measurement {
    fn script(self) -> &'static str {
        match self {
            Self::Decode => "bench/decode.py",
            Self::Intake => "bench/intake.py",
            Self::Memory => "bench/memory.py",
            Self::Shape => "bench/shape.py",
            Self::Export => "bench/export.py",
            Self::Clickhouse => "bench/clickhouse.py",
            Self::Livestream => "bench/livestream.py",
        }
    }
}

impl Options {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut steps = Steps::default();
        let result = self.run_steps(&mut steps);
        println!("{}", steps.summary());
        result
    }

    fn run_steps(&self, steps: &mut Steps) -> anyhow::Result<()> {
        let root = crate::root();
        let cache = Cache::open()?;
        let requirements = root.join("bench/requirements.txt");
        let python = steps.run("python packages", || cache.python("bench", &requirements))?;
        drop(cache);
        let build = ["build", "--release", "-p", "lakeward", "-p", "lakeward-loadgen"];
        steps.run("cargo build --release", || run(&mut cargo(&build)))?;
        for measurement in Measurement::value_variants() {
            if self.measurement.is_none_or(|only| only == *measurement) {
                let mut script = Command::new(&python);
                script.current_dir(&root).arg(measurement.script()).args(&self.arguments);
                script.env("PYTHONDONTWRITEBYTECODE", "1");
                steps.run(measurement.script(), || run(&mut script))?;
            }
        }
        Ok(())
    }
}
