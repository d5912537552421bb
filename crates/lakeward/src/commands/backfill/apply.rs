//! `lakeward backfill apply`.

use std::io::IsTerminal;

use super::plan::{Look, range};
use crate::commands::pull::{TellArguments, WaitArguments, replaces, take_and_tell};
use crate::commands::target::TargetArguments;
use crate::exit::{Code, coded};
use crate::sliced::Sliced;
use crate::sliced::range::{FromToArguments, NameArguments};
use crate::sliced::take::Take;
use crate::terminal::Output;

/// Take what a range of the source behind a pipeline holds and is not there
/// yet, and wait until it is delivered. How many slices are read at a time is
/// the source's `parallel`.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    #[command(flatten)]
    target: TargetArguments,
    /// The pipeline.
    pipeline: String,
    #[command(flatten)]
    range: FromToArguments,
    #[command(flatten)]
    names: NameArguments,
    /// Take what is there already once more, too, and when all of it is
    /// delivered remove the pipeline's earlier files of it: for data that was
    /// shaped wrongly. For pipelines without `dedup`.
    #[arg(long)]
    replace: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    waits: WaitArguments,
    #[command(flatten)]
    tells: TellArguments,
}

impl Apply {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let tells = self.tells.clone();
        let source = self.source();
        tells.whatever_comes(source.as_deref(), out, self.apply(out)).await
    }

    /// The name of the source, if that can be found out.
    fn source(&self) -> Option<String> {
        let config = self.target.config().ok()?;
        Some(Sliced::of_pipeline(&config, &self.pipeline).ok()?.name)
    }

    async fn apply(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let source = Sliced::of_pipeline(&config, &self.pipeline)?;
        let wanted = self.range.wanted(&self.names).map_err(|problem| coded(Code::Usage, problem))?;
        if self.replace {
            replaces(&config, &self.pipeline)?;
            if !self.yes {
                let look = Look { wanted: &wanted, pipeline: Some(&self.pipeline), long: false };
                if out.is_terminal() && !out.is_json() {
                    look.show(&config, &source, out).await?;
                }
                confirm(&format!(
                    "Replace what {} has of {} ({})?",
                    self.pipeline,
                    source.name,
                    range(&wanted)
                ))?;
            }
        }
        let take = Take {
            config: &config,
            source: &source,
            wanted: &wanted,
            again: self.replace,
            replace: self.replace.then_some(self.pipeline.as_str()),
            wait: self.waits.wait(),
            patience: self.waits.patience(),
        };
        take_and_tell(&take, &self.tells, out).await
    }

    pub(super) fn log_to(&self) -> &crate::terminal::LogTo {
        self.tells.log_to()
    }
}

/// Asks the person; without one, somebody must have said `--yes`.
fn confirm(question: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(coded(
            Code::Usage,
            "--replace removes files from the lake: say --yes where nobody can be asked",
        ));
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(coded(Code::Usage, "nothing was done")),
    }
}
