//! Letting records leave quarantine, and what that needs to be known. All of it
//! needs a bearer token where tokens are configured.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use lakeward_engine::{ControlError, Quarantined, ReplayAnswer};
use lakeward_model::{Offset, Timestamp};
use serde::Deserialize;

use crate::body;
use crate::doors::{Doors, finish_refused};
use crate::inspect::{answer, finish};
use crate::refusal::Refusal;

/// A record may be as large as the largest body of the other doors.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// Most records in one request: they become one batch.
const RECORDS_MAX: usize = 10_000;
/// Most bytes of records in one request, unless it has one record only.
const RECORD_BYTES_MAX: usize = 8 << 20;
/// Most offsets in one answer.
const OFFSETS_MAX: usize = 100_000;

#[derive(Deserialize)]
struct Replay<'a> {
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    source: uuid::Uuid,
    offset: u64,
    /// Microseconds since the epoch.
    received_at: i64,
    #[serde(borrow)]
    data_base64: Cow<'a, str>,
}

/// `POST /v1/pipelines/{name}/replay`: records leave quarantine, each once
/// however often it is sent.
pub(crate) async fn post(
    State(doors): State<Arc<Doors>>,
    name: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let name = name.map(|Path(name)| name).unwrap_or_default();
    match take(&doors, &name, &parts, &mut body).await {
        Ok(queued) => answer(&queued),
        Err(refusal) => {
            finish_refused(&parts.headers, refusal.status, body).await;
            refusal.into_response()
        }
    }
}

async fn take(doors: &Doors, name: &str, parts: &Parts, body: &mut Body) -> Result<ReplayAnswer, Refusal> {
    if !doors.gate.bearer(&parts.headers) {
        return Err(Refusal::unauthorized());
    }
    doors.check_rate().map_err(Refusal::too_fast)?;
    let pause = doors.limits.body_read_timeout;
    let (bytes, mut reservation) = body::read(body, BODY_BYTES_MAX, &doors.budget, pause).await?;
    // The decoded records come on top.
    reservation.grow(bytes.len() * 2)?;
    let records = parse(&bytes)?;
    drop(bytes);
    let queued = doors.control.replay(name, records).await;
    drop(reservation);
    queued.map_err(|error| match error {
        ControlError::NotFound(name) => {
            let message = format!("there is no pipeline named {name}");
            Refusal::new(StatusCode::NOT_FOUND, "unknown_pipeline", message)
        }
        error => {
            tracing::error!(%error, "a replay was not queued");
            let message = "the records may not have been queued; send them again, each leaves once";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
        }
    })
}

fn parse(body: &[u8]) -> Result<Vec<Quarantined>, Refusal> {
    let replay: Replay<'_> = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("the body is not a replay: {error}")))?;
    let too_large = |message: String| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message);
    if replay.records.len() > RECORDS_MAX {
        return Err(too_large(format!("more than {RECORDS_MAX} records in one request")));
    }
    let mut records = Vec::with_capacity(replay.records.len());
    let mut bytes = 0;
    for (i, entry) in replay.records.iter().enumerate() {
        let data = base64_simd::STANDARD
            .decode_to_vec(entry.data_base64.as_bytes())
            .map_err(|_| Refusal::bad_request(format!("data_base64 of record {i} is not valid base64")))?;
        bytes += data.len();
        if bytes > RECORD_BYTES_MAX && replay.records.len() > 1 {
            return Err(too_large(format!("more than {RECORD_BYTES_MAX} bytes of records in one request")));
        }
        records.push(Quarantined {
            source: entry.source,
            offset: Offset(entry.offset),
            received_at: Timestamp(entry.received_at),
            data: Bytes::from(data),
        });
    }
    Ok(records)
}

/// Which offsets.
#[derive(Debug, Deserialize)]
pub(crate) struct ReplayedQuery {
    source: uuid::Uuid,
    #[serde(default)]
    from: u64,
    limit: Option<usize>,
}

/// `GET /v1/pipelines/{name}/replayed`: the offsets of a source that left
/// quarantine, ascending, from `from` on.
pub(crate) async fn replayed(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Path(name): Path<String>,
    query: Result<Query<ReplayedQuery>, QueryRejection>,
) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    let Ok(Query(query)) = query else {
        return Refusal::bad_request("give `source`, a uuid, and if need be `from` and `limit`")
            .into_response();
    };
    let limit = query.limit.unwrap_or(OFFSETS_MAX).min(OFFSETS_MAX);
    finish(doors.control.replayed(&name, query.source, Offset(query.from), limit).await)
}

/// `GET /v1/pipelines/{name}/schemas`: every version of its columns.
pub(crate) async fn schemas(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    finish(doors.control.schema_versions(&name).await)
}
