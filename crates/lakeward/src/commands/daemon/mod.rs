//! `lakeward daemon`: instances of the service in the background, for machines
//! without a service manager. `docs/daemon.md` tells the story.
//!
//! An instance is a process that holds the lock of its pid file. Whether it
//! lives is asked of the lock, which dies with it, and never of the number in
//! the file, which another process may have by now.

mod daily;
mod instance;
mod start;
mod status;
mod stop;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use daily::DailyFile;
use instance::Instance;

use crate::exit::Code;
use crate::notify::Notify;
use crate::service::{Service, Signals};
use crate::terminal::{LogTo, Output};

/// Run instances of the service in the background: each with its own state,
/// pid file and log. On a machine with systemd, `lakeward@.service` is better.
#[derive(Debug, clap::Args)]
pub(crate) struct Daemon {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start an instance, and wait until it is ready. One that runs is left
    /// alone.
    Start(Start),
    /// Stop an instance: it delivers what is pending, and is ended if that takes
    /// too long. One that does not run is no failure.
    Stop(Stop),
    /// Stop an instance if it runs, and start it.
    Restart(Restart),
    /// Say whether an instance runs. Ends with 0 if it does, 1 if it died, 3 if
    /// it is stopped, 4 if that cannot be known.
    Status(Status),
    /// Be an instance, in the foreground.
    Run(Run),
}

/// Which instance.
#[derive(Debug, Clone, clap::Args)]
struct Which {
    /// The instance's name: letters, digits, `-` and `_`. In the configuration
    /// it is `${INSTANCE}`; the state folder must have it in its name. Without
    /// it there is one instance, named 1.
    #[arg(long, value_name = "NAME", value_parser = instance::parse_name)]
    instance: Option<String>,
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "lakeward.yaml")]
    config: PathBuf,
    /// The pid file. Default: `daemon.pid` in the instance's state folder.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

/// Where an instance's log goes.
#[derive(Debug, Clone, clap::Args)]
struct Logs {
    /// The folder of the logs. `daemonlog_<instance>` is renamed at midnight UTC
    /// to `daemonlog_<instance>.YYYY-MM-DD`. Default: `logs` beside the
    /// configuration file.
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// How many days of log are kept beside today's.
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    keep_days: u16,
}

/// How long it may take to start.
#[derive(Debug, Clone, clap::Args)]
struct Start {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    logs: Logs,
    /// How long to wait until it is ready; it is not ended if that takes longer.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_time)]
    wait: Duration,
}

#[derive(Debug, Clone, clap::Args)]
struct Stop {
    #[command(flatten)]
    which: Which,
    /// How long it may take to deliver what is pending before it is ended, which
    /// loses nothing either. Default: `drain_grace` and 15 seconds.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
}

#[derive(Debug, Clone, clap::Args)]
struct Restart {
    #[command(flatten)]
    start: Start,
    /// As for `stop`.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
}

#[derive(Debug, Clone, clap::Args)]
struct Status {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Clone, clap::Args)]
struct Run {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    logs: Logs,
    /// Leave the terminal behind, and log to the file. For `start`.
    #[arg(long, hide = true)]
    detached: bool,
    /// Where the log goes; made of the above when the command line was read.
    #[arg(skip)]
    log_to: LogTo,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    #[derive(serde::Deserialize)]
    struct Time(#[serde(with = "lakeward_model::units::duration")] Duration);
    let time: Time = serde_json::from_value(text.into()).map_err(|error| error.to_string())?;
    Ok(time.0)
}

impl Daemon {
    /// Works out where the log of an instance in the background goes.
    pub(crate) fn prepare(&mut self) {
        if let Action::Run(run) = &mut self.action
            && run.detached
        {
            let place = run.logs.place(&run.which);
            run.log_to = LogTo::Daily { file: place, keep_days: run.logs.keep_days };
        }
    }

    /// Where the log goes.
    pub(crate) fn log_to(&self) -> &LogTo {
        match &self.action {
            Action::Run(run) => &run.log_to,
            _ => &LogTo::Stderr,
        }
    }

    /// Whether this process is an instance.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self.action, Action::Run(_))
    }

    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        match self.action {
            Action::Start(start) => start::start(&start, out).await,
            Action::Stop(stop) => stop::stop(&Instance::of(&stop.which)?, stop.timeout, out).await,
            Action::Restart(restart) => {
                // What is wrong with the configuration is said while it still runs.
                let instance = Instance::of(&restart.start.which)?;
                stop::stop(&instance, restart.timeout, out).await?;
                start::start(&restart.start, out).await
            }
            Action::Status(status) => status::status(&status, out).await,
            Action::Run(run) => run.serve(out).await,
        }
    }
}

impl Logs {
    /// The file of an instance's log.
    fn place(&self, which: &Which) -> PathBuf {
        let folder = self.logs.clone().unwrap_or_else(|| instance::folder_of(&which.config).join("logs"));
        folder.join(format!("daemonlog_{}", which.name()))
    }
}

impl Which {
    fn name(&self) -> &str {
        self.instance.as_deref().unwrap_or("1")
    }
}

impl Run {
    async fn serve(self, out: &Output) -> anyhow::Result<Code> {
        if self.detached {
            // Only a leader of a process group may not, and `start` made us none.
            rustix::process::setsid().map_err(std::io::Error::from)?;
        }
        let instance = Instance::of(&self.which)?;
        let held = instance.take()?;
        let signals = Signals::listen()?;
        let service = match Service::start(&instance.config, None).await {
            Ok(service) => service,
            Err(error) => {
                held.give_up();
                return Err(error);
            }
        };
        let url = format!("{}://{}", service.scheme, service.addr);
        tracing::info!(instance = instance.name, pid = std::process::id(), url, "listening");
        if !self.detached {
            out.say(format!("instance {} is listening on {url}", instance.name));
        }
        let manager = Notify::from_environment();
        manager.ready(&url);
        let code = tokio::select! {
            code = service.until_stopped(signals, instance.config.drain_grace, &manager) => code,
            never = manager.stay_alive() => match never {},
        };
        held.give_up();
        Ok(code)
    }
}
