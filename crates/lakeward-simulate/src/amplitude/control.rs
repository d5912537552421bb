//! What the real one does not have: the truth, the log and the clock.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use lakeward_model::Timestamp;
use lakeward_model::clock::Clock;
use serde::Deserialize;

use super::body::{Shape, body};
use super::hour::Hour;
use super::oracle::Asked;
use super::{Options, Simulator};

/// Which hours.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    /// The first one; without it the first with events.
    from: Option<String>,
    /// The first one that is not meant; without it the end.
    to: Option<String>,
    /// Only this one.
    hour: Option<String>,
    #[serde(default)]
    bytes: bool,
}

type BadRequest = (StatusCode, String);

impl Range {
    fn asked(&self, options: &Options) -> Result<Asked, BadRequest> {
        let hour = |text: &str| {
            text.parse::<Hour>().map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))
        };
        if let Some(one) = &self.hour {
            let from = hour(one)?;
            return Ok(Asked { from, to: from.plus(1), bytes: self.bytes });
        }
        let from = self.from.as_deref().map_or(Ok(options.from), hour)?;
        let to = self.to.as_deref().map_or(Ok(options.to), hour)?;
        Ok(Asked { from, to, bytes: self.bytes })
    }
}

fn lines(body: Body, kind: &'static str) -> Response<Body> {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// `GET /_simulate/oracle?from=&to=&hour=&bytes=true`.
pub(super) async fn oracle(
    State(simulator): State<Arc<Simulator>>,
    Query(range): Query<Range>,
) -> Result<Response<Body>, BadRequest> {
    let options = Arc::clone(&simulator.options);
    let asked = range.asked(&options)?;
    let truth = body(Shape::default(), None, None, move |pipe| super::oracle::oracle(&options, asked, pipe));
    Ok(lines(truth, "application/x-ndjson"))
}

/// `GET /_simulate/uuids?from=&to=&hour=`.
pub(super) async fn uuids(
    State(simulator): State<Arc<Simulator>>,
    Query(range): Query<Range>,
) -> Result<Response<Body>, BadRequest> {
    let options = Arc::clone(&simulator.options);
    let asked = range.asked(&options)?;
    let truth = body(Shape::default(), None, None, move |pipe| super::oracle::uuids(&options, asked, pipe));
    Ok(lines(truth, "text/plain"))
}

#[derive(Debug, Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

/// `GET /_simulate/requests?after=N`.
pub(super) async fn requests(
    State(simulator): State<Arc<Simulator>>,
    Query(After { after }): Query<After>,
) -> Response<Body> {
    let mut text = String::new();
    for entry in simulator.log.after(after) {
        text += &serde_json::to_string(&*entry).unwrap_or_default();
        text.push('\n');
    }
    lines(Body::from(text), "application/x-ndjson")
}

/// What the clock is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    now: Option<String>,
    speed: Option<f64>,
}

/// `GET /_simulate/clock`.
pub(super) async fn clock(State(simulator): State<Arc<Simulator>>) -> Json<serde_json::Value> {
    let clock = &simulator.clock;
    Json(serde_json::json!({ "now": clock.now().to_string(), "speed": clock.speed() }))
}

/// `POST /_simulate/clock` with `{"now": "2026-03-01T07:00:00Z", "speed": 60}`,
/// either or both.
pub(super) async fn set_clock(
    state: State<Arc<Simulator>>,
    Json(setting): Json<Setting>,
) -> Result<Json<serde_json::Value>, BadRequest> {
    let bad = |text: &str| (StatusCode::BAD_REQUEST, format!("{text}\n"));
    if setting.speed.is_some_and(|speed| !(0.0..=1e6).contains(&speed)) {
        return Err(bad("speed is from 0 to 1000000"));
    }
    let instant = |text: String| text.parse::<jiff::Timestamp>().map_err(|error| bad(&error.to_string()));
    let now = setting.now.map(instant).transpose()?;
    state.clock.set(now.map(|now| Timestamp(now.as_microsecond())), setting.speed);
    Ok(clock(state).await)
}
