//! A command of this machine: the event goes to its standard input, the reply
//! comes from its standard output, and its standard error goes to our log.

mod kept;
mod process;

use bytes::{Bytes, BytesMut};
use lakeward_model::{FUNCTION_BYTES_MAX, Function, InvokeFailure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;

use super::FunctionConfig;
use super::failures;
pub(super) use kept::Kept;
use process::{Process, Program};

/// A process for every call.
#[derive(Debug)]
pub(super) struct Once(Program);

impl Once {
    pub(super) fn open(config: &FunctionConfig, command: &[String]) -> Self {
        Self(Program::new(config, command))
    }

    async fn run(
        &self,
        process: &mut Process,
        pipes: process::Pipes,
        event: Bytes,
    ) -> Result<Bytes, InvokeFailure> {
        let send = async {
            send(pipes.stdin, &event).await;
            Ok(())
        };
        let ((), reply) = tokio::try_join!(send, read_all(pipes.stdout))?;
        let ended = process.ended().await;
        if ended.is_none_or(|status| !status.success()) {
            return Err(failures::raised(&reply).unwrap_or_else(|| self.0.died(ended, process.said())));
        }
        failures::unless_raised(reply)
    }
}

#[async_trait::async_trait]
impl Function for Once {
    async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeFailure> {
        let (mut process, pipes) = Process::start(&self.0)?;
        // A process that is not waited for any more is killed as it is dropped.
        match tokio::time::timeout(self.0.timeout, self.run(&mut process, pipes, event)).await {
            Ok(result) => result,
            Err(_) => Err(self.0.too_slow(process.said())),
        }
    }
}

/// Writes the event and closes the pipe. A command that does not read it is not
/// at fault yet: its exit status and reply tell.
async fn send(mut stdin: ChildStdin, event: &[u8]) {
    if stdin.write_all(event).await.is_ok() {
        let _ = stdin.write_all(b"\n").await;
    }
}

/// Everything up to the end, with the limit of the contract.
async fn read_all(mut stdout: impl AsyncRead + Unpin) -> Result<Bytes, InvokeFailure> {
    let mut reply = BytesMut::new();
    loop {
        match stdout.read_buf(&mut reply).await {
            Ok(0) => return Ok(reply.freeze()),
            Ok(_) if reply.len() > FUNCTION_BYTES_MAX => return Err(failures::reply_too_large()),
            Ok(_) => {}
            Err(error) => {
                return Err(failures::function_error(format!("the reply cannot be read: {error}")));
            }
        }
    }
}
