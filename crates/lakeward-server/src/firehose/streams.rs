//! CreateDeliveryStream, DescribeDeliveryStream, ListDeliveryStreams,
//! UpdateDestination and DeleteDeliveryStream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use lakeward_engine::{AcceptError, ControlError, PipelineSpec};
use lakeward_model::StreamName;
use serde_json::{Map, Value, json};

use super::destination::{self, S3};
use super::document::{DESTINATION_ID, Document, KinesisSource, LEGACY_MEMBERS};
use super::fault::Fault;
use super::tags;
use super::{Api, Puts};
use crate::kinesis::Arn;

const LIST_LIMIT: usize = 10;

/// Every member of CreateDeliveryStream that is a destination; with `Update`
/// for `Configuration`, those of UpdateDestination.
const DESTINATIONS: [&str; 10] = [
    "S3Destination",
    "ExtendedS3Destination",
    "RedshiftDestination",
    "ElasticsearchDestination",
    "AmazonopensearchserviceDestination",
    "AmazonOpenSearchServerlessDestination",
    "SplunkDestination",
    "HttpEndpointDestination",
    "SnowflakeDestination",
    "IcebergDestination",
];

impl Api {
    pub(super) async fn create(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let source = kinesis_source(input, &self.account)?;
        let given = only_destination(input, "Configuration")?;
        let _one_at_a_time = self.changes.lock().await;
        if self.find(name).is_some() {
            return Err(Fault::in_use(format!(
                "Firehose {name} under accountId {} already exists",
                self.account
            )));
        }
        let document = Document {
            version: 1,
            created: self.clock.now(),
            updated: None,
            throughput_hint: Some(input["DirectPutSourceConfiguration"].clone()).filter(Value::is_object),
            source,
            encryption: tags::encryption(&input["DeliveryStreamEncryptionConfigurationInput"])?,
            tags: tags::merged(BTreeMap::new(), &input["Tags"])?,
            destination: destination::complete(given),
        };
        let puts = Puts::of(&document);
        let spec = self.spec(name, document)?;
        if puts.refused {
            self.streams.ensure(&spec.stream).await.map_err(|error| match error {
                AcceptError::UnknownStream(stream) => {
                    Fault::invalid_argument(format!("Kinesis stream {stream} not found."))
                }
                other => self.accept_fault(&spec.stream, other),
            })?;
        }
        self.control.create(spec).await.map_err(|e| self.control_fault(name, e))?;
        self.set_puts(name, puts);
        Ok(json!({"DeliveryStreamARN": self.arn(name)}))
    }

    pub(super) fn describe(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let spec = self.find(name).ok_or_else(|| Fault::not_found(name, &self.account))?;
        let document = Document::of(&spec).unwrap_or_else(|| Document::synthesised(&spec, &self.account));
        Ok(document.describe(name, &self.arn(name), input["ExclusiveStartDestinationId"].as_str()))
    }

    pub(super) fn list(&self, input: &Value) -> Value {
        let kind = input["DeliveryStreamType"].as_str();
        let streams = self.control.list().into_iter().map(|spec| delivery_stream(&spec));
        let names: BTreeSet<String> = streams
            .filter(|(_, of_kind)| kind.is_none_or(|kind| kind == *of_kind))
            .map(|(name, _)| name)
            .collect();
        let after = input["ExclusiveStartDeliveryStreamName"].as_str();
        let limit = input["Limit"].as_u64().map_or(LIST_LIMIT, |l| usize::try_from(l).unwrap_or(LIST_LIMIT));
        let mut rest = names.into_iter().filter(|n| after.is_none_or(|after| n.as_str() > after));
        let page: Vec<String> = rest.by_ref().take(limit).collect();
        json!({"DeliveryStreamNames": page, "HasMoreDeliveryStreams": rest.next().is_some()})
    }

    pub(super) async fn update(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let update = only_destination(input, "Update")?;
        let _one_at_a_time = self.changes.lock().await;
        let mut document = self.document(name)?;
        let given = text(input, "CurrentDeliveryStreamVersionId");
        if given != document.version.to_string() {
            return Err(Fault::concurrent(format!(
                "Cannot update firehose: {name} since the current version id: {} and specified version id: {given} \
                 do not match",
                document.version
            )));
        }
        let id = text(input, "DestinationId");
        if id != DESTINATION_ID {
            return Err(Fault::invalid_argument(format!("Destination Id {id} not found")));
        }
        let partitioned = destination::partitions(&document.destination);
        destination::merge(&mut document.destination, &update);
        if partitioned != destination::partitions(&document.destination) {
            self.rules.broken(
                "Dynamic Partitioning can be enabled only when a delivery stream is created, and cannot be disabled.",
            )?;
        }
        document.version += 1;
        document.updated = Some(self.clock.now());
        self.store(name, document).await?;
        Ok(json!({}))
    }

    pub(super) async fn delete(&self, input: &Value) -> Result<Value, Fault> {
        let name = text(input, "DeliveryStreamName");
        let _one_at_a_time = self.changes.lock().await;
        let spec = self.find(name).ok_or_else(|| Fault::not_found(name, &self.account))?;
        self.control.delete(&spec.name).await.map_err(|e| self.control_fault(name, e))?;
        self.set_puts(name, Puts::default());
        Ok(json!({}))
    }

    /// The pipeline that stands for a delivery stream: the one of its name, or
    /// else the first one that delivers the stream.
    pub(super) fn find(&self, name: &str) -> Option<PipelineSpec> {
        let stands_for = |spec: &PipelineSpec| delivery_stream(spec).0 == name;
        self.control.get(name).filter(stands_for).or_else(|| self.control.list().into_iter().find(stands_for))
    }

