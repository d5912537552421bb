//! Processes of a function: started in a group of their own, which dies as a
//! whole when it is not waited for any more.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakeward_model::{InvokeFailure, InvokeFailureKind};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::super::{FunctionConfig, failures};

/// How much of the end of what a process says is kept for error messages.
const TAIL_BYTES: usize = 2_000;
/// The longest line that is logged, and how many of them for one call.
const LINE_BYTES: usize = 1_000;
const LINES_MAX: u32 = 200;
/// How long the rest of what a dead process said is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is run.
pub(super) struct Program {
    /// The program and its arguments; never empty.
    command: Vec<String>,
    folder: Option<PathBuf>,
    /// How long one call may take.
    pub(super) timeout: Duration,
}

impl Program {
    pub(super) fn new(config: &FunctionConfig, command: &[String]) -> Self {
        Self { command: command.to_vec(), folder: config.folder.clone(), timeout: config.timeout }
    }

    /// The program without its arguments, which may hold secrets.
    pub(super) fn name(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// The failure of a process that ended where it should have answered.
    pub(super) fn died(&self, status: Option<ExitStatus>, said: String) -> InvokeFailure {
        let status = status.map_or_else(|| String::from("without a status"), |status| status.to_string());
        self.failed(format!("ended ({status})"), said)
    }

    pub(super) fn too_slow(&self, said: String) -> InvokeFailure {
        self.failed(format!("did not answer within {:?} and was ended", self.timeout), said)
    }

    fn failed(&self, what: String, said: String) -> InvokeFailure {
        let said = if said.is_empty() { said } else { format!(": {said}") };
        failures::function_error(format!("`{}` {what}{said}", self.name()))
    }

    fn not_started(&self, error: &io::Error) -> InvokeFailure {
        let (kind, code) = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                (InvokeFailureKind::Refused, "Lambda.ResourceNotFound")
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::ExecutableFileBusy => (InvokeFailureKind::Refused, "Lambda.InvokeAccessDenied"),
            _ => (InvokeFailureKind::Unavailable, "Lambda.ServiceUnavailable"),
        };
        let folder = match &self.folder {
            Some(folder) => format!(" in {}", folder.display()),
            None => String::new(),
        };
        InvokeFailure::new(kind, code, format!("`{}` cannot be started{folder}: {error}", self.name()))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({})", self.name())
    }
}

/// A process that runs, and what it says.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    said: Arc<Mutex<Said>>,
    log: JoinHandle<()>,
}

/// The pipes of a process.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
}

impl Process {
    /// Starts the program.
    ///
    /// Its time zone is UTC, as it is in AWS Lambda (developer guide, "Defined
    /// runtime environment variables"): the same function gives the same
    /// everywhere.
    pub(super) fn start(program: &Program) -> Result<(Self, Pipes), InvokeFailure> {
        let mut command = Command::new(program.name());
        command
            .args(&program.command[1..])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(folder) = &program.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn().map_err(|error| program.not_started(&error))?;
        let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.stderr.take());
        let ((stdin, stdout), stderr) = pipes.expect("all three were asked for");
        let said = Arc::new(Mutex::new(Said::default()));
        let log = tokio::spawn(listen(stderr, program.name().into(), Arc::clone(&said)));
        Ok((Self { child, said, log }, Pipes { stdin, stdout }))
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.wait().await.ok();
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.log).await;
        status
    }

    /// Whether it runs, as far as one can know.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// A new call: what was said before is of no interest.
    pub(super) fn new_call(&self) {
        *lock(&self.said) = Said::default();
    }

    /// The end of what it said since the call began.
    pub(super) fn said(&self) -> String {
        let tail: Vec<u8> = lock(&self.said).tail.iter().copied().collect();
        failures::short(&String::from_utf8_lossy(&tail))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.log.abort();
        // The id is there as long as nobody has waited for the process, so it
        // is certainly still its group's.
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What a process said since the call began.
#[derive(Debug, Default)]
struct Said {
    tail: VecDeque<u8>,
    lines: u32,
}

impl Said {
    /// Whether one more line may be logged, and whether it is the last.
    fn count(&mut self) -> Option<bool> {
        self.lines = self.lines.saturating_add(1);
        (self.lines <= LINES_MAX).then_some(self.lines == LINES_MAX)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.tail.extend(bytes);
        let over = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..over);
    }
}

fn lock(said: &Mutex<Said>) -> std::sync::MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs what a process says, line by line, until it closes the pipe.
async fn listen(mut stderr: ChildStderr, name: String, said: Arc<Mutex<Said>>) {
    let mut buffer = vec![0; 4096];
    let mut line = Vec::new();
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        lock(&said).add(&buffer[..read]);
        for &byte in &buffer[..read] {
            if byte == b'\n' {
                log(&name, &line, &said);
                line.clear();
            } else if line.len() < LINE_BYTES {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        log(&name, &line, &said);
    }
}

fn log(name: &str, line: &[u8], said: &Mutex<Said>) {
    let last = lock(said).count();
    if let Some(last) = last {
        info!(function = name, "{}", failures::short(&String::from_utf8_lossy(line)));
        if last {
            warn!(function = name, "it said {LINES_MAX} lines in one call; no more of them are logged");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_and_the_lines_are_bounded() {
        let mut said = Said::default();
        said.add(&vec![b'a'; 5_000]);
        said.add(b"end");
        assert_eq!(said.tail.len(), TAIL_BYTES);
        assert!(said.tail.iter().copied().collect::<Vec<u8>>().ends_with(b"aend"));
        let logged = (0..1_000).filter(|_| said.count().is_some()).count();
        assert_eq!(logged, usize::try_from(LINES_MAX).expect("small"));
    }
}
