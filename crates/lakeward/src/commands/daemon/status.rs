//! `lakeward daemon status`.

use super::Status;
use super::instance::{Instance, Life};
use crate::exit::Code;
use crate::terminal::Output;

/// Says whether an instance runs, in the codes of the Linux Standard Base
/// (Core 5.0, 22.2 "Init Script Actions").
pub(super) async fn status(status: &Status, out: &Output) -> anyhow::Result<Code> {
    let instance = match Instance::of(&status.which) {
        Ok(instance) => instance,
        Err(error) => {
            // Where its pid file is cannot be known.
            crate::terminal::print_error(&error, out.is_json());
            return Ok(Code::Unknown);
        }
    };
    let life = instance.life();
    let (code, word, pid) = match &life {
        Life::Runs(pid) => (Code::Done, "running", Some(*pid)),
        Life::Died(pid) => (Code::Dead, "dead", *pid),
        Life::Stopped => (Code::Stopped, "stopped", None),
        Life::Unknown(_) => (Code::Unknown, "unknown", None),
    };
    let url = pid.filter(|_| code == Code::Done).and_then(|pid| instance.url(pid));
    if out.is_json() {
        out.json(&serde_json::json!({
            "instance": instance.name, "state": word, "pid": pid, "listening": url,
            "pid_file": instance.pid_file,
        }))?;
    }
    let process = pid.map(|pid| format!("process {pid}")).unwrap_or_default();
    out.say(match life {
        Life::Runs(_) => match url {
            Some(url) => format!("instance {} is running ({process}), listening on {url}", instance.name),
            None => format!("instance {} is running ({process}), and is not ready yet", instance.name),
        },
        Life::Died(_) => format!(
            "instance {} is dead ({process}), and {} is left of it; the next start takes it over",
            instance.name,
            instance.pid_file.display()
        ),
        Life::Stopped => format!("instance {} is stopped", instance.name),
        Life::Unknown(why) => format!("instance {}: {why}", instance.name),
    });
    Ok(code)
}
