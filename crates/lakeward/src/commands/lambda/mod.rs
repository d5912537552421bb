//! `lakeward lambda`: the same binary as an AWS Lambda function.
//!
//! It takes the objects that its events tell of, through the configuration's
//! `objects` source and the pipelines of its stream, without journal and state:
//! see [`object`] for what makes each count once all the same.

mod blocks;
mod bulk;
mod event;
mod lines;
mod numbers;
mod object;
mod runtime;
mod until;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lakeward_connectors::sources::objects::{Notified, NotifiedError};
use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Slice, SlicedSource, StreamName, Timestamp, Wanted, limits};
use serde_json::{Map, Value, json};

use self::event::{Asked, Message};
use self::numbers::Numbers;
use self::object::{Locks, Objects, Outcome, Pipeline};
use self::runtime::{Invocation, Runtime};
use self::until::Until;
use crate::config::{Config, SourceConfig};
use crate::exit::{Code, coded};
use crate::terminal::Output;
use crate::wiring::{self, Place};

/// How long the health check waits for a destination.
const HEALTH: Duration = Duration::from_secs(10);
/// How many objects of an event are named in an answer.
const NAMED: usize = 100;
/// The most of an event in a file.
const EVENT_BYTES_MAX: u64 = 16 << 20;

/// Run as an AWS Lambda function (runtime `provided.al2023`): take the objects
/// that events of S3, EventBridge, SNS or SQS tell of, or those of a section
/// and range of days. In a Lambda sandbox it is what the binary does by itself.
///
/// With `--event` one event is handled here and now, and the answer printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Lambda {
    /// The configuration file: its `objects` source and the pipelines of that
    /// source's stream are used. Default: `lakeward.yaml`, in the function's
    /// folder if there is one.
    #[arg(short, long, value_name = "FILE", env = "LAKEWARD_CONFIG")]
    config: Option<PathBuf>,
    /// The source. Default: the only `objects` source that there is.
    #[arg(long, value_name = "NAME", env = "LAKEWARD_LAMBDA_SOURCE")]
    source: Option<String>,
    /// How long before the end of an invocation work ends, so that what is left
    /// can be said; of a short invocation at most a fifth.
    #[arg(long, value_name = "TIME", default_value = "5s", env = "LAKEWARD_LAMBDA_MARGIN", value_parser = super::dev::parse_time)]
    margin: Duration,
    /// How many objects of an event are taken at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, env = "LAKEWARD_LAMBDA_PARALLEL", value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// The most MiB of records in a batch, if the pipelines do not say less.
    /// Memory is about ten times as much, for each object that is taken at the
    /// same time. A change makes other batches of objects that are larger.
    #[arg(long, value_name = "MIB", default_value_t = 16, env = "LAKEWARD_LAMBDA_BATCH_MIB", value_parser = clap::value_parser!(u16).range(1..=512))]
    batch_mib: u16,
    /// Handle the event in this file (`-`: standard input), and end.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
}

/// An invocation that failed, in words: AWS tries its event again.
struct Failed(String);

