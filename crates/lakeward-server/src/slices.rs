//! What sliced sources hold, and what became of it. All of it needs a bearer
//! token where tokens are configured.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Response, StatusCode};
use lakeward_engine::{Asked, SlicesError, instant};
use lakeward_model::FailureKind;
use serde::Serialize;

use crate::doors::Doors;
use crate::inspect::answer;
use crate::refusal::Refusal;

/// Most slices in one answer.
pub(crate) const SLICES_MAX: usize = 1_000;

/// Which slices, as a query says it.
#[derive(Debug, Default, PartialEq)]
struct Query {
    asked: Asked,
    after: Option<String>,
    limit: usize,
}

/// # Errors
/// What the client should change.
fn parse(query: &str) -> Result<Query, String> {
    let mut parsed = Query { limit: SLICES_MAX, ..Query::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = unescape(value)?;
        let asked = &mut parsed.asked;
        match key {
            "from" => asked.from = Some(instant::parse(&value)?),
            "to" => asked.to = Some(instant::parse(&value)?),
            "prefix" => asked.prefix = value,
            "where" => {
                let (name, value) = value.split_once('=').ok_or("`where` is name=value")?;
                asked.captured.insert(name.into(), value.into());
            }
            "after" => parsed.after = Some(value),
            "limit" => {
                let limit: usize = value.parse().map_err(|_| "`limit` is a whole number")?;
                parsed.limit = limit.clamp(1, SLICES_MAX);
            }
            _ => {
                return Err(
                    "give `from`, `to`, `prefix`, `where`, `after` and `limit`, each if need be".into()
                );
            }
        }
    }
    Ok(parsed)
}

/// The text that a query's value stands for.
fn unescape(value: &str) -> Result<String, String> {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = bytes.get(at..at + 2).and_then(|digits| std::str::from_utf8(digits).ok());
                let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                out.push(escaped.ok_or("a `%` in the query is followed by two hex digits")?);
                at += 2;
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).map_err(|_| "the query is not UTF-8".into())
}

/// `GET /v1/sources/{source}/slices`: what there is at a source, and what
/// became of it.
pub(crate) async fn list(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    Path(source): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    match parse(query.as_deref().unwrap_or_default()) {
        Ok(Query { asked, after, limit }) => {
            finish(doors.control.slices(&source, &asked, after.as_deref(), limit).await)
        }
        Err(problem) => Refusal::bad_request(problem).into_response(),
    }
}

/// Answers what was asked of a sliced source.
pub(crate) fn finish<T: Serialize>(outcome: Result<T, SlicesError>) -> Response<Body> {
    outcome.map_or_else(|error| Refusal::from(error).into_response(), |value| answer(&value))
}

impl From<SlicesError> for Refusal {
    fn from(error: SlicesError) -> Self {
        let message = error.to_string();
        match error {
            SlicesError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "unknown_source", message),
            SlicesError::NoRun(_) => Self::new(StatusCode::NOT_FOUND, "unknown_run", message),
            SlicesError::Invalid(_) => Self::bad_request(message),
            SlicesError::Source(failure) if failure.kind == FailureKind::Refused => {
                Self::new(StatusCode::BAD_GATEWAY, "source_refused", message)
            }
            SlicesError::Source(failure) => Self {
                retry_after: failure.retry_after,
                ..Self::new(StatusCode::BAD_GATEWAY, "source_unavailable", message)
            },
            SlicesError::Failed(_) => {
                tracing::error!(error = message, "a question about slices failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "the state cannot be read or changed",
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_say_which_slices() {
        let all = parse("from=2026-03-01T00%3A00%3A00Z&to=2026-03-01T02:00:00%2B01:00&prefix=a%2Fb+c&where=k%3Dv%3Dw&where=n=1&after=x&limit=5").expect("it parses");
        assert_eq!(all.asked.from.map(|at| at.to_string()).as_deref(), Some("2026-03-01T00:00:00Z"));
        assert_eq!(all.asked.to.map(|at| at.to_string()).as_deref(), Some("2026-03-01T01:00:00Z"));
        assert_eq!((&*all.asked.prefix, all.after.as_deref(), all.limit), ("a/b c", Some("x"), 5));
        let captured: Vec<_> = all.asked.captured.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(captured, [("k", "v=w"), ("n", "1")]);
        assert_eq!(parse("").expect("it parses").limit, SLICES_MAX);
        for (bad, words) in [
            ("from=yesterday", "2026-03-01T05:00:00Z"),
            ("where=x", "name=value"),
            ("limit=many", "whole number"),
            ("form=1", "`from`"),
            ("prefix=%4", "hex"),
            ("prefix=%ff", "UTF-8"),
        ] {
            let problem = parse(bad).expect_err("it is wrong");
            assert!(problem.contains(words), "{problem}");
        }
    }
}
