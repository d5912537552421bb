//! The doors' common state and the routes to them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::routing::{get, post};
use lakeward_engine::{Control, Intake};
use lakeward_model::clock::SharedClock;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::Gate;
use crate::body::{self, Budget};
use crate::config::{ServerConfig, ServerLimits};
use crate::launchdarkly::{self, EventsDoor};
use crate::query::QueryDoor;
use crate::rate::Rate;
use crate::refusal::Refusal;
use crate::serve::Backend;
use crate::xapi::XapiDoor;
use crate::{aws, delivery, events, firehose, inspect, kinesis, query, replay, runs, slices, xapi};

/// What every door needs.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) gate: Gate,
    pub(crate) limits: ServerLimits,
    pub(crate) budget: Budget,
    pub(crate) intake: Intake,
    pub(crate) clock: SharedClock,
    rate: Option<Rate>,
    pub(crate) control: Control,
    pub(crate) firehose: firehose::Api,
    pub(crate) kinesis: Arc<kinesis::Api>,
    pub(crate) launchdarkly: EventsDoor,
    pub(crate) xapi: XapiDoor,
    pub(crate) queries: QueryDoor,
    metrics: Option<PrometheusHandle>,
    shutdown: CancellationToken,
}

impl Doors {
    pub(crate) fn new(
        config: &ServerConfig,
        backend: Backend,
        (launchdarkly, xapi): (EventsDoor, XapiDoor),
        shutdown: CancellationToken,
    ) -> Self {
        let Backend { intake, control, streams, clock, metrics, bucket_destination, queries } = backend;
        let identity = (config.account_id.clone(), config.region.clone(), config.firehose_strict);
        let firehose = firehose::Api::new(
            identity,
            (intake.clone(), control.clone(), streams.clone()),
            Arc::clone(&clock),
            bucket_destination,
        );
        let budget = Budget::new(config.limits.in_flight_bytes);
        let kinesis = kinesis::Api::new(
            config,
            (intake.clone(), control.clone(), streams),
            Arc::clone(&clock),
            budget.clone(),
            shutdown.clone(),
        );
        Self {
            gate: Gate::new(config),
            limits: config.limits.clone(),
            budget,
            rate: config.limits.requests_per_second.map(|n| Rate::new(n, Arc::clone(&clock))),
            intake,
            clock,
            control,
            launchdarkly,
            xapi,
            queries: QueryDoor::new(queries),
            firehose,
            kinesis: Arc::new(kinesis),
            metrics,
            shutdown,
        }
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", post(aws::door::post))
            .route("/v1/streams/{stream}/records", post(events::post).get(inspect::records))
            .route("/v1/streams/{stream}/firehose", post(delivery::post))
            .route("/firehose/{stream}", post(delivery::post))
            .route("/v1/status", get(inspect::status))
            .route("/v1/pipelines", get(inspect::pipelines))
            .route("/v1/pipelines/{name}/replay", post(replay::post))
            .route("/v1/pipelines/{name}/replayed", get(replay::replayed))
            .route("/v1/pipelines/{name}/schemas", get(replay::schemas))
            .route("/v1/batches", get(inspect::batches))
            .route("/v1/query", post(query::post))
            .route("/v1/tables", get(query::tables))
            .route("/v1/sources/{source}/slices", get(slices::list))
            .route("/v1/sources/{source}/runs", post(runs::post))
            .route("/v1/runs", get(runs::list))
            .route("/v1/runs/{id}", get(runs::get).delete(runs::delete))
            .route("/v1/runs/{id}/slices", get(runs::slices))
            .merge(launchdarkly::routes())
            .merge(xapi::routes())
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(prometheus))
            .fallback(async || {
                Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here").into_response()
            })
            .method_not_allowed_fallback(async || {
                let message = "this path does not take this method";
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response()
            })
            .with_state(Arc::new(self))
    }

    /// Whether records can be taken now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.shutdown.is_cancelled() && self.intake.is_ready()
    }

    /// # Errors
    /// The client waits this long.
    pub(crate) fn check_rate(&self) -> Result<(), Duration> {
        self.rate.as_ref().map_or(Ok(()), Rate::take)
    }
}

/// Lets a refused client finish sending, unless it waits for our word or was
/// too slow.
pub(crate) async fn finish_refused(headers: &HeaderMap, status: StatusCode, body: Body) {
    if status != StatusCode::REQUEST_TIMEOUT && !headers.contains_key(header::EXPECT) {
        body::discard(body).await;
    }
}

/// `GET /readyz`: whether records can be taken now.
async fn ready(State(doors): State<Arc<Doors>>) -> (StatusCode, &'static str) {
    if doors.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "draining, or the journal is full\n")
    }
}

/// `GET /metrics`, in Prometheus' text format.
async fn prometheus(State(doors): State<Arc<Doors>>, headers: HeaderMap) -> Response<Body> {
    if !doors.gate.bearer(&headers) {
        return Refusal::unauthorized().into_response();
    }
    let mut response =
        Response::new(Body::from(doors.metrics.as_ref().map_or_else(String::new, |m| m.render())));
    let text = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
