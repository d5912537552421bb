//! Talking to the running process: it holds the ledger, so it is asked.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use lakeward_engine::{Holder, StateLock};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit::{Code, coded};

/// The control API of a running process.
#[derive(Debug)]
pub(crate) struct Remote {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Remote {
    /// The process that holds `state`, if one runs.
    pub(crate) fn of(state: &Path) -> anyhow::Result<Option<Self>> {
        if !StateLock::is_held(state) {
            return Ok(None);
        }
        let Some(Holder { control: Some(base), token, .. }) = StateLock::holder(state) else {
            return Ok(None);
        };
        Self::at(base, token).map(Some)
    }

    /// The control API at a url.
    pub(crate) fn at(base: String, token: Option<String>) -> anyhow::Result<Self> {
        // The certificate names the service's public name, not loopback; the
        // token in the owner-only lock file is what proves who we talk to.
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .danger_accept_invalid_certs(
                base.starts_with("https://127.") || base.starts_with("https://[::1]"),
            )
            .no_proxy()
            .build()?;
        Ok(Self { client, base, token })
    }

    /// Asks for `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.answer(path, self.client.get(format!("{}{path}", self.base))).await
    }

    /// Sends `body` as JSON to `path`.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json").body(serde_json::to_vec(body)?);
        self.answer(path, request).await
    }

    /// Removes or cancels what is at `path`.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.answer(path, self.client.delete(format!("{}{path}", self.base))).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        mut request: reqwest::RequestBuilder,
    ) -> anyhow::Result<T> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let reply = request.send().await.context("the running process does not answer")?;
        let status = reply.status();
        let body = reply.bytes().await.context("the running process stopped answering")?;
        if !status.is_success() {
            return Err(match serde_json::from_slice::<Refusal>(&body) {
                Ok(Refusal { error }) => coded(code_of(status, &error.code), error.message),
                Err(_) => {
                    let said = String::from_utf8_lossy(&body);
                    let message = format!("{}{path} answered {status}: {said}", self.base);
                    coded(code_of(status, ""), message)
                }
            });
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// What the service answers when it does not do as asked.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Deserialize)]
struct RefusalError {
    #[serde(default)]
    code: String,
    message: String,
}

/// What a person can do about a refusal.
fn code_of(status: StatusCode, word: &str) -> Code {
    match status {
        _ if word == "source_refused" => Code::NotPermitted,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::NotPermitted,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Code::TryAgain,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Code::Unavailable
        }
        status if status.is_client_error() => Code::Usage,
        _ => Code::TryAgain,
    }
}

/// Whether the process was not reached, or stopped before it answered.
pub(crate) fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<reqwest::Error>().is_some_and(|error| !error.is_decode())
}
