//! `lakeward daemon stop`.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::instance::{Instance, Life};
use crate::exit::{Code, coded};
use crate::terminal::Output;

const POLL: Duration = Duration::from_millis(50);
/// What a stop takes beside delivering: requests under way, the last commit.
const BESIDE: Duration = Duration::from_secs(15);
/// How long the operating system may take to end a process.
const KILLED_MAX: Duration = Duration::from_secs(30);

/// Stops an instance. What it had accepted and could not deliver in time stays
/// in its journal.
pub(super) async fn stop(
    instance: &Instance,
    timeout: Option<Duration>,
    out: &Output,
) -> anyhow::Result<Code> {
    let pid = match instance.life() {
        Life::Runs(pid) => pid,
        Life::Stopped => return tell(out, instance, "does not run"),
        Life::Died(pid) => {
            let pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            tell(out, instance, &format!("does not run; it died{pid}"))?;
            // The next start takes it over, too.
            return Ok(std::fs::remove_file(&instance.pid_file).map(|()| Code::Done).unwrap_or(Code::Done));
        }
        Life::Unknown(why) => return Err(coded(Code::Unknown, why)),
    };
    let timeout = timeout.unwrap_or(instance.config.drain_grace + BESIDE);
    signal(pid, Signal::TERM)?;
    if is_gone(instance, pid, timeout).await {
        return tell(out, instance, "stopped");
    }
    out.note(format!(
        "instance {} (process {pid}) did not stop within {timeout:?}: killing it. What is pending stays in its \
         journal, nothing is lost",
        instance.name
    ));
    signal(pid, Signal::KILL)?;
    if !is_gone(instance, pid, KILLED_MAX).await {
        return Err(coded(Code::TryAgain, format!("process {pid} does not end, though it was killed")));
    }
    // It could not do so itself.
    let _ = std::fs::remove_file(&instance.pid_file);
    tell(out, instance, "killed")
}

/// The lock said that the process lives and is ours.
fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(raw) = raw else { return Err(coded(Code::Unknown, format!("{pid} is no process id"))) };
    match kill_process(raw, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            Err(coded(Code::NotPermitted, format!("process {pid} belongs to another user")))
        }
        Err(error) => Err(std::io::Error::from(error).into()),
    }
}

/// Waits until the process has gone, or another one has taken its place.
async fn is_gone(instance: &Instance, pid: u32, within: Duration) -> bool {
    let until = Instant::now() + within;
    loop {
        match instance.life() {
            Life::Runs(other) if other == pid => {}
            Life::Unknown(_) => {}
            _ => return true,
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}

fn tell(out: &Output, instance: &Instance, what: &str) -> anyhow::Result<Code> {
    if out.is_json() {
        out.json(&serde_json::json!({ "ok": true, "instance": instance.name, "what": what }))?;
    }
    out.say(format!("instance {} {what}", instance.name));
    Ok(Code::Done)
}
