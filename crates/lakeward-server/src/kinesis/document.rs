//! What the Kinesis API keeps of a stream beside its records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lakeward_engine::StreamSpec;
use lakeward_model::{StreamName, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::shards::{Routes, Shards};

/// The retention of a stream that nobody said anything of.
pub(super) const RETENTION_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// *CreateStream*: MaxRecordSizeInKiB is 1,024 unless said otherwise.
const RECORD_KIB_DEFAULT: u32 = 1024;

/// Kept in [`StreamSpec::owner`], stored with the stream in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    /// The stream whose offsets the shards speak of; a stream that was removed
    /// and made anew is another one. Nil in a document that was stored together
    /// with its stream, before there was an incarnation.
    pub(super) incarnation: Uuid,
    pub(super) created: Timestamp,
    pub(super) mode: Mode,
    pub(super) shards: Shards,
    /// Records that came earlier had expired when the retention was increased,
    /// and stay so.
    #[serde(default)]
    pub(super) expired_before: Timestamp,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) consumers: Vec<Consumer>,
    /// When the newest consumer was registered, whether it is still there or
    /// not: no two have the same second in their ARNs.
    #[serde(default)]
    pub(super) last_consumer: Timestamp,
    /// The key that the stream says it is encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) encryption_key: Option<String>,
    /// Shard-level metrics that were asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) metrics: BTreeSet<String>,
    pub(super) record_kib_max: u32,
}

/// The capacity mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Mode {
    Provisioned,
    OnDemand,
}

impl Mode {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }

    pub(super) fn of(text: &str) -> Self {
        if text == "ON_DEMAND" { Self::OnDemand } else { Self::Provisioned }
    }
}

/// A consumer with enhanced fan-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) created: Timestamp,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

impl Document {
    pub(super) fn new(incarnation: Uuid, mode: Mode, shards: u32, now: Timestamp) -> Self {
        Self {
            incarnation,
            created: now,
            mode,
            shards: Shards::uniform(shards, now),
            expired_before: Timestamp(0),
            tags: BTreeMap::new(),
            consumers: Vec::new(),
            last_consumer: Timestamp(0),
            encryption_key: None,
            metrics: BTreeSet::new(),
            record_kib_max: RECORD_KIB_DEFAULT,
        }
    }

    pub(super) fn consumer(&self, name: &str) -> Option<&Consumer> {
        self.consumers.iter().find(|consumer| consumer.name == name)
    }

    pub(super) fn encryption(&self) -> &'static str {
        if self.encryption_key.is_some() { "KMS" } else { "NONE" }
    }

    /// Most bytes of a record.
    pub(super) fn record_bytes_max(&self) -> usize {
        self.record_kib_max as usize * 1024
    }
}

/// A stream as the door sees it: its document, its retention and what follows
/// from them.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) document: Document,
    /// What a client asked for; the only one that is stored.
    pub(super) retention: Option<Duration>,
    /// What the configuration gives.
    pub(super) configured: Option<Duration>,
    pub(super) routes: Routes,
}

/// The owner's document is tagged, so that another door's is not taken for
/// ours.
#[derive(Serialize, Deserialize)]
struct Owner {
    kinesis: Document,
}

impl State {
    pub(super) fn new(document: Document, retention: Option<Duration>, configured: Option<Duration>) -> Self {
        let routes = Routes::new(&document.shards);
        Self { document, retention, configured, routes }
    }

    /// What is stored of a stream, if it is of this incarnation.
    ///
    /// # Errors
    /// There is something that is not understood. Nothing may take its place:
    /// the shards of all its records are in it.
    pub(super) fn of(
        spec: &StreamSpec,
        configured: Option<Duration>,
        incarnation: Uuid,
    ) -> Result<Option<Self>, serde_json::Error> {
        let Some(owner) = spec.owner.as_ref().filter(|owner| owner.get("kinesis").is_some()) else {
            return Ok(None);
        };
        let Owner { mut kinesis } = Owner::deserialize(owner)?;
        if kinesis.incarnation.is_nil() {
            kinesis.incarnation = incarnation;
        }
        let is_of_it = kinesis.incarnation == incarnation;
        Ok(is_of_it.then(|| Self::new(kinesis, spec.retention, configured)))
    }

    /// What is stored.
    pub(super) fn spec(&self, name: &StreamName) -> StreamSpec {
        let owner = Owner { kinesis: self.document.clone() };
        let owner = serde_json::to_value(owner).expect("a document is JSON");
        StreamSpec { retention: self.retention, owner: Some(owner), ..StreamSpec::new(name.clone()) }
    }

    /// What readers are promised.
    fn promised(&self) -> Option<Duration> {
        self.retention.max(self.configured)
    }

    fn retention_or_default(&self) -> Duration {
        self.promised().unwrap_or(RETENTION_DEFAULT)
    }

    pub(super) fn retention_hours(&self) -> u64 {
        self.retention_or_default().as_secs() / 3600
    }

    /// Records that came before this are not shown. Nothing is hidden of a
    /// stream that nobody gave a retention.
    pub(super) fn readable_from(&self, now: Timestamp) -> Timestamp {
        let horizon = self.promised().map_or(i64::MIN, |_| self.horizon(now).0);
        Timestamp(horizon.max(self.document.expired_before.0))
    }

    /// Shards that were closed before this are forgotten.
    pub(super) fn horizon(&self, now: Timestamp) -> Timestamp {
        let micros = i64::try_from(self.retention_or_default().as_micros()).unwrap_or(i64::MAX);
        Timestamp(now.0.saturating_sub(micros))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(owner: Option<Value>, incarnation: u128) -> Result<Option<State>, serde_json::Error> {
        let name = StreamName::new("s").unwrap();
        let spec = StreamSpec { owner, ..StreamSpec::new(name) };
        State::of(&spec, None, Uuid::from_u128(incarnation))
    }

    #[test]
    fn only_what_is_absent_or_of_another_stream_is_made_anew() {
        let name = StreamName::new("s").unwrap();
        let document = Document::new(Uuid::from_u128(7), Mode::Provisioned, 3, Timestamp(1));
        let stored = State::new(document.clone(), None, None).spec(&name).owner.unwrap();
        assert!(read(None, 7).unwrap().is_none());
        assert!(read(Some(json!({"firehose": 1})), 7).unwrap().is_none());
        assert!(read(Some(stored.clone()), 8).unwrap().is_none());
        assert_eq!(read(Some(stored.clone()), 7).unwrap().unwrap().document, document);
        let mut broken = stored;
        broken["kinesis"]["shards"]["next"] = json!("three");
        assert!(read(Some(broken), 7).is_err());
        // Stored before there was an incarnation.
        let early = Document { incarnation: Uuid::nil(), ..document.clone() };
        let early = State::new(early, None, None).spec(&name).owner;
        assert_eq!(read(early, 7).unwrap().unwrap().document, document);
    }
}
