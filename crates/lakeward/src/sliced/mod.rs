//! Sources that come in slices, from the side of the commands: what is asked of
//! the service that runs, or of one that runs for the time of the command.

pub(crate) mod api;
pub(crate) mod follow;
pub(crate) mod instant;
pub(crate) mod range;
pub(crate) mod session;
pub(crate) mod summary;
pub(crate) mod take;

use lakeward_engine::PipelineSpec;

use crate::config::{Config, SourceConfig};
use crate::exit::{Code, coded};

/// A source that comes in slices, as commands name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sliced {
    /// Its name.
    pub(crate) name: String,
    /// Its kind: `amplitude`.
    pub(crate) kind: &'static str,
    /// The stream that it feeds.
    pub(crate) stream: String,
    /// Whether its slices are hours.
    pub(crate) hourly: bool,
}

impl Sliced {
    fn of(source: &SourceConfig) -> Option<Self> {
        source.is_sliced().then(|| Self {
            name: source.name().to_string(),
            kind: source.kind(),
            stream: source.stream().to_string(),
            hourly: source.is_hourly(),
        })
    }

    /// The source of that name.
    ///
    /// # Errors
    /// There is none, or its records do not come in slices; the message says
    /// which there are.
    pub(crate) fn named(config: &Config, name: &str) -> anyhow::Result<Self> {
        match config.sources.iter().find(|source| source.name() == name) {
            Some(source) => Self::of(source).ok_or_else(|| {
                let message = format!(
                    "the source {name} ({}) is a stream without an end: `lakeward run` reads it as long as it runs",
                    source.kind()
                );
                coded(Code::Usage, message)
            }),
            None => Err(coded(Code::Usage, format!("there is no source {name}; {}", known(config)))),
        }
    }

    /// The source whose records a pipeline delivers.
    ///
    /// # Errors
    /// There is no such pipeline, or no source feeds its stream.
    pub(crate) fn of_pipeline(config: &Config, pipeline: &str) -> anyhow::Result<Self> {
        let Some(found) = config.pipelines.iter().find(|known| known.name == pipeline) else {
            let names: Vec<&str> = config.pipelines.iter().map(|known| known.name.as_str()).collect();
            return Err(super::commands::target::unknown(pipeline, &names));
        };
        let feeds = config.sources.iter().find(|source| source.stream() == found.stream);
        match feeds {
            Some(source) => Self::named(config, source.name()),
            None => Err(coded(
                Code::Usage,
                format!(
                    "no source feeds the stream {} of the pipeline {pipeline}: what is sent to it cannot be fetched again",
                    found.stream
                ),
            )),
        }
    }

    /// The pipelines that deliver what it brings, out of `all`.
    pub(crate) fn pipelines<'a>(
        &'a self,
        all: &'a [PipelineSpec],
    ) -> impl Iterator<Item = &'a PipelineSpec> + 'a {
        all.iter().filter(|spec| spec.stream.as_str() == self.stream)
    }
}

fn known(config: &Config) -> String {
    let sliced = config.sources.iter().filter(|source| source.is_sliced());
    let names: Vec<&str> = sliced.map(SourceConfig::name).collect();
    if names.is_empty() {
        String::from("the configuration has none that comes in slices (amplitude, objects)")
    } else {
        format!("there are: {}", names.join(", "))
    }
}
