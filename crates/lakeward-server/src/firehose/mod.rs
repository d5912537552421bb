//! The Firehose API, JSON 1.1: `POST /` with `X-Amz-Target`.
//!
//! Source: the service model of `firehose-2015-08-04` and captures of the real
//! service. A delivery stream is a pipeline of the same name; what the API
//! keeps beside it ([`document::Document`]) is stored with the pipeline.

mod constraints;
mod destination;
mod document;
mod partitioning;
mod processors;
mod put;
mod reply;
mod streams;
mod tags;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use lakeward_engine::{AcceptError, Control, Intake, Streams};
use lakeward_model::clock::SharedClock;
use lakeward_model::{Origin, RequestKey, StreamName};
use serde_json::Value;

use self::document::Document;
use self::partitioning::Rules;
use self::put::Call;
use crate::aws::fault::{self, Fault};

/// Largest body of a call that is not a put: its JSON becomes a tree, which
/// takes many times the bytes.
const CONTROL_BYTES_MAX: usize = 256 << 10;

/// Largest body: a valid request has 4 MiB in base64 and the punctuation of 500
/// records; beyond that there is room to say what is wrong in the API's words.
pub(crate) const BODY_BYTES_MAX: u64 = 8 << 20;

const TARGET_PREFIX: &str = "Firehose_20150804.";

/// Turns a bucket's name into the configuration of the destination that it
/// stands for; the binary knows where buckets lie.
pub type BucketDestination = Arc<dyn Fn(&str) -> Value + Send + Sync>;

/// What puts into a delivery stream are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Puts {
    /// They say `"Encrypted": true`.
    encrypted: bool,
    /// They are refused: a Kinesis stream is the source.
    refused: bool,
}

impl Puts {
    fn of(document: &Document) -> Self {
        Self { encrypted: document.is_encrypted(), refused: document.source.is_some() }
    }
}

/// The operations.
pub(crate) struct Api {
    account: String,
    region: String,
    rules: Rules,
    intake: Intake,
    control: Control,
    clock: SharedClock,
    bucket_destination: BucketDestination,
    streams: Streams,
    /// What puts into a delivery stream are told, where it is not the usual.
    puts: RwLock<HashMap<String, Puts>>,
    /// Held from reading a document to storing its successor.
    changes: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("account", &self.account)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Api {
    pub(crate) fn new(
        (account, region, is_strict): (String, String, bool),
        (intake, control, streams): (Intake, Control, Streams),
        clock: SharedClock,
        bucket_destination: BucketDestination,
    ) -> Self {
        let puts = control
            .list()
            .iter()
            .filter_map(|spec| Some((spec.name.clone(), Puts::of(&Document::of(spec)?))))
            .filter(|(_, puts)| *puts != Puts::default())
            .collect();
        Self {
            account,
            region,
            rules: if is_strict { Rules::Strict } else { Rules::Lenient },
            intake,
            control,
            clock,
            bucket_destination,
            streams,
            puts: RwLock::new(puts),
            changes: tokio::sync::Mutex::new(()),
        }
    }

    /// Does what the request asks for; the reply's body.
    ///
    /// # Errors
    /// The exception to answer.
    pub(crate) async fn call(
        &self,
        target: Option<&[u8]>,
        body: Bytes,
        key: Option<RequestKey>,
    ) -> Result<Vec<u8>, Fault> {
        let operation = target
            .and_then(|t| std::str::from_utf8(t).ok())
            .and_then(|t| t.strip_prefix(TARGET_PREFIX))
            .ok_or_else(Fault::unknown_operation)?;
        match operation {
            "PutRecord" => self.put(Call::One, &body, key).await,
            "PutRecordBatch" => self.put(Call::Batch, &body, key).await,
            _ => {
                if body.len() > CONTROL_BYTES_MAX {
                    return Err(Fault::serialization(format!(
                        "a request may have at most {CONTROL_BYTES_MAX} bytes"
                    )));
                }
                let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
                let input: Value =
                    serde_json::from_slice(text).map_err(|e| Fault::serialization(e.to_string()))?;
                constraints::check(operation, &input)?;
                let reply = self.control_call(operation, &input).await?;
                Ok(reply.to_string().into_bytes())
            }
        }
    }

    async fn control_call(&self, operation: &str, input: &Value) -> Result<Value, Fault> {
        match operation {
            "CreateDeliveryStream" => self.create(input).await,
            "DescribeDeliveryStream" => self.describe(input),
            "ListDeliveryStreams" => Ok(self.list(input)),
            "UpdateDestination" => self.update(input).await,
            "DeleteDeliveryStream" => self.delete(input).await,
            "TagDeliveryStream" => self.tag(input).await,
            "UntagDeliveryStream" => self.untag(input).await,
            "ListTagsForDeliveryStream" => self.list_tags(input),
            "StartDeliveryStreamEncryption" => self.start_encryption(input).await,
            "StopDeliveryStreamEncryption" => self.stop_encryption(input).await,
            _ => Err(Fault::unknown_operation()),
        }
    }

    async fn put(&self, call: Call, body: &[u8], key: Option<RequestKey>) -> Result<Vec<u8>, Fault> {
        let put = put::read(call, body)?;
        let not_found = || Fault::not_found(&put.stream, &self.account);
        let stream = StreamName::new(&put.stream).map_err(|_| not_found())?;
        let count = put.records.len();
        let puts = self.puts.read().unwrap_or_else(PoisonError::into_inner).get(&put.stream).copied();
        let Puts { encrypted, refused } = puts.unwrap_or_default();
        if refused {
            return Err(Fault::invalid_argument(
                "This operation is not permitted on KinesisStreamAsSource delivery stream type.",
            ));
        }
        // A Kinesis stream that nothing delivers is no delivery stream.
        if !self.intake.is_delivered(&stream) && self.streams.ends(&stream).is_some() {
            return Err(not_found());
        }
        let origin = Origin::Push(key);
        match self.intake.accept(&stream, put.records, origin).await {
            Ok(accepted) => {
                let incarnation = self.intake.incarnation(&stream).unwrap_or_default();
                Ok(match call {
                    Call::One => reply::one(incarnation, accepted, encrypted),
                    Call::Batch => reply::batch(incarnation, accepted, count, encrypted),
                })
            }
            Err(AcceptError::Full { .. }) if call == Call::Batch => {
                Ok(reply::refused_batch(count, encrypted))
            }
            Err(error) => Err(self.accept_fault(&stream, error)),
        }
    }

    /// What a client is told whose records were not taken.
    fn accept_fault(&self, stream: &StreamName, error: AcceptError) -> Fault {
        match error {
            AcceptError::Full { retry_after } => Fault::slow_down(Some(retry_after)),
            AcceptError::Draining => Fault::slow_down(None),
            AcceptError::UnknownStream(_) => Fault::not_found(stream.as_str(), &self.account),
            AcceptError::TooLarge { limit } => {
                Fault::invalid_argument(format!("Records size exceeds {limit} bytes limit"))
            }
            AcceptError::Failed(cause) => {
                tracing::error!(%stream, cause, "records were not taken");
                Fault::internal()
            }
        }
    }

    fn arn(&self, stream: &str) -> String {
        format!("arn:aws:firehose:{}:{}:deliverystream/{stream}", self.region, self.account)
    }
}
