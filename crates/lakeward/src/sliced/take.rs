//! Taking slices: a run, followed to its end, and what it came to.

use std::time::Duration;

use lakeward_engine::{Asked, Run, RunErrorKind, RunKind, RunRequest, RunSlice, RunState};

use super::Sliced;
use super::follow::{Ending, Until, follow};
use super::session::{Drained, Own, Session, inspect};
use super::summary::{SLICES_TOLD, Settled};
use crate::config::Config;
use crate::exit::Code;
use crate::service::Signals;
use crate::terminal::Output;

/// How long to wait for the state directory after the service has ended.
const CHANGE_OF_HANDS: Duration = Duration::from_secs(30);
/// What a service of our own may take to end if nobody waits for deliveries.
const NO_WAIT: Duration = Duration::from_secs(3);

/// What to take.
#[derive(Debug, Clone)]
pub(crate) struct Take<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Sliced,
    pub(crate) wanted: &'a Asked,
    /// Take what is taken once more.
    pub(crate) again: bool,
    /// The pipeline whose earlier files make room.
    pub(crate) replace: Option<&'a str>,
    /// Wait until it is delivered.
    pub(crate) wait: bool,
    /// Give up when nothing moves for so long.
    pub(crate) patience: Duration,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) run: Run,
    pub(crate) ending: Ending,
    /// What became of its slices, the first so many.
    pub(crate) slices: Vec<RunSlice>,
    /// Whether there are more.
    pub(crate) cut: bool,
    /// What the pipelines made of it.
    pub(crate) settled: Settled,
}

impl Take<'_> {
    /// Starts the run and follows it to the end.
    ///
    /// # Errors
    /// The run cannot be started, or the service cannot be asked about it.
    pub(crate) async fn run(&self, signals: &mut Signals, out: &Output) -> anyhow::Result<Taken> {
        let mut session = tokio::select! {
            session = Session::open(self.config, self.source, self.patience, Own::Works, out) => session?,
            stopped = signals.next() => return Err(stopped_early(stopped)),
        };
        let request = RunRequest {
            kind: RunKind::Take,
            wanted: self.wanted.clone(),
            again: self.again,
            replace: self.replace.map(String::from),
        };
        let run = session.remote().start_run(&self.source.name, &request).await?;
        // A service of our own delivers what is left as it ends, at once; it
        // need not wait for a batch to fill. But files are replaced by it.
        let until = match (self.wait, session.is_own() && self.replace.is_none()) {
            (true, false) => Until::Delivered,
            _ => Until::Taken,
        };
        let (mut run, mut ending) = follow(&mut session, run, until, self.patience, signals, out).await?;
        let (slices, cut) = slices(&session, &run).await?;
        if session.is_own() && ending != Ending::Ended {
            session.close(self.config.drain_grace, signals).await;
        } else if !self.wait {
            // What is taken is durable; it need not be delivered now.
            session.close(NO_WAIT, signals).await;
        } else {
            let own = session.is_own();
            ending = match session.finish(signals, out).await {
                Drained::Complete => {
                    run.delivered |= own && run.state == RunState::Done;
                    ending
                }
                Drained::Halted(problem) => Ending::Halted(problem),
                Drained::Stuck => Ending::Stuck,
                Drained::Stopped(stopped) => Ending::Stopped(stopped),
            };
        }
        let settled = match inspect(self.config, CHANGE_OF_HANDS).await {
            Ok(inspected) => Settled::since(&inspected, self.config, self.source, run.started_at).await?,
            Err(_) => Settled::default(),
        };
        Ok(Taken { run, ending, slices, cut, settled })
    }
}

fn stopped_early(stopped: crate::service::Stopped) -> anyhow::Error {
    crate::exit::coded(stopped.into(), "stopped before anything began")
}

/// The first slices of a run.
async fn slices(session: &Session<'_>, run: &Run) -> anyhow::Result<(Vec<RunSlice>, bool)> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let (page, next) = session.remote().run_slices(run.id, after.as_deref()).await?;
        all.extend(page);
        let cut = all.len() > SLICES_TOLD;
        if cut || next.is_none() {
            all.truncate(SLICES_TOLD);
            return Ok((all, cut || next.is_some()));
        }
        after = next;
    }
}

/// What a run came to, in a word for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Everything that was wanted and could be had is there.
    Done,
    /// It was there already.
    NothingNew,
    /// Part of it, or all, cannot be had yet.
    NotReady,
    /// Slices could not be read, and were set aside.
    SetAside,
    /// The source refused or failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// A signal came; the same command goes on.
    Interrupted,
    /// Nothing moved for too long.
    GaveUp,
    /// It is taken, but not delivered.
    Undelivered,
}

/// What is known besides the run itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Expected {
    /// The range has an end, and whoever asked counts on all of it.
    pub(crate) closed: bool,
    /// Its end lies in the future.
    pub(crate) beyond: bool,
    /// Say by the exit code that nothing was ready.
    pub(crate) skip: bool,
}

