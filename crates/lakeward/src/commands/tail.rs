//! `lakeward tail`: what a stream receives, or what a pipeline would make of
//! it.

use std::time::Duration;

use bytes::Bytes;
use lakeward_engine::{PipelineSpec, StoredRecord};
use lakeward_model::{Offset, RecordBlock, Records, Timestamp};

use super::target::{Inspected, ServiceStatus, TargetArguments};
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::preview::preview;
use crate::remote::Remote;
use crate::terminal::{Output, print};
use crate::wiring;

/// Print the newest records of a stream and follow it. Looks at the journal
/// only; delivery is not touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    /// The stream, or a pipeline that delivers it.
    name: String,
    #[command(flatten)]
    target: TargetArguments,
    /// How many of the newest records to begin with.
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: u64,
    /// Stop after those instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
    /// Print the rows that the pipeline makes of the records, with its own
    /// settings. A Lambda function is called.
    #[arg(long)]
    rows: bool,
    /// Print the rows that this SQL makes of the records (table `input`), in
    /// the place of the pipeline's own.
    #[arg(long, value_name = "SQL")]
    sql: Option<String>,
}

impl Tail {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let inspected = Inspected::open(&config)?;
        let Inspected::Remote(remote) = &inspected else {
            return Err(coded(
                Code::Unavailable,
                "the service does not run, so nothing comes in; start it first",
            ));
        };
        let (stream, spec) = self.find(&config, &inspected, remote).await?;
        let mut from = None;
        loop {
            let query = match from {
                Some(Offset(from)) => format!("from={from}"),
                None => format!("newest={}", self.lines),
            };
            let page: Vec<StoredRecord> =
                remote.get(&format!("/v1/streams/{stream}/records?{query}")).await?;
            match &spec {
                Some(spec) if !page.is_empty() => print_rows(&config, spec, &page, out).await?,
                Some(_) => {}
                None => print_records(&page, out)?,
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

    /// The stream, and the settings that make rows of its records if rows are
    /// wanted.
    async fn find(
        &self,
        config: &Config,
        inspected: &Inspected,
        remote: &Remote,
    ) -> anyhow::Result<(String, Option<PipelineSpec>)> {
        let known = remote.get::<ServiceStatus>("/v1/status").await?.pipelines;
        let found = known
            .iter()
            .find(|status| status.pipeline == self.name)
            .or_else(|| known.iter().find(|status| status.stream.as_str() == self.name));
        let Some(found) = found else {
            let names: Vec<&str> = known.iter().map(|status| status.pipeline.as_str()).collect();
            let message =
                format!("there is no pipeline or stream {}; there are: {}", self.name, names.join(", "));
            return Err(coded(Code::Usage, message));
        };
        let stream = found.stream.to_string();
        if !self.rows && self.sql.is_none() {
            return Ok((stream, None));
        }
        if let Some(sql) = &self.sql {
            wiring::compile_sql(sql).map_err(|error| coded(Code::Usage, error.to_string()))?;
        }
        let all = inspected.pipelines(config).await?;
        let spec = all.into_iter().find(|spec| spec.name == found.pipeline);
        let mut spec =
            spec.ok_or_else(|| coded(Code::Usage, "the configuration does not have this pipeline"))?;
        if self.sql.is_some() {
            spec.shape.sql.clone_from(&self.sql);
        }
        // What was delivered before is not looked at.
        spec.shape.dedup = None;
        Ok((stream, Some(spec)))
    }
}

fn print_records(page: &[StoredRecord], out: &Output) -> anyhow::Result<()> {
    for record in page {
        if out.is_json() {
            out.json(record)?;
        } else {
            print(format_args!("{} {}  {}", record.offset, record.received_at, record.text()))?;
        }
    }
    Ok(())
}

/// Prints what the pipeline makes of the records: a line of JSON for each row,
/// and on standard error what would go to quarantine.
async fn print_rows(
    config: &Config,
    spec: &PipelineSpec,
    page: &[StoredRecord],
    out: &Output,
) -> anyhow::Result<()> {
    let block = |record: &StoredRecord| {
        let at: jiff::Timestamp = record.received_at.parse()?;
        let data = Bytes::from(record.bytes().into_owned());
        let received_at = Timestamp(at.as_microsecond());
        Ok(RecordBlock { records: Records::one(data), first: record.offset, received_at })
    };
    let blocks = page.iter().map(block).collect::<anyhow::Result<Vec<_>>>()?;
    let now = blocks.last().map_or(Timestamp::default(), |block| block.received_at);
    let preview = preview(&wiring::Functions::new(config), spec, blocks, now).await?;
    for row in &preview.rows {
        // Rows are JSON for people too.
        print(row)?;
    }
    for line in &preview.quarantined {
        let offset = line.offset.map_or(String::from("?"), |offset| offset.to_string());
        out.note(format!(
            "record {offset} would go to quarantine: {} ({})",
            line.reason.message, line.reason.code
        ));
    }
    Ok(())
}
