//! `POST /v1/streams/{stream}/records`: NDJSON, a JSON array, or JSON objects.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use lakeward_model::{Origin, Records, RequestKey, StreamName};

use crate::body;
use crate::doors::{Doors, finish_refused};
use crate::inflate::{Encoding, inflate};
use crate::refusal::{Refusal, json};
use crate::split;

/// How the body holds records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// One per line.
    Lines,
    /// A JSON array of them, or one after another.
    Json,
}

/// Answers one request.
pub(crate) async fn post(
    State(doors): State<Arc<Doors>>,
    stream: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let stream = stream.map(|Path(stream)| stream).unwrap_or_default();
    match take(&doors, &stream, &parts, &mut body).await {
        Ok(response) => response,
        Err(refusal) => {
            finish_refused(&parts.headers, refusal.status, body).await;
            refusal.into_response()
        }
    }
}

async fn take(
    doors: &Doors,
    stream: &str,
    parts: &Parts,
    body: &mut Body,
) -> Result<Response<Body>, Refusal> {
    if !doors.gate.bearer(&parts.headers) {
        return Err(Refusal::unauthorized());
    }
    doors.check_rate().map_err(Refusal::too_fast)?;
    let stream = StreamName::new(stream).map_err(|_| Refusal::unknown_stream(stream))?;
    let layout = layout(&parts.headers)?;
    let encoding = encoding(&parts.headers)?;
    let key = request_key(&parts.headers)?;

    let limits = &doors.limits;
    let (bytes, reservation) =
        body::read(body, limits.body_bytes, &doors.budget, limits.body_read_timeout).await?;
    let (bytes, mut reservation) = inflate(encoding, bytes, limits.decompressed_bytes, reservation).await?;
    let records: Records = match layout {
        Layout::Lines => split::lines(&bytes, limits.records_per_request)?,
        Layout::Json => {
            reservation.grow(bytes.len() * 2)?;
            split::values(&bytes, limits.records_per_request)?
        }
    };
    drop(bytes);
    if records.is_empty() {
        return Err(Refusal::bad_request("the body holds no record"));
    }
    let accepted = doors.intake.accept(&stream, records, Origin::Push(key)).await?;
    drop(reservation);
    // A stream's name needs no escaping.
    let reply = format!(
        "{{\"stream\":\"{stream}\",\"first_offset\":{},\"records\":{},\"replayed\":{}}}",
        accepted.first, accepted.count, accepted.replayed
    );
    Ok(json(StatusCode::OK, reply))
}

fn layout(headers: &HeaderMap) -> Result<Layout, Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Layout::Lines) };
    let text = value.to_str().unwrap_or("?");
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        ""
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines"
        | "text/plain"
        // What `curl --data-binary` says of any file.
        | "application/x-www-form-urlencoded" => Ok(Layout::Lines),
        "application/json" => Ok(Layout::Json),
        _ => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send application/x-ndjson (one record per line) or application/json",
        )),
    }
}

/// The body's encoding.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let first = values.next().map(axum::http::HeaderValue::as_bytes);
    Encoding::parse(first).filter(|_| values.next().is_none()).ok_or_else(|| {
        Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "send one content encoding of gzip, zstd, deflate or identity",
        )
    })
}

fn request_key(headers: &HeaderMap) -> Result<Option<RequestKey>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    RequestKey::new(value.as_bytes().to_vec())
        .map(Some)
        .ok_or_else(|| Refusal::bad_request("an idempotency key has 1 to 256 bytes"))
}
