//! `lakeward pull`: take what a source has, and end. For cron, Kestra, Airflow.

use std::path::PathBuf;
use std::time::Duration;

use lakeward_engine::{Asked, RunSliceState};
use lakeward_model::clock::{Clock, Stopwatch, SystemClock};

use super::backfill::plan::Look;
use super::target::TargetArguments;
use crate::config::Config;
use crate::exit::{Code, code_of, coded};
use crate::service::Signals;
use crate::sliced::Sliced;
use crate::sliced::follow::Ending;
use crate::sliced::range::{NameArguments, RangeArguments};
use crate::sliced::summary;
use crate::sliced::take::{Expected, Status, Take, Taken, verdict};
use crate::terminal::{LogTo, Output, bytes, count, plural, print, seconds};

/// Slices with trouble that are told one by one.
const TROUBLES_TOLD: usize = 10;

/// Take what a source has and is not taken yet, deliver it, and end. Without a
/// range everything that is new. What is there already is not asked for again,
/// so it may run as often as you like; stopped in the middle, even by kill -9,
/// the next one goes on where it was.
///
/// If a service runs on the state directory it is asked; otherwise this process
/// serves for as long as it takes.
///
/// Exit codes: 0 done, or nothing new; 2 usage; 65 slices were set aside;
/// 69 the source or the destination is unavailable; 75 try again (part of a
/// range that has an end is not ready, or nothing moves); 77 not permitted;
/// 78 configuration; 99 nothing was ready yet (only with --skip-exit-code);
/// 130 and 143 interrupted at a clean place.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Pull {
    #[command(flatten)]
    target: TargetArguments,
    /// The source.
    source: String,
    #[command(flatten)]
    range: RangeArguments,
    #[command(flatten)]
    names: NameArguments,
    /// Take what is taken once more. Every pipeline of the stream must have
    /// `dedup`, without `time`, and have had it when these slices were
    /// delivered: it drops what is there.
    #[arg(long)]
    force: bool,
    /// Take and deliver nothing; show what would be taken.
    #[arg(short = 'n', long, conflicts_with = "force")]
    dry_run: bool,
    #[command(flatten)]
    waits: WaitArguments,
    #[command(flatten)]
    tells: TellArguments,
}

/// For how long to wait.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitArguments {
    /// Wait until everything is delivered. This is the default.
    #[arg(long, conflicts_with = "no_wait")]
    wait_delivered: bool,
    /// End once everything is taken: it is durable, and delivered by the
    /// service that runs, or by the next one that starts.
    #[arg(long)]
    no_wait: bool,
    /// Give up when nothing has moved for so long. What is taken stays taken,
    /// and the next run goes on.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::dev::parse_time)]
    give_up_after: Duration,
}

/// What to tell, and where.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TellArguments {
    /// Write the summary to this file, too, also after a failure; for Airflow's
    /// KubernetesPodOperator `/airflow/xcom/return.json`.
    #[arg(long, value_name = "FILE")]
    summary_file: Option<PathBuf>,
    /// End with 99, which Airflow shows as skipped, if nothing was ready yet.
    #[arg(long)]
    skip_exit_code: bool,
    /// Print the numbers as Kestra takes a task's outputs, too.
    #[arg(long)]
    kestra: bool,
    /// Print nothing unless something is wrong, as cron likes it.
    #[arg(short, long)]
    quiet: bool,
    /// Where the log goes: `stderr`, `stdout`, or a file.
    #[arg(long, value_name = "WHERE", default_value = "stderr")]
    log_to: LogTo,
}

impl WaitArguments {
    pub(crate) fn wait(&self) -> bool {
        !self.no_wait
    }

    pub(crate) fn patience(&self) -> Duration {
        self.give_up_after
    }
}

impl TellArguments {
    pub(crate) fn log_to(&self) -> &LogTo {
        &self.log_to
    }
}

impl Pull {
    pub(crate) fn log_to(&self) -> &LogTo {
        self.tells.log_to()
    }

    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let tells = self.tells.clone();
        let source = self.source.clone();
        tells.whatever_comes(Some(&source), out, self.pull(out)).await
    }

    async fn pull(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let source = Sliced::named(&config, &self.source)?;
        let now = jiff::Timestamp::from_microsecond(SystemClock.now().micros())?;
        let wanted = self.range.wanted(&self.names, now).map_err(|problem| coded(Code::Usage, problem))?;
        if self.dry_run {
            return Look { wanted: &wanted, pipeline: None, long: false }.show(&config, &source, out).await;
        }
        if self.force && wanted == Asked::default() {
            return Err(coded(
                Code::Usage,
                "--force takes everything in the range once more: say which (--date, --start and --end, --from and --to, --where, --prefix)",
            ));
        }
        let take = Take {
            config: &config,
            source: &source,
            wanted: &wanted,
            again: self.force,
            replace: None,
            wait: self.waits.wait(),
            patience: self.waits.patience(),
        };
        take_and_tell(&take, &self.tells, out).await
    }
}

