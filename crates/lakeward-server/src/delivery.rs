//! The receiving side of Firehose's HTTP-endpoint delivery protocol: AWS's
//! Firehose, or anything that speaks it, sends to us.
//!
//! Source: *Amazon Data Firehose Developer Guide*, "HTTP endpoint delivery
//! request and response specifications". The request id is the request key, so
//! that a retry after a lost reply lands once. A sender drops what it gets 413
//! for and tries everything else again.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use lakeward_model::{Origin, Records, RequestKey, StreamName};
use serde::Deserialize;

use crate::body;
use crate::doors::{Doors, finish_refused};
use crate::events::encoding;
use crate::inflate::inflate;
use crate::refusal::{Refusal, json, set_retry_after};

const BODY_BYTES_MAX: u64 = 64 << 20;
const RECORDS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivery<'a> {
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// Answers one request.
pub(crate) async fn post(
    State(doors): State<Arc<Doors>>,
    stream: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let stream = stream.map(|Path(stream)| stream).unwrap_or_default();
    let id = parts.headers.get("x-amz-firehose-request-id").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let outcome = take(&doors, &stream, &parts, id, &mut body).await;
    let timestamp = doors.clock.now().millis();
    let mut reply = serde_json::json!({"requestId": id, "timestamp": timestamp});
    match outcome {
        Ok(()) => json(StatusCode::OK, reply.to_string()),
        Err(refusal) => {
            finish_refused(&parts.headers, refusal.status, body).await;
            reply["errorMessage"] = refusal.message.into();
            let mut response = json(refusal.status, reply.to_string());
            set_retry_after(&mut response, refusal.retry_after);
            response
        }
    }
}

async fn take(doors: &Doors, stream: &str, parts: &Parts, id: &str, body: &mut Body) -> Result<(), Refusal> {
    if !doors.gate.access_key(&parts.headers) {
        let message = "a valid access key is required in X-Amz-Firehose-Access-Key";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message));
    }
    doors.check_rate().map_err(Refusal::too_fast)?;
    let stream = StreamName::new(stream).map_err(|_| Refusal::unknown_stream(stream))?;
    let encoding = encoding(&parts.headers)?;
    let limits = &doors.limits;
    let (bytes, reservation) =
        body::read(body, BODY_BYTES_MAX, &doors.budget, limits.body_read_timeout).await?;
    let (bytes, mut reservation) = inflate(encoding, bytes, BODY_BYTES_MAX, reservation).await?;
    reservation.grow(bytes.len() * 2)?;
    let (key, records) = parse(id, &bytes)?;
    drop(bytes);
    if !records.is_empty() {
        doors.intake.accept(&stream, records, Origin::Push(Some(key))).await?;
    }
    drop(reservation);
    Ok(())
}

fn parse(id: &str, body: &[u8]) -> Result<(RequestKey, Records), Refusal> {
    let delivery: Delivery<'_> = serde_json::from_slice(body)
        .map_err(|e| Refusal::bad_request(format!("the body is not a Firehose delivery: {e}")))?;
    if delivery.request_id != id {
        return Err(Refusal::bad_request("requestId and X-Amz-Firehose-Request-Id are not the same"));
    }
    if delivery.records.len() > RECORDS_MAX {
        let message = format!("more than {RECORDS_MAX} records in one request");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    let key = RequestKey::new([b"firehose:", id.as_bytes()].concat())
        .filter(|_| !id.is_empty())
        .ok_or_else(|| Refusal::bad_request("X-Amz-Firehose-Request-Id has 1 to 247 bytes"))?;
    let mut data = Vec::with_capacity(body.len() / 4 * 3);
    let mut ends = Vec::with_capacity(delivery.records.len());
    for (i, entry) in delivery.records.iter().enumerate() {
        base64_simd::STANDARD
            .decode_append(entry.data.as_bytes(), &mut data)
            .map_err(|_| Refusal::bad_request(format!("data of record {i} is not valid base64")))?;
        ends.push(u32::try_from(data.len()).expect("a body is far below 4 GiB"));
    }
    Ok((key, Records::new(Bytes::from(data), ends)))
}
