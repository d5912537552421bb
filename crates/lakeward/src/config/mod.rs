//! The configuration file: read, checked as a whole, turned into what the
//! crates take.

mod check;
mod destination;
mod environment;
mod output;
mod pipeline;
mod shaping;
mod source;
mod sql;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_connectors::destinations::lake::LakeConfig;
use lakeward_connectors::functions::FunctionConfig;
use lakeward_model::units;
use lakeward_server::{AuthConfig, LaunchDarklyConfig, ServerConfig, ServerLimits, TlsConfig, XapiConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit::{Code, coded};

pub(crate) use destination::DestinationConfig;
pub(crate) use output::{CompressionName, FormatName, OutputConfig};
pub(crate) use pipeline::{CatalogConfig, PipelineConfig};
pub(crate) use source::SourceConfig;
pub(crate) use stream::StreamConfig;

/// Lakeward's configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The address of the front doors. Default `127.0.0.1:7171`; any other
    /// than a loopback address needs `auth`.
    pub(crate) listen: SocketAddr,
    /// The state directory: journal, ledger and lock. Default `./state`; a
    /// relative path starts at the configuration file's folder.
    pub(crate) state: PathBuf,
    /// The durable log of everything accepted.
    pub(crate) journal: JournalConfig,
    /// TLS. Default none.
    pub(crate) tls: Option<TlsConfig>,
    /// Who may send.
    pub(crate) auth: AuthConfig,
    /// Limits of the front doors.
    pub(crate) limits: ServerLimits,
    /// The Firehose API.
    pub(crate) firehose: FirehoseConfig,
    /// The Kinesis API.
    pub(crate) kinesis: KinesisConfig,
    /// The door for LaunchDarkly's SDKs.
    pub(crate) launchdarkly: LaunchDarklyConfig,
    /// The door for learning software: xAPI statements.
    pub(crate) xapi: XapiConfig,
    /// How long a stop may take to deliver what is pending. What is not
    /// delivered by then stays in the journal. Default `30s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub(crate) drain_grace: Duration,
    /// Streams about which there is more to say than that a pipeline delivers
    /// them.
    pub(crate) streams: Vec<StreamConfig>,
    /// Where records are pulled from. Each feeds a stream of its own.
    pub(crate) sources: Vec<SourceConfig>,
    /// The pipelines.
    pub(crate) pipelines: Vec<PipelineConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7171)),
            state: PathBuf::from("./state"),
            journal: JournalConfig::default(),
            tls: None,
            auth: AuthConfig::default(),
            limits: ServerLimits::default(),
            firehose: FirehoseConfig::default(),
            kinesis: KinesisConfig::default(),
            launchdarkly: LaunchDarklyConfig::default(),
            xapi: XapiConfig::default(),
            drain_grace: Duration::from_secs(30),
            streams: Vec::new(),
            sources: Vec::new(),
            pipelines: Vec::new(),
        }
    }
}

/// The journal's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JournalConfig {
    /// Most bytes on disk; beyond it clients are asked to try again later.
    /// Default `10GiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub(crate) disk_max: u64,
    /// Size of a segment file. Default `64MiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub(crate) segment: u64,
    /// How long delivered records are kept for re-reading, while the journal
    /// takes less than three quarters of `disk_max`. Default `24h`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub(crate) retention: Duration,
    /// How long a repeated `Idempotency-Key` gets the first answer again, as
    /// long as no more than `request_keys` others came since. Default `24h`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub(crate) request_key_window: Duration,
    /// How many request keys are remembered for a stream, at about 200 bytes
    /// of memory each; the oldest are forgotten first. Every SDK call to the
    /// Firehose API takes one too. Default 262,144.
    pub(crate) request_keys: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            disk_max: 10 << 30,
            segment: 64 << 20,
            retention: Duration::from_secs(24 * 3600),
            request_key_window: Duration::from_secs(24 * 3600),
            request_keys: 262_144,
        }
    }
}

/// The Firehose API's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FirehoseConfig {
    /// The account id in ARNs. Default `000000000000`.
    pub(crate) account_id: String,
    /// The region in ARNs and signatures. Default `us-east-1`.
    pub(crate) region: String,
    /// Where the buckets of streams lie that are made through
    /// `CreateDeliveryStream`: the url's `{bucket}` stands for the bucket's
    /// name. Default `s3://{bucket}/` at AWS itself.
    pub(crate) buckets: LakeConfig,
    /// What stands for the Lambda functions that clients name, by ARN or by
    /// name: `{ my-function: { command: [python3, run_lambda.py, fn.py] } }`.
    /// Default: the functions themselves, in AWS.
    pub(crate) functions: BTreeMap<String, FunctionConfig>,
    /// Whether to refuse what AWS refuses although it would work here, for
    /// instance small buffers with dynamic partitioning. Default true.
    pub(crate) strict: bool,
}

impl Default for FirehoseConfig {
    fn default() -> Self {
        Self {
            account_id: String::from("000000000000"),
            region: String::from("us-east-1"),
            buckets: LakeConfig::at("s3://{bucket}/"),
            functions: BTreeMap::new(),
            strict: true,
        }
    }
}

/// The Kinesis API's settings. Account and region are those of `firehose`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KinesisConfig {
    /// Whether shards refuse more than they take at AWS: 1,000 records and
    /// 1 MiB written a second, 2 MiB read in 5 calls a second. Default false.
    pub(crate) throttle: bool,
}

