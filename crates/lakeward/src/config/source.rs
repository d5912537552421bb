//! `sources`: where records are pulled from.

use lakeward_connectors::sources::kinesis::KinesisConfig;
use lakeward_engine::StreamSpec;
use lakeward_model::StreamName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;

/// A source: records that Lakeward fetches, rather than being sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum SourceConfig {
    /// A stream of Kinesis Data Streams, or of a server that speaks its API.
    Kinesis(Box<KinesisConfig>),
}

impl SourceConfig {
    /// Its name, unique in the file.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Kinesis(kinesis) => &kinesis.name,
        }
    }

    /// The stream that takes its records.
    pub(crate) fn stream(&self) -> &str {
        match self {
            Self::Kinesis(kinesis) => &kinesis.stream,
        }
    }

    /// Its kind, as the file names it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kinesis(_) => "kinesis",
        }
    }

    /// Whether its records come in slices, of which any range can be taken.
    pub(crate) fn is_sliced(&self) -> bool {
        match self {
            Self::Kinesis(_) => false,
        }
    }

    /// Whether its slices are hours.
    pub(crate) fn is_hourly(&self) -> bool {
        match self {
            Self::Kinesis(_) => false,
        }
    }

    /// The stream that takes its records exists also without a pipeline.
    pub(crate) fn stream_spec(&self) -> anyhow::Result<StreamSpec> {
        Ok(StreamSpec::new(StreamName::new(self.stream())?))
    }

    /// Whether both keep their leases in one table.
    fn shares_leases_with(&self, other: &Self) -> bool {
        let (Self::Kinesis(mine), Self::Kinesis(other)) = (self, other);
        mine.lease_table().is_some_and(|table| other.lease_table() == Some(table))
    }

    pub(super) fn problems(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let name = self.name();
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            problems.push(Problem::new(format!("{path}.name"), "a name has 1 to 128 characters"));
        }
        if let Err(error) = StreamName::new(self.stream()) {
            problems.push(Problem::new(format!("{path}.stream"), error.to_string()));
        }
        let Self::Kinesis(kinesis) = self;
        if let Err(error) = kinesis.check() {
            problems.push(Problem::new(format!("{path}.{}", error.setting), error.problem));
        }
        problems
    }
}

/// What is wrong with all sources together and each for itself.
pub(super) fn problems(sources: &[SourceConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let path = format!("sources[{index}]");
        let before = &sources[..index];
        if before.iter().any(|other| other.name() == source.name()) {
            let problem = format!("another source is named `{}` too", source.name());
            problems.push(Problem::new(format!("{path}.name"), problem));
        }
        if let Some(other) = before.iter().find(|other| other.stream() == source.stream()) {
            let problem = format!(
                "the source `{}` feeds this stream already; give each source a stream of its own",
                other.name()
            );
            problems.push(Problem::new(format!("{path}.stream"), problem));
        }
        if let Some(other) = before.iter().find(|other| other.shares_leases_with(source)) {
            let problem = format!(
                "the source `{}` has its leases in this table already; give each source a table of its own",
                other.name()
            );
            problems.push(Problem::new(format!("{path}.leases.table"), problem));
        }
        problems.extend(source.problems(&path));
    }
    problems
}
