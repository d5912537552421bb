//! The events door for LaunchDarkly's SDKs, in every language: an SDK whose
//! events URI is this server's address sends us what it would send to
//! LaunchDarkly.
//!
//! Source: the Python SDK 9.18 (`impl/events/event_processor.py`) and the
//! JavaScript SDKs (`EventSender`), which agree. A body is a JSON array of
//! events; the payload id stays the same when a request is sent again, which
//! makes it the request key. An SDK tries once more, a second later, after a
//! broken connection, 400, 408, 429 and 5xx, and then drops the events; after
//! any other 4xx the Python SDK sends nothing more until it is started anew.
//! So the door answers 401 to a wrong key, 400 to a body that it can never
//! take, and 503 to everything that passes.

mod config;
mod cors;
mod forward;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use lakeward_model::{Origin, Records, RequestKey, StreamName};
use tokio::task::JoinHandle;

use crate::body;
use crate::doors::{Doors, finish_refused};
use crate::events::encoding;
use crate::inflate::{Encoding, inflate};
use crate::refusal::Refusal;
use crate::split;

pub use config::LaunchDarklyConfig;
use config::Problem;
use forward::Forward;

/// What stands before a payload id in a request key, so that it equals no key
/// of another door.
const KEY_PREFIX: &[u8] = b"launchdarkly:";
/// When an SDK in a relay or proxy should try again, if nothing else says so.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What comes before a client-side id in a path.
const CLIENT_SIDE: [&str; 2] = ["/events/bulk/", "/events/diagnostic/"];

/// Where events go.
#[derive(Debug)]
pub(crate) struct EventsDoor {
    stream: StreamName,
    diagnostics: Option<StreamName>,
    forward: Option<Forward>,
}

impl EventsDoor {
    /// Opens the door; the task sends on until the door is dropped.
    ///
    /// # Errors
    /// The configuration must change.
    pub(crate) fn open(config: &LaunchDarklyConfig) -> Result<(Self, Option<JoinHandle<()>>), Problem> {
        let stream = |path, name: &str| StreamName::new(name).map_err(|error| (path, error.to_string()));
        let diagnostics =
            config.diagnostics.as_deref().map(|name| stream("diagnostics", name)).transpose()?;
        let base = config.forward.as_deref().map(config::base).transpose();
        let base = base.map_err(|problem| ("forward", problem.to_string()))?;
        let forward = base.map(Forward::start).transpose().map_err(|problem| ("forward", problem))?;
        let (forward, task) = forward.unzip();
        Ok((Self { stream: stream("stream", &config.stream)?, diagnostics, forward }, task))
    }
}

/// The paths that server-side, mobile and browser SDKs post to.
pub(crate) fn routes() -> Router<Arc<Doors>> {
    Router::new()
        .route("/bulk", events())
        .route("/mobile", events())
        .route("/mobile/events", events())
        .route("/mobile/events/bulk", events())
        .route("/events/bulk/{client_side_id}", events())
        .route("/diagnostic", diagnostics())
        .route("/mobile/events/diagnostic", diagnostics())
        .route("/events/diagnostic/{client_side_id}", diagnostics())
}

/// Whether a path is one of the door's.
pub(crate) fn is_ours(path: &str) -> bool {
    matches!(path, "/bulk" | "/diagnostic" | "/mobile")
        || path.starts_with("/mobile/")
        || client_side_id(path).is_some()
}

fn client_side_id(path: &str) -> Option<&str> {
    CLIENT_SIDE.iter().find_map(|prefix| path.strip_prefix(prefix))
}

fn events() -> MethodRouter<Arc<Doors>> {
    let answer = async |State(doors): State<Arc<Doors>>, request: Request<Body>| {
        let stream = doors.launchdarkly.stream.clone();
        answer(&doors, Some(&stream), request).await
    };
    post(answer).options(cors::preflight)
}

fn diagnostics() -> MethodRouter<Arc<Doors>> {
    let answer = async |State(doors): State<Arc<Doors>>, request: Request<Body>| {
        let stream = doors.launchdarkly.diagnostics.clone();
        answer(&doors, stream.as_ref(), request).await
    };
    post(answer).options(cors::preflight)
}

/// Answers one request, whose records go to `stream` if there is one.
async fn answer(doors: &Doors, stream: Option<&StreamName>, request: Request<Body>) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let mut response = match take(doors, stream, &parts, &mut body).await {
        Ok(()) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
        Err(refusal) => {
            let refusal = for_sdks(refusal);
            finish_refused(&parts.headers, refusal.status, body).await;
            refusal.into_response()
        }
    };
    cors::allow(&mut response);
    response
}

async fn take(
    doors: &Doors,
    stream: Option<&StreamName>,
    parts: &Parts,
    body: &mut Body,
) -> Result<(), Refusal> {
    if !doors.gate.sdk_key(&parts.headers, client_side_id(parts.uri.path())) {
        let message = "this SDK key is not among `launchdarkly.sdk_keys`";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message));
    }
    doors.check_rate().map_err(Refusal::too_fast)?;
    let key = request_key(&parts.headers)?;
    let encoding = encoding(&parts.headers)?;
    let limits = &doors.limits;
    let (sent, reservation) =
        body::read(body, limits.body_bytes, &doors.budget, limits.body_read_timeout).await?;
    let (bytes, mut reservation) =
        inflate(encoding, Bytes::clone(&sent), limits.decompressed_bytes, reservation).await?;
    if let Some(stream) = stream {
        let packed = if encoding == Encoding::Identity { 0 } else { sent.len() };
        reservation.grow(packed + bytes.len() * 2)?;
        let records: Records = split::values(&bytes, limits.records_per_request)?;
        drop(bytes);
        if !records.is_empty() {
            doors.intake.accept(stream, records, Origin::Push(key)).await?;
        }
    }
    // Also what was there already: the process may have died between the
    // append and this line, and LaunchDarkly knows payload ids too.
    if let Some(forward) = &doors.launchdarkly.forward {
        forward.offer(parts, &sent);
    }
    Ok(())
}

fn request_key(headers: &HeaderMap) -> Result<Option<RequestKey>, Refusal> {
    let Some(id) = headers.get("x-launchdarkly-payload-id").filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    RequestKey::new([KEY_PREFIX, id.as_bytes()].concat())
        .map(Some)
        .ok_or_else(|| Refusal::bad_request("a payload id has at most 243 bytes"))
}

/// A refusal with a status that no SDK takes for the end of everything.
fn for_sdks(refusal: Refusal) -> Refusal {
    let status = match refusal.status {
        StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT => refusal.status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let passes = status == StatusCode::SERVICE_UNAVAILABLE;
    let retry_after = passes.then(|| refusal.retry_after.unwrap_or(RETRY_AFTER));
    Refusal { status, retry_after, ..refusal }
}
