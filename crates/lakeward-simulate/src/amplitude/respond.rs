//! The export itself: one request, one answer.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use lakeward_model::Timestamp;
use lakeward_model::clock::Clock;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{Shape, body};
use super::export::{Export, Length, zipped_bytes};
use super::hour::{Hour, MICROS};
use super::log::Answer;
use super::mischief::Decision;
use super::plan::HourPlan;
use super::script::What;
use super::{Options, Simulator};
use crate::serve::HangUp;

/// Days of a window at the most.
const WINDOW_DAYS_MAX: u64 = 365;
/// Seconds that a client is told to wait which asks too much at a time.
const BUSY_SECONDS: &str = "1";

/// A page as load balancers show it.
const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Amplitude</title></head>\
    <body><h1>We'll be right back</h1></body></html>\n";

/// An answer without an archive.
struct Refusal {
    status: StatusCode,
    text: String,
    headers: Vec<(header::HeaderName, String)>,
}

fn refusal(status: StatusCode, text: impl Into<String>) -> Refusal {
    Refusal { status, text: text.into(), headers: Vec::new() }
}

/// `GET /api/2/export?start=&end=`.
pub(super) async fn export(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response<Body> {
    let mut answer = Answer { attempt: 1, status: 200, ..Answer::default() };
    match simulator.prepare(&headers, &query, &mut answer) {
        Ok(Prepared { decision, export, place }) => simulator.send(decision, export, place, answer).await,
        Err(refused) => {
            answer.status = refused.status.as_u16();
            simulator.note(answer);
            respond(refused)
        }
    }
}

fn respond(refused: Refusal) -> Response<Body> {
    let mut response = Response::new(Body::from(refused.text));
    *response.status_mut() = refused.status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    for (name, value) in refused.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Everything is right so far.
struct Prepared {
    decision: Decision,
    export: Export,
    place: OwnedSemaphorePermit,
}

impl Simulator {
    fn prepare(
        &self,
        headers: &HeaderMap,
        query: &HashMap<String, String>,
        answer: &mut Answer,
    ) -> Result<Prepared, Refusal> {
        authenticate(&self.options, headers)?;
        let (first, last) = window(query)?;
        answer.window = Some((first, last));
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let mut busy = refusal(StatusCode::TOO_MANY_REQUESTS, "Too many concurrent requests.");
            busy.headers.push((header::RETRY_AFTER, BUSY_SECONDS.to_string()));
            return Err(busy);
        };
        let (decision, hours) = self.decide(first, last);
        answer.attempt = decision.attempt;
        answer.misbehaviour = (decision.what != What::Ok).then_some(decision.what);
        if let Some(refused) = refused(&decision) {
            return Err(refused);
        }
        answer.events = hours.iter().map(|hour| hour.events).sum();
        if answer.events == 0 && decision.what != What::Hangup {
            if !decision.scripted {
                answer.misbehaviour = None;
            }
            return Err(refusal(StatusCode::NOT_FOUND, "Raw data files were not found."));
        }
        if zipped_bytes(&hours) > self.options.too_large_bytes {
            return Err(too_large());
        }
        let what = decision.what;
        let export = Export { hours, corrupt: what == What::Corrupt, bare_gzip: what == What::Gzip };
        Ok(Prepared { decision, export, place })
    }

    /// What the request gets, and what there is of its hours right now.
    fn decide(&self, first: Hour, last: Hour) -> (Decision, Vec<HourPlan>) {
        let now = self.clock.now();
        let mut mischief = self.mischief.lock().unwrap_or_else(PoisonError::into_inner);
        let decision = mischief.decide(first, last);
        let scripted_late = decision.scripted && decision.what == What::Late;
        let mut hours = Vec::new();
        // Hours outside of the data are empty; a year of them is quick to skip.
        for hour in first.max(self.options.from).to(last.plus(1).min(self.options.to)) {
            let plan = HourPlan::of(&self.options, hour);
            let share = if scripted_late {
                decision.share
            } else {
                let partly = || mischief.is_partly_there(decision.attempt, hour);
                there(now, hour, self.options.delay, partly)
            };
            let events = (plan.events as f64 * share) as u64;
            let plan = if share < 1.0 { plan.first(events) } else { plan };
            hours.push(match decision.what {
                What::Resplit => plan.split_again(self.options.seed.wrapping_add(decision.attempt)),
                _ => plan,
            });
        }
        (decision, hours)
    }

    async fn send(
        &self,
        decision: Decision,
        export: Export,
        place: OwnedSemaphorePermit,
        answer: Answer,
    ) -> Response<Body> {
        let entry = self.note(answer);
        let mut response = Response::new(Body::empty());
        if decision.what == What::Hangup {
            response.extensions_mut().insert(HangUp);
            return response;
        }
        if decision.what == What::Html {
            *response.body_mut() = Body::from(PAGE);
            entry.sent(PAGE.len() as u64);
            entry.finished();
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, html);
            return response;
        }
        let seconds = Duration::from_secs_f64(decision.seconds);
        let mut shape = Shape::default();
        match decision.what {
            What::Slow => shape.drops = Some(seconds),
            What::Truncated | What::Cut | What::Stall => {
                let Some(length) = self.length(&export).await else {
                    return respond(refusal(StatusCode::INTERNAL_SERVER_ERROR, ""));
                };
                // At least a byte is missing.
                let part = (length as f64 * decision.share) as u64;
                shape.cut_at = Some(part.min(length.saturating_sub(1)));
                if decision.what == What::Cut {
                    shape.broken_after = Some(Duration::ZERO);
                    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                } else if decision.what == What::Stall {
                    shape.broken_after = Some(seconds);
                }
            }
            _ => {}
        }
        let kind = HeaderValue::from_static("application/zip");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        let options = Arc::clone(&self.options);
        *response.body_mut() =
            body(shape, Some(entry), Some(place), move |pipe| export.write(&options, pipe));
        response
    }

    /// How long an archive will be: made once for nothing.
    async fn length(&self, export: &Export) -> Option<u64> {
        let (options, export) = (Arc::clone(&self.options), export.clone());
        let counting = tokio::task::spawn_blocking(move || {
            let mut length = Length::default();
            export.write(&options, &mut length).map(|()| length.0)
        });
        counting.await.ok()?.ok()
    }

    fn note(&self, answer: Answer) -> Arc<super::log::Entry> {
        let window = answer.window.map_or_else(String::new, |(first, last)| format!("{first}..{last}"));
        let what = answer.misbehaviour.map_or_else(String::new, |what| what.to_string());
        tracing::info!(window, status = answer.status, events = answer.events, misbehaviour = what, "export");
        self.log.add(self.clock.now(), answer)
    }
}

