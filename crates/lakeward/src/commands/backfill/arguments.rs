//! What every `lakeward backfill` is asked about: a pipeline, and perhaps a
//! range of the source behind it.

use lakeward_engine::Asked;

use crate::commands::target::TargetArguments;
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::sliced::Sliced;
use crate::sliced::range::{FromToArguments, NameArguments};

/// A pipeline whose source comes in slices.
#[derive(Debug, clap::Args)]
pub(super) struct PipelineArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// The pipeline.
    pub(super) pipeline: String,
}

/// A range of the source behind a pipeline.
#[derive(Debug, clap::Args)]
pub(super) struct PartArguments {
    #[command(flatten)]
    of: PipelineArguments,
    #[command(flatten)]
    range: FromToArguments,
    #[command(flatten)]
    names: NameArguments,
}

/// What these arguments mean.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) config: Config,
    pub(super) pipeline: String,
    pub(super) source: Sliced,
    /// Which of its slices.
    pub(super) wanted: Asked,
}

impl PipelineArguments {
    /// The configuration, and the source in it that the pipeline delivers.
    ///
    /// # Errors
    /// The configuration cannot be used, or has no such pipeline or source.
    pub(super) fn find(&self) -> anyhow::Result<(Config, Sliced)> {
        let config = self.target.config()?;
        let source = Sliced::of_pipeline(&config, &self.pipeline)?;
        Ok((config, source))
    }
}

impl PartArguments {
    /// The name of the source, if that can be found out.
    pub(super) fn source(&self) -> Option<String> {
        Some(self.of.find().ok()?.1.name)
    }

    /// What is meant.
    ///
    /// # Errors
    /// As [`PipelineArguments::find`], or a range that ends before it begins.
    pub(super) fn find(self) -> anyhow::Result<Part> {
        let (config, source) = self.of.find()?;
        let wanted = self.range.wanted(&self.names).map_err(|problem| coded(Code::Usage, problem))?;
        Ok(Part { config, pipeline: self.of.pipeline, source, wanted })
    }
}
