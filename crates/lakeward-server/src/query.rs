//! SQL on what was delivered, over HTTP. This crate knows no SQL engine: it
//! knows a trait, and the binary gives what answers. All of it needs a bearer
//! token where tokens are configured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::body;
use crate::doors::{Doors, finish_refused};
use crate::inspect::answer;
use crate::refusal::Refusal;

/// Longest request.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Queries that are answered at the same time.
const QUERIES_MAX: usize = 2;
/// How long a query waits for a place before it is refused.
const PLACE_WAIT: Duration = Duration::from_secs(5);
/// When a refused query may try again.
const BUSY_RETRY: Duration = Duration::from_secs(2);
/// What of an answer is held back before the first byte leaves, so that a
/// query that fails within it is refused with its reason.
const HELD_BACK: usize = 1 << 20;
/// Pieces of an answer that wait for the client.
const PIECES_WAITING: usize = 2;
/// How long a client may take for a piece: one that has gone to sleep does
/// not keep a place.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the rows of an answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryFormat {
    /// Arrow's IPC stream format.
    Arrow,
    /// One JSON object per row and line. The default.
    #[default]
    Ndjson,
}

impl QueryFormat {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            // https://www.iana.org/assignments/media-types, "vnd.apache.arrow.stream".
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Ndjson => "application/x-ndjson",
        })
    }
}

/// Why there is no answer, or no whole one. The text is for the person who
/// asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryFailure {
    /// It cannot be understood, names what is not there, or would change
    /// something: change the query.
    #[error("{0}")]
    Wrong(String),
    /// It needs more memory than it may have: ask for less.
    #[error("{0}")]
    Memory(String),
    /// The values do not allow it, or a file is damaged.
    #[error("{0}")]
    Data(String),
    /// The lake cannot be read now: ask again later.
    #[error("{0}")]
    Unavailable(String),
    /// A bug of ours.
    #[error("{0}")]
    Internal(String),
}

/// The pieces of an answer, as they are found. Dropping it ends the query.
pub type Answer = BoxStream<'static, Result<Bytes, QueryFailure>>;

/// Answers SQL on what the pipelines have delivered. The binary has it.
pub trait Queries: Send + Sync {
    /// Answers one query, in pieces of at most a few MiB. The first failure is
    /// the last piece.
    fn query(&self, sql: String, format: QueryFormat) -> Answer;

    /// What can be asked, as `lakeward query --tables --json` says it.
    ///
    /// # Errors
    /// See [`QueryFailure`].
    fn tables(&self) -> BoxFuture<'static, Result<serde_json::Value, QueryFailure>>;
}

/// Who answers, and how many at a time.
#[derive(Clone)]
pub(crate) struct QueryDoor {
    queries: Option<Arc<dyn Queries>>,
    places: Arc<Semaphore>,
}

impl fmt::Debug for QueryDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryDoor").field("places", &self.places).finish_non_exhaustive()
    }
}

impl QueryDoor {
    pub(crate) fn new(queries: Option<Arc<dyn Queries>>) -> Self {
        Self { queries, places: Arc::new(Semaphore::new(QUERIES_MAX)) }
    }

    /// Who answers, and a place to do so.
    async fn enter(&self) -> Result<(Arc<dyn Queries>, OwnedSemaphorePermit), Refusal> {
        let Some(queries) = &self.queries else {
            let message = "this service answers no SQL";
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "no_queries", message));
        };
        let place = tokio::time::timeout(PLACE_WAIT, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            let message = format!("{QUERIES_MAX} queries are being answered; ask again when one has ended");
            let busy = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "busy", message);
            return Err(Refusal { retry_after: Some(BUSY_RETRY), ..busy });
        };
        Ok((Arc::clone(queries), place))
    }
}

