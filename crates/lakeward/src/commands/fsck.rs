//! `lakeward fsck`: what the journal on disk holds, and what can be repaired.

use crate::commands::target::TargetArguments;
use crate::exit::{Code, coded};
use crate::terminal::{self, Output, right};
use lakeward_engine::StateLock;
use lakeward_journal::fsck;

/// Explain the journal on disk and repair what can safely be repaired. The
/// service must not run.
#[derive(Debug, clap::Args)]
pub(crate) struct Fsck {
    #[command(flatten)]
    target: TargetArguments,
    /// Cut torn ends. They hold nothing that was ever acknowledged.
    #[arg(long)]
    repair: bool,
    /// Also move damaged segments aside, giving up the records in them; which
    /// ones is printed.
    #[arg(long, requires = "repair")]
    give_up_damaged: bool,
}

impl Fsck {
    pub(crate) fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let _lock =
            StateLock::take(&config.state).map_err(|error| coded(Code::Unavailable, error.to_string()))?;
        let journal = config.state.join("journal");
        let report =
            if self.repair { fsck::repair(&journal, self.give_up_damaged)? } else { fsck::check(&journal)? };
        let sound = report.is_sound();
        if out.is_json() {
            out.json(&report)?;
        } else {
            let mut table =
                terminal::table(&["stream", "segment", "frames", "records", "bytes", "torn", "finding"]);
            for stream in &report.streams {
                for segment in &stream.segments {
                    let mut row =
                        vec![comfy_table::Cell::new(&stream.stream), comfy_table::Cell::new(&segment.file)];
                    row.extend([segment.frames, segment.records].map(|n| right(terminal::count(n))));
                    row.extend([segment.bytes, segment.torn_bytes].map(|n| right(terminal::bytes(n))));
                    row.push(comfy_table::Cell::new(segment.finding()));
                    table.add_row(row);
                }
            }
            out.say(table.to_string());
            out.say(if sound {
                "The journal is sound."
            } else {
                "The journal is damaged; see the findings above."
            });
        }
        Ok(if sound { Code::Done } else { Code::Data })
    }
}
