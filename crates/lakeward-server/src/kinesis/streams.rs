//! Streams: made, described, listed, changed and deleted. What AWS does in the
//! background is done at once here: a stream is ACTIVE when the call answers.

use std::time::Duration;

use lakeward_engine::ControlError;
use lakeward_model::{StreamName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::document::{Document, Mode, State};
use super::iterator::{self, LIFETIME_MS};
use super::reshard;
use super::{Api, Names, Target, text};
use crate::aws::fault::Fault;

/// *ListStreams*: "The default limit is 100"; *DescribeStream*: "100 shards".
const LIST_DEFAULT: usize = 100;
/// A stream in on-demand mode starts with as many shards.
const ON_DEMAND_SHARDS: u32 = 4;
/// *IncreaseStreamRetentionPeriod*: "maximum value … 8760 hours".
const RETENTION_HOURS: std::ops::RangeInclusive<i64> = 24..=8_760;
const ALL_METRICS: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "IteratorAgeMilliseconds",
    "OutgoingBytes",
    "OutgoingRecords",
    "ReadProvisionedThroughputExceeded",
    "WriteProvisionedThroughputExceeded",
];

/// Where a listing goes on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListToken {
    after: String,
    created: i64,
}

impl Api {
    pub(super) async fn create_stream(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target(Some(text(input, "StreamName")), None)?;
        let names = target.names();
        let mode = Mode::of(text(&input["StreamModeDetails"], "StreamMode"));
        if text(input, "RecordDistributionStrategy") == "AUTO" {
            return Err(Fault::invalid_argument(
                "RecordDistributionStrategy AUTO is not supported by Lakeward.",
            ));
        }
        let given = input["ShardCount"].as_u64();
        let shards = match (mode, given) {
            (Mode::OnDemand, None) => ON_DEMAND_SHARDS,
            (Mode::OnDemand, Some(_)) => {
                return Err(Fault::validation(
                    "ShardCount must not be given for a stream in On-Demand mode.",
                ));
            }
            (Mode::Provisioned, None) => {
                return Err(Fault::validation(
                    "1 validation error detected: Value at 'shardCount' failed to satisfy constraint: Member must \
                     not be null",
                ));
            }
            (Mode::Provisioned, Some(count)) => {
                reshard::check_count(usize::try_from(count).unwrap_or(usize::MAX), &names)?;
                u32::try_from(count).unwrap_or(u32::MAX)
            }
        };
        let tags = super::tags::given(&input["Tags"])?;
        let kib = input["MaxRecordSizeInKiB"].as_u64().and_then(|kib| u32::try_from(kib).ok());
        let _one_at_a_time = self.making.lock().await;
        match self.lives.streams.get(&target.name).await {
            Ok(_) => {
                return Err(Fault::in_use(format!(
                    "Stream {} under account {} already exists.",
                    names.stream, names.account
                )));
            }
            // `lakeward dev` delivers what is left there.
            Err(ControlError::NotFound(_)) if self.is_dev || !self.is_orphan(&target.name) => {}
            // Taken over, they would be gone after a day, delivered or not.
            Err(ControlError::NotFound(_)) => return Err(Fault::in_use(orphan(&names))),
            Err(error) => return Err(self.no_stream(&target, error.into())),
        }
        let mut document = Document { tags, ..Document::new(mode, shards, self.clock.now()) };
        document.record_kib_max = kib.unwrap_or(document.record_kib_max);
        let made = self.lives.make(&target.name, document).await;
        made.map_err(|error| self.no_stream(&target, error))?;
        Ok(json!({}))
    }

    /// Whether the journal holds a stream that nobody has any more.
    pub(super) fn is_orphan(&self, name: &StreamName) -> bool {
        self.lives.streams.incarnation(name).is_some() && !self.lives.streams.exists(name)
    }

