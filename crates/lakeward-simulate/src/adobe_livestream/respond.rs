//! The token's endpoint and the stream's.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, Version, header};
use axum::response::IntoResponse;
use lakeward_model::Timestamp;
use serde_json::json;

use super::feed::{Conflict, Start};
use super::log::Entry;
use super::script::{Fate, What, fate};
use super::{Simulator, stream};
use crate::random::Random;
use crate::serve::HangUp;

/// What is answered instead of a stream.
type Refusal = (StatusCode, String);

fn refusal(status: StatusCode, description: &str) -> Refusal {
    (status, json!({ "error": status.canonical_reason(), "error_description": description }).to_string())
}

fn respond(refused: Refusal) -> Response<Body> {
    let kind = (header::CONTENT_TYPE, "application/json");
    (refused.0, [kind], refused.1).into_response()
}

/// `POST /ims/token/v3`, as Adobe's identity service answers the grant of an
/// OAuth server-to-server credential.
pub(super) async fn token(State(simulator): State<Arc<Simulator>>, body: String) -> Response<Body> {
    let form = form(&body);
    let options = &simulator.options;
    let now = simulator.clock.now();
    let given = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let error = |status, error: &str, description: &str| {
        simulator.log.add(Entry { at: now.to_string(), what: "token", status, ..Entry::default() });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        (status, Json(json!({ "error": error, "error_description": description }))).into_response()
    };
    if given("grant_type") != "client_credentials" {
        return error(400, "unsupported_grant_type", "JWT credentials are not taken any more");
    }
    if given("client_id") != options.client_id || given("client_secret") != options.client_secret.expose() {
        return error(400, "invalid_client", "invalid client_id or client_secret parameter");
    }
    if given("scope").is_empty() {
        return error(400, "invalid_scope", "no scope");
    }
    simulator.log.add(Entry { at: now.to_string(), what: "token", status: 200, ..Entry::default() });
    let life = i64::try_from(options.token_life.as_micros()).unwrap_or(i64::MAX);
    let mut state = simulator.state();
    state.tokens_made += 1;
    let mut random = Random::of(&[options.seed, 12, state.tokens_made]);
    let token = format!("eyJ.{:016x}{:016x}.sim", random.next(), random.next());
    state.tokens.insert(token.clone(), Timestamp(now.micros().saturating_add(life)));
    let expires_in = options.token_life.as_secs();
    Json(json!({ "access_token": token, "token_type": "bearer", "expires_in": expires_in })).into_response()
}

/// A form is written as a query is.
fn form(body: &str) -> HashMap<String, String> {
    let uri = format!("/?{}", body.trim()).parse().ok();
    let query = uri.and_then(|uri| Query::<HashMap<String, String>>::try_from_uri(&uri).ok());
    query.map(|Query(form)| form).unwrap_or_default()
}

