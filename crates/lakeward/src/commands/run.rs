//! `lakeward run`: serve as a configuration file says.

use std::path::PathBuf;

use crate::config::Config;
use crate::exit::Code;
use crate::notify::Notify;
use crate::service::{Service, Signals};
use crate::terminal::Output;

/// Serve as a configuration file says. SIGTERM or Ctrl-C delivers what is
/// pending and stops; a second one stops at once. `kill -9` is safe too.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "lakeward.yaml")]
    config: PathBuf,
}

impl Run {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = Config::read(&self.config)?;
        let signals = Signals::listen()?;
        let service = Service::start(&config, None).await?;
        let url = format!("{}://{}", service.scheme, service.addr);
        if out.is_json() {
            out.json(&serde_json::json!({ "listening": url, "pid": std::process::id() }))?;
        }
        out.say(format!("lakeward is listening on {url}"));
        for pipeline in service.control().status() {
            out.say(format!("  {} -> {}  ({})", pipeline.stream, pipeline.destination, pipeline.pipeline));
        }
        let manager = Notify::from_environment();
        manager.ready(&url);
        tokio::select! {
            code = service.until_stopped(signals, config.drain_grace, &manager) => Ok(code),
            never = manager.stay_alive() => match never {},
        }
    }
}
