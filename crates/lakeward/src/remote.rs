//! Talking to the running process: it holds the ledger, so it is asked.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use lakeward_engine::{Holder, StateLock};
use serde::Serialize;
use serde::de::DeserializeOwned;

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
        // The certificate names the service's public name, not loopback; the
        // token in the owner-only lock file is what proves who we talk to.
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .danger_accept_invalid_certs(
                base.starts_with("https://127.") || base.starts_with("https://[::1]"),
            )
            .no_proxy()
            .build()?;
        Ok(Some(Self { client, base, token }))
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
        anyhow::ensure!(
            status.is_success(),
            "{}{path} answered {status}: {}",
            self.base,
            String::from_utf8_lossy(&body)
        );
        Ok(serde_json::from_slice(&body)?)
    }
}
