//! `lakeward quarantine`: the records that could not be processed, and their
//! way out.

mod ask;
mod fix;
mod ls;
mod replay;
mod send;
mod shelf;
mod show;

use crate::exit::Code;
use crate::terminal::Output;

/// Look at the records that could not be processed, and let them leave
/// quarantine again, each exactly once.
#[derive(Debug, clap::Args)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Count them by pipeline and reason, with a sample of each.
    Ls(ls::Ls),
    /// Print records with the reason, or their bytes as they came.
    Show(show::Show),
    /// Deliver records as if they had just come, as they are or fixed by SQL.
    Replay(replay::Replay),
}

impl Quarantine {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        match self.what {
            What::Ls(ls) => ls.run(out).await,
            What::Show(show) => show.run(out).await,
            What::Replay(replay) => replay.run(out).await,
        }
    }
}
