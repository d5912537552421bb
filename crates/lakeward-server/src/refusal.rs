//! What the doors of our own answer when they do not do as asked:
//! `{"error":{"code","message"}}`.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use lakeward_engine::AcceptError;

use crate::body::BodyError;
use crate::inflate::InflateError;
use crate::split::SplitError;

/// A refusal with its HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// A word for programs.
    pub(crate) code: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "a valid bearer token is required")
    }

    pub(crate) fn unknown_stream(stream: &str) -> Self {
        let stream: String = stream.chars().take(200).collect();
        Self::new(StatusCode::NOT_FOUND, "unknown_stream", format!("there is no stream {stream}"))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn too_fast(retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests")
        }
    }

    fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = serde_json::json!({"error": {"code": self.code, "message": self.message}});
        let mut response = json(self.status, body.to_string());
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        set_retry_after(&mut response, self.retry_after);
        response
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(_) => Self::too_large(error.to_string()),
            BodyError::Busy => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", error.to_string())
            },
            BodyError::Stalled => Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", error.to_string()),
            BodyError::Cut(_) => Self::bad_request(error.to_string()),
        }
    }
}

impl From<InflateError> for Refusal {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::Body(error) => error.into(),
            InflateError::Malformed(_) => Self::bad_request(error.to_string()),
        }
    }
}

impl From<SplitError> for Refusal {
    fn from(error: SplitError) -> Self {
        match error {
            SplitError::TooMany(_) => Self::too_large(error.to_string()),
            SplitError::Malformed { .. } => Self::bad_request(format!("the body is not valid JSON: {error}")),
        }
    }
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Self {
        let message = error.to_string();
        match error {
            AcceptError::UnknownStream(stream) => Self::unknown_stream(stream.as_str()),
            AcceptError::Full { retry_after } => Self {
                retry_after: Some(retry_after),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "journal_full", message)
            },
            AcceptError::TooLarge { .. } => Self::too_large(message),
            AcceptError::Draining => Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message),
            AcceptError::Failed(cause) => {
                tracing::error!(cause, "records were not taken");
                let message = "the records may not have been stored; send them again with the same key";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

/// A response with a JSON body.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds `Retry-After` in whole seconds, rounded up.
pub(crate) fn set_retry_after(response: &mut Response<Body>, retry_after: Option<Duration>) {
    if let Some(wait) = retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
}
