//! A service to ask: the one that runs on the state directory or, if none does,
//! one that runs for the time of the command.

use std::time::Duration;

use lakeward_engine::{Holder, LockError, PipelineState, PipelineStatus, StateLock};
use lakeward_model::clock::Stopwatch;
use tokio_util::sync::CancellationToken;

use super::Sliced;
use crate::commands::target::{Inspected, ServiceStatus};
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::remote::{self, Remote};
use crate::service::{Service, Signals, Stopped};
use crate::terminal::{Output, plural};

/// How often a process that starts or ends is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A person hears after so long that somebody else is waited for.
const SAY_AFTER: Duration = Duration::from_secs(3);

/// A service to ask about one source.
pub(crate) struct Session<'a> {
    config: &'a Config,
    source: &'a Sliced,
    patience: Duration,
    held: Held,
}

enum Held {
    /// Another process runs.
    Other(Remote),
    /// This one serves itself.
    Own(Box<Service>, Remote),
}

/// What a service of our own does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// It takes and delivers.
    Works,
    /// It says what there is, and takes and delivers nothing.
    Looks,
}

/// How the service of this process ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Everything that the source brought is settled; or another process goes
    /// on with it.
    Complete,
    /// A pipeline stands still before a person does something, and this is
    /// why; what is pending stays in the journal.
    Halted(String),
    /// Nothing moved for too long; what is pending stays in the journal.
    Stuck,
    /// A signal came.
    Stopped(Stopped),
}

impl<'a> Session<'a> {
    /// Finds the process that runs on the state directory, or becomes it; then
    /// it does what `own` says.
    ///
    /// # Errors
    /// A process that is starting or ending did not get there within
    /// `patience`, or it does not know the source.
    pub(crate) async fn open(
        config: &'a Config,
        source: &'a Sliced,
        patience: Duration,
        own: Own,
        out: &Output,
    ) -> anyhow::Result<Self> {
        let held = find(config, source, patience, own, out).await?;
        Ok(Self { config, source, patience, held })
    }

    /// Whom to ask.
    pub(crate) fn remote(&self) -> &Remote {
        match &self.held {
            Held::Other(remote) | Held::Own(_, remote) => remote,
        }
    }

