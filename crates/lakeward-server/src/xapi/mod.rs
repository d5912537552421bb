//! The door for learning software: xAPI statements.
//!
//! Source: *Experience API 1.0.3, part three: data processing, validation, and
//! security* (adlnet/xAPI-Spec); version 2.0 differs in nothing that this door
//! does. It takes statements, and gives one back by its id as long as the
//! journal has it; it answers no other questions: those are for the lake or the
//! warehouse that the statements go to.
//!
//! A statement whose id was seen within the journal's window for request keys
//! is not stored again: equal content is answered as the first was, other
//! content with 409. A record is what was sent, byte for byte; the elements of
//! an array are records of their own.

mod call;
mod config;
mod known;
mod statement;
mod take;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use axum::routing::{MethodRouter, get, post};
use lakeward_engine::Streams;
use lakeward_model::{StreamName, StreamNameError};
use uuid::Uuid;

use crate::doors::{Doors, finish_refused};
use crate::refusal::{Refusal, json};

use call::{Call, VERSION, Version};
pub use config::{XapiConfig, XapiCredential};
use known::Known;

const CONSISTENT_THROUGH: HeaderName = HeaderName::from_static("x-experience-api-consistent-through");
/// What a page's script may send and read, for content that runs in a browser.
const HEADERS: &str = "Authorization, Content-Type, Content-Encoding, X-Experience-API-Version";
const EXPOSED: &str = "X-Experience-API-Version, X-Experience-API-Consistent-Through, Retry-After";

/// Where statements go.
#[derive(Debug)]
pub(crate) struct XapiDoor {
    stream: StreamName,
    strict: bool,
    stamp: bool,
    known: Known,
    streams: Streams,
}

impl XapiDoor {
    /// # Errors
    /// The stream has no name for one.
    pub(crate) fn new(config: &XapiConfig, streams: Streams) -> Result<Self, StreamNameError> {
        let stream = StreamName::new(&config.stream)?;
        Ok(Self { stream, strict: config.strict, stamp: config.stamp, known: Known::default(), streams })
    }
}

/// The paths below the endpoint, also as people spell it.
pub(crate) fn routes() -> Router<Arc<Doors>> {
    let mut router = Router::new();
    for root in ["/xAPI", "/xapi"] {
        for end in ["", "/"] {
            router = router
                .route(&format!("{root}/statements{end}"), statements())
                .route(&format!("{root}/about{end}"), get(about).options(preflight));
        }
    }
    router
}

/// Whether a path is one of the door's.
pub(crate) fn is_ours(path: &str) -> bool {
    path.starts_with("/xAPI/") || path.starts_with("/xapi/")
}

fn statements() -> MethodRouter<Arc<Doors>> {
    post(answer).put(answer).get(answer).options(preflight)
}

/// Answers one request.
async fn answer(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response<Body> {
    let (mut parts, mut body) = request.into_parts();
    let mut version = Version::default();
    let outcome = match Call::read(&doors, &mut parts, &mut body).await {
        Ok(call) => {
            version = call.version;
            serve(&doors, call).await
        }
        Err(refusal) => Err(refusal),
    };
    let mut response = match outcome {
        Ok(response) => response,
        Err(refusal) => {
            let refusal = for_clients(refusal);
            finish_refused(&parts.headers, refusal.status, body).await;
            let unauthorized = refusal.status == StatusCode::UNAUTHORIZED;
            let mut response = refusal.into_response();
            if unauthorized {
                let basic = HeaderValue::from_static("Basic realm=\"xAPI\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
            }
            response
        }
    };
    response.headers_mut().insert(VERSION, HeaderValue::from_static(version.text()));
    allow(response.headers_mut());
    response
}

async fn serve(doors: &Doors, mut call: Call) -> Result<Response<Body>, Refusal> {
    match call.method {
        Method::PUT => {
            take::put(doors, &mut call).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Method::POST if call.asks() => Err(Refusal::bad_request(
            "a POST has no parameters; one statement with an id of its own is a PUT",
        )),
        Method::POST => {
            let ids = take::post(doors, &mut call).await?;
            let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
            Ok(json(StatusCode::OK, serde_json::json!(ids).to_string()))
        }
        _ => found(doors, &call).await,
    }
}

/// `GET`: one statement, by its id.
async fn found(doors: &Doors, call: &Call) -> Result<Response<Body>, Refusal> {
    let Some(id) = call.parameter("statementId").or(call.parameter("voidedStatementId")) else {
        let message = "this server takes statements; ask the lake or the warehouse that they go to \
                       (only `statementId` is answered here, for as long as the journal has it)";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", message));
    };
    let id = Uuid::parse_str(id).map_err(|_| Refusal::bad_request("statementId: it is a UUID"))?;
    let record = match call.parameter("statementId") {
        Some(_) => take::get(doors, id).await,
        None => None,
    };
    let Some(record) = record else {
        let message = "there is no such statement, or the journal does not have it any more";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    let mut response = json(StatusCode::OK, record);
    if let Ok(now) = HeaderValue::from_str(&doors.clock.now().to_string()) {
        response.headers_mut().insert(CONSISTENT_THROUGH, now);
    }
    Ok(response)
}

/// `GET /xAPI/about`: which versions we speak; for everybody. Clients of 1.0
/// fail on a version that they do not know (TinCanPython 1.0 does), so only
/// those of 2.0 hear of it.
async fn about(headers: HeaderMap) -> Response<Body> {
    let asked = headers.get(VERSION).and_then(|value| value.to_str().ok()).and_then(Version::parse);
    let version = asked.unwrap_or_default();
    let mut versions = vec!["1.0.0", "1.0.1", "1.0.2", "1.0.3"];
    if version == Version::Two {
        versions.push("2.0.0");
    }
    let mut response = json(StatusCode::OK, serde_json::json!({ "version": versions }).to_string());
    response.headers_mut().insert(VERSION, HeaderValue::from_static(version.text()));
    allow(response.headers_mut());
    response
}

/// A stream that nobody delivers yet is a state that passes.
fn for_clients(refusal: Refusal) -> Refusal {
    if refusal.code == "unknown_stream" {
        let retry_after = Some(std::time::Duration::from_secs(1));
        return Refusal { status: StatusCode::SERVICE_UNAVAILABLE, retry_after, ..refusal };
    }
    refusal
}

/// Answers `OPTIONS`, so that content in a browser may send to another host
/// than its own (*Fetch Standard*, "CORS protocol").
async fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, OPTIONS, POST, PUT"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("300"));
    allow(headers);
    response
}

/// There are no cookies, so that every origin may read the answer.
fn allow(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}