/// What a run came to: for machines, and for the shell.
pub(crate) fn verdict(run: &Run, ending: &Ending, expected: Expected) -> (Status, Code) {
    match ending {
        Ending::Stopped(stopped) => return (Status::Interrupted, (*stopped).into()),
        Ending::Halted(_) => return (Status::Undelivered, Code::Unavailable),
        Ending::Stuck if run.state == RunState::Done => return (Status::Undelivered, Code::TryAgain),
        Ending::Stuck if run.attempts > 0 => return (Status::GaveUp, Code::Unavailable),
        Ending::Stuck => return (Status::GaveUp, Code::TryAgain),
        Ending::Ended => {}
    }
    match (run.state, run.error.as_ref().map(|error| error.kind)) {
        (RunState::Cancelled, _) => (Status::Cancelled, Code::TryAgain),
        (RunState::Failed, Some(RunErrorKind::Refused)) => (Status::Failed, Code::NotPermitted),
        (RunState::Failed, Some(RunErrorKind::Unavailable)) => (Status::Failed, Code::Unavailable),
        (RunState::Failed, Some(RunErrorKind::Data)) => (Status::Failed, Code::Data),
        (RunState::Failed, None) => (Status::Failed, Code::TryAgain),
        _ => done(run, expected),
    }
}

fn done(run: &Run, expected: Expected) -> (Status, Code) {
    let took = run.slices_done + run.slices_empty > 0;
    let not_ready = run.slices_not_ready > 0 || expected.closed && expected.beyond;
    if run.slices_set_aside > 0 {
        (Status::SetAside, Code::Data)
    } else if not_ready && !took && expected.skip {
        (Status::NotReady, Code::NothingYet)
    } else if not_ready && expected.closed {
        (Status::NotReady, Code::TryAgain)
    } else if took {
        (Status::Done, Code::Done)
    } else if not_ready {
        (Status::NotReady, Code::Done)
    } else {
        (Status::NothingNew, Code::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Stopped;
    use crate::sliced::api::tests::run_with;

    fn run(state: &str, mut members: serde_json::Value) -> Run {
        members["state"] = state.into();
        run_with(members)
    }

    #[test]
    fn the_exit_code_says_what_to_do_next() {
        let check = |run: &Run, ending: Ending, expected: Expected, status, code: u8| {
            let (said, with) = verdict(run, &ending, expected);
            assert_eq!((said, with.number()), (status, code), "{run:?} {ending:?} {expected:?}");
        };
        let none = Expected::default();
        let closed = Expected { closed: true, ..none };
        let skip = Expected { skip: true, ..none };
        let ended = || Ending::Ended;
        let done = |more| run("done", more);
        check(&done(serde_json::json!({"slices_done": 3})), ended(), none, Status::Done, 0);
        check(&done(serde_json::json!({"slices_empty": 3})), ended(), closed, Status::Done, 0);
        check(&done(serde_json::json!({})), ended(), none, Status::NothingNew, 0);
        check(
            &done(serde_json::json!({})),
            ended(),
            Expected { skip: true, ..closed },
            Status::NothingNew,
            0,
        );
        check(&done(serde_json::json!({"slices_not_ready": 1})), ended(), none, Status::NotReady, 0);
        check(&done(serde_json::json!({"slices_not_ready": 1})), ended(), skip, Status::NotReady, 99);
        // Whoever asked for a whole day counts on all of it.
        let part = done(serde_json::json!({"slices_done": 3, "slices_not_ready": 1}));
        check(&part, ended(), none, Status::Done, 0);
        check(&part, ended(), skip, Status::Done, 0);
        check(&part, ended(), closed, Status::NotReady, 75);
        let future = Expected { closed: true, beyond: true, skip: false };
        check(&done(serde_json::json!({"slices_done": 3})), ended(), future, Status::NotReady, 75);
        check(&done(serde_json::json!({})), ended(), Expected { skip: true, ..future }, Status::NotReady, 99);
        check(&done(serde_json::json!({"slices_set_aside": 1})), ended(), skip, Status::SetAside, 65);
        let failed = |kind: &str| run("failed", serde_json::json!({"error": {"kind": kind, "message": "m"}}));
        check(&failed("refused"), ended(), none, Status::Failed, 77);
        check(&failed("unavailable"), ended(), none, Status::Failed, 69);
        check(&failed("data"), ended(), none, Status::Failed, 65);
        check(&run("cancelled", serde_json::json!({})), ended(), none, Status::Cancelled, 75);
        let taking = run("taking", serde_json::json!({}));
        check(&taking, Ending::Stuck, none, Status::GaveUp, 75);
        let trying = run("taking", serde_json::json!({"attempts": 4}));
        check(&trying, Ending::Stuck, none, Status::GaveUp, 69);
        check(&taking, Ending::Stopped(Stopped::Interrupted), none, Status::Interrupted, 130);
        check(&taking, Ending::Stopped(Stopped::Terminated), none, Status::Interrupted, 143);
        check(&done(serde_json::json!({})), Ending::Stuck, none, Status::Undelivered, 75);
        check(&done(serde_json::json!({})), Ending::Halted("x".into()), none, Status::Undelivered, 69);
    }
}
