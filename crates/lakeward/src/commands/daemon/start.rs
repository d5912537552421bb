//! `lakeward daemon start`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::Start;
use super::instance::{Instance, Life};
use crate::exit::{Code, coded};
use crate::terminal::Output;

const POLL: Duration = Duration::from_millis(25);
/// The most that is told of what a process said before it ended.
const SAID_MAX: u64 = 16 << 10;

/// Starts an instance in the background, and waits until it is ready.
pub(super) async fn start(start: &Start, out: &Output) -> anyhow::Result<Code> {
    let instance = Instance::of(&start.which)?;
    if let Life::Runs(pid) = instance.life() {
        return tell(out, &instance, pid, "runs already");
    }
    let log = start.logs.place(&start.which);
    let mut stderr = stderr_file(&log)?;
    let before = stderr.seek(SeekFrom::End(0))?;
    let mut child = spawn(start, &stderr)?;
    let began = Instant::now();
    loop {
        if let Some(ended) = child.try_wait()? {
            let said = said_since(&mut stderr, before);
            let code = ended.code().and_then(|code| u8::try_from(code).ok()).and_then(Code::of_number);
            let said = if said.is_empty() { format!("it ended with {ended}") } else { said };
            let message = format!("instance {} did not start: {said}", instance.name);
            // 0 would say that it runs.
            return Err(coded(code.filter(|code| *code != Code::Done).unwrap_or(Code::TryAgain), message));
        }
        if instance.url(child.id()).is_some() {
            return tell(out, &instance, child.id(), "started");
        }
        if began.elapsed() >= start.wait {
            return Err(coded(
                Code::TryAgain,
                format!(
                    "instance {} (process {}) is not ready after {:?}; it goes on starting, see {}",
                    instance.name,
                    child.id(),
                    start.wait,
                    log.display()
                ),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn tell(out: &Output, instance: &Instance, pid: u32, what: &str) -> anyhow::Result<Code> {
    let url = instance.url(pid);
    if out.is_json() {
        let said = serde_json::json!({
            "ok": true, "instance": instance.name, "pid": pid, "listening": url, "what": what,
        });
        out.json(&said)?;
    }
    let at = url.map(|url| format!(", listening on {url}")).unwrap_or_default();
    out.say(format!("instance {} {what} (process {pid}){at}", instance.name));
    Ok(Code::Done)
}

/// What is said outside of the log, by a panic or before there is one, goes to
/// a file of its own.
fn stderr_file(log: &Path) -> anyhow::Result<File> {
    let mut name = log.file_name().unwrap_or_default().to_os_string();
    name.push(".stderr");
    let path = log.with_file_name(name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
    opened.with_context(|| path.display().to_string())
}

fn spawn(start: &Start, stderr: &File) -> anyhow::Result<Child> {
    let config = std::path::absolute(&start.which.config)?;
    let log = std::path::absolute(start.logs.place(&start.which))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["daemon", "run", "--detached", "-c"]).arg(config);
    command.arg("--logs").arg(log.parent().unwrap_or(Path::new("/")));
    command.arg("--keep-days").arg(start.logs.keep_days.to_string());
    if let Some(name) = &start.which.instance {
        command.args(["--instance", name]);
    }
    if let Some(file) = &start.which.pid_file {
        command.arg("--pid-file").arg(std::path::absolute(file)?);
    }
    // Whoever reads our output must not wait for the instance to end.
    command.stdin(Stdio::null()).stdout(stderr.try_clone()?).stderr(stderr.try_clone()?);
    Ok(command.spawn()?)
}

/// What was written since, without our own name before it.
fn said_since(file: &mut File, before: u64) -> String {
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(before)).is_err() {
        return String::new();
    }
    let mut piece = [0; 1024];
    let mut limited = file.take(SAID_MAX);
    while let Ok(length @ 1..) = limited.read(&mut piece) {
        bytes.extend_from_slice(&piece[..length]);
    }
    let text = String::from_utf8_lossy(&bytes);
    text.trim().strip_prefix("lakeward: ").unwrap_or(text.trim()).to_string()
}
