//! `lakeward demo`: the whole thing at work, on this machine, in seconds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_loadgen::{Generator, Kind, Times, http};
use lakeward_model::clock::Stopwatch;

use super::audit;
use super::target::Inspected;
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::service::Service;
use crate::terminal::{self, Output, right};

/// Events per request: what PutRecordBatch takes at the most.
const BATCH: usize = 500;
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The events' own times: a day in November 2023, so that every run of the
/// demo makes the same folders.
const FIRST_EVENT_MICROS: i64 = 1_700_006_400_000_000;
const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

/// See the whole thing work: events through the front doors over real sockets
/// into hourly Parquet, and the proof that none was lost or doubled.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// The folder for state and lake. A folder left by an earlier demo is
    /// replaced.
    #[arg(long, default_value = "./lakeward-demo", value_name = "DIR")]
    dir: PathBuf,
    /// How many events to send.
    #[arg(long, default_value_t = 200_000)]
    events: u64,
}

/// A share of the events and the door that it comes through.
struct Share {
    stream: &'static str,
    kind: Kind,
    /// Of a hundred.
    part: u64,
    firehose: bool,
}

const SHARES: [Share; 3] = [
    Share { stream: "flag-evaluations", kind: Kind::Evaluation, part: 50, firehose: true },
    Share { stream: "lessons-and-payments", kind: Kind::Lesson, part: 35, firehose: false },
    Share { stream: "product-analytics", kind: Kind::Analytics, part: 15, firehose: false },
];

impl Demo {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        self.clear()?;
        let config = write_config(&self.dir)?;
        let total: u64 = SHARES.iter().map(|share| self.events * share.part / 100).sum();
        let service = Service::start(&config, None).await?;
        let addr = service.addr.to_string();
        out.say(format!("lakeward is listening on http://{addr}"));
        let clock = Stopwatch::start();
        let progress = out.progress(total, "accepted");
        let sending: Vec<_> = SHARES
            .iter()
            .map(|share| {
                let (addr, events, progress) =
                    (addr.clone(), self.events * share.part / 100, progress.clone());
                tokio::task::spawn_blocking(move || send(&addr, share, events, &progress))
            })
            .collect();
        for task in sending {
            task.await??;
        }
        let accepted = clock.elapsed().as_secs_f64();
        progress.set_message("delivering");
        let complete = service.stop(config.drain_grace).await;
        let delivered = clock.elapsed().as_secs_f64();
        progress.finish_and_clear();
        if !complete {
            return Err(coded(
                Code::TryAgain,
                "not everything was delivered; run it again with LAKEWARD_LOG=info to see why",
            ));
        }
        let inspected = Inspected::open(&config)?;
        let statuses = inspected.status().await?;
        let audits = audit::audit_all(&inspected, &config, None).await?;
        if !out.is_json() {
            report(out, &self.dir, &statuses, total, accepted, delivered);
        }
        let balanced = audit::report(out, &audits)?;
        if balanced {
            next_steps(out, &self.dir);
        }
        Ok(if balanced { Code::Done } else { Code::Data })
    }

    /// Removes what an earlier demo left, and nothing else.
    fn clear(&self) -> anyhow::Result<()> {
        let marker = self.dir.join(".lakeward");
        if marker.exists() {
            drop(
                lakeward_engine::StateLock::take(&marker)
                    .map_err(|e| coded(Code::Unavailable, e.to_string()))?,
            );
            std::fs::remove_dir_all(&self.dir)?;
        } else if self.dir.exists() && self.dir.read_dir()?.next().is_some() {
            return Err(coded(
                Code::Usage,
                format!(
                    "{} exists and no demo made it; choose another folder with --dir",
                    self.dir.display()
                ),
            ));
        }
        Ok(())
    }
}

/// The demo's configuration, which it also leaves in its folder: the other
/// commands read it there.
fn write_config(dir: &Path) -> anyhow::Result<Config> {
    let mut text = String::from(
        "# What `lakeward demo` ran. `lakeward run -c` this file, and it goes on.\n\
         listen: 127.0.0.1:7171\nstate: ./.lakeward\npipelines:\n",
    );
    for share in &SHARES {
        let (stream, time) = (share.stream, share.kind.time_column());
        let hive = [("year", "yyyy"), ("month", "MM"), ("day", "dd"), ("hour", "HH")];
        let folders = hive.map(|(key, pattern)| format!("{key}=!{{event:{time}:{pattern}}}/")).concat();
        text += &format!(
            "  - name: {stream}\n    stream: {stream}\n    output:\n      format: parquet\n      \
             path: \"{stream}/{folders}\"\n      \
             error_path: \"quarantine/!{{firehose:error-output-type}}/\"\n    \
             destination: {{ type: lake, url: ./lake }}\n"
        );
    }
    std::fs::create_dir_all(dir)?;
    let file = dir.join("lakeward.yaml");
    std::fs::write(&file, text)?;
    let mut config = Config::read(&file)?;
    config.listen = ([127, 0, 0, 1], 0).into();
    Ok(config)
}

