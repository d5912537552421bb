//! `POST /`: the APIs of AWS, told apart by their targets.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;

use super::fault::Fault;
use super::invocation::invocation_key;
use crate::body::{self, Reservation};
use crate::doors::{Doors, finish_refused};
use crate::kinesis::{self, Encoding, Reply};
use crate::refusal::set_retry_after;

/// A larger answer is sent in parts, so that its memory is given back only when
/// the client has taken it.
const WHOLE_BYTES_MAX: usize = 256 << 10;
const PART_BYTES: usize = 64 << 10;

/// Which API a request is for.
struct Api<'a> {
    /// The operation of Kinesis; `None` for Firehose and for nobody's.
    kinesis: Option<&'a [u8]>,
    service: &'static str,
    encoding: Encoding,
    body_bytes_max: u64,
}

impl<'a> Api<'a> {
    fn of(parts: &'a Parts) -> Self {
        let kinesis = header(parts, "x-amz-target").and_then(|t| t.strip_prefix(kinesis::TARGET_PREFIX));
        if kinesis.is_some() {
            let encoding = Encoding::of(header(parts, "content-type"));
            Self { kinesis, service: "kinesis", encoding, body_bytes_max: kinesis::BODY_BYTES_MAX }
        } else {
            let body_bytes_max = crate::firehose::BODY_BYTES_MAX;
            Self { kinesis, service: "firehose", encoding: Encoding::Json, body_bytes_max }
        }
    }
}

fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a [u8]> {
    parts.headers.get(name).map(HeaderValue::as_bytes)
}

pub(crate) async fn post(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let api = Api::of(&parts);
    let mut response = match answer(&doors, &api, &parts, &mut body).await {
        Ok(Reply::Whole(reply, reservation)) => whole(reply, reservation),
        Ok(Reply::Events(events)) => {
            let mut response = Response::new(events);
            let events = HeaderValue::from_static("application/vnd.amazon.eventstream");
            response.headers_mut().insert(header::CONTENT_TYPE, events);
            return response;
        }
        Err(fault) => {
            let response = refuse(&fault, api.encoding);
            finish_refused(&parts.headers, response.status(), body).await;
            response
        }
    };
    let content_type = HeaderValue::from_static(api.encoding.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

async fn answer(doors: &Doors, api: &Api<'_>, parts: &Parts, body: &mut Body) -> Result<Reply, Fault> {
    doors.check_rate().map_err(|wait| Fault::slow_down(Some(wait)))?;
    let pause = doors.limits.body_read_timeout;
    let (bytes, mut reservation) = body::read(body, api.body_bytes_max, &doors.budget, pause).await?;
    // The decoded records come on top.
    reservation.grow(bytes.len() * 2)?;
    doors.gate.signature(api.service, parts, &bytes, doors.clock.now())?;
    let key = header(parts, "amz-sdk-invocation-id").and_then(|id| invocation_key(id, &bytes));
    match api.kinesis {
        Some(operation) => {
            let encoding = api.encoding;
            let request = kinesis::Request { operation, encoding, body: bytes, key, reservation };
            doors.kinesis.call(request).await
        }
        None => {
            let reply = doors.firehose.call(header(parts, "x-amz-target"), bytes, key).await?;
            drop(reservation);
            Ok(Reply::Whole(reply, None))
        }
    }
}

fn whole(reply: Vec<u8>, reservation: Option<Reservation>) -> Response<Body> {
    let length = reply.len();
    if length <= WHOLE_BYTES_MAX {
        return Response::new(Body::from(reply));
    }
    let parts = futures::stream::unfold((Bytes::from(reply), reservation), async |(mut left, held)| {
        if left.is_empty() {
            return None;
        }
        let part = left.split_to(left.len().min(PART_BYTES));
        Some((Ok::<_, std::convert::Infallible>(part), (left, held)))
    });
    let mut response = Response::new(Body::from_stream(parts));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn refuse(fault: &Fault, encoding: Encoding) -> Response<Body> {
    let body = serde_json::json!({"__type": fault.kind, "message": fault.message});
    let mut response = Response::new(Body::from(encoding.write(&body)));
    *response.status_mut() = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set_retry_after(&mut response, fault.retry_after);
    response
}
