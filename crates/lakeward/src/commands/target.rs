//! Which state directory a command looks at, and how: through the process
//! that runs on it, or directly.

use std::path::{Path, PathBuf};

use lakeward_columnar::schema::TableSchema;
use lakeward_engine::{BatchKey, BatchRecord, PipelineSpec, PipelineStatus};

use crate::commands::dev;
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::offline::Offline;
use crate::remote::Remote;

/// Committed batches asked for at a time.
const BATCHES_AT_ONCE: usize = 1_000;

/// The options of commands that look at a service's state.
#[derive(Debug, clap::Args)]
pub(crate) struct TargetArguments {
    /// The configuration file of the service. Default: `lakeward.yaml`, if it
    /// is there.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of `lakeward dev` or `lakeward demo`. Default: this one.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    dir: Option<PathBuf>,
}

impl TargetArguments {
    /// The configuration that is meant.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        if let Some(file) = &self.config {
            return Config::read(file);
        }
        let default = Path::new("lakeward.yaml");
        if self.dir.is_none() && default.exists() {
            return Config::read(default);
        }
        let dir = self.dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let left_by_demo = dir.join("lakeward.yaml");
        if left_by_demo.exists() {
            return Config::read(&left_by_demo);
        }
        let config = dev::config(&dir);
        if config.state.exists() {
            return Ok(config);
        }
        Err(coded(
            Code::Usage,
            format!(
                "nothing to look at: there is no lakeward.yaml here, and {} is no folder of `lakeward dev`; use -c FILE or --dir DIR",
                dir.display()
            ),
        ))
    }
}

/// What `/v1/status` answers, as far as it matters here.
#[derive(serde::Deserialize)]
pub(crate) struct ServiceStatus {
    pub(crate) pipelines: Vec<PipelineStatus>,
}

/// A service's state.
pub(crate) enum Inspected {
    /// A process runs; it is asked.
    Remote(Remote),
    /// None runs; the files are opened.
    Offline(Box<Offline>),
}

impl Inspected {
    /// Finds the process that runs on the configuration's state directory, or
    /// opens the directory.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        if !config.state.exists() {
            return Err(coded(
                Code::Unavailable,
                format!("{} does not exist: the service never ran", config.state.display()),
            ));
        }
        Ok(match Remote::of(&config.state)? {
            Some(remote) => Self::Remote(remote),
            None => Self::Offline(Box::new(Offline::open(&config.state, config.journal())?)),
        })
    }

    /// Every pipeline's numbers now.
    pub(crate) async fn status(&self) -> anyhow::Result<Vec<PipelineStatus>> {
        match self {
            Self::Remote(remote) => {
                remote.get::<ServiceStatus>("/v1/status").await.map(|status| status.pipelines)
            }
            Self::Offline(offline) => offline.status(),
        }
    }

    /// All committed batches of all pipelines that ever were.
    pub(crate) async fn batches(&self) -> anyhow::Result<Vec<BatchRecord>> {
        let mut all: Vec<BatchRecord> = Vec::new();
        loop {
            let after = all.last().map(BatchRecord::key);
            let page: Vec<BatchRecord> = match self {
                Self::Remote(remote) => remote.get(&batches_path(after.as_ref())).await?,
                Self::Offline(offline) => offline.batches(after.as_ref(), BATCHES_AT_ONCE)?,
            };
            let ended = page.len() < BATCHES_AT_ONCE;
            all.extend(page);
            if ended {
                return Ok(all);
            }
        }
    }

    /// The columns of a pipeline's files so far; `None` if the process that runs
    /// is an older release, which does not tell.
    pub(crate) async fn schema(&self, pipeline: &str) -> anyhow::Result<Option<TableSchema>> {
        match self {
            Self::Remote(remote) => {
                Ok(remote.get(&format!("/v1/pipelines/{}/schema", in_path(pipeline))).await.ok())
            }
            Self::Offline(offline) => offline.schema(pipeline).map(Some),
        }
    }

    /// Every pipeline: those of the configuration and those made through an
    /// API.
    pub(crate) async fn pipelines(&self, config: &Config) -> anyhow::Result<Vec<PipelineSpec>> {
        let mut all = config.pipelines.iter().map(|p| p.spec()).collect::<anyhow::Result<Vec<_>>>()?;
        let made: Vec<PipelineSpec> = match self {
            Self::Remote(remote) => remote.get("/v1/pipelines").await?,
            Self::Offline(offline) => offline.made()?,
        };
        for spec in made {
            if !all.iter().any(|known| known.name == spec.name) {
                all.push(spec);
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
}

fn in_path(name: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)
}

fn batches_path(after: Option<&BatchKey>) -> String {
    match after {
        None => format!("/v1/batches?limit={BATCHES_AT_ONCE}"),
        Some(BatchKey { pipeline, source, from }) => {
            let pipeline = in_path(pipeline);
            format!("/v1/batches?limit={BATCHES_AT_ONCE}&pipeline={pipeline}&source={source}&from={from}")
        }
    }
}
