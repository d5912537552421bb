//! The Kinesis Data Streams API, in JSON 1.1 and in CBOR: `POST /` with
//! `X-Amz-Target`.
//!
//! Source: the service model of `kinesis-2013-12-02`; words from captures of
//! the real service. A stream is one stream of the journal, whatever number of
//! shards it has ([`shards`]); what the API keeps beside it
//! ([`document::Document`]) is stored with the stream.
//!
//! A put's way: [`put`] decodes the body into one buffer, [`write`] finds the
//! shards and appends. A reader's: [`iterator`] names a place, [`read`] goes on
//! from there. [`live`] keeps puts and changes of shards apart.

mod arn;
mod cbor;
mod constraints;
mod consumers;
mod document;
mod eventstream;
mod iterator;
mod live;
mod put;
mod read;
mod reshard;
mod sequence;
mod shards;
mod streams;
mod subscribe;
mod tags;
mod throttle;
mod write;

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use lakeward_engine::{Control, Intake, Streams};
use lakeward_model::clock::SharedClock;
use lakeward_model::{RequestKey, Shard, StreamName, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) use self::arn::Arn;
use self::live::{Live, Lives, NoStream};
use self::put::Call;
use self::subscribe::Subscriptions;
use crate::aws::fault::Fault;
use crate::aws::tree;
use crate::body::{Budget, Reservation};
use crate::config::ServerConfig;

/// Largest body of a call that is not a put: its JSON becomes a tree, which
/// takes many times the bytes.
const CONTROL_BYTES_MAX: usize = 256 << 10;

/// Largest body: a valid put has 10 MiB, in base64 with JSON's punctuation.
pub(crate) const BODY_BYTES_MAX: u64 = 16 << 20;

pub(crate) const TARGET_PREFIX: &[u8] = b"Kinesis_20131202.";