    pub(super) async fn delete_stream(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let names = target.names();
        let live = self.live(&target).await?;
        let _one_at_a_time = self.making.lock().await;
        // No put is under way, and those that wait find the stream gone.
        let state = live.state.write().await;
        if !state.document.consumers.is_empty() && input["EnforceConsumerDeletion"].as_bool() != Some(true) {
            return Err(Fault::in_use(format!(
                "Stream {} under account {} has registered consumers: deregister them, or set \
                 EnforceConsumerDeletion.",
                names.stream, names.account
            )));
        }
        let pipelines = self.lives.streams.pipelines(&target.name);
        if !pipelines.is_empty() && !self.are_automatic(&target.name, &pipelines) {
            return Err(Fault::in_use(format!(
                "Stream {} under account {} is delivered by {}: delete that first.",
                names.stream,
                names.account,
                pipelines.join(", ")
            )));
        }
        let failed = |error: ControlError| match error {
            ControlError::Failed(cause) => {
                tracing::error!(stream = names.stream, cause, "a stream was not deleted");
                Fault::internal()
            }
            refused => Fault::in_use(refused.to_string()),
        };
        live.retire();
        self.lives.forget(&live);
        for pipeline in pipelines {
            self.control.delete(&pipeline).await.map_err(failed)?;
        }
        match self.lives.streams.remove(&target.name).await {
            // It went with its pipeline.
            Ok(()) | Err(ControlError::NotFound(_)) => Ok(json!({})),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether `lakeward dev` made these pipelines with the stream, so that they
    /// go with it.
    fn are_automatic(&self, stream: &StreamName, pipelines: &[String]) -> bool {
        self.is_dev
            && pipelines.iter().all(|name| {
                let made = self.control.list_made();
                let made = made.iter().find(|spec| spec.name == *name);
                name == stream.as_str() && made.is_some_and(|spec| spec.owner.is_none())
            })
    }

    pub(super) async fn describe_stream(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let names = target.names();
        let live = self.live(&target).await?;
        let state = live.state.read().await;
        let now = self.clock.now();
        let after = input["ExclusiveStartShardId"].as_str();
        let after = after.map(|id| iterator::find(&state, id, now, &names)).transpose()?;
        let after = after.map(|entry| entry.shard().number);
        let limit = input["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        let horizon = state.horizon(now);
        let mut shards = state.document.shards.entries().iter().filter(|entry| {
            after.is_none_or(|after| entry.shard().number > after) && !entry.is_expired(horizon)
        });
        let page: Value =
            shards.by_ref().take(limit.unwrap_or(LIST_DEFAULT)).map(reshard::describe).collect();
        let mut described = self.description(&target, &state);
        described["Shards"] = page;
        described["HasMoreShards"] = shards.next().is_some().into();
        Ok(json!({"StreamDescription": described}))
    }

    pub(super) async fn describe_stream_summary(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let state = live.state.read().await;
        let mut described = self.description(&target, &state);
        described["OpenShardCount"] = state.document.shards.open_count().into();
        described["ConsumerCount"] = state.document.consumers.len().into();
        described["MaxRecordSizeInKiB"] = state.document.record_kib_max.into();
        Ok(json!({"StreamDescriptionSummary": described}))
    }

    /// What both descriptions have.
    fn description(&self, target: &Target, state: &State) -> Value {
        let document = &state.document;
        let mut described = json!({
            "StreamName": target.name.as_str(),
            "StreamARN": self.arn(&target.name),
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": document.mode.text()},
            "RetentionPeriodHours": state.retention_hours(),
            "StreamCreationTimestamp": super::seconds(document.created),
            "EnhancedMonitoring": [{"ShardLevelMetrics": document.metrics}],
            "EncryptionType": document.encryption(),
        });
        if let Some(key) = &document.encryption_key {
            described["KeyId"] = key.as_str().into();
        }
        described
    }

    pub(super) async fn list_streams(&self, input: &Value) -> Result<Value, Fault> {
        let now = self.clock.now();
        let after = match input["NextToken"].as_str() {
            Some(token) => {
                let token: Option<ListToken> = iterator::open(token);
                let token = token.ok_or_else(|| Fault::invalid_argument("NextToken is invalid."))?;
                if now.millis().saturating_sub(token.created) > LIFETIME_MS {
                    let message = "NextToken has expired: it is valid for 300 seconds.";
                    return Err(Fault::new("ExpiredNextTokenException", message));
                }
                Some(token.after)
            }
            None => input["ExclusiveStartStreamName"].as_str().map(str::to_owned),
        };
        let limit = input["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        let mut names = self.lives.streams.names();
        names.sort_unstable();
        let mut rest =
            names.into_iter().filter(|name| after.as_deref().is_none_or(|after| name.as_str() > after));
        let page: Vec<StreamName> = rest.by_ref().take(limit.unwrap_or(LIST_DEFAULT)).collect();
        let has_more = rest.next().is_some();
        let mut summaries = Vec::with_capacity(page.len());
        for name in &page {
            summaries.push(self.summary(name).await);
        }
        let listed: Vec<_> = page.iter().map(StreamName::as_str).collect();
        let mut answer =
            json!({"StreamNames": listed, "HasMoreStreams": has_more, "StreamSummaries": summaries});
        if let Some(last) = page.last().filter(|_| has_more) {
            let token = ListToken { after: last.to_string(), created: now.millis() };
            answer["NextToken"] = iterator::seal(&token).into();
        }
        Ok(answer)
    }

    /// Nothing is stored for a stream that was only listed.
    async fn summary(&self, name: &StreamName) -> Value {
        let mut summary =
            json!({"StreamName": name.as_str(), "StreamARN": self.arn(name), "StreamStatus": "ACTIVE"});
        let state = self.lives.peek(name).await;
        let mode = state.as_ref().map_or(Mode::Provisioned, |state| state.document.mode);
        summary["StreamModeDetails"] = json!({"StreamMode": mode.text()});
        if let Some(state) = state {
            summary["StreamCreationTimestamp"] = super::seconds(state.document.created);
        }
        summary
    }

    pub(super) async fn describe_limits(&self) -> Result<Value, Fault> {
        let (mut open, mut on_demand) = (0, 0);
        for name in self.lives.streams.names() {
            match self.lives.peek(&name).await {
                Some(state) if state.document.mode == Mode::OnDemand => on_demand += 1,
                Some(state) => open += state.document.shards.open_count(),
                None => open += 1,
            }
        }
        Ok(json!({
            "ShardLimit": 1_000_000, "OpenShardCount": open, "OnDemandStreamCount": on_demand,
            "OnDemandStreamCountLimit": 1_000_000,
        }))
    }

    pub(super) async fn increase_retention(&self, input: &Value) -> Result<Value, Fault> {
        self.set_retention(input, true).await
    }

    pub(super) async fn decrease_retention(&self, input: &Value) -> Result<Value, Fault> {
        self.set_retention(input, false).await
    }

    async fn set_retention(&self, input: &Value, up: bool) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let hours = input["RetentionPeriodHours"].as_i64().unwrap_or_default();
        if hours < *RETENTION_HOURS.start() {
            return Err(Fault::invalid_argument(format!(
                "Minimum allowed retention period is 24 hours. Requested retention period ({hours} hours) is too short."
            )));
        }
        if hours > *RETENTION_HOURS.end() {
            return Err(Fault::invalid_argument(format!(
                "Maximum allowed retention period is 8760 hours. Requested retention period ({hours} hours) is too long."
            )));
        }
        let hours = hours.unsigned_abs();
        self.lives
            .change(live, move |change| {
                let now = change.state.retention_hours();
                if (up && hours < now) || (!up && hours > now) {
                    let (what, other) =
                        if up { ("shorter", "DecreaseRetentionPeriod") } else { ("longer", "IncreaseRetentionPeriod") };
                    return Err(Fault::invalid_argument(format!(
                        "Requested retention period ({hours} hours) for stream {} can not be {what} than existing \
                         retention period ({now} hours). Use {other} API.",
                        target.name
                    )));
                }
                let wanted = Duration::from_secs(hours * 3600);
                if let Some(configured) = change.state.configured.filter(|configured| !up && wanted < *configured) {
                    return Err(Fault::invalid_argument(format!(
                        "Requested retention period ({hours} hours) for stream {} can not be shorter than the one \
                         that Lakeward's configuration gives it ({} hours). Lower it there.",
                        target.name,
                        configured.as_secs().div_ceil(3600)
                    )));
                }
                if up {
                    // What has expired stays so.
                    let readable_from = change.state.readable_from(change.now);
                    change.state.document.expired_before = readable_from.max(Timestamp(0));
                }
                change.state.retention = Some(wanted);
                Ok(json!({}))
            })
            .await
    }

    pub(super) async fn update_stream_mode(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let mode = Mode::of(text(&input["StreamModeDetails"], "StreamMode"));
        let set = move |change: super::live::Change<'_>| {
            change.state.document.mode = mode;
            Ok(json!({}))
        };
        self.lives.change(live, set).await
    }

    pub(super) async fn update_record_size(&self, input: &Value) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let kib = input["MaxRecordSizeInKiB"].as_u64().and_then(|kib| u32::try_from(kib).ok());
        let set = move |change: super::live::Change<'_>| {
            let document = &mut change.state.document;
            document.record_kib_max = kib.unwrap_or(document.record_kib_max);
            Ok(json!({}))
        };
        self.lives.change(live, set).await
    }

