//! Looking at the running service: what the command line asks for. All of it
//! needs a bearer token where tokens are configured.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use lakeward_engine::{BatchKey, ControlError, RecordsFrom};
use lakeward_model::{Offset, StreamName};
use serde::{Deserialize, Serialize};

use crate::doors::Doors;
use crate::refusal::{Refusal, json};

/// Most batches in one answer.
const BATCHES_MAX: usize = 1_000;

/// `GET /v1/status`: every pipeline's numbers, and the server's own.
pub(crate) async fn status(State(doors): State<Arc<Doors>>, headers: HeaderMap) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    answer(&serde_json::json!({
        "ready": doors.is_ready(),
        "in_flight_bytes_free": doors.budget.free(),
        "pipelines": doors.control.status(),
        "sources": doors.control.sources(),
    }))
}

/// `GET /v1/pipelines`: the settings of pipelines, without the secrets that a
/// destination of the configuration file may hold.
pub(crate) async fn pipelines(State(doors): State<Arc<Doors>>, headers: HeaderMap) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    answer(&doors.control.list_made())
}

/// Which batches.
#[derive(Debug, Deserialize)]
pub(crate) struct BatchesAfter {
    limit: Option<usize>,
    pipeline: Option<String>,
    source: Option<uuid::Uuid>,
    from: Option<u64>,
}

/// `GET /v1/batches`: committed batches in the order of their keys, those
/// behind `pipeline`, `source` and `from` if these are given.
pub(crate) async fn batches(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Query(query): Query<BatchesAfter>,
) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    let after = match (query.pipeline, query.source, query.from) {
        (Some(pipeline), Some(source), Some(from)) => Some(BatchKey { pipeline, source, from: Offset(from) }),
        _ => None,
    };
    let limit = query.limit.unwrap_or(BATCHES_MAX).min(BATCHES_MAX);
    finish(doors.control.batches(after, limit).await)
}

/// Which records.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordsQuery {
    from: Option<u64>,
    newest: Option<u64>,
}

/// `GET /v1/streams/{stream}/records`: records as they were received, from an
/// offset on or the newest so many.
pub(crate) async fn records(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Path(stream): Path<String>,
    Query(query): Query<RecordsQuery>,
) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    let Ok(stream) = StreamName::new(&stream) else { return not_found("there is no such stream") };
    let from = match (query.from, query.newest) {
        (Some(offset), _) => RecordsFrom::Offset(Offset(offset)),
        (None, newest) => RecordsFrom::Newest(newest.unwrap_or(10)),
    };
    finish(doors.control.records(&stream, from).await)
}

/// Answers a question about the state.
pub(crate) fn finish<T: Serialize>(outcome: Result<T, ControlError>) -> Response<Body> {
    match outcome {
        Ok(value) => answer(&value),
        Err(ControlError::NotFound(what)) => not_found(&format!("there is no {what}")),
        Err(error) => {
            tracing::error!(%error, "a question about the state failed");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the state cannot be read")
                .into_response()
        }
    }
}

/// Answers with JSON.
pub(crate) fn answer(value: &impl Serialize) -> Response<Body> {
    json(StatusCode::OK, serde_json::to_string(value).unwrap_or_default())
}

fn not_found(message: &str) -> Response<Body> {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message).into_response()
}