const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/x-amz-json-1.1`.
    Json,
    /// `application/x-amz-cbor-1.1`.
    Cbor,
}

impl Encoding {
    /// What a request with this `Content-Type` is written in.
    pub(crate) fn of(content_type: Option<&[u8]>) -> Self {
        let cbor = content_type.is_some_and(|given| given.starts_with(b"application/x-amz-cbor-1.1"));
        if cbor { Self::Cbor } else { Self::Json }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    pub(crate) fn write(self, value: &Value) -> Vec<u8> {
        match self {
            Self::Json => value.to_string().into_bytes(),
            Self::Cbor => cbor::write(value),
        }
    }

    fn read(self, body: &[u8]) -> Result<Value, Fault> {
        match self {
            _ if body.is_empty() => Ok(json!({})),
            Self::Json => tree::read(body),
            Self::Cbor => cbor::read(body).map_err(|e| Fault::serialization(e.to_string())),
        }
    }
}

/// An answer.
pub(crate) enum Reply {
    /// A whole body, and the memory that was taken for it.
    Whole(Vec<u8>, Option<Reservation>),
    /// Events for as long as the subscription lasts.
    Events(Body),
}

/// A call as it came.
pub(crate) struct Request<'a> {
    /// The operation, without the prefix.
    pub(crate) operation: &'a [u8],
    pub(crate) encoding: Encoding,
    pub(crate) body: Bytes,
    /// What makes the SDK's tries of one call one.
    pub(crate) key: Option<RequestKey>,
    /// The memory that the body takes.
    pub(crate) reservation: Reservation,
}

/// The operations.
pub(crate) struct Api {
    account: String,
    region: String,
    throttles: bool,
    /// Whether this is `lakeward dev`, where streams exist as soon as they are
    /// named.
    is_dev: bool,
    intake: Intake,
    control: Control,
    lives: Arc<Lives>,
    clock: SharedClock,
    budget: Budget,
    subscriptions: Subscriptions,
    /// Held while a stream is created or deleted.
    making: tokio::sync::Mutex<()>,
    shutdown: CancellationToken,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("account", &self.account)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// A stream that a call is about.
#[derive(Debug, Clone)]
struct Target {
    name: StreamName,
    account: String,
}

impl Target {
    fn names(&self) -> Names<'_> {
        Names { stream: self.name.as_str(), account: &self.account }
    }
}

/// What messages call a stream.
#[derive(Debug, Clone, Copy)]
struct Names<'a> {
    stream: &'a str,
    account: &'a str,
}

impl Names<'_> {
    fn missing(&self, message: String) -> Fault {
        Fault::new("ResourceNotFoundException", message)
    }

    fn not_found(&self) -> Fault {
        self.missing(format!("Stream {} under account {} not found.", self.stream, self.account))
    }

    /// The text is no shard's name.
    fn shard_not_found(&self, id: &str) -> Fault {
        let Self { stream, account } = self;
        self.missing(format!("Could not find shard {id} in stream {stream} under account {account}."))
    }

    fn no_shard(&self, number: u32) -> Fault {
        let Self { stream, account } = self;
        let id = reshard::shard_id(number);
        self.missing(format!("Shard {id} in stream {stream} under account {account} does not exist"))
    }

    fn no_consumer(&self, name: &str) -> Fault {
        self.missing(format!("Consumer {name}, account {} not found.", self.account))
    }

    fn throttled(&self, shard: Shard) -> Fault {
        let Self { stream, account } = self;
        Fault::new(
            THROTTLED,
            format!("Rate exceeded for shard {shard} in stream {stream} under account {account}."),
        )
    }

    /// There is no room in the journal or in memory.
    fn throttled_stream(&self) -> Fault {
        let Self { stream, account } = self;
        Fault::new(THROTTLED, format!("Rate exceeded for stream {stream} under account {account}."))
    }
}

impl Api {
    pub(crate) fn new(
        config: &ServerConfig,
        (intake, control, streams): (Intake, Control, Streams),
        clock: SharedClock,
        budget: Budget,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            account: config.account_id.clone(),
            region: config.region.clone(),
            throttles: config.kinesis.throttle,
            is_dev: config.open,
            intake,
            control,
            lives: Arc::new(Lives::new(streams, Arc::clone(&clock), config.kinesis.shards.clone())),
            clock,
            budget,
            subscriptions: Subscriptions::default(),
            making: tokio::sync::Mutex::default(),
            shutdown,
        }
    }

    /// Does what the request asks for.
    ///
    /// # Errors
    /// The exception to answer.
    pub(crate) async fn call(self: &Arc<Self>, request: Request<'_>) -> Result<Reply, Fault> {
        let Request { operation, encoding, body, key, reservation } = request;
        let operation = std::str::from_utf8(operation).map_err(|_| Fault::unknown_operation())?;
        let put = match operation {
            "PutRecord" => Some(Call::One),
            "PutRecords" => Some(Call::Many),
            _ => None,
        };
        if let Some(call) = put {
            let put = put::read(call, encoding, &body)?;
            drop(body);
            return Ok(Reply::Whole(self.put(call, encoding, put, key, reservation).await?, None));
        }
        if body.len() > CONTROL_BYTES_MAX {
            return Err(Fault::serialization(format!(
                "a request may have at most {CONTROL_BYTES_MAX} bytes"
            )));
        }
        let input = encoding.read(&body)?;
        constraints::check(operation, &input)?;
        match operation {
            "GetRecords" => self.get_records(&input, encoding, reservation).await,
            "SubscribeToShard" => self.subscribe(&input, encoding).await,
            _ => {
                let answer = self.control_call(operation, &input).await?;
                let is_nothing = answer.as_object().is_some_and(serde_json::Map::is_empty);
                // As AWS: nothing to say is no body.
                Ok(Reply::Whole(if is_nothing { Vec::new() } else { encoding.write(&answer) }, None))
            }
        }
    }

    async fn control_call(&self, operation: &str, input: &Value) -> Result<Value, Fault> {
        match operation {
            "AddTagsToStream" => self.add_tags(input).await,
            "CreateStream" => self.create_stream(input).await,
            "DecreaseStreamRetentionPeriod" => self.decrease_retention(input).await,
            "DeleteStream" => self.delete_stream(input).await,
            "DeregisterStreamConsumer" => self.deregister_consumer(input).await,
            "DescribeAccountSettings" => {
                Ok(json!({"MinimumThroughputBillingCommitment": {"Status": "DISABLED"}}))
            }
            "DescribeLimits" => self.describe_limits().await,
            "DescribeStream" => self.describe_stream(input).await,
            "DescribeStreamConsumer" => self.describe_consumer(input).await,
            "DescribeStreamSummary" => self.describe_stream_summary(input).await,
            "DisableEnhancedMonitoring" => self.set_metrics(input, false).await,
            "EnableEnhancedMonitoring" => self.set_metrics(input, true).await,
            "GetShardIterator" => self.get_shard_iterator(input).await,
            "IncreaseStreamRetentionPeriod" => self.increase_retention(input).await,
            "ListShards" => self.list_shards(input).await,
            "ListStreamConsumers" => self.list_consumers(input).await,
            "ListStreams" => self.list_streams(input).await,
            "ListTagsForResource" => self.list_tags_for_resource(input).await,
            "ListTagsForStream" => self.list_tags(input).await,
            "MergeShards" => self.merge_shards(input).await,
            "RegisterStreamConsumer" => self.register_consumer(input).await,
            "RemoveTagsFromStream" => self.remove_tags(input).await,
            "SplitShard" => self.split_shard(input).await,
            "StartStreamEncryption" => self.set_encryption(input, true).await,
            "StopStreamEncryption" => self.set_encryption(input, false).await,
            "TagResource" => self.tag_resource(input).await,
            "UntagResource" => self.untag_resource(input).await,
            "UpdateMaxRecordSize" => self.update_record_size(input).await,
            "UpdateShardCount" => self.update_shard_count(input).await,
            "UpdateStreamMode" => self.update_stream_mode(input).await,
            _ => Err(Fault::unknown_operation()),
        }
    }

    fn arn(&self, stream: &StreamName) -> String {
        format!("arn:aws:kinesis:{}:{}:stream/{stream}", self.region, self.account)
    }

    fn names<'a>(&'a self, stream: &'a StreamName) -> Names<'a> {
        Names { stream: stream.as_str(), account: &self.account }
    }

    /// A stream of ours.
    fn here(&self, stream: &StreamName) -> Target {
        Target { name: stream.clone(), account: self.account.clone() }
    }

    /// The stream that an input names.
    fn target_of(&self, input: &Value) -> Result<Target, Fault> {
        self.target(input["StreamName"].as_str(), input["StreamARN"].as_str())
    }

    /// The stream of this name, or of this ARN; a consumer's ARN names one too.
    fn target(&self, name: Option<&str>, arn: Option<&str>) -> Result<Target, Fault> {
        let (stream, account) = match (name, arn) {
            (None, None) => {
                return Err(Fault::invalid_argument("Either StreamName or StreamARN must be given."));
            }
            (Some(name), None) => (name, self.account.as_str()),
            (name, Some(text)) => {
                let arn = Arn::parse(text);
                let arn = arn.ok_or_else(|| {
                    Fault::invalid_argument(format!("StreamARN {text} is not the ARN of a stream."))
                })?;
                if name.is_some_and(|name| name != arn.stream) {
                    return Err(Fault::invalid_argument("StreamName and StreamARN name different streams."));
                }
                (arn.stream, arn.account)
            }
        };
        let missing = || Names { stream, account }.not_found();
        if account != self.account {
            return Err(missing());
        }
        let name = StreamName::new(stream).map_err(|_| missing())?;
        Ok(Target { name, account: account.to_owned() })
    }

    async fn live(&self, target: &Target) -> Result<Arc<Live>, Fault> {
        self.lives.get(&target.name).await.map_err(|error| self.no_stream(target, error))
    }

    fn no_stream(&self, target: &Target, error: NoStream) -> Fault {
        match error {
            NoStream::Unknown if self.is_orphan(&target.name) => {
                let names = target.names();
                names.missing(format!("{} {}", names.not_found().message, streams::orphan(&names)))
            }
            NoStream::Unknown => target.names().not_found(),
            NoStream::Failed(cause) => {
                tracing::error!(stream = %target.name, cause, "a stream cannot be used");
                Fault::internal()
            }
        }
    }
}

/// A required text, which the constraints have checked.
fn text<'a>(input: &'a Value, member: &str) -> &'a str {
    input[member].as_str().unwrap_or_default()
}

/// Fractional seconds since the epoch, to the millisecond.
fn seconds(at: Timestamp) -> Value {
    json!(at.millis() as f64 / 1_000.0)
}
