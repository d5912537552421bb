//! Processes that stay: each takes one event after the other, one line of JSON
//! in, one line of JSON out.

use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use lakeward_model::{FUNCTION_BYTES_MAX, Function, InvokeFailure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Semaphore;
use tracing::warn;

use super::super::{FunctionConfig, failures};
use super::process::{Pipes, Process, Program};

/// As many processes as there are calls at the same time, started when they
/// are needed and again when they died.
#[derive(Debug)]
pub(in super::super) struct Kept {
    program: Program,
    /// Those that wait for an event. A call takes one out; only a call that
    /// went well puts it back.
    idle: Mutex<Vec<Worker>>,
    places: Semaphore,
}

#[derive(Debug)]
struct Worker {
    process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Kept {
    pub(in super::super) fn open(config: &FunctionConfig, command: &[String]) -> Self {
        Self {
            program: Program::new(config, command),
            idle: Mutex::default(),
            places: Semaphore::new(config.concurrency),
        }
    }

    /// A process that waits, or a new one.
    fn worker(&self) -> Result<Worker, InvokeFailure> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut worker) = idle else { break };
            if !worker.stdout.buffer().is_empty() {
                warn!(
                    function = self.program.name(),
                    "it wrote more than one line for one event, and is started again"
                );
            } else if worker.process.is_running() {
                worker.process.new_call();
                return Ok(worker);
            }
        }
        let (process, Pipes { stdin, stdout }) = Process::start(&self.program)?;
        Ok(Worker { process, stdin, stdout: BufReader::with_capacity(64 << 10, stdout) })
    }

    async fn call(&self, worker: &mut Worker, event: &[u8]) -> Result<Bytes, InvokeFailure> {
        let stdin = &mut worker.stdin;
        let send = async move {
            // A process that does not take the event has died, which the
            // reply's missing tells.
            if stdin.write_all(event).await.is_ok() && stdin.write_all(b"\n").await.is_ok() {
                let _ = stdin.flush().await;
            }
            Ok(())
        };
        let ((), reply) = tokio::try_join!(send, read_line(&mut worker.stdout))?;
        match reply {
            Some(reply) => Ok(reply),
            None => {
                let ended = worker.process.ended().await;
                Err(self.program.died(ended, worker.process.said()))
            }
        }
    }
}

#[async_trait::async_trait]
impl Function for Kept {
    async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeFailure> {
        let _place = self.places.acquire().await.expect("it is never closed");
        let mut worker = self.worker()?;
        match tokio::time::timeout(self.program.timeout, self.call(&mut worker, &event)).await {
            Ok(Ok(reply)) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
                failures::unless_raised(reply)
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(self.program.too_slow(worker.process.said())),
        }
    }
}

/// A line without its end, with the limit of the contract; `None` if there is
/// only a part of one, or nothing.
async fn read_line(stdout: &mut BufReader<ChildStdout>) -> Result<Option<Bytes>, InvokeFailure> {
    let mut line = BytesMut::new();
    loop {
        let Ok(read) = stdout.fill_buf().await else { return Ok(None) };
        if read.is_empty() {
            return Ok(None);
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let part = end.unwrap_or(read.len());
        if line.len() + part > FUNCTION_BYTES_MAX {
            return Err(failures::reply_too_large());
        }
        line.extend_from_slice(&read[..part]);
        stdout.consume(end.map_or(part, |end| end + 1));
        if end.is_some() {
            return Ok(Some(line.freeze()));
        }
    }
}
