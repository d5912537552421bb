//! SubscribeToShard: records are pushed as events for five minutes.
//!
//! One event is made at a time, when the client has room for it: a slow client
//! holds one event's memory, which is paid for out of the budget of all
//! requests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use lakeward_model::{Offset, Shard};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::eventstream::frame;
use super::iterator::{Position, ShardIterator, instant};
use super::live::Live;
use super::read::{Limits, Page};
use super::write::dry_run;
use super::{Api, Encoding, Reply, text};
use crate::aws::fault::Fault;
use crate::body::Reservation;

/// *SubscribeToShard*: "for up to 5 minutes".
const LIFETIME: Duration = Duration::from_secs(300);
/// "If you call SubscribeToShard again … within 5 seconds of a successful
/// call".
const TAKEOVER: Duration = Duration::from_secs(5);
/// When there was none for so long, an event without records says that the
/// connection lives and where the consumer is: KCL gives up after 35 s, and the
/// shard may be quiet while others are busy.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Until memory is there for the next event.
const PAUSE: Duration = Duration::from_millis(200);
/// What one event holds; its payload may have 16 MiB.
const EVENT: Limits = Limits { records: 10_000, bytes: 1 << 20 };

/// Subscriptions that are under way, by consumer (`stream/consumer`) and shard.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Mutex<HashMap<(String, u32), Active>>);

#[derive(Debug)]
struct Active {
    id: uuid::Uuid,
    since: Instant,
    /// Cancelled when it is taken over or its consumer goes.
    end: CancellationToken,
}

impl Subscriptions {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u32), Active>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all subscriptions of a consumer.
    pub(super) fn end_all(&self, consumer: &str) {
        for ((of, _), active) in &*self.lock() {
            if of == consumer {
                active.end.cancel();
            }
        }
    }
}

/// A place in [`Subscriptions`], given back when dropped.
struct Held {
    api: Arc<Api>,
    key: (String, u32),
    id: uuid::Uuid,
    end: CancellationToken,
}

impl Held {
    /// Takes the subscription over from an older one, if there is one.
    fn take(api: &Arc<Api>, key: (String, u32)) -> Option<Self> {
        let mut all = api.subscriptions.lock();
        if let Some(active) = all.get(&key) {
            if active.since.elapsed() < TAKEOVER {
                return None;
            }
            active.end.cancel();
        }
        let (id, end) = (lakeward_model::ids::fresh(), CancellationToken::new());
        all.insert(key.clone(), Active { id, since: Instant::now(), end: end.clone() });
        drop(all);
        Some(Self { api: Arc::clone(api), key, id, end })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.api.subscriptions.lock();
        if all.get(&self.key).is_some_and(|active| active.id == self.id) {
            all.remove(&self.key);
        }
    }
}

impl Api {
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        input: &Value,
        encoding: Encoding,
    ) -> Result<Reply, Fault> {
        let (target, wanted) = self.consumer_of(input)?;
        let names = target.names();
        let live = self.live(&target).await?;
        if wanted.find(&live.state.read().await.document).is_none() {
            return Err(names.no_consumer(&wanted.name));
        }
        let given = &input["StartingPosition"];
        let position = Position {
            kind: text(given, "Type"),
            sequence: given["SequenceNumber"].as_str(),
            timestamp: instant(&given["Timestamp"]),
        };
        let at = self.begin(&live, text(input, "ShardId"), &position, &names).await?;
        let shard = {
            let state = live.state.read().await;
            state.document.shards.get(at.shard).ok_or_else(|| names.no_shard(at.shard))?.shard()
        };
        if input["DryRun"].as_bool() == Some(true) {
            return Err(dry_run());
        }
        let ends = self.lives.streams.watch(&live.name).ok_or_else(|| names.not_found())?;
        let key = (format!("{}/{}", live.name, wanted.name), at.shard);
        let held = Held::take(self, key).ok_or_else(|| {
            Fault::in_use(format!(
                "Another active subscription exists for consumer {} and shard {shard} in stream {} under account {}.",
                wanted.name, names.stream, names.account
            ))
        })?;
        let push = Push {
            held,
            live,
            at,
            shard,
            encoding,
            ends,
            until: Instant::now() + LIFETIME,
            step: Step::Begin,
            told: Instant::now(),
            event: None,
        };
        let events = futures::stream::unfold(push, Push::next);
        Ok(Reply::Events(Body::from_stream(events)))
    }
}

/// What a subscription does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    /// Look for records; say where we are even if there are none.
    Tell,
    /// Look for records, or wait for them.
    Wait,
    End,
}

