//! AWS Lambda's runtime interface: three requests to a server in the sandbox
//! (AWS Lambda developer guide, "Using the Lambda runtime API for custom
//! runtimes").

use anyhow::Context;
use bytes::Bytes;
use lakeward_model::Timestamp;
use lakeward_model::clock::{Clock, SystemClock};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

/// What an invocation may take if nobody says it: AWS's longest.
const LONGEST: i64 = 900_000_000;
/// The most of an error's text.
const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// The server that has invocations.
#[derive(Debug)]
pub(super) struct Runtime {
    client: Client,
    base: String,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Invocation {
    /// Which one; the same if AWS tries an event again.
    pub(super) id: String,
    /// When the sandbox is stopped.
    pub(super) deadline: Timestamp,
    /// The event, as JSON.
    pub(super) event: Bytes,
}

impl Runtime {
    /// `address` is `AWS_LAMBDA_RUNTIME_API`: a host and a port.
    ///
    /// # Errors
    /// There is no HTTP client to be had.
    pub(super) fn new(address: &str) -> anyhow::Result<Self> {
        // No timeout: the next invocation may come in an hour. No proxy: this
        // never leaves the sandbox.
        let client = Client::builder().no_proxy().build()?;
        Ok(Self { client, base: format!("http://{address}/2018-06-01/runtime") })
    }

    /// Waits for the next invocation.
    ///
    /// # Errors
    /// The server cannot be asked: the process ends, and is started anew.
    pub(super) async fn next(&self) -> anyhow::Result<Invocation> {
        let reply = self.client.get(format!("{}/invocation/next", self.base)).send().await;
        let reply = reply.context("the Lambda runtime API cannot be reached")?;
        anyhow::ensure!(
            reply.status() == StatusCode::OK,
            "the Lambda runtime API answers {}",
            reply.status()
        );
        let header = |name: &str| Some(reply.headers().get(name)?.to_str().ok()?.to_owned());
        let id = header("lambda-runtime-aws-request-id").context("an invocation without an id")?;
        let millis = header("lambda-runtime-deadline-ms").and_then(|millis| millis.parse::<i64>().ok());
        let deadline = match millis {
            Some(millis) => Timestamp(millis.saturating_mul(1_000)),
            None => Timestamp(SystemClock.now().0.saturating_add(LONGEST)),
        };
        Ok(Invocation { id, deadline, event: reply.bytes().await? })
    }

    /// Answers an invocation.
    ///
    /// # Errors
    /// The answer did not arrive: AWS takes the invocation for failed.
    pub(super) async fn reply(&self, id: &str, answer: &Value) -> anyhow::Result<()> {
        self.post(&format!("invocation/{id}/response"), answer).await
    }

    /// Says that an invocation failed.
    ///
    /// # Errors
    /// As for [`reply`](Self::reply).
    pub(super) async fn fail(&self, id: &str, message: &str) -> anyhow::Result<()> {
        self.post(&format!("invocation/{id}/error"), &said("Lakeward.Failed", message)).await
    }

    /// Says that the process cannot start.
    ///
    /// # Errors
    /// Nobody listens; it ends in any case.
    pub(super) async fn cannot_start(&self, message: &str) -> anyhow::Result<()> {
        self.post("init/error", &said("Lakeward.Configuration", message)).await
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.client.post(format!("{}/{path}", self.base)).body(body.to_string());
        let request = match body.get("errorType").and_then(Value::as_str) {
            Some(kind) => request.header("lambda-runtime-function-error-type", kind),
            None => request,
        };
        request.send().await.and_then(Response::error_for_status)?;
        Ok(())
    }
}

fn said(kind: &str, message: &str) -> Value {
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    serde_json::json!({ "errorType": kind, "errorMessage": &message[..end], "stackTrace": [] })
}