    /// Encryption is kept and described; what lies on the disk is the
    /// operator's to encrypt.
    pub(super) async fn set_encryption(&self, input: &Value, on: bool) -> Result<Value, Fault> {
        if text(input, "EncryptionType") != "KMS" {
            return Err(Fault::invalid_argument("EncryptionType must be KMS."));
        }
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let key = Some(text(input, "KeyId").to_owned()).filter(|_| on);
        let set = move |change: super::live::Change<'_>| {
            change.state.document.encryption_key = key;
            Ok(json!({}))
        };
        self.lives.change(live, set).await
    }

    /// Which metrics were asked for is kept and described; `/metrics` has what
    /// there is.
    pub(super) async fn set_metrics(&self, input: &Value, on: bool) -> Result<Value, Fault> {
        let target = self.target_of(input)?;
        let live = self.live(&target).await?;
        let given = input["ShardLevelMetrics"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut given: Vec<String> = given.map(str::to_owned).collect();
        if given.iter().any(|metric| metric == "ALL") {
            given = ALL_METRICS.map(str::to_owned).to_vec();
        }
        let arn = self.arn(&target.name);
        self.lives
            .change(live, move |change| {
                let metrics = &mut change.state.document.metrics;
                let before = metrics.clone();
                for metric in given {
                    if on {
                        metrics.insert(metric);
                    } else {
                        metrics.remove(&metric);
                    }
                }
                Ok(json!({
                    "StreamName": target.name.as_str(), "StreamARN": arn, "CurrentShardLevelMetrics": before,
                    "DesiredShardLevelMetrics": metrics,
                }))
            })
            .await
    }
}

/// Checks `StreamCreationTimestamp`, which tells streams of one name apart that
/// were there one after the other. SDKs send whole seconds.
///
/// # Errors
/// This is another stream.
pub(super) fn check_creation(input: &Value, document: &Document, names: &Names<'_>) -> Result<(), Fault> {
    let second = |at: Timestamp| at.micros().div_euclid(1_000_000);
    match iterator::instant(&input["StreamCreationTimestamp"]) {
        Some(given) if second(given) != second(document.created) => Err(names.not_found()),
        _ => Ok(()),
    }
}

/// What to do about records that the configuration has abandoned.
pub(super) fn orphan(names: &Names<'_>) -> String {
    format!(
        "The journal of Lakeward still holds records of a stream {} under account {}, but neither its configuration \
         nor an API has the stream any more. Name it among the streams or pipelines of the configuration to have them, \
         or create a Firehose of this name, which delivers them and can be deleted together with them.",
        names.stream, names.account
    )
}
