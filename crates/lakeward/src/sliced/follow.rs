//! Following a run to its end.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lakeward_engine::{PipelineStatus, Run, RunKind, RunState};
use lakeward_model::clock::Stopwatch;

use super::api::word;
use super::session::{Session, halted};
use crate::remote;
use crate::service::{Signals, Stopped};
use crate::terminal::{Output, bytes, count, plural};

/// How often the service is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How often the runs before a run that waits are looked at.
const ASK_AHEAD_EVERY: Duration = Duration::from_secs(2);

/// Until when a run is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Everything is taken: durable in the journal.
    Taken,
    /// Everything is settled in every pipeline.
    Delivered,
}

/// Why a run is not followed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It ended, and what was to be waited for came.
    Ended,
    /// A signal came.
    Stopped(Stopped),
    /// Nothing moved for too long.
    Stuck,
    /// What it took cannot be delivered before a person does something.
    Halted(String),
}

/// Follows a run with a progress bar; gives up when nothing moves for
/// `patience`.
///
/// # Errors
/// The service answers something else than a run.
pub(crate) async fn follow(
    session: &mut Session<'_>,
    mut run: Run,
    until: Until,
    patience: Duration,
    signals: &mut Signals,
    out: &Output,
) -> anyhow::Result<(Run, Ending)> {
    let meter = Meter::new(&run, out);
    let mut pending = 0;
    let mut mark = (mark_of(&run), pending);
    let mut still = Stopwatch::start();
    let mut asked: Option<Stopwatch> = None;
    let mut ahead: Vec<_> = Vec::new();
    loop {
        meter.show(&run, pending);
        let waits = run.state == RunState::Done && until == Until::Delivered && !run.delivered;
        if run.state.is_ended() && !waits {
            return Ok((run, Ending::Ended));
        }
        // What is replaced must be delivered before the run ends.
        let replaces = run.asked.replace.is_some() && run.state == RunState::Taking;
        if waits || replaces {
            let pipelines = session.pipelines().await.unwrap_or_default();
            if let Some(problem) = halted(&pipelines) {
                return Ok((run, Ending::Halted(problem)));
            }
            pending = pipelines.iter().map(|pipeline: &PipelineStatus| pipeline.pending).sum();
        }
        if (mark_of(&run), pending) != mark {
            mark = (mark_of(&run), pending);
            still = Stopwatch::start();
        }
        // Whoever waits behind a longer run is not stuck as long as that moves.
        if run.state == RunState::Waiting && asked.is_none_or(|asked| asked.elapsed() > ASK_AHEAD_EVERY) {
            asked = Some(Stopwatch::start());
            let others = session.remote().runs(&run.source).await.unwrap_or_default();
            let moving = others.iter().filter(|other| !other.state.is_ended()).map(mark_of).collect();
            if ahead != moving {
                ahead = moving;
                still = Stopwatch::start();
            }
        }
        if still.elapsed() > patience {
            return Ok((run, Ending::Stuck));
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            stopped = signals.next() => return Ok((run, Ending::Stopped(stopped))),
        }
        match session.remote().run(run.id).await {
            Ok(next) => run = next,
            Err(error) if remote::is_gone(&error) && !session.is_own() => {
                tokio::select! {
                    found = session.reattach(out) => found?,
                    stopped = signals.next() => return Ok((run, Ending::Stopped(stopped))),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// How far a run is, for people.
struct Meter {
    bar: ProgressBar,
    clock: Stopwatch,
    /// Records that were there when we came.
    before: u64,
}

impl Meter {
    fn new(run: &Run, out: &Output) -> Self {
        let bar = out.progress(0, "");
        let template = "{msg:<10} {bar:24.cyan/blue} {human_pos} of {human_len}  {prefix}  {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, clock: Stopwatch::start(), before: run.records }
    }

    fn show(&self, run: &Run, pending: u64) {
        let what = match (run.state, run.asked.kind) {
            (RunState::Done, _) => "delivering",
            (RunState::Taking, RunKind::Count) => "counting",
            (state, _) => word(state),
        };
        let rate =
            run.records.saturating_sub(self.before) as f64 / self.clock.elapsed().as_secs_f64().max(0.1);
        let mut told =
            format!("{} ({}/s), {}", plural(run.records, "record"), count(rate as u64), bytes(run.bytes));
        if pending > 0 {
            told = format!("{told}, {} pending", count(pending));
        }
        if let (1.., Some(error)) = (run.attempts, &run.last_error) {
            told = format!("{told}; {}, the last: {error}", plural(run.attempts.into(), "failure"));
        }
        self.bar.set_message(what);
        self.bar.set_length(run.slices);
        self.bar.set_position(finished(run));
        self.bar.set_prefix(told);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What tells whether a run moves.
fn mark_of(run: &Run) -> (RunState, [u64; 7]) {
    let numbers = [
        run.slices,
        run.slices_done,
        run.slices_empty,
        run.slices_not_ready,
        run.slices_set_aside,
        run.records,
        run.bytes,
    ];
    (run.state, numbers)
}

/// Slices of a run about which there is nothing more to do.
fn finished(run: &Run) -> u64 {
    run.slices_already + run.slices_done + run.slices_empty + run.slices_not_ready + run.slices_set_aside
}