impl Lambda {
    /// Whether it handles one event and ends.
    pub(crate) fn is_once(&self) -> bool {
        self.event.is_some()
    }

    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        if let Some(file) = &self.event {
            return self.once(file, out).await;
        }
        let address = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap_or_default();
        if address.is_empty() {
            let message = "this is no Lambda sandbox (AWS_LAMBDA_RUNTIME_API is not set); try --event FILE";
            return Err(coded(Code::Usage, message));
        }
        let runtime = Runtime::new(&address)?;
        let function = match self.open() {
            Ok(function) => function,
            Err(error) => {
                runtime.cannot_start(&format!("{error:#}")).await?;
                return Err(error);
            }
        };
        loop {
            let invocation = runtime.next().await?;
            let answered = match function.handle(&invocation).await {
                Ok(answer) => runtime.reply(&invocation.id, &answer).await,
                Err(Failed(message)) => {
                    tracing::error!(request = invocation.id, error = message, "the invocation failed");
                    runtime.fail(&invocation.id, &message).await
                }
            };
            if let Err(error) = answered {
                tracing::warn!(request = invocation.id, %error, "the answer did not arrive");
            }
        }
    }

    /// Handles one event.
    async fn once(&self, file: &std::path::Path, out: &Output) -> anyhow::Result<Code> {
        let mut event = Vec::new();
        let cannot = |error| coded(Code::Usage, format!("cannot read {}: {error}", file.display()));
        let mut source: Box<dyn Read> = if file.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(file).map_err(cannot)?)
        };
        limits::read_capped(&mut source, EVENT_BYTES_MAX, &mut event).map_err(cannot)?;
        let function = self.open()?;
        let deadline = Timestamp(SystemClock.now().0.saturating_add(900_000_000));
        let id = lakeward_model::ids::fresh().to_string();
        match function.handle(&Invocation { id, deadline, event: event.into() }).await {
            Ok(answer) => {
                out.json(&answer)?;
                let failed = answer.get("statusCode").is_some_and(|status| status != 200)
                    || answer.get("batchItemFailures").is_some_and(|all| *all != json!([]));
                Ok(if failed { Code::TryAgain } else { Code::Done })
            }
            Err(Failed(message)) => Err(coded(Code::TryAgain, message)),
        }
    }

    /// Reads the configuration and opens what it names; asks nobody yet.
    fn open(&self) -> anyhow::Result<Function> {
        let folder = std::env::var_os("LAMBDA_TASK_ROOT").map(PathBuf::from).unwrap_or_default();
        let path = self.config.clone().unwrap_or_else(|| PathBuf::from("lakeward.yaml"));
        let config = Config::read(&folder.join(path))?;
        let (source, stream) = self.source(&config)?;
        let source = wiring::objects(source)?;
        if source.bucket().is_none() {
            return Err(coded(Code::Configuration, "the source has to be a bucket: events tell of objects"));
        }
        let connectors = wiring::connectors(&config);
        let (mut pipelines, mut places) = (Vec::new(), Vec::new());
        for pipeline in config.pipelines.iter().filter(|pipeline| pipeline.stream == stream.as_str()) {
            let refuse =
                |what: &str| coded(Code::Configuration, format!("pipeline {}: {what}", pipeline.name));
            if pipeline.lambda.is_some() {
                return Err(refuse("`lambda` needs a journal: a function is asked by `lakeward run` only"));
            }
            let spec = pipeline.spec()?;
            let sql = spec.shape.sql.as_deref().map(wiring::compile_sql).transpose();
            let sql = sql.map_err(|error| refuse(&error.to_string()))?;
            let opened = (connectors.destination)(&spec.destination).map_err(|error| refuse(&error))?;
            let place =
                Place::open(&config.firehose.buckets, &spec.destination).map_err(|error| refuse(&error))?;
            let is_table = place.table.is_some();
            places.push((pipeline.name.clone(), place));
            pipelines.push(Pipeline { spec: Arc::new(spec), sql, destination: opened.destination, is_table });
        }
        if pipelines.is_empty() {
            return Err(coded(Code::Configuration, format!("no pipeline delivers the stream {stream}")));
        }
        let objects = Objects {
            source,
            stream,
            pipelines,
            parallel: usize::from(self.parallel),
            batch_bytes: u64::from(self.batch_mib) << 20,
            locks: Locks::default(),
        };
        Ok(Function { objects, places, margin: self.margin })
    }

    fn source<'a>(&self, config: &'a Config) -> anyhow::Result<(&'a SourceConfig, StreamName)> {
        let mut objects = config.sources.iter().filter(|source| matches!(source, SourceConfig::Objects(_)));
        let found = match &self.source {
            Some(name) => objects.find(|source| source.name() == name),
            None => objects.next().filter(|_| objects.next().is_none()),
        };
        let message = "name an `objects` source of the configuration with --source, or have exactly one";
        let source = found.ok_or_else(|| coded(Code::Configuration, message))?;
        Ok((source, StreamName::new(source.stream())?))
    }
}

/// What handles invocations.
struct Function {
    objects: Objects,
    /// Where pipelines deliver to.
    places: Vec<(String, Place)>,
    margin: Duration,
}

impl Function {
    async fn handle(&self, invocation: &Invocation) -> Result<Value, Failed> {
        let until = Until::before(invocation.deadline, self.margin);
        let asked = event::read(&invocation.event).map_err(Failed)?;
        match asked {
            Asked::Health => Ok(self.health().await),
            Asked::Diagnostics { prefix } => Ok(self.diagnose(prefix).await),
            Asked::Messages(messages) => Ok(self.messages(messages, until).await),
            Asked::Notifications(texts) => self.notifications(&texts, until).await,
            Asked::Object(text) => Ok(self.object(&text, until).await),
            Asked::Lines { body, key } => {
                let key = key.unwrap_or_else(|| String::from("event"));
                let outcome = self.objects.lines(&key, &body, until).await;
                let (bucket, _) = self.objects.bucket();
                let mut answer = Answer::default();
                answer.add(Notified { bucket: bucket.into(), key, slice: None }, outcome);
                Ok(answer.for_one())
            }
            Asked::Bulk(bulk) => match bulk.run(&self.objects, &invocation.id, until).await {
                Ok(body) => Ok(json!({ "statusCode": 200, "body": body })),
                Err(error) => {
                    let body = json!({ "success": false, "processing_mode": "bulk", "error": error });
                    Ok(json!({ "statusCode": 500, "body": body }))
                }
            },
        }
    }

