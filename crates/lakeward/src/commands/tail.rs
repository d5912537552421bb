//! `lakeward tail`: what a stream receives.

use std::time::Duration;

use lakeward_engine::StoredRecord;
use lakeward_model::Offset;

use super::target::{Inspected, ServiceStatus, TargetArguments};
use crate::exit::{Code, coded};
use crate::terminal::Output;

/// Print the newest records of a stream and follow it. Looks at the journal
/// only; delivery is not touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    /// The stream.
    stream: String,
    #[command(flatten)]
    target: TargetArguments,
    /// How many of the newest records to begin with.
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: u64,
    /// Stop after those instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
}

impl Tail {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let Inspected::Remote(remote) = Inspected::open(&config)? else {
            return Err(coded(
                Code::Unavailable,
                "the service does not run, so nothing comes in; start it first",
            ));
        };
        let streams: Vec<String> = remote
            .get::<ServiceStatus>("/v1/status")
            .await?
            .pipelines
            .into_iter()
            .map(|s| s.stream.to_string())
            .collect();
        if !streams.contains(&self.stream) {
            let message = format!("there is no stream {}; there are: {}", self.stream, streams.join(", "));
            return Err(coded(Code::Usage, message));
        }
        let mut from = None;
        loop {
            let query = match from {
                Some(Offset(from)) => format!("from={from}"),
                None => format!("newest={}", self.lines),
            };
            let page: Vec<StoredRecord> =
                remote.get(&format!("/v1/streams/{}/records?{query}", self.stream)).await?;
            for record in &page {
                if out.is_json() {
                    out.json(record)?;
                } else {
                    out.say(format!("{} {}  {}", record.offset, record.received_at, record.text()));
                }
            }
            if let Some(last) = page.last() {
                from = Some(last.offset.plus(1));
            } else if from.is_none() {
                from = Some(Offset(0));
            }
            if self.no_follow {
                return Ok(Code::Done);
            }
            if page.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(300)) => {}
                    _ = tokio::signal::ctrl_c() => return Ok(Code::Done),
                }
            }
        }
    }
}
