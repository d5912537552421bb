//! `lakeward backfill`: any range of a source, planned, applied and verified.

mod apply;
mod arguments;
pub(crate) mod plan;
mod status;
mod verify;

use crate::exit::Code;
use crate::terminal::{LogTo, Output};

/// Fetch any range of the source behind a pipeline: see what it would be, do
/// it, and prove that all of it is there.
#[derive(Debug, clap::Args)]
pub(crate) struct Backfill {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List what the range holds, what is there already and what is in the way;
    /// change nothing.
    Plan(plan::Plan),
    /// Take what is not there yet. Stopped in the middle, the same command goes
    /// on where it was.
    Apply(Box<apply::Apply>),
    /// Count the range at the source once more, and compare it with what was
    /// taken, what was delivered, and the files in the lake.
    Verify(verify::Verify),
    /// Show the runs of the source, the newest first.
    Status(status::Status),
    /// Cancel a run. What it took stays taken.
    Cancel(status::Cancel),
}

impl Backfill {
    pub(crate) fn log_to(&self) -> &LogTo {
        match &self.what {
            What::Apply(apply) => apply.log_to(),
            _ => &LogTo::Stderr,
        }
    }

    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        match self.what {
            What::Plan(plan) => plan.run(out).await,
            What::Apply(apply) => apply.run(out).await,
            What::Verify(verify) => verify.run(out).await,
            What::Status(status) => status.run(out).await,
            What::Cancel(cancel) => cancel.run(out).await,
        }
    }
}
