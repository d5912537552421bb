//! What the real one does not have: the truth, the log, and a hand that pulls
//! the plug.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::script::What;
use super::{Simulator, hit};

fn lines(text: String, kind: &'static str) -> Response<Body> {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// `GET /_simulate/oracle`: every hit that was ever sent, one line of JSON
/// each: its id as texts, its number, and how often it was sent.
pub(super) async fn oracle(State(simulator): State<Arc<Simulator>>) -> Response<Body> {
    let mut text = String::new();
    let seed = simulator.options.seed;
    for (number, times) in simulator.state().feed.sent() {
        let (high, low) = hit::id(seed, number);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{{\"hitIdHigh\":\"{high}\",\"hitIdLow\":\"{low}\",\"number\":{number},\"times\":{times}}}"
        );
    }
    lines(text, "application/x-ndjson")
}

#[derive(Debug, Deserialize)]
pub(super) struct Numbers {
    from: u64,
    to: u64,
}

/// `GET /_simulate/hits?from=N&to=M`: the hits with these numbers, as they are
/// sent.
pub(super) async fn hits(
    State(simulator): State<Arc<Simulator>>,
    Query(Numbers { from, to }): Query<Numbers>,
) -> Result<Response<Body>, (StatusCode, String)> {
    if to < from || to - from > 100_000 {
        return Err((StatusCode::BAD_REQUEST, "100,000 hits at the most\n".into()));
    }
    let mut text = String::new();
    for number in from..to {
        hit::write(simulator.options.seed, number, simulator.production.received(number), &mut text);
        text.push('\n');
    }
    Ok(lines(text, "application/x-ndjson"))
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
    lines(text, "application/x-ndjson")
}

/// `GET /_simulate/state`.
pub(super) async fn state(State(simulator): State<Arc<Simulator>>) -> Json<serde_json::Value> {
    let now = simulator.clock.now();
    let state = simulator.state();
    let (mut hits, mut again) = (0_u64, 0_u64);
    for (_, times) in state.feed.sent() {
        hits += 1;
        again += u64::from(times > 1);
    }
    Json(json!({
        "connections": state.feed.clients(), "made": state.feed.made(now), "sent": hits, "sent_again": again,
        "lost": state.feed.lost, "tokens": state.tokens_made, "all_sent": state.feed.is_all_sent(now),
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    what: What,
}

/// `POST /_simulate/tell` with `{"what": "cut"}`: every connection that stands
/// now is cut (`disconnect`, `silence`, `garbage`), or every token revoked.
pub(super) async fn tell(
    State(simulator): State<Arc<Simulator>>,
    Json(Told { what }): Json<Told>,
) -> Result<Json<serde_json::Value>, (StatusCode, String)> {
    let mut state = simulator.state();
    match what {
        What::Revoked => state.tokens.clear(),
        what if what.is_later() => {
            let clients = state.feed.clients().to_vec();
            state.told.extend(clients.into_iter().map(|client| (client, what)));
        }
        _ => return Err((StatusCode::BAD_REQUEST, "disconnect, cut, silence, garbage or revoked\n".into())),
    }
    Ok(Json(json!({ "connections": state.feed.clients() })))
}