    /// Every message is answered for by itself.
    async fn messages(&self, messages: Vec<Message>, until: Until) -> Value {
        let failed: Vec<Option<Value>> = futures::stream::iter(messages)
            .map(|message| async move {
                let mut answer = Answer::default();
                let taken = match self.objects.notified(&message.body).await {
                    Ok(found) => {
                        self.take_all(found, until, &mut answer).await;
                        answer.failure()
                    }
                    Err(error) => Some(error.to_string()),
                };
                answer.log();
                taken.map(|error| {
                    tracing::error!(message = message.id, error, "a message is to come again");
                    json!({ "itemIdentifier": message.id })
                })
            })
            .buffered(self.objects.parallel)
            .collect()
            .await;
        let failed: Vec<Value> = failed.into_iter().flatten().collect();
        json!({ "batchItemFailures": failed })
    }

    /// All of it or an error, since AWS tries the whole event again.
    async fn notifications(&self, texts: &[String], until: Until) -> Result<Value, Failed> {
        let mut answer = Answer::default();
        for text in texts {
            let found = self.objects.notified(text).await.map_err(|error| Failed(error.to_string()))?;
            self.take_all(found, until, &mut answer).await;
        }
        match answer.failure() {
            Some(error) => Err(Failed(error)),
            None => Ok(answer.for_one()),
        }
    }

    /// One object, for somebody who waits.
    async fn object(&self, text: &str, until: Until) -> Value {
        let mut answer = Answer::default();
        match self.objects.notified(text).await {
            Ok(found) => self.take_all(found, until, &mut answer).await,
            Err(error @ (NotifiedError::Unreadable(_) | NotifiedError::Store(_))) => {
                let body = json!({ "success": false, "error": error.to_string() });
                return json!({ "statusCode": 500, "body": body });
            }
        }
        answer.for_one()
    }

    async fn take_all(&self, found: Vec<Notified>, until: Until, answer: &mut Answer) {
        let mut outcomes = futures::stream::iter(found)
            .map(|notified| async move {
                let outcome = match &notified.slice {
                    Some(slice) => self.objects.take(slice, None, until).await,
                    None => Outcome::Skipped(self.why_not(&notified)),
                };
                (notified, outcome)
            })
            .buffered(self.objects.parallel);
        while let Some((notified, outcome)) = outcomes.next().await {
            answer.add(notified, outcome);
        }
    }

    /// Why an object is none of ours.
    fn why_not(&self, notified: &Notified) -> String {
        let (bucket, below) = self.objects.bucket();
        if notified.bucket != bucket || !notified.key.starts_with(below) {
            format!("this function takes objects of s3://{bucket}/{below} only")
        } else {
            String::from(
                "its name does not fit the source's `glob` and `pattern`, or it is not there any more",
            )
        }
    }