impl From<QueryFailure> for Refusal {
    fn from(failure: QueryFailure) -> Self {
        let message = failure.to_string();
        match failure {
            QueryFailure::Wrong(_) => Self::new(StatusCode::BAD_REQUEST, "query", message),
            QueryFailure::Memory(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "query_memory", message),
            QueryFailure::Data(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "query_data", message),
            QueryFailure::Unavailable(_) => Self::new(StatusCode::BAD_GATEWAY, "lake_unavailable", message),
            QueryFailure::Internal(_) => {
                tracing::error!(message, "a query failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
    #[serde(default)]
    format: QueryFormat,
}

/// `POST /v1/query`: the rows of one query, as they are found. An answer that
/// fails half-way is cut off, so that nobody takes a part for the whole.
pub(crate) async fn post(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    match ask(&doors, &parts.headers, &mut body).await {
        Ok(response) => response,
        Err(refusal) => {
            finish_refused(&parts.headers, refusal.status, body).await;
            refusal.into_response()
        }
    }
}

async fn ask(doors: &Doors, headers: &HeaderMap, body: &mut Body) -> Result<Response<Body>, Refusal> {
    if !doors.gate.bearer(headers) {
        return Err(Refusal::unauthorized());
    }
    doors.check_rate().map_err(Refusal::too_fast)?;
    let pause = doors.limits.body_read_timeout;
    let (bytes, reservation) = body::read(body, BODY_BYTES_MAX, &doors.budget, pause).await?;
    let Question { sql, format } = serde_json::from_slice(&bytes).map_err(|error| {
        let expect = r#"{"sql": "SELECT …", "format": "arrow" or "ndjson"}"#;
        Refusal::bad_request(format!("the body is not a query, which is {expect}: {error}"))
    })?;
    drop((bytes, reservation));
    let (queries, place) = doors.queries.enter().await?;
    let mut pieces = queries.query(sql, format);
    let mut first = BytesMut::new();
    let mut ended = false;
    while first.len() < HELD_BACK && !ended {
        match pieces.try_next().await? {
            Some(piece) => first.extend_from_slice(&piece),
            None => ended = true,
        }
    }
    let body = if ended { Body::from(first.freeze()) } else { rest(first.freeze(), pieces, place) };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, format.content_type());
    Ok(response)
}

/// A piece on its way to the client, `None` behind the last one.
type Piece = Result<Option<Bytes>, QueryFailure>;

/// Sends on piece by piece. The query ends when the client is gone or asleep.
/// Only an end that was said is one: whatever ends the sending before it, the
/// client sees a broken answer.
fn rest(first: Bytes, pieces: Answer, place: OwnedSemaphorePermit) -> Body {
    let (sender, receiver) = mpsc::channel::<Piece>(PIECES_WAITING);
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = send_on(first, pieces, &sender) => {}
            // The client is gone.
            () = sender.closed() => {}
        }
    });
    Body::from_stream(stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Ok(Some(piece))) => Some((Ok(piece), Some(receiver))),
            Some(Ok(None)) => None,
            Some(Err(failure)) => Some((Err(failure), None)),
            None => Some((Err(QueryFailure::Internal("the answer was cut off".into())), None)),
        }
    }))
}

async fn send_on(first: Bytes, mut pieces: Answer, sender: &mpsc::Sender<Piece>) {
    let mut next = Some(Ok(first));
    loop {
        let piece = next.transpose();
        let ended = !matches!(piece, Ok(Some(_)));
        if let Err(reason) = &piece {
            tracing::warn!(%reason, "a query failed after a part of its answer was sent; it is cut off");
        }
        match tokio::time::timeout(PATIENCE, sender.send(piece)).await {
            Ok(Ok(())) if !ended => next = pieces.next().await,
            Ok(_) => return,
            Err(_) => {
                tracing::warn!("a client stopped reading the answer to its query; it is cut off");
                return;
            }
        }
    }
}

/// `GET /v1/tables`: the tables, their columns and their sizes.
pub(crate) async fn tables(State(doors): State<Arc<Doors>>, headers: HeaderMap) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    let (queries, _place) = match doors.queries.enter().await {
        Ok(entered) => entered,
        Err(refusal) => return refusal.into_response(),
    };
    match queries.tables().await {
        Ok(tables) => answer(&tables),
        Err(failure) => Refusal::from(failure).into_response(),
    }
}

#[cfg(test)]
mod tests;