/// Sends a share of the events, one request at a time, each with a key of its
/// own where the door takes one.
fn send(addr: &str, share: &Share, events: u64, progress: &indicatif::ProgressBar) -> anyhow::Result<()> {
    let times = Times { start_micros: FIRST_EVENT_MICROS, span_micros: DAY_MICROS, events };
    let mut generator = Generator::new(share.kind, 7, times);
    let mut connection = http::Connection::open(addr, REPLY_TIMEOUT)?;
    let mut lines = Vec::new();
    while generator.drawn() < events {
        let count = (events - generator.drawn()).min(BATCH as u64);
        let first = generator.drawn();
        lines.clear();
        generator.fill(&mut lines, usize::try_from(count)?);
        let request = if share.firehose {
            put_record_batch(addr, share.stream, &lines)
        } else {
            let path = format!("/v1/streams/{}/records", share.stream);
            let key = format!("demo-{}-{first}", share.stream);
            http::post(
                addr,
                &path,
                &[("content-type", "application/x-ndjson"), ("idempotency-key", &key)],
                &lines,
            )
        };
        let answer = connection.send(&request)?;
        anyhow::ensure!(
            answer.status == 200,
            "the server answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        progress.inc(count);
    }
    Ok(())
}

/// A Firehose request as an AWS SDK would send it, but for the signature,
/// which an open loopback server does not ask for.
fn put_record_batch(addr: &str, stream: &str, lines: &[u8]) -> Vec<u8> {
    let mut body = format!("{{\"DeliveryStreamName\":\"{stream}\",\"Records\":[").into_bytes();
    for (index, line) in lines.split_inclusive(|&b| b == b'\n').enumerate() {
        body.extend_from_slice(if index == 0 { b"{\"Data\":\"" } else { b",{\"Data\":\"" });
        body.extend_from_slice(base64_simd::STANDARD.encode_to_string(line).as_bytes());
        body.extend_from_slice(b"\"}");
    }
    body.extend_from_slice(b"]}");
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "Firehose_20150804.PutRecordBatch"),
    ];
    http::post(addr, "/", &headers, &body)
}

fn report(
    out: &Output,
    dir: &Path,
    statuses: &[lakeward_engine::PipelineStatus],
    total: u64,
    accepted: f64,
    delivered: f64,
) {
    let mut table = terminal::table(&["stream", "files", "rows", "received", "in the lake", "ratio"]);
    for status in statuses {
        let counts = &status.counts;
        table.add_row([
            comfy_table::Cell::new(&status.pipeline),
            right(terminal::count(counts.files)),
            right(terminal::count(counts.rows)),
            right(terminal::bytes(counts.source_bytes)),
            right(terminal::bytes(counts.bytes)),
            right(format!("{:.1}x", counts.source_bytes as f64 / counts.bytes.max(1) as f64)),
        ]);
    }
    out.say(format!("Parquet under {}", dir.join("lake").display()));
    out.say(table.to_string());
    out.say(format!(
        "{} events accepted durably in {accepted:.1} s ({} events/s), in the lake after {delivered:.1} s ({} events/s)",
        terminal::count(total),
        terminal::count((total as f64 / accepted) as u64),
        terminal::count((total as f64 / delivered) as u64),
    ));
    out.say("");
}

fn next_steps(out: &Output, dir: &Path) {
    let dir = dir.display();
    out.say("");
    out.say("Type next:");
    let commands = [
        (format!("lakeward ls --dir {dir}"), "what lies where"),
        (
            format!(
                "lakeward query --dir {dir} \"SELECT flag_key, count(*) AS events FROM flag_evaluations GROUP BY flag_key\""
            ),
            "ask the lake in SQL",
        ),
        ("lakeward dev".to_string(), "send your own events, from curl or any AWS SDK"),
        ("lakeward init".to_string(), "write a configuration for a service"),
    ];
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, what) in commands {
        out.say(format!("  {command:width$}   {what}"));
    }
}
