//! `lakeward backfill apply`.

use std::io::IsTerminal;

use super::arguments::{Part, PartArguments};
use super::plan::{Look, range};
use crate::commands::pull::{TellArguments, WaitArguments, replaces, take_and_tell};
use crate::exit::{Code, coded};
use crate::sliced::take::Take;
use crate::terminal::Output;

/// Take what a range of the source behind a pipeline holds and is not there
/// yet, and wait until it is delivered. How many slices are read at a time is
/// the source's `parallel`.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    #[command(flatten)]
    part: PartArguments,
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
        let source = self.part.source();
        tells.whatever_comes(source.as_deref(), out, self.apply(out)).await
    }

    async fn apply(self, out: &Output) -> anyhow::Result<Code> {
        let Part { config, pipeline, source, wanted } = self.part.find()?;
        if self.replace {
            replaces(&config, &pipeline)?;
            if !self.yes {
                let look = Look { wanted: &wanted, pipeline: Some(&pipeline), long: false };
                if out.is_terminal() && !out.is_json() {
                    look.show(&config, &source, out).await?;
                }
                confirm(&format!("Replace what {} has of {} ({})?", pipeline, source.name, range(&wanted)))?;
            }
        }
        let take = Take {
            config: &config,
            source: &source,
            wanted: &wanted,
            again: self.replace,
            replace: self.replace.then_some(pipeline.as_str()),
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
