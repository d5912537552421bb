//! A function behind an HTTP address: POST the event, take the reply.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lakeward_model::{FUNCTION_BYTES_MAX, Function, InvokeFailure, InvokeFailureKind, Secret, innermost};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url, redirect};

use super::failures::{self, TOO_LARGE};
use super::{FunctionConfig, FunctionConfigError};

/// What Lambda and its emulators set when the function raised.
pub(super) const FUNCTION_ERROR_HEADER: &str = "x-amz-function-error";
/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// The most bytes that are read of an answer that is an error.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// The address and what it is called with.
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    /// The address as people see it.
    name: String,
    headers: HeaderMap,
}

impl Endpoint {
    pub(super) fn open(config: &FunctionConfig, url: Url) -> Result<Self, FunctionConfigError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = &config.token {
            headers.insert(AUTHORIZATION, bearer(token)?);
        }
        Ok(Self { client: client(config.timeout)?, url, name: config.name(), headers })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.name)
    }
}

#[async_trait::async_trait]
impl Function for Endpoint {
    async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeFailure> {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(event);
        let answer = request.send().await.map_err(|error| unavailable(&self.name, error))?;
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            let raised = answer.headers().contains_key(FUNCTION_ERROR_HEADER);
            let reply = read_reply(answer, &self.name).await?;
            return if raised { Err(raised_failure(&reply)) } else { failures::unless_raised(reply) };
        }
        let wait = retry_after(answer.headers());
        let said = said(answer).await;
        let kind = kind(status);
        let message = format!("{} answered {status}{}{said}", self.name, advice(status));
        Err(InvokeFailure { retry_after: wait, ..InvokeFailure::new(kind, code(status, kind), message) })
    }
}

/// What a status says of a function behind it: in every framework a handler
/// that raises answers 500, and a request that it will not take 4xx.
fn kind(status: u16) -> InvokeFailureKind {
    match status {
        413 => InvokeFailureKind::TooLarge,
        408 | 425 | 429 | 502..=504 | 520..=529 => InvokeFailureKind::Unavailable,
        300..=399 | 401..=405 | 407 | 410 => InvokeFailureKind::Refused,
        _ => InvokeFailureKind::FunctionError,
    }
}

/// Firehose's word for it, where there is one.
fn code(status: u16, kind: InvokeFailureKind) -> &'static str {
    match (status, kind) {
        (429, _) => "Lambda.InvokeLimitExceeded",
        (404 | 410, _) => "Lambda.ResourceNotFound",
        (_, InvokeFailureKind::Refused) => "Lambda.InvokeAccessDenied",
        (_, InvokeFailureKind::TooLarge) => TOO_LARGE,
        (_, InvokeFailureKind::Unavailable) => "Lambda.ServiceUnavailable",
        (_, InvokeFailureKind::FunctionError) => failures::FUNCTION_ERROR,
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => " (redirections are not followed: give the last address in `url`)",
        401 | 403 => " (check `token`)",
        404 | 405 | 410 => " (check `url`)",
        _ => "",
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, FunctionConfigError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| FunctionConfigError::new("token", "it has characters that a header cannot hold"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A client that calls once: no redirections, no second try of its own.
pub(super) fn client(timeout: Duration) -> Result<Client, FunctionConfigError> {
    Client::builder()
        .timeout(timeout)
        .connect_timeout(Duration::from_secs(10).min(timeout))
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| FunctionConfigError::new("url", format!("no HTTP client: {}", innermost(&error))))
}

/// Reads a reply with the limit of the contract.
pub(super) async fn read_reply(answer: Response, name: &str) -> Result<Bytes, InvokeFailure> {
    match read(answer, FUNCTION_BYTES_MAX).await {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(failures::reply_too_large()),
        Err(error) => Err(unavailable(name, error)),
    }
}

/// The failure that a reply with [`FUNCTION_ERROR_HEADER`] stands for.
pub(super) fn raised_failure(reply: &[u8]) -> InvokeFailure {
    failures::raised(reply).unwrap_or_else(|| {
        let said = failures::short(&String::from_utf8_lossy(&reply[..reply.len().min(4_000)]));
        failures::function_error(format!("the function raised {said}"))
    })
}

/// The body, or `None` if it is longer than `limit`.
async fn read(mut answer: Response, limit: usize) -> Result<Option<Bytes>, reqwest::Error> {
    let declared = answer.content_length().and_then(|length| usize::try_from(length).ok());
    if answer.content_length().is_some() && declared.is_none_or(|length| length > limit) {
        return Ok(None);
    }
    let mut body = BytesMut::with_capacity(declared.unwrap_or(0));
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// The body of an answer that is an error; empty if it cannot be had.
pub(super) async fn read_error(answer: Response) -> Bytes {
    read(answer, ERROR_BYTES_MAX).await.ok().flatten().unwrap_or_default()
}

async fn said(answer: Response) -> String {
    let body = read_error(answer).await;
    let said = failures::short(&String::from_utf8_lossy(&body[..body.len().min(4_000)]));
    if said.is_empty() { said } else { format!(": {said}") }
}

/// `Retry-After` in seconds; as a date it is left to the caller's own pauses.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// A call without an answer. The address may hold a key, so it is left out.
pub(super) fn unavailable(name: &str, error: reqwest::Error) -> InvokeFailure {
    let error = error.without_url();
    let message = if error.is_timeout() {
        format!("{name} did not answer in time")
    } else {
        format!("{name} cannot be reached: {}", innermost(&error))
    };
    InvokeFailure::new(InvokeFailureKind::Unavailable, "Lambda.ServiceUnavailable", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_kinds() {
        use InvokeFailureKind::{FunctionError, Refused, TooLarge, Unavailable};
        for (status, expect) in [
            (400, FunctionError),
            (401, Refused),
            (403, Refused),
            (404, Refused),
            (408, Unavailable),
            (413, TooLarge),
            (422, FunctionError),
            (429, Unavailable),
            (500, FunctionError),
            (502, Unavailable),
            (503, Unavailable),
            (504, Unavailable),
            (302, Refused),
        ] {
            assert_eq!(kind(status), expect, "{status}");
            assert!(code(status, kind(status)).starts_with("Lambda."));
        }
    }
}
