//! Runs of sliced sources: asking for them, looking at them, ending them. All
//! of it needs a bearer token where tokens are configured.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use lakeward_engine::{Run, RunRequest};
use serde::Deserialize;

use crate::body;
use crate::doors::{Doors, finish_refused};
use crate::inspect::answer;
use crate::refusal::{Refusal, json};
use crate::slices::{SLICES_MAX, finish};

const BODY_BYTES_MAX: u64 = 64 << 10;

/// `POST /v1/sources/{source}/runs`: begins a run; one like it that is not
/// finished is answered instead.
pub(crate) async fn post(
    State(doors): State<Arc<Doors>>,
    Path(source): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    match begin(&doors, &source, &parts, &mut body).await {
        Ok(run) => json(StatusCode::ACCEPTED, serde_json::to_string(&run).unwrap_or_default()),
        Err(refusal) => {
            finish_refused(&parts.headers, refusal.status, body).await;
            refusal.into_response()
        }
    }
}

async fn begin(doors: &Doors, source: &str, parts: &Parts, body: &mut Body) -> Result<Run, Refusal> {
    if !doors.gate.bearer(&parts.headers) {
        return Err(Refusal::unauthorized());
    }
    doors.check_rate().map_err(Refusal::too_fast)?;
    let pause = doors.limits.body_read_timeout;
    let (bytes, _reservation) = body::read(body, BODY_BYTES_MAX, &doors.budget, pause).await?;
    let asked: RunRequest = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad_request(format!("the body is not a run: {error}")))?;
    Ok(doors.control.begin_run(source, asked).await?)
}

/// Which runs.
#[derive(Debug, Deserialize)]
pub(crate) struct RunsQuery {
    source: Option<String>,
}

/// `GET /v1/runs`: the newest runs, the newest first.
pub(crate) async fn list(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Query(query): Query<RunsQuery>,
) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    finish(doors.control.runs(query.source.as_deref()).await)
}

/// `GET /v1/runs/{id}`: a run as it is now.
pub(crate) async fn get(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response<Body> {
    match run_id(&doors, &headers, &id) {
        Ok(id) => finish(doors.control.run(id).await),
        Err(refusal) => refusal.into_response(),
    }
}

/// `DELETE /v1/runs/{id}`: ends a run; what it took stays.
pub(crate) async fn delete(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response<Body> {
    match run_id(&doors, &headers, &id) {
        Ok(id) => finish(doors.control.cancel_run(id).await),
        Err(refusal) => refusal.into_response(),
    }
}

/// Which slices of a run.
#[derive(Debug, Deserialize)]
pub(crate) struct RunSlicesQuery {
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/runs/{id}/slices`: what became of a run's slices, those behind the
/// name `after`.
pub(crate) async fn slices(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    query: Result<Query<RunSlicesQuery>, QueryRejection>,
) -> Response<Body> {
    let id = match run_id(&doors, &headers, &id) {
        Ok(id) => id,
        Err(refusal) => return refusal.into_response(),
    };
    let Ok(Query(query)) = query else {
        return Refusal::bad_request("give `after`, a name, and `limit`, if need be").into_response();
    };
    let limit = query.limit.unwrap_or(SLICES_MAX).clamp(1, SLICES_MAX);
    match doors.control.run_slices(id, query.after, limit).await {
        Ok(slices) => {
            let next = slices.last().filter(|_| slices.len() >= limit).map(|slice| slice.name.clone());
            answer(&serde_json::json!({ "slices": slices, "next": next }))
        }
        Err(error) => Refusal::from(error).into_response(),
    }
}

/// The id of a run, if the client may ask.
fn run_id(doors: &Doors, headers: &HeaderMap, id: &str) -> Result<uuid::Uuid, Refusal> {
    if !doors.gate.bearer(headers) {
        return Err(Refusal::unauthorized());
    }
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "unknown_run", "there is no such run");
    id.parse().map_err(|_| unknown())
}
