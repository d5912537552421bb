//! New objects as an SQS queue tells of them.
//!
//! A message is hidden from others while its objects are taken, and deleted
//! only when all of them are. One that cannot be understood is left alone: the
//! queue's own rule for such messages (its dead-letter queue) decides. So is one
//! whose object the store does not let us look at; it comes again by itself.

mod messages;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakeward_model::{Announcement, Announcements, Failure, FailureKind};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::config::{ObjectsConfig, ObjectsConfigError};
use super::{ObjectsSource, Store};
use crate::aws_json::{AwsError, AwsJson, AwsService};
pub(super) use messages::{Event, read};

const SERVICE: AwsService =
    AwsService { name: "sqs", target: "AmazonSQS", content_type: "application/x-amz-json-1.0" };

/// The most messages of one request (SQS API reference).
const BATCH: usize = 10;
/// How many messages are held at most; no more are asked for until some are
/// done.
const HELD_MAX: usize = 1_000;
/// How long is waited if that many are held.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How long a request may take beyond the wait that was asked for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Announcements have numbers of their own in the whole process.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// A queue of notifications.
#[derive(Debug)]
pub struct SqsAnnouncements {
    queue: Arc<Queue>,
    source: ObjectsSource,
    wait: Duration,
    visibility: Duration,
    /// Hides what is held from others, again and again.
    keeper: Option<Keeper>,
    unreadable: u64,
    unseen: u64,
}

#[derive(Debug)]
struct Queue {
    client: AwsJson,
    url: String,
    held: Mutex<BTreeMap<u64, Receipt>>,
}

/// What stands for a message that was received; whoever has it can delete the
/// message.
#[derive(Clone)]
struct Receipt(String);

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipt(…)")
    }
}

#[derive(Debug)]
struct Keeper(AbortHandle);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    #[serde(default)]
    messages: Option<Vec<Message>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    #[serde(default)]
    message_id: String,
    receipt_handle: String,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batched {
    #[serde(default)]
    failed: Option<Vec<Failed>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failed {
    #[serde(default)]
    code: String,
    #[serde(default)]
    sender_fault: bool,
}

impl SqsAnnouncements {
    /// The queue of `config`, if it has one. Asks nobody yet.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing but a change of it helps.
    pub fn open(config: &ObjectsConfig, source: &ObjectsSource) -> Result<Option<Self>, ObjectsConfigError> {
        let Some(notifications) = &config.notifications else { return Ok(None) };
        let client = AwsJson::open(SERVICE, &config.queue(notifications), notifications.wait + TIMEOUT)
            .map_err(|error| ObjectsConfigError { setting: "notifications", problem: error.to_string() })?;
        let queue = Queue { client, url: notifications.queue_url.clone(), held: Mutex::default() };
        Ok(Some(Self {
            queue: Arc::new(queue),
            source: source.clone(),
            wait: notifications.wait,
            visibility: notifications.visibility,
            keeper: None,
            unreadable: 0,
            unseen: 0,
        }))
    }

    /// How many messages were left in the queue since nobody could understand
    /// them; one that comes again counts again.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// How many messages were left in the queue since the store did not let us
    /// look at an object that they tell of; one that comes again counts again.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        self.unseen
    }

    /// What a message tells of.
    async fn announcement(&self, message: &Message) -> Result<Announcement, Left> {
        let events = messages::read(&message.body).map_err(Left::Unreadable)?;
        let mut slices = Vec::with_capacity(events.len());
        for event in events {
            slices.extend(self.source.announced(event).await.map_err(Left::Unseen)?);
        }
        Ok(Announcement { number: NUMBER.fetch_add(1, Ordering::Relaxed), slices })
    }

    /// What the messages tell of. One that has to be left in the queue is no
    /// reason to leave the others there, too.
    async fn announced(&mut self, messages: Vec<Message>) -> Result<Vec<(Announcement, Receipt)>, Failure> {
        // Side by side, so that a slow store costs the time of one of them.
        let read = messages.iter().map(|message| self.announcement(message));
        let read = futures::future::join_all(read).await;
        let (mut announced, mut failed) = (Vec::with_capacity(messages.len()), None);
        for (message, read) in messages.into_iter().zip(read) {
            match read {
                Ok(announcement) => announced.push((announcement, Receipt(message.receipt_handle))),
                Err(Left::Unreadable(problem)) => {
                    self.unreadable += 1;
                    tracing::warn!(
                        message = %message.message_id,
                        problem,
                        "a message of the queue is left there, since it cannot be understood; \
                         give the queue a dead-letter queue"
                    );
                }
                Err(Left::Unseen(failure)) => {
                    self.unseen += 1;
                    tracing::warn!(
                        message = %message.message_id,
                        %failure,
                        "a message of the queue is left there, since its object cannot be looked at; \
                         it comes again"
                    );
                    failed = Some(failure);
                }
            }
        }
        match failed {
            Some(failure) if announced.is_empty() => Err(failure),
            _ => Ok(announced),
        }
    }
}