/// `GET /api/1/stream/<name>`: at the front a redirection to where the stream
/// is, if that is wished.
pub(super) async fn open(
    State((simulator, is_front)): State<(Arc<Simulator>, bool)>,
    Path((version, name)): Path<(String, String)>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    http: Version,
) -> Response<Body> {
    let now = simulator.clock.now();
    let redirect = is_front.then(|| simulator.back.get().cloned()).flatten();
    let mut entry = Entry {
        at: now.to_string(),
        what: if redirect.is_some() { "redirect" } else { "stream" },
        query: uri.query().unwrap_or_default().to_string(),
        ..Entry::default()
    };
    let checked = simulator.check(&version, &name, &headers, http, now);
    if let Err(refused) = checked {
        entry.status = refused.0.as_u16();
        simulator.log.add(entry);
        return respond(refused);
    }
    if let Some(back) = redirect {
        entry.status = 302;
        simulator.log.add(entry);
        let to = format!("{back}{uri}");
        return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    }
    let fate = simulator.fate();
    entry.misbehaviour = (fate.what != What::Ok).then_some(fate.what);
    match simulator.join(&query, &headers, fate, now) {
        Err(refused) => {
            entry.status = refused.0.as_u16();
            simulator.log.add(entry);
            if fate.what == What::Hangup {
                let mut response = Response::new(Body::empty());
                response.extensions_mut().insert(HangUp);
                return response;
            }
            respond(refused)
        }
        Ok(client) => {
            entry.status = 200;
            let entry = simulator.log.add(entry);
            tracing::info!(client, query = entry.query, "a connection");
            let mut response = Response::new(stream::body(Arc::clone(&simulator), client, fate, entry));
            let headers: [(HeaderName, &str); 2] =
                [(header::CONTENT_ENCODING, "gzip"), (header::CONTENT_TYPE, "application/json")];
            for (name, value) in headers {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            response
        }
    }
}

impl Simulator {
    /// What is looked at before anything else, in the order of the statuses.
    fn check(
        &self,
        version: &str,
        name: &str,
        headers: &HeaderMap,
        http: Version,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if http != Version::HTTP_11 {
            return Err(refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "use HTTP/1.1"));
        }
        if !header("accept-encoding").contains("gzip") {
            return Err(refusal(StatusCode::NOT_ACCEPTABLE, "Accept-Encoding: gzip is required"));
        }
        let token = header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        let is_good = self.state().tokens.get(token).is_some_and(|expires| *expires > now);
        if !is_good {
            return Err((StatusCode::UNAUTHORIZED, "not authorized".into()));
        }
        if header("x-api-key") != self.options.client_id {
            return Err(refusal(StatusCode::FORBIDDEN, "x-api-key is not the client's"));
        }
        if name != self.options.name {
            return Err(refusal(StatusCode::NOT_FOUND, "no such stream"));
        }
        match version {
            "1" => Ok(()),
            "2" => Err(refusal(StatusCode::FAILED_DEPENDENCY, "not enabled: see /api/2/enable")),
            _ => Err(refusal(StatusCode::NOT_FOUND, "no such version")),
        }
    }

    /// What this request gets.
    fn fate(&self) -> Fate {
        let mut state = self.state();
        state.opened += 1;
        let options = &self.options;
        fate(options.seed, &options.misbehave, &options.script, state.opened, options.rate)
    }

    fn join(
        &self,
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        fate: Fate,
        now: Timestamp,
    ) -> Result<u64, Refusal> {
        let other = |status: u16| StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match fate.what {
            What::Revoked => {
                let token = headers.get("authorization").and_then(|value| value.to_str().ok());
                let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
                self.state().tokens.remove(token);
                return Err((StatusCode::UNAUTHORIZED, "not authorized".into()));
            }
            What::Hangup => return Err((StatusCode::OK, String::new())),
            What::Conflict => return Err(refusal(StatusCode::CONFLICT, "too many clients are connected")),
            What::Error => return Err(refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error")),
            What::Unavailable => {
                return Err(refusal(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no hits; use reset=latest or earliest",
                ));
            }
            What::Status => return Err(refusal(other(fate.status), "as the script says")),
            _ => {}
        }
        let (parts, start) = parameters(query)?;
        self.state().feed.join(parts, start, now).map_err(|conflict| {
            let said = match conflict {
                Conflict::OtherMaxConnections(others) => {
                    format!("maxConnections of the clients that are connected is {others}")
                }
                Conflict::TooMany(most) => format!("{most} clients are connected already"),
            };
            refusal(StatusCode::CONFLICT, &said)
        })
    }
}

/// The parameters, or what is wrong with them.
fn parameters(query: &HashMap<String, String>) -> Result<(usize, Start), Refusal> {
    let bad = |text: &str| refusal(StatusCode::BAD_REQUEST, text);
    let number = |name: &str, low: usize, high: usize| match query.get(name) {
        None => Ok(None),
        Some(text) => {
            let number = text.parse().ok().filter(|number| (low..=high).contains(number));
            number.map(Some).ok_or_else(|| bad(&format!("{name} is from {low} to {high}")))
        }
    };
    number("smoothing", 1, 1)?;
    number("smoothingBucketSize", 1, 7_200)?;
    let known = ["maxConnections", "reset", "smoothing", "smoothingBucketSize"];
    if let Some(other) = query.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(bad(&format!("unknown parameter {other}")));
    }
    let start = match query.get("reset").map(String::as_str) {
        None => Start::Resume,
        Some("smallest" | "earliest") => Start::Smallest,
        Some("largest" | "latest") => Start::Largest,
        Some(_) => return Err(bad("reset is smallest or largest")),
    };
    Ok((number("maxConnections", 1, 8)?.unwrap_or(1), start))
}
