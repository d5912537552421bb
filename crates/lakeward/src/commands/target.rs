//! Which state directory a command looks at, and how: through the process
//! that runs on it, or directly.

use std::path::{Path, PathBuf};

use lakeward_columnar::schema::TableSchema;
use lakeward_engine::{BatchKey, BatchRecord, Control, PipelineSpec, PipelineStatus, SourceStatus};
use lakeward_model::{Offset, Timestamp};

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
    /// Empty from an older release.
    #[serde(default)]
    pub(crate) sources: Vec<SourceStatus>,
}

/// A service's state.
pub(crate) enum Inspected {
    /// A process runs; it is asked.
    Remote(Remote),
    /// None runs; the files are opened.
    Offline(Box<Offline>),
    /// It is this process.
    Here(Control),
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
            Self::Here(control) => Ok(control.status()),
        }
    }

    /// Every source's numbers now. If no process runs those that come in slices,
    /// as far as the ledger knows them.
    pub(crate) async fn sources(&self, config: &Config) -> anyhow::Result<Vec<SourceStatus>> {
        match self {
            Self::Remote(remote) => {
                remote.get::<ServiceStatus>("/v1/status").await.map(|status| status.sources)
            }
            Self::Offline(offline) => {
                let sliced = config.sources.iter().filter(|source| source.is_sliced());
                sliced.map(|source| offline.sliced(source)).filter_map(Result::transpose).collect()
            }
            Self::Here(control) => Ok(control.sources()),
        }
    }

    /// All committed batches of all pipelines that ever were.
    pub(crate) async fn batches(&self) -> anyhow::Result<Vec<BatchRecord>> {
        let mut all: Vec<BatchRecord> = Vec::new();
        loop {
            let after = all.last().map(BatchRecord::key);
            let page: Vec<BatchRecord> = match self {
                Self::Remote(remote) => remote.get(&batches_path(after.as_ref(), BATCHES_AT_ONCE)).await?,
                Self::Offline(offline) => offline.batches(after.as_ref(), BATCHES_AT_ONCE)?,
                Self::Here(control) => control.batches(after, BATCHES_AT_ONCE).await?,
            };
            let ended = page.len() < BATCHES_AT_ONCE;
            all.extend(page);
            if ended {
                return Ok(all);
            }
        }
    }

    /// The batches of one pipeline that were committed at `since` or later.
    pub(crate) async fn batches_of(
        &self,
        pipeline: &str,
        since: Timestamp,
    ) -> anyhow::Result<Vec<BatchRecord>> {
        let mut all: Vec<BatchRecord> = Vec::new();
        let first = BatchKey { pipeline: pipeline.to_string(), source: uuid::Uuid::nil(), from: Offset(0) };
        let mut after = Some(first);
        loop {
            let page: Vec<BatchRecord> = match self {
                Self::Remote(remote) => remote.get(&batches_path(after.as_ref(), BATCHES_AT_ONCE)).await?,
                Self::Offline(offline) => offline.batches(after.as_ref(), BATCHES_AT_ONCE)?,
                Self::Here(control) => control.batches(after, BATCHES_AT_ONCE).await?,
            };
            let ended =
                page.len() < BATCHES_AT_ONCE || page.last().is_some_and(|last| last.pipeline != pipeline);
            after = page.last().map(BatchRecord::key);
            let ours = |batch: &BatchRecord| batch.pipeline == pipeline && batch.committed_at >= since;
            all.extend(page.into_iter().filter(ours));
            if ended {
                return Ok(all);
            }
        }
    }

    /// The batch of a replay, once it is committed.
    pub(crate) async fn batch_of(
        &self,
        pipeline: &str,
        replay: uuid::Uuid,
    ) -> anyhow::Result<Option<BatchRecord>> {
        // The key before every key of the replay.
        let before = BatchKey {
            pipeline: pipeline.to_string(),
            source: uuid::Uuid::from_u128(replay.as_u128().saturating_sub(1)),
            from: Offset(u64::MAX),
        };
        let next: Vec<BatchRecord> = match self {
            Self::Remote(remote) => remote.get(&batches_path(Some(&before), 1)).await?,
            Self::Offline(offline) => offline.batches(Some(&before), 1)?,
            Self::Here(control) => control.batches(Some(before), 1).await?,
        };
        Ok(next.into_iter().find(|batch| batch.pipeline == pipeline && batch.replay == Some(replay)))
    }

    /// Every version of a pipeline's columns, the oldest first.
    pub(crate) async fn schema_versions(&self, pipeline: &str) -> anyhow::Result<Vec<TableSchema>> {
        match self {
            Self::Remote(remote) => remote.get(&format!("{}/schemas", pipeline_path(pipeline))).await,
            Self::Offline(offline) => offline.schema_versions(pipeline),
            Self::Here(control) => Ok(control.schema_versions(pipeline).await?),
        }
    }

    /// The numbers of one pipeline.
    pub(crate) async fn status_of(&self, pipeline: &str) -> anyhow::Result<PipelineStatus> {
        let all = self.status().await?;
        let known: Vec<String> = all.iter().map(|status| status.pipeline.clone()).collect();
        all.into_iter().find(|status| status.pipeline == pipeline).ok_or_else(|| unknown(pipeline, &known))
    }

    /// Every pipeline: those of the configuration and those made through an
    /// API.
    pub(crate) async fn pipelines(&self, config: &Config) -> anyhow::Result<Vec<PipelineSpec>> {
        let mut all = config.pipelines.iter().map(|p| p.spec()).collect::<anyhow::Result<Vec<_>>>()?;
        let made: Vec<PipelineSpec> = match self {
            Self::Remote(remote) => remote.get("/v1/pipelines").await?,
            Self::Offline(offline) => offline.made()?,
            Self::Here(control) => control.list_made(),
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

/// Says that there is no such pipeline, and which there are.
pub(crate) fn unknown(pipeline: &str, known: &[impl AsRef<str>]) -> anyhow::Error {
    let mut known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    known.sort_unstable();
    coded(Code::Usage, format!("there is no pipeline {pipeline}; there are: {}", known.join(", ")))
}

/// Where the control API has a pipeline.
pub(crate) fn pipeline_path(pipeline: &str) -> String {
    format!("/v1/pipelines/{}", escaped(pipeline))
}

/// Text as a part of a path or a query.
pub(crate) fn escaped(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

fn batches_path(after: Option<&BatchKey>, limit: usize) -> String {
    match after {
        None => format!("/v1/batches?limit={limit}"),
        Some(BatchKey { pipeline, source, from }) => {
            let pipeline = escaped(pipeline);
            format!("/v1/batches?limit={limit}&pipeline={pipeline}&source={source}&from={from}")
        }
    }
}