/// Why a message is left in the queue.
#[derive(Debug)]
enum Left {
    /// Nobody understands it, for this reason.
    Unreadable(&'static str),
    /// The store does not say what it must.
    Unseen(Failure),
}

#[async_trait::async_trait]
impl Announcements for SqsAnnouncements {
    async fn next(&mut self) -> Result<Vec<Announcement>, Failure> {
        if self.keeper.is_none() && matches!(self.source.inner.store, Store::Bucket(_)) {
            let (queue, visibility) = (Arc::clone(&self.queue), self.visibility);
            let task = tokio::spawn(async move { queue.keep(visibility).await });
            self.keeper = Some(Keeper(task.abort_handle()));
        }
        if self.queue.lock().len() >= HELD_MAX {
            tokio::time::sleep(FULL_PAUSE).await;
            return Ok(Vec::new());
        }
        let asked = json!({
            "QueueUrl": self.queue.url,
            "MaxNumberOfMessages": BATCH,
            "WaitTimeSeconds": self.wait.as_secs(),
            "VisibilityTimeout": self.visibility.as_secs(),
        });
        let received: Received = self.queue.call("ReceiveMessage", &asked).await?;
        let announced = self.announced(received.messages.unwrap_or_default()).await?;
        // Held only once nothing can come between: a message that is held and
        // was not announced would be hidden for ever.
        let mut held = self.queue.lock();
        let mut announcements = Vec::with_capacity(announced.len());
        for (announcement, receipt) in announced {
            held.insert(announcement.number, receipt);
            announcements.push(announcement);
        }
        Ok(announcements)
    }

    async fn done(&mut self, announcements: &[u64]) -> Result<(), Failure> {
        // From now on they are not held: one that cannot be deleted becomes
        // visible and is received anew, instead of being hidden for ever and
        // taking the room of others.
        let receipts: Vec<(u64, Receipt)> = {
            let mut held = self.queue.lock();
            announcements.iter().filter_map(|number| Some((*number, held.remove(number)?))).collect()
        };
        for batch in receipts.chunks(BATCH) {
            let failed = self.queue.batch("DeleteMessageBatch", batch, |_| {}).await?;
            // What SQS calls our fault is a receipt that ran out: the message
            // comes again, and what it tells of is taken.
            if let Some(failed) = failed.iter().find(|failed| !failed.sender_fault) {
                let problem = format!("sqs DeleteMessageBatch: {}", failed.code);
                return Err(Failure::new(FailureKind::NotDone, problem));
            }
        }
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Receipt>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hides what is held from others for ever, a while at a time; thrice as
    /// often as needed, so that two requests in a row may fail.
    async fn keep(&self, visibility: Duration) {
        loop {
            tokio::time::sleep(visibility / 3).await;
            let held: Vec<(u64, Receipt)> =
                self.lock().iter().map(|(number, receipt)| (*number, receipt.clone())).collect();
            let hide = |entry: &mut Value| entry["VisibilityTimeout"] = Value::from(visibility.as_secs());
            for batch in held.chunks(BATCH) {
                match self.batch("ChangeMessageVisibilityBatch", batch, hide).await {
                    Ok(failed) if failed.is_empty() => {}
                    Ok(failed) => {
                        let code = failed[0].code.as_str();
                        tracing::debug!(
                            count = failed.len(),
                            code,
                            "messages could not be hidden any longer"
                        );
                    }
                    Err(failure) => {
                        tracing::warn!(%failure, "messages could not be hidden any longer");
                        break;
                    }
                }
            }
        }
    }

    /// One request for up to ten messages; those that failed.
    async fn batch(
        &self,
        operation: &str,
        batch: &[(u64, Receipt)],
        more: impl Fn(&mut Value),
    ) -> Result<Vec<Failed>, Failure> {
        let entry = |(number, receipt): &(u64, Receipt)| {
            let mut entry = json!({ "Id": number.to_string(), "ReceiptHandle": receipt.0 });
            more(&mut entry);
            entry
        };
        let entries: Vec<Value> = batch.iter().map(entry).collect();
        let reply: Batched =
            self.call(operation, &json!({ "QueueUrl": self.url, "Entries": entries })).await?;
        Ok(reply.failed.unwrap_or_default())
    }

    /// One call; in a box, because its future is large.
    async fn call<O: serde::de::DeserializeOwned>(
        &self,
        operation: &str,
        input: &Value,
    ) -> Result<O, Failure> {
        Box::pin(self.client.call(operation, input)).await.map_err(failed)
    }
}

/// A call's failure, with what to check.
fn failed(error: AwsError) -> Failure {
    let code = error.code();
    let advice = if code.contains("NonExistentQueue") || code.contains("QueueDoesNotExist") {
        Some("check `notifications.queue_url` and its region")
    } else if matches!(code, "AccessDenied" | "AccessDeniedException") {
        Some("the credentials need sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility")
    } else if matches!(code, "InvalidClientTokenId" | "UnrecognizedClientException" | "SignatureDoesNotMatch")
    {
        Some("check the access key, its secret and the region")
    } else {
        None
    };
    let mut failure = error.into_failure();
    if let Some(advice) = advice {
        failure.message = format!("{} ({advice})", failure.message);
    }
    failure
}