    /// The document of a stream that this API may change.
    pub(super) fn document(&self, name: &str) -> Result<Document, Fault> {
        let spec = self.find(name).ok_or_else(|| Fault::not_found(name, &self.account))?;
        Document::of(&spec).ok_or_else(|| {
            Fault::in_use(format!(
                "Firehose {name} was not created through this API: change it in Lakeward's configuration."
            ))
        })
    }

    /// Replaces a stream's document and what follows from it.
    pub(super) async fn store(&self, name: &str, document: Document) -> Result<(), Fault> {
        let puts = Puts::of(&document);
        let spec = self.spec(name, document)?;
        self.control.update(spec).await.map_err(|e| self.control_fault(name, e))?;
        self.set_puts(name, puts);
        Ok(())
    }

    fn spec(&self, name: &str, mut document: Document) -> Result<PipelineSpec, Fault> {
        document.destination = destination::complete(document.destination);
        let s3 = S3::read(&document.destination, self.rules)?;
        let stream = document.source.as_ref().and_then(KinesisSource::stream).unwrap_or(name);
        let stream = StreamName::new(stream).map_err(|_| {
            Fault::invalid_argument(format!("DeliveryStreamName {stream} consists of dots only."))
        })?;
        Ok(PipelineSpec {
            name: name.to_owned(),
            stream,
            shape: s3.shape(name, document.version)?,
            // As at AWS, a new delivery stream starts with what comes next.
            from_latest: true,
            batch: s3.limits(),
            destination: (self.bucket_destination)(s3.bucket()),
            catalog: None,
            owner: Some(document.into_owner()),
        })
    }

    fn set_puts(&self, name: &str, puts: Puts) {
        let mut all = self.puts.write().unwrap_or_else(PoisonError::into_inner);
        if puts == Puts::default() {
            all.remove(name);
        } else {
            all.insert(name.to_owned(), puts);
        }
    }

    fn control_fault(&self, name: &str, error: ControlError) -> Fault {
        match error {
            ControlError::Exists(_) => {
                Fault::in_use(format!("Firehose {name} under accountId {} already exists", self.account))
            }
            ControlError::NotFound(_) => Fault::not_found(name, &self.account),
            ControlError::Configured(_) => Fault::in_use(format!(
                "Firehose {name} was not created through this API: change it in Lakeward's configuration."
            )),
            ControlError::Invalid(message) => Fault::invalid_argument(message),
            ControlError::Failed(cause) => {
                tracing::error!(stream = name, cause, "a change of a delivery stream failed");
                Fault::internal()
            }
        }
    }
}

/// The name and the type of the delivery stream that a pipeline stands for: of
/// its own name if a Kinesis stream is its source, else of its stream's.
fn delivery_stream(spec: &PipelineSpec) -> (String, &'static str) {
    match Document::of(spec) {
        Some(document) if document.source.is_some() => (spec.name.clone(), document.kind()),
        _ => (spec.stream.to_string(), "DirectPut"),
    }
}

/// The Kinesis stream that a new delivery stream is to deliver, if it is not to
/// be put into.
fn kinesis_source(input: &Value, account: &str) -> Result<Option<KinesisSource>, Fault> {
    let given = &input["KinesisStreamSourceConfiguration"];
    match input["DeliveryStreamType"].as_str().unwrap_or("DirectPut") {
        "DirectPut" if given.is_null() => Ok(None),
        "DirectPut" => Err(Fault::invalid_argument(
            "KinesisStreamSourceConfiguration is not allowed for DirectPut delivery stream type.",
        )),
        "KinesisStreamAsSource" if given.is_null() => Err(Fault::invalid_argument(
            "KinesisStreamSourceConfiguration is required for KinesisStreamAsSource delivery stream type.",
        )),
        "KinesisStreamAsSource" => {
            let source = KinesisSource {
                stream_arn: text(given, "KinesisStreamARN").to_owned(),
                role_arn: text(given, "RoleARN").to_owned(),
            };
            match Arn::parse(&source.stream_arn) {
                Some(arn) if arn.consumer.is_none() && arn.account == account => Ok(Some(source)),
                Some(arn) if arn.consumer.is_none() => Err(Fault::invalid_argument(format!(
                    "Kinesis stream {} under account {} not found.",
                    arn.stream, arn.account
                ))),
                _ => Err(Fault::invalid_argument(format!(
                    "{} is not the ARN of a Kinesis stream.",
                    source.stream_arn
                ))),
            }
        }
        kind => Err(Fault::invalid_argument(format!(
            "DeliveryStreamType {kind} is not supported by Lakeward yet."
        ))),
    }
}

/// A required text, which the constraints have checked.
pub(super) fn text<'a>(input: &'a Value, member: &str) -> &'a str {
    input[member].as_str().unwrap_or_default()
}

/// The one destination that the input has; it must be S3. Of a legacy one only
/// the members that it has at AWS are taken.
fn only_destination(input: &Value, suffix: &str) -> Result<Map<String, Value>, Fault> {
    let mut found = DESTINATIONS
        .iter()
        .filter_map(|name| input[format!("{name}{suffix}")].as_object().map(|given| (*name, given)));
    match (found.next(), found.next()) {
        (Some(("ExtendedS3Destination", given)), None) => Ok(given.clone()),
        (Some(("S3Destination", given)), None) => Ok(given
            .iter()
            .filter(|(member, _)| LEGACY_MEMBERS.contains(&member.as_str()))
            .map(|(member, value)| (member.clone(), value.clone()))
            .collect()),
        (Some((name, _)), None) => {
            Err(Fault::invalid_argument(format!("{name}{suffix} is not supported by Lakeward yet.")))
        }
        _ => {
            Err(Fault::invalid_argument("Exactly one destination configuration is supported for a Firehose"))
        }
    }
}