    /// Whether every destination takes what is delivered.
    async fn health(&self) -> Value {
        let mut all = Vec::new();
        let mut healthy = true;
        for (pipeline, place) in &self.places {
            let probe = async {
                let mut found = match &place.table {
                    Some(table) => table.probe().await,
                    None => Vec::new(),
                };
                found.extend(place.lake.probe().await);
                found
            };
            let (ok, message) = match tokio::time::timeout(HEALTH, probe).await {
                Ok(found) => match found.into_iter().find(|probe| !probe.ok) {
                    Some(bad) => (false, format!("{}: {}", bad.name, bad.message)),
                    None => (true, String::from("ok")),
                },
                Err(_) => (false, String::from("no answer in time")),
            };
            healthy &= ok;
            all.push(
                json!({ "pipeline": pipeline, "destination": place.name, "ok": ok, "message": message }),
            );
        }
        let body = json!({
            "clickhouse_healthy": healthy,
            "lambda_function": std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| "lakeward".into()),
            "version": env!("CARGO_PKG_VERSION"),
            "modes": ["single", "bulk"],
            "destinations": all,
            "timestamp": SystemClock.now().to_string(),
        });
        json!({ "statusCode": if healthy { 200 } else { 500 }, "body": body })
    }

    /// The health, and what the source lists.
    async fn diagnose(&self, prefix: Option<String>) -> Value {
        let mut answer = self.health().await;
        let (bucket, below) = self.objects.bucket();
        let prefix = prefix.unwrap_or_default();
        let name = prefix.strip_prefix(below).unwrap_or_default();
        let wanted = Wanted { prefix: name.into(), ..Wanted::default() };
        let listed = match self.objects.source.list(&wanted, None).await {
            Ok(page) => {
                let some: Vec<String> = page
                    .slices
                    .iter()
                    .take(10)
                    .map(|slice: &Slice| format!("{below}{}", slice.name))
                    .collect();
                json!({ "ok": true, "bucket": bucket, "prefix": prefix, "objects": page.slices.len(),
                    "has_more": page.next.is_some(), "examples": some })
            }
            Err(failure) => {
                answer["statusCode"] = 500.into();
                json!({ "ok": false, "bucket": bucket, "prefix": prefix, "error": failure.message })
            }
        };
        answer["body"]["s3"] = listed;
        answer
    }
}

/// What became of the objects of an event.
#[derive(Default)]
struct Answer {
    objects: Vec<Value>,
    skipped: u64,
    taken: u64,
    repeated: u64,
    failures: Vec<String>,
    bytes: u64,
    numbers: Numbers,
}

impl Answer {
    fn add(&mut self, notified: Notified, outcome: Outcome) {
        let Notified { bucket, key, slice } = notified;
        let mut told = Map::new();
        told.insert("section_id".into(), section_of(&key, slice.as_ref()));
        told.insert("s3_key".into(), key.as_str().into());
        told.insert("s3_bucket".into(), bucket.into());
        match outcome {
            Outcome::Taken(taken) => {
                self.taken += 1;
                self.repeated += u64::from(!taken.is_new);
                self.bytes += taken.bytes;
                self.numbers.add(&taken.numbers);
                told.insert("already_processed".into(), (!taken.is_new).into());
            }
            Outcome::Skipped(why) => {
                self.skipped += 1;
                told.insert("skipped".into(), why.into());
            }
            Outcome::Failed(why) => {
                self.failures.push(format!("{key}: {why}"));
                told.insert("error".into(), why.into());
            }
            Outcome::OutOfTime => {
                let why = "there was no time for all of it";
                self.failures.push(format!("{key}: {why}"));
                told.insert("error".into(), why.into());
            }
        }
        if self.objects.len() < NAMED {
            self.objects.push(told.into());
        }
    }

    /// What failed, if anything did.
    fn failure(&self) -> Option<String> {
        (!self.failures.is_empty()).then(|| self.failures.join("; "))
    }

    fn log(&self) {
        for object in &self.objects {
            tracing::info!(%object, "an object");
        }
    }

    /// The answer to an event, in the words of the function that this replaces.
    fn for_one(mut self) -> Value {
        self.log();
        let mut body = Map::new();
        let success = self.failures.is_empty();
        body.insert("success".into(), success.into());
        body.insert("processing_mode".into(), "single".into());
        self.numbers.tell("", &mut body);
        body.insert("file_size_bytes".into(), self.bytes.into());
        match self.objects.len() {
            1 => {
                let one = self.objects.remove(0);
                body.extend(one.as_object().cloned().unwrap_or_default());
            }
            _ => {
                body.insert("objects".into(), self.objects.into());
            }
        }
        let message = match (self.taken, self.skipped) {
            _ if !success => "Failed",
            (0, 0) => "Nothing to do",
            (0, _) => "Skipped",
            (taken, _) if taken == self.repeated => "Processed before",
            _ => "Processed",
        };
        body.insert("message".into(), message.into());
        json!({ "statusCode": if success { 200 } else { 500 }, "body": body })
    }
}

/// The section of an object: what the pattern says, or the folder behind
/// `section/`.
fn section_of(key: &str, slice: Option<&Slice>) -> Value {
    let captured = slice.and_then(|slice| slice.captured.iter().find(|part| part.name == "section_id"));
    let text = captured.map(|part| part.value.text()).or_else(|| {
        let mut parts = key.split('/');
        parts.by_ref().find(|part| *part == "section")?;
        parts.next()
    });
    match text {
        Some(text) => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        None => Value::Null,
    }
}
