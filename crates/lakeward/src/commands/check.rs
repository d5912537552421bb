//! `lakeward check`: all problems of a configuration at once.

use std::path::PathBuf;

use lakeward_connectors::catalogs::glue::Glue;

use crate::config::{CatalogConfig, Config, Problems};
use crate::exit::Code;
use crate::terminal::{self, Output};
use crate::wiring::{self, Place};

/// Check a configuration: all problems at once, each with its path.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "lakeward.yaml")]
    config: PathBuf,
    /// Also try the destinations: reach them, write, and find out whether
    /// conditional puts are honoured; ask the catalogs for their tables and the
    /// sources for their shards, their newest hour or their first objects.
    #[arg(long)]
    connect: bool,
}

impl Check {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = match Config::read(&self.config) {
            Ok(config) => config,
            Err(error) => {
                if let (true, Some(found)) = (out.is_json(), error.downcast_ref::<Problems>()) {
                    out.json(&serde_json::json!({ "ok": false, "problems": found.problems }))?;
                    return Ok(Code::Configuration);
                }
                return Err(error);
            }
        };
        let mut failed = 0;
        let mut table = terminal::table(&["pipeline or source", "where", "probe", "result"]);
        let mut probes = Vec::new();
        if self.connect {
            for pipeline in &config.pipelines {
                let destination = serde_json::to_value(&pipeline.destination)?;
                let place =
                    Place::open(&config.firehose.buckets, &destination).map_err(anyhow::Error::msg)?;
                let mut found = match &place.table {
                    Some(table) => table.probe().await,
                    None => Vec::new(),
                };
                found.extend(place.lake.probe().await);
                for probe in found {
                    failed += u32::from(!probe.ok);
                    table.add_row([&pipeline.name, &place.name, &probe.name.to_string(), &probe.message]);
                    probes.push(serde_json::json!({
                        "pipeline": pipeline.name, "probe": probe.name, "ok": probe.ok, "message": probe.message,
                    }));
                }
                if let Some(CatalogConfig::Glue(config)) = &pipeline.catalog {
                    let glue = Glue::open(config, &pipeline.name)?;
                    let (ok, message) = match glue.probe().await {
                        Ok(message) => (true, message),
                        Err(failure) => (false, failure.message),
                    };
                    failed += u32::from(!ok);
                    table.add_row([&pipeline.name, &glue.to_string(), "catalog", &message]);
                    probes.push(serde_json::json!({
                        "pipeline": pipeline.name, "probe": "catalog", "ok": ok, "message": message,
                    }));
                }
            }
        }
        if self.connect {
            for source in &config.sources {
                let (probe, found) = wiring::probe_source(&config, source).await?;
                let (ok, message) = match found {
                    Ok(found) => (true, found),
                    Err(failure) => (false, failure.to_string()),
                };
                failed += u32::from(!ok);
                table.add_row([source.name(), source.kind(), probe, &message]);
                probes.push(serde_json::json!({
                    "source": source.name(), "probe": probe, "ok": ok, "message": message,
                }));
            }
        }
        if out.is_json() {
            out.json(&serde_json::json!({ "ok": failed == 0, "problems": [], "probes": probes }))?;
        } else {
            if self.connect {
                out.say(table.to_string());
            }
            let pipelines = config.pipelines.len();
            out.say(format!(
                "{} is sound: {pipelines} pipeline{}{}",
                self.config.display(),
                if pipelines == 1 { "" } else { "s" },
                if failed > 0 { format!("; {failed} probes failed") } else { String::new() },
            ));
        }
        Ok(if failed == 0 { Code::Done } else { Code::Unavailable })
    }
}