/// Something wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// Path of the value, for instance `pipelines[0].output.format`.
    pub(crate) path: String,
    /// What is wrong, and what to write instead.
    pub(crate) problem: String,
}

impl Problem {
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

/// All problems of a configuration.
#[derive(Debug)]
pub(crate) struct Problems {
    pub(crate) file: PathBuf,
    pub(crate) problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.problems.len();
        writeln!(f, "{} has {n} problem{}:", self.file.display(), if n == 1 { "" } else { "s" })?;
        for Problem { path, problem } in &self.problems {
            writeln!(f, "  {path}: {problem}")?;
        }
        write!(f, "`lakeward schema` prints every key that there is")
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or [`Problems`]: all of them at once.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        Self::read_in(file, environment::of_process)
    }

    /// The same for one of several instances, whose name is `${INSTANCE}`.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub(crate) fn read_as(file: &Path, instance: &str) -> anyhow::Result<Self> {
        Self::read_in(file, |name| match name {
            "INSTANCE" => Some(instance.to_string()),
            other => environment::of_process(other),
        })
    }

    fn read_in(file: &Path, environment: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let message =
                format!("cannot read {}: {error}; `lakeward init` writes a starter", file.display());
            coded(Code::Configuration, message)
        })?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut config = Self::parse(&text, folder, environment)
            .map_err(|problems| Problems { file: file.to_path_buf(), problems })?;
        config.state = folder.join(&config.state);
        config.firehose.buckets.resolve_in(folder);
        config.firehose.functions.values_mut().for_each(|function| function.resolve_in(folder));
        Ok(config)
    }

    /// Parses and checks a configuration's text; what its pipelines name lies
    /// below `folder`, and `environment` answers `${NAME}`.
    pub(crate) fn parse(
        text: &str,
        folder: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<Problem>> {
        let whole = |problem: String| vec![Problem::new("(file)", problem)];
        let mut value: serde_json::Value = serde_yaml_ng::from_str(text).map_err(|e| whole(e.to_string()))?;
        if value.is_null() {
            value = serde_json::json!({});
        }
        let mut problems = environment::interpolate(&mut value, &environment);
        problems.extend(check::against_schema(&value));
        if !problems.is_empty() {
            // What is wrong beyond the form is said in the same breath, as far
            // as the rest can be understood.
            problems.iter().for_each(|problem| check::remove(&mut value, &problem.path));
            let rest = serde_json::from_value(value).map(|config: Self| config.resolved(folder).1);
            problems.extend(rest.unwrap_or_default());
            return Err(problems);
        }
        let config: Self = serde_json::from_value(value).map_err(|e| whole(e.to_string()))?;
        let (config, problems) = config.resolved(folder);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// The configuration with what it names below `folder`, and what is wrong
    /// with it.
    fn resolved(mut self, folder: &Path) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        for (index, pipeline) in self.pipelines.iter_mut().enumerate() {
            if let Err(Problem { path, problem }) = pipeline.resolve_in(folder) {
                problems.push(Problem::new(format!("pipelines[{index}].{path}"), problem));
            }
        }
        self.sources.iter_mut().for_each(|source| source.resolve_in(folder));
        problems.extend(self.problems());
        (self, problems)
    }

    fn problems(&self) -> Vec<Problem> {
        let server = self.server().problems().into_iter().map(|(path, problem)| Problem::new(path, problem));
        let mut problems: Vec<_> = server.collect();
        let mut names = std::collections::HashSet::new();
        for (index, pipeline) in self.pipelines.iter().enumerate() {
            let path = format!("pipelines[{index}]");
            if !names.insert(&pipeline.name) {
                problems.push(Problem::new(
                    format!("{path}.name"),
                    format!("another pipeline is named `{}` too", pipeline.name),
                ));
            }
            problems.extend(pipeline.problems(&path));
        }
        let mut names = std::collections::HashSet::new();
        for (index, stream) in self.streams.iter().enumerate() {
            let path = format!("streams[{index}]");
            if !names.insert(&stream.name) {
                let problem = format!("another stream is named `{}` too", stream.name);
                problems.push(Problem::new(format!("{path}.name"), problem));
            }
            problems.extend(stream.problems(&path));
        }
        problems.extend(source::problems(&self.sources));
        for (name, function) in &self.firehose.functions {
            if let Err(error) = function.check() {
                problems.push(Problem::new(format!("firehose.functions.{name}"), error.to_string()));
            }
        }
        problems
    }

    /// What the front doors take.
    pub(crate) fn server(&self) -> ServerConfig {
        ServerConfig {
            listen: self.listen,
            tls: self.tls.clone(),
            auth: self.auth.clone(),
            limits: self.limits.clone(),
            account_id: self.firehose.account_id.clone(),
            region: self.firehose.region.clone(),
            firehose_strict: self.firehose.strict,
            kinesis: lakeward_server::KinesisConfig {
                throttle: self.kinesis.throttle,
                shards: self.streams.iter().map(|stream| (stream.name.to_string(), stream.shards)).collect(),
            },
            launchdarkly: self.launchdarkly.clone(),
            xapi: self.xapi.clone(),
            ..ServerConfig::default()
        }
    }

    /// What the journal takes.
    pub(crate) fn journal(&self) -> lakeward_journal::Options {
        lakeward_journal::Options {
            segment_bytes: self.journal.segment,
            disk_bytes_max: self.journal.disk_max,
            request_key_window: self.journal.request_key_window,
            request_keys_max: self.journal.request_keys,
            ..lakeward_journal::Options::default()
        }
    }
}

/// The JSON Schema of the configuration file.
pub(crate) fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests;