struct Push {
    held: Held,
    live: Arc<Live>,
    at: ShardIterator,
    shard: Shard,
    encoding: Encoding,
    ends: watch::Receiver<Offset>,
    until: Instant,
    step: Step,
    /// When the last event was made.
    told: Instant,
    /// Memory of the event that the client is being sent.
    event: Option<Reservation>,
}

impl Push {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        self.event = None;
        match self.step {
            Step::End => None,
            Step::Begin => {
                self.step = Step::Tell;
                let empty = self.encoding.write(&json!({}));
                let frame = self.frame("event", ":event-type", "initial-response", &empty);
                Some((Ok(frame), self))
            }
            Step::Tell | Step::Wait => {
                let frame = self.event().await?;
                Some((Ok(frame), self))
            }
        }
    }

    /// The next event; `None` when the time is over.
    async fn event(&mut self) -> Option<Bytes> {
        loop {
            if self.held.api.shutdown.is_cancelled() || Instant::now() >= self.until {
                return None;
            }
            if self.held.end.is_cancelled() {
                let message = "The subscription was taken over, or its consumer is gone.";
                return Some(self.exception(&Fault::in_use(message)));
            }
            if self.live.is_stale() {
                return Some(self.exception(&self.held.api.names(&self.live.name).not_found()));
            }
            let mut reservation = self.held.api.budget.reserve(0).ok()?;
            let api = &self.held.api;
            let page = api.page(&self.live, self.at.shard, self.at.offset, EVENT, &mut reservation).await;
            let page = match page {
                Ok(page) => page,
                Err(fault) if fault.kind == super::THROTTLED => {
                    self.pause(PAUSE).await?;
                    continue;
                }
                Err(fault) => return Some(self.exception(&fault)),
            };
            // The payload, and the frame around it.
            if page.reserve(self.encoding, 2, &mut reservation).is_err() {
                self.pause(PAUSE).await?;
                continue;
            }
            self.at.offset = page.next;
            let is_quiet = self.step == Step::Wait && self.told.elapsed() < HEARTBEAT;
            if page.is_empty() && page.children.is_none() && is_quiet {
                // Other shards' records are passed over at once.
                if page.behind == 0 {
                    self.wait().await?;
                }
                continue;
            }
            return Some(self.tell(&page, reservation));
        }
    }

    fn tell(&mut self, page: &Page, reservation: Reservation) -> Bytes {
        let continuation = match page.next.0.checked_sub(1) {
            _ if page.children.is_some() => None,
            Some(before) => Some(self.shard.sequence(Offset(before)).to_string()),
            // Before the first record of all.
            None => Some(String::from("0")),
        };
        let payload = page.encode_event(self.encoding, continuation.as_deref());
        self.event = Some(reservation);
        self.told = Instant::now();
        self.step = if page.children.is_some() { Step::End } else { Step::Wait };
        self.frame("event", ":event-type", "SubscribeToShardEvent", &payload)
    }

    /// Waits for records, but no longer than until an event is due. `None` when
    /// the time is over.
    async fn wait(&mut self) -> Option<()> {
        let next = self.at.offset;
        let api = Arc::clone(&self.held.api);
        tokio::select! {
            () = api.shutdown.cancelled() => None,
            () = tokio::time::sleep_until(self.until) => None,
            () = self.held.end.cancelled() => Some(()),
            () = tokio::time::sleep_until(self.told + HEARTBEAT) => Some(()),
            more = self.ends.wait_for(|end| *end > next) => {
                if more.is_err() {
                    // The stream is gone, which the next look says.
                    self.live.retire();
                }
                Some(())
            }
        }
    }

    async fn pause(&self, time: Duration) -> Option<()> {
        tokio::select! {
            () = self.held.api.shutdown.cancelled() => None,
            () = tokio::time::sleep_until(self.until) => None,
            () = tokio::time::sleep(time) => Some(()),
        }
    }

    fn exception(&mut self, fault: &Fault) -> Bytes {
        self.step = Step::End;
        let kind = if fault.status >= 500 { "InternalFailureException" } else { fault.kind };
        let payload = self.encoding.write(&json!({"message": fault.message}));
        self.frame("exception", ":exception-type", kind, &payload)
    }

    fn frame(&self, message: &str, header: &str, kind: &str, payload: &[u8]) -> Bytes {
        let content = self.encoding.content_type();
        frame(&[(header, kind), (":content-type", content), (":message-type", message)], payload)
    }
}
