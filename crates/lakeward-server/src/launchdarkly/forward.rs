//! Sending on to LaunchDarkly what is durable here.
//!
//! Best effort, as an SDK's own sending is: a bounded queue, one retry after a
//! second, then the request is dropped and counted. The payload id goes along,
//! so that LaunchDarkly counts a request that comes twice once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use bytes::Bytes;
use futures::StreamExt;
use lakeward_model::innermost;
use reqwest::{Client, Url, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

/// The most requests that wait, and the most bytes they have together.
const QUEUE_REQUESTS: usize = 1_000;
const QUEUE_BYTES: usize = 32 << 20;
/// How many are sent at the same time.
const CONCURRENCY: usize = 4;
/// What an SDK waits for an answer, and before its one retry.
const TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// A request that is sent on. It has no `Debug`: a header is the SDK key.
struct Parcel {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The way to LaunchDarkly.
#[derive(Debug)]
pub(crate) struct Forward {
    queue: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
}

impl Forward {
    /// Starts the task that sends; it ends when the [`Forward`] is dropped and
    /// the queue is empty.
    ///
    /// # Errors
    /// There is no HTTP client to be had, for instance for want of root
    /// certificates.
    pub(super) fn start(base: Url) -> Result<(Self, JoinHandle<()>), String> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        let (queue, parcels) = mpsc::channel(QUEUE_REQUESTS);
        let road = Road { client, base, is_broken: AtomicBool::new(false) };
        let task = tokio::spawn(road.run(parcels));
        Ok((Self { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES)) }, task))
    }

    /// Queues a request, or drops it if there is no room. Never waits.
    pub(super) fn offer(&self, parts: &Parts, body: &Bytes) {
        let size = u32::try_from(body.len().max(1)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size) else { return count("dropped") };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        // A copy, so that no large read buffer is held by a small body.
        let body = Bytes::copy_from_slice(body);
        let parcel = Parcel { path, headers: kept(&parts.headers), body, _room: room };
        if self.queue.try_send(parcel).is_err() {
            count("dropped");
        }
    }
}

/// The headers that mean something to LaunchDarkly.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let known = [header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::USER_AGENT];
    let is_kept = |name: &HeaderName| known.contains(name) || name.as_str().starts_with("x-launchdarkly-");
    headers.iter().filter(|(name, _)| is_kept(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn count(outcome: &'static str) {
    metrics::counter!("lakeward_launchdarkly_forwards_total", "outcome" => outcome).increment(1);
}

/// What becomes of one attempt.
enum Attempt {
    Sent,
    /// Another attempt may go through.
    Failed(String),
    /// Another attempt would be refused too.
    Refused(u16),
}

/// Where parcels go.
struct Road {
    client: Client,
    base: Url,
    /// Whether the last request failed: said once, not once a request.
    is_broken: AtomicBool,
}

impl Road {
    async fn run(self, parcels: mpsc::Receiver<Parcel>) {
        let parcels = futures::stream::unfold(parcels, async |mut parcels| {
            let parcel = parcels.recv().await?;
            Some((parcel, parcels))
        });
        parcels.for_each_concurrent(CONCURRENCY, |parcel| self.send(parcel)).await;
    }

    async fn send(&self, parcel: Parcel) {
        let mut attempt = self.attempt(&parcel).await;
        if let Attempt::Failed(_) = attempt {
            tokio::time::sleep(PAUSE).await;
            attempt = self.attempt(&parcel).await;
        }
        let (outcome, why) = match attempt {
            Attempt::Sent => ("sent", None),
            Attempt::Failed(why) => ("failed", Some(why)),
            Attempt::Refused(status) => ("refused", Some(format!("it answered {status}"))),
        };
        count(outcome);
        let was_broken = self.is_broken.swap(why.is_some(), Ordering::Relaxed);
        match why {
            Some(why) if !was_broken => {
                tracing::warn!(to = %self.base, why, "events are not sent on; they are safe here");
            }
            None if was_broken => tracing::info!(to = %self.base, "events are sent on again"),
            _ => {}
        }
    }

    async fn attempt(&self, parcel: &Parcel) -> Attempt {
        let address = format!("{}{}", self.base.as_str().trim_end_matches('/'), parcel.path);
        let request = self.client.post(address).headers(parcel.headers.clone()).body(parcel.body.clone());
        match request.send().await.map(|reply| reply.status().as_u16()) {
            Ok(200..=299) => Attempt::Sent,
            Ok(status @ (400 | 408 | 429 | 500..)) => Attempt::Failed(format!("it answered {status}")),
            Ok(status) => Attempt::Refused(status),
            Err(error) => Attempt::Failed(innermost(&error)),
        }
    }
}