/// Takes, and tells people and machines what came of it.
///
/// # Errors
/// Nothing could be begun, or the service cannot be asked.
pub(crate) async fn take_and_tell(
    take: &Take<'_>,
    tells: &TellArguments,
    out: &Output,
) -> anyhow::Result<Code> {
    let begun = Stopwatch::start();
    let mut signals = Signals::listen()?;
    let taken = take.run(&mut signals, out).await?;
    let expected = expected(take.source, take.wanted, tells.skip_exit_code);
    let (status, code) = verdict(&taken.run, &taken.ending, expected);
    if !tells.quiet || code != Code::Done {
        for line in words(take, &taken, status, begun.elapsed()) {
            out.say(line);
        }
    }
    let told = summary::of_run(take.source, take.wanted, &taken, status, code);
    tells.tell(&told, code == Code::Done, out)?;
    Ok(code)
}

fn expected(source: &Sliced, wanted: &Asked, skip: bool) -> Expected {
    let beyond = wanted.to.is_some_and(|to| to > SystemClock.now());
    Expected { closed: wanted.to.is_some(), beyond: source.hourly && beyond, skip }
}

impl TellArguments {
    /// Runs a command and tells its summary also if it failed early.
    pub(crate) async fn whatever_comes(
        &self,
        source: Option<&str>,
        out: &Output,
        command: impl Future<Output = anyhow::Result<Code>>,
    ) -> anyhow::Result<Code> {
        match command.await {
            Ok(code) => Ok(code),
            Err(error) => {
                let code = code_of(&error);
                let told = summary::of_failure(source, &error, code);
                if out.is_json() {
                    // The error is the last line then.
                    self.store(&told)?;
                } else {
                    self.tell(&told, false, out)?;
                }
                Err(error)
            }
        }
    }

    fn store(&self, summary: &serde_json::Value) -> anyhow::Result<()> {
        let Some(file) = &self.summary_file else { return Ok(()) };
        summary::write(file, summary).map_err(|error| {
            coded(Code::TryAgain, format!("cannot write the summary to {}: {error}", file.display()))
        })
    }

    /// Prints and stores the summary. On a terminal there is somebody who read
    /// the words already.
    fn tell(&self, summary: &serde_json::Value, went_well: bool, out: &Output) -> anyhow::Result<()> {
        self.store(summary)?;
        if self.kestra {
            print(summary::for_kestra(summary))?;
        }
        let for_machines = out.is_json() || !out.is_terminal();
        if for_machines && !(self.quiet && went_well && !out.is_json()) {
            out.json(summary)?;
        }
        Ok(())
    }
}

/// What came of it, for people.
fn words(take: &Take<'_>, taken: &Taken, status: Status, time: Duration) -> Vec<String> {
    let Taken { run, ending, settled, .. } = taken;
    let what = if take.source.hourly { "hour" } else { "slice" };
    let name = &take.source.name;
    let mut lines = Vec::new();
    match status {
        Status::NothingNew if run.slices_already > 0 => {
            lines.push(format!("{name}: nothing new, {} there already", are(run.slices_already, what)));
        }
        Status::NothingNew => lines.push(format!("{name}: nothing new")),
        _ => lines.push(format!(
            "{name}: {} with {} ({}) taken in {}",
            plural(run.slices_done, what),
            plural(run.records, "record"),
            bytes(run.bytes),
            seconds(time.as_secs_f64())
        )),
    }
    let mut some = |n: u64, words: &str| {
        if n > 0 {
            lines.push(format!("  {} {words}", are(n, what)));
        }
    };
    some(run.slices_empty, "empty");
    some(run.slices_not_ready, "not ready yet");
    some(run.slices_set_aside, "set aside; a later run tries again");
    let failed = taken.slices.iter().filter(|slice| slice.state == RunSliceState::Failed);
    for slice in failed.take(TROUBLES_TOLD) {
        lines.push(format!("  ! {}: {}", slice.name, slice.reason.as_deref().unwrap_or("unknown")));
    }
    for (pipeline, outcome) in &settled.pipelines {
        let counts = &outcome.counts;
        if outcome.files + counts.records() > 0 {
            lines.push(format!(
                "  {pipeline}: {} in {}; {} delivered, {} filtered, {} duplicates, {} quarantined",
                plural(counts.rows, "row"),
                plural(outcome.files, "file"),
                count(counts.delivered),
                count(counts.filtered),
                count(counts.duplicates),
                count(counts.quarantined)
            ));
        }
    }
    lines.extend(next_step(take, taken, ending, status));
    lines
}