/// How much of an hour's events there is, from 0 to 1: none before its end,
/// all once the delay is over, and in between none or more and more.
fn there(now: Timestamp, hour: Hour, delay: Duration, partly: impl FnOnce() -> bool) -> f64 {
    let since_end = now.micros().saturating_sub(hour.start().micros() + MICROS);
    let delay = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
    if since_end < 0 {
        0.0
    } else if since_end >= delay {
        1.0
    } else if partly() {
        since_end as f64 / delay as f64
    } else {
        0.0
    }
}

/// No keys: 401. Wrong ones, also another region's: 403, as connectors report.
fn authenticate(options: &Options, headers: &HeaderMap) -> Result<(), Refusal> {
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(encoded) = basic.and_then(|value| value.strip_prefix("Basic ")) else {
        let mut missing = refusal(StatusCode::UNAUTHORIZED, "Invalid API Key");
        missing.headers.push((header::WWW_AUTHENTICATE, "Basic realm=\"Export API\"".to_string()));
        return Err(missing);
    };
    let right = format!("{}:{}", options.api_key, options.secret_key.expose());
    match base64_simd::STANDARD.decode_to_vec(encoded.trim()) {
        Ok(given) if given == right.as_bytes() => Ok(()),
        _ => Err(refusal(StatusCode::FORBIDDEN, "Invalid API Key")),
    }
}

/// The window, both hours included.
fn window(query: &HashMap<String, String>) -> Result<(Hour, Hour), Refusal> {
    let bad = |text: String| refusal(StatusCode::BAD_REQUEST, text);
    let hour = |name: &str| {
        let text = query.get(name).ok_or_else(|| bad(format!("Missing parameter: {name}")))?;
        Hour::from_export(text).map_err(|_| bad(format!("Invalid {name}: expected YYYYMMDDTHH")))
    };
    let (first, last) = (hour("start")?, hour("end")?);
    if last < first {
        return Err(bad("start is after end".to_string()));
    }
    if first.until(last) >= WINDOW_DAYS_MAX * 24 {
        return Err(bad(format!("The time range is longer than {WINDOW_DAYS_MAX} days")));
    }
    Ok((first, last))
}

fn too_large() -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "The size of the exported data is larger than 4GB.")
}

/// What goes wrong without an archive.
fn refused(decision: &Decision) -> Option<Refusal> {
    let mut refused = match decision.what {
        What::NotFound => refusal(StatusCode::NOT_FOUND, "Raw data files were not found."),
        What::TooLarge => too_large(),
        What::Timeout => refusal(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
        What::RateLimited => refusal(StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
        What::Error => refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        What::Unavailable => refusal(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        What::Unauthorized => refusal(StatusCode::UNAUTHORIZED, "Invalid API Key"),
        What::Forbidden => refusal(StatusCode::FORBIDDEN, "Invalid API Key"),
        _ => return None,
    };
    refused.headers.extend(decision.retry_after.clone().map(|value| (header::RETRY_AFTER, value)));
    Some(refused)
}