    /// Whether the service is this process.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.held, Held::Own(..))
    }

    /// Another process was asked and is gone: finds the next, or becomes it.
    /// Runs are durable, so the next one goes on with ours.
    pub(crate) async fn reattach(&mut self, out: &Output) -> anyhow::Result<()> {
        self.held = find(self.config, self.source, self.patience, Own::Works, out).await?;
        Ok(())
    }

    /// The numbers of the pipelines that deliver what the source brings.
    pub(crate) async fn pipelines(&self) -> anyhow::Result<Vec<PipelineStatus>> {
        let status: ServiceStatus = self.remote().get("/v1/status").await?;
        Ok(status.pipelines.into_iter().filter(|pipeline| self.source.feeds(pipeline)).collect())
    }

    /// Ends the service if it is this process, at a clean place: what is read is
    /// stored, and what is pending is delivered if that takes no longer than
    /// `grace`. A second signal ends it at once, which is safe, too.
    pub(crate) async fn close(self, grace: Duration, signals: &mut Signals) {
        if let Held::Own(service, _) = self.held {
            tokio::select! {
                _ = service.stop(grace) => {}
                _ = signals.next() => {}
            }
        }
    }

    /// Ends the service if it is this process: delivers what the source
    /// brought, as long as something moves. Other pipelines hold nothing up.
    pub(crate) async fn finish(self, signals: &mut Signals, out: &Output) -> Drained {
        let Held::Own(service, _) = self.held else { return Drained::Complete };
        let control = service.control();
        let ours = || {
            let all = control.status().into_iter();
            all.filter(|pipeline| self.source.feeds(pipeline)).collect::<Vec<_>>()
        };
        let (mut still, enough) = (Stopwatch::start(), CancellationToken::new());
        let mut left = pending(&ours());
        let bar = out.progress(left, "delivering");
        let stop = service.stop_at(enough.cancelled());
        tokio::pin!(stop);
        loop {
            tokio::select! {
                _ = &mut stop => {
                    bar.finish_and_clear();
                    return Drained::of(&ours());
                }
                stopped = signals.next() => {
                    bar.finish_and_clear();
                    return Drained::Stopped(stopped);
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let pipelines = ours();
            let now = pending(&pipelines);
            if now != left {
                still = Stopwatch::start();
                left = now;
            }
            bar.set_length(bar.length().unwrap_or(0).max(left));
            bar.set_position(bar.length().unwrap_or(0).saturating_sub(left));
            if pipelines.iter().all(is_at_rest) || still.elapsed() > self.patience {
                enough.cancel();
            }
        }
    }
}

impl Drained {
    /// How it ended, by where the pipelines are.
    fn of(pipelines: &[PipelineStatus]) -> Self {
        match (pending(pipelines), halted(pipelines)) {
            (0, _) => Self::Complete,
            (_, Some(problem)) => Self::Halted(problem),
            (_, None) => Self::Stuck,
        }
    }
}

fn pending(pipelines: &[PipelineStatus]) -> u64 {
    pipelines.iter().map(|pipeline| pipeline.pending).sum()
}

/// Whether nothing more comes of a pipeline without anybody's doing.
fn is_at_rest(pipeline: &PipelineStatus) -> bool {
    pipeline.pending == 0 || matches!(pipeline.state, PipelineState::Halted { .. })
}

impl Sliced {
    /// Whether a pipeline delivers what this source brings.
    pub(crate) fn feeds(&self, pipeline: &PipelineStatus) -> bool {
        pipeline.stream.as_str() == self.stream
    }
}

/// Says which pipeline stands still, if one does: it waits for a person.
pub(crate) fn halted(pipelines: &[PipelineStatus]) -> Option<String> {
    pipelines.iter().find_map(|pipeline| match &pipeline.state {
        PipelineState::Halted { code, error } if pipeline.pending > 0 => {
            let pending = plural(pipeline.pending, "record");
            Some(format!(
                "the pipeline {} stands still with {pending} pending ({code}): {error}",
                pipeline.pipeline
            ))
        }
        _ => None,
    })
}

/// The state directory once nobody changes hands: through the process that
/// runs on it, or directly.
pub(crate) async fn inspect(config: &Config, patience: Duration) -> anyhow::Result<Inspected> {
    let waiting = Stopwatch::start();
    loop {
        match Inspected::open(config) {
            Err(error) if is_lock(&error) && waiting.elapsed() < patience => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            done => return done,
        }
    }
}

fn is_lock(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<LockError>(), Some(LockError::Held { .. }))
}

async fn find(
    config: &Config,
    source: &Sliced,
    patience: Duration,
    own: Own,
    out: &Output,
) -> anyhow::Result<Held> {
    let waiting = Stopwatch::start();
    let mut said = false;
    loop {
        if let Some(remote) = Remote::of(&config.state)? {
            match remote.get::<ServiceStatus>("/v1/status").await {
                Ok(status) => return knows(&status, source, &config.state).map(|()| Held::Other(remote)),
                // It ends, or another took its place.
                Err(error) if remote::is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        } else {
            let opened = match own {
                Own::Works => Box::pin(Service::for_command(config)).await,
                Own::Looks => Box::pin(Service::to_look(config)).await,
            };
            match opened {
                Ok(service) => {
                    let remote = service.remote()?;
                    return Ok(Held::Own(Box::new(service), remote));
                }
                Err(error) if is_lock(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let holder = StateLock::holder(&config.state).map_or(0, |holder: Holder| holder.pid);
        if waiting.elapsed() > patience {
            let message = format!(
                "process {holder} works on {} and does not answer; try again when it has ended",
                config.state.display()
            );
            return Err(coded(Code::TryAgain, message));
        }
        if !said && waiting.elapsed() > SAY_AFTER {
            out.note(format!("waiting for process {holder}, which works on {}", config.state.display()));
            said = true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A service that was started before the source was configured cannot help.
fn knows(status: &ServiceStatus, source: &Sliced, state: &std::path::Path) -> anyhow::Result<()> {
    if status.sources.iter().any(|known| known.source == source.name) {
        return Ok(());
    }
    let holder = StateLock::holder(state).map_or(0, |holder| holder.pid);
    Err(coded(
        Code::Configuration,
        format!(
            "the service that runs (process {holder}) has no source {}: it was started with another configuration; restart it",
            source.name
        ),
    ))
}