fn are(n: u64, what: &str) -> String {
    format!("{} {}", plural(n, what), if n == 1 { "is" } else { "are" })
}

/// What a person does now, if something is to be done.
fn next_step(take: &Take<'_>, taken: &Taken, ending: &Ending, status: Status) -> Option<String> {
    let run = &taken.run;
    let said = || run.error.as_ref().map(|error| error.message.as_str()).or(run.last_error.as_deref());
    let because = || said().map(|said| format!(": {said}")).unwrap_or_default();
    match status {
        Status::Done if !run.delivered && !take.wait => {
            Some(String::from("  it is delivered by the service that runs, or by the next one that starts"))
        }
        Status::Done | Status::NothingNew | Status::SetAside => None,
        Status::NotReady => {
            let ready = taken.slices.iter().filter(|slice| slice.state == RunSliceState::NotReady);
            let first = ready.map(|slice| slice.name.as_str()).next();
            let first = first.map(|first| format!(" ({first} is the first)")).unwrap_or_default();
            Some(format!("  the rest can be had later{first}: the same command takes it then"))
        }
        Status::Failed => Some(format!("  the source failed{}", because())),
        Status::Cancelled => Some(String::from("  somebody cancelled the run; what it took stays taken")),
        Status::Interrupted => Some(String::from(
            "  interrupted at a clean place: the run goes on with the service, or with the same command",
        )),
        Status::GaveUp => Some(format!(
            "  nothing moved for {}{}; the same command goes on",
            seconds(take.patience.as_secs_f64()),
            because()
        )),
        Status::Undelivered => Some(match ending {
            Ending::Halted(problem) => format!("  taken, but not delivered: {problem}"),
            _ => {
                String::from("  taken, but not delivered: `lakeward status` says what the pipelines wait for")
            }
        }),
    }
}

/// Says how to take once more, and only that: for `backfill apply`.
pub(crate) fn replaces(config: &Config, pipeline: &str) -> anyhow::Result<()> {
    let found = config.pipelines.iter().find(|known| known.name == pipeline);
    match found.filter(|found| found.dedup.is_some()) {
        None => Ok(()),
        Some(_) => Err(coded(
            Code::Usage,
            format!(
                "the pipeline {pipeline} has `dedup`: what is taken once more would be dropped as duplicates before it could replace anything; `lakeward pull --force` adds what is missing"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sliced::api::tests::run_with;
    use crate::sliced::summary::Settled;

    fn taken(run: serde_json::Value, ending: Ending) -> Taken {
        Taken { run: run_with(run), ending, slices: Vec::new(), cut: false, settled: Settled::default() }
    }

    #[test]
    fn people_read_what_came_of_it() {
        let config = Config::default();
        let source = Sliced { name: "amp".into(), kind: "amplitude", stream: "s".into(), hourly: true };
        let wanted = Asked::default();
        let take = Take {
            config: &config,
            source: &source,
            wanted: &wanted,
            again: false,
            replace: None,
            wait: true,
            patience: Duration::from_secs(3_600),
        };
        let check = |run: serde_json::Value, ending: Ending, expect: &str| {
            let taken = taken(run, ending);
            let (status, _) = verdict(&taken.run, &taken.ending, Expected::default());
            let said = words(&take, &taken, status, Duration::from_secs(2)).join("\n");
            assert_eq!(said, expect);
        };
        check(
            serde_json::json!({"slices_already": 24}),
            Ending::Ended,
            "amp: nothing new, 24 hours are there already",
        );
        check(
            serde_json::json!({"slices_done": 2, "slices_empty": 1, "records": 1200, "bytes": 2048, "delivered": true}),
            Ending::Ended,
            "amp: 2 hours with 1,200 records (2.00 KiB) taken in 2.0 s\n  1 hour is empty",
        );
        check(
            serde_json::json!({"state": "failed", "error": {"kind": "refused", "message": "401: check the keys and the region"}}),
            Ending::Ended,
            "amp: 0 hours with 0 records (0 B) taken in 2.0 s\n  the source failed: 401: check the keys and the region",
        );
        check(
            serde_json::json!({"state": "taking", "attempts": 3, "last_error": "503"}),
            Ending::Stuck,
            "amp: 0 hours with 0 records (0 B) taken in 2.0 s\n  nothing moved for 60 min: 503; the same command goes on",
        );
    }
}
