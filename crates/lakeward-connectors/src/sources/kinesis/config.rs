//! How a Kinesis stream is configured as a source.

use std::time::Duration;

use lakeward_model::{Timestamp, units};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cursor::Start;
use crate::aws_access::AwsAccess;

/// A Kinesis stream, all shards of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KinesisConfig {
    /// The source's name, unique in the file; for people.
    pub name: String,
    /// The stream of ours that takes the records. No other source may feed it.
    pub stream: String,
    /// The stream's name. Give this or `stream_arn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_name: Option<String>,
    /// The stream's ARN, for one of another account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_arn: Option<String>,
    /// Where Kinesis is, and as whom it is asked. The region is by default that of
    /// `stream_arn`.
    #[serde(flatten)]
    pub aws: AwsAccess,
    /// Where the first run starts: `trim_horizon` (the oldest record that
    /// there is), `latest`, or `{ timestamp: 2026-11-01T00:00:00Z }`. Default
    /// `trim_horizon`. Later runs go on where the one before stopped.
    pub start: StartConfig,
    /// The pause between two reads of a shard that has nothing new. A shard
    /// that has more is read up to 5 times a second, which is all that Kinesis
    /// gives to all its readers together. Default `1s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub idle: Duration,
    /// How often new shards are looked for; the end of a shard asks at once.
    /// Default `30s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub discover: Duration,
    /// How many shards are read at the same time. Each takes up to 35 MiB of
    /// memory for a full page. Default 8.
    pub shards_at_once: usize,
    /// The most records of one read, up to 10,000. Default 10,000.
    pub records_max: u32,
    /// How long one request may take, with its reply. Default `30s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// Shares the shards with other processes, Lakeward's or KCL's, by leases
    /// in a DynamoDB table. Default: this process reads them all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<LeasesConfig>,
}

impl Default for KinesisConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            stream: String::new(),
            stream_name: None,
            stream_arn: None,
            aws: AwsAccess::default(),
            start: StartConfig::TrimHorizon,
            idle: Duration::from_secs(1),
            discover: Duration::from_secs(30),
            shards_at_once: 8,
            records_max: 10_000,
            timeout: Duration::from_secs(30),
            leases: None,
        }
    }
}

/// Where the first run of a source starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartConfig {
    /// At the oldest record that there is.
    TrimHorizon,
    /// At the instant of the first run, by this machine's clock. What comes
    /// after it is not lost, however often the process dies.
    Latest,
    /// At a time, such as `2026-11-01T00:00:00Z`.
    Timestamp(String),
}

/// Leases in a DynamoDB table, laid out as the Kinesis Client Library does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeasesConfig {
    /// The table's name, which is KCL's application name. It is made if it is
    /// not there.
    pub table: String,
    /// After this long without a sign of life of its owner a lease is free;
    /// KCL's `failoverTimeMillis`, the same for all workers. Default `10s`.
    #[serde(default = "failover", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub failover: Duration,
    /// DynamoDB's address, if it is not AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// DynamoDB's region. Default: the stream's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

fn failover() -> Duration {
    Duration::from_secs(10)
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct KinesisConfigError {
    /// The setting's name.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl KinesisConfig {
    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`KinesisConfigError`].
    pub fn check(&self) -> Result<(), KinesisConfigError> {
        let wrong =
            |setting, problem: &str| Err(KinesisConfigError { setting, problem: String::from(problem) });
        match (&self.stream_name, &self.stream_arn) {
            (None, None) => return wrong("stream_name", "say which stream: stream_name or stream_arn"),
            (Some(_), Some(_)) => return wrong("stream_arn", "not together with stream_name"),
            (None, Some(arn)) if name_of(arn).is_none() => {
                return wrong(
                    "stream_arn",
                    "an ARN such as arn:aws:kinesis:eu-west-1:123456789012:stream/name",
                );
            }
            (Some(name), None) if !is_name(name) => {
                return wrong("stream_name", "1 to 128 letters, digits, `_`, `.` or `-`");
            }
            _ => {}
        }
        if self.start().is_none() {
            return wrong("start", "a time such as 2026-11-01T00:00:00Z");
        }
        let pauses = Duration::from_millis(10)..=Duration::from_secs(3600);
        if !pauses.contains(&self.idle) {
            return wrong("idle", "10ms to 1h");
        }
        if !pauses.contains(&self.discover) {
            return wrong("discover", "10ms to 1h");
        }
        if !(1..=256).contains(&self.shards_at_once) {
            return wrong("shards_at_once", "between 1 and 256");
        }
        if !(1..=10_000).contains(&self.records_max) {
            return wrong("records_max", "between 1 and 10,000");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&self.timeout) {
            return wrong("timeout", "1s to 5m");
        }
        if let Some(leases) = &self.leases {
            let fits = (3..=255).contains(&leases.table.len()) && is_name_text(&leases.table);
            if !fits {
                return wrong("leases.table", "3 to 255 letters, digits, `_`, `.` or `-`");
            }
            if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&leases.failover) {
                return wrong("leases.failover", "1s to 10m");
            }
            self.dynamodb(leases)
                .check()
                .map_err(|error| KinesisConfigError { setting: "leases", problem: error.to_string() })?;
        }
        let checked = self.kinesis().check();
        checked.map_err(|error| KinesisConfigError { setting: error.setting, problem: error.problem })
    }

    /// The stream's name.
    pub(super) fn name(&self) -> &str {
        let of_arn = || self.stream_arn.as_deref().and_then(name_of);
        self.stream_name.as_deref().or_else(of_arn).unwrap_or_default()
    }

    /// Which lease table the source uses: its address, if it is not AWS, its
    /// region and its name. No two sources may have the same: a lease says
    /// nothing of its stream but the shard's name.
    #[must_use]
    pub fn lease_table(&self) -> Option<(Option<String>, String, String)> {
        let leases = self.leases.as_ref()?;
        let access = self.dynamodb(leases);
        let region = access.region();
        Some((access.endpoint, region, leases.table.clone()))
    }

    /// Where a first run starts; `None` is now.
    pub(super) fn start(&self) -> Option<Option<Start>> {
        match &self.start {
            StartConfig::TrimHorizon => Some(Some(Start::TrimHorizon)),
            StartConfig::Latest => Some(None),
            StartConfig::Timestamp(text) => {
                let at: jiff::Timestamp = text.parse().ok()?;
                Some(Some(Start::At(Timestamp(at.as_microsecond()))))
            }
        }
    }

    pub(super) fn kinesis(&self) -> AwsAccess {
        let of_arn = || self.stream_arn.as_deref().and_then(|arn| arn.split(':').nth(3)).map(String::from);
        AwsAccess { region: self.aws.region.clone().or_else(of_arn), ..self.aws.clone() }
    }

    pub(super) fn dynamodb(&self, leases: &LeasesConfig) -> AwsAccess {
        let kinesis = self.kinesis();
        AwsAccess {
            endpoint: leases.endpoint.clone(),
            region: leases.region.clone().or_else(|| kinesis.region.clone()),
            ..kinesis
        }
    }
}

/// `arn:<partition>:kinesis:<region>:<account>:stream/<name>`.
fn name_of(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let fixed = parts.next() == Some("arn") && parts.nth(1) == Some("kinesis");
    let name = parts.nth(2)?.strip_prefix("stream/")?;
    (fixed && is_name(name)).then_some(name)
}

fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && is_name_text(text)
}

fn is_name_text(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> KinesisConfig {
        KinesisConfig { stream_name: Some("orders".into()), ..KinesisConfig::default() }
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut KinesisConfig), expect: Option<&str>| {
            let mut config = named();
            change(&mut config);
            assert_eq!(config.check().err().map(|error| error.setting), expect);
        };
        let arn = |arn: &str| KinesisConfig { stream_arn: Some(arn.into()), ..KinesisConfig::default() };
        check(|_| {}, None);
        check(|c| c.stream_name = None, Some("stream_name"));
        check(|c| c.stream_name = Some("a/b".into()), Some("stream_name"));
        check(|c| c.stream_arn = Some("arn:aws:kinesis:r:1:stream/x".into()), Some("stream_arn"));
        check(|c| c.start = StartConfig::Timestamp("yesterday".into()), Some("start"));
        check(|c| c.start = StartConfig::Timestamp("2026-11-01T00:00:00Z".into()), None);
        check(|c| c.shards_at_once = 0, Some("shards_at_once"));
        check(|c| c.records_max = 10_001, Some("records_max"));
        check(|c| c.idle = Duration::ZERO, Some("idle"));
        check(|c| c.aws.endpoint = Some("http://elsewhere:1".into()), Some("endpoint"));
        let leases = LeasesConfig { table: "a".into(), failover: failover(), endpoint: None, region: None };
        assert_eq!(
            KinesisConfig { leases: Some(leases), ..named() }.check().err().map(|e| e.setting),
            Some("leases.table")
        );
        let good = arn("arn:aws:kinesis:eu-west-1:123456789012:stream/orders");
        assert_eq!((good.check(), good.name()), (Ok(()), "orders"));
        assert_eq!(good.kinesis().region(), "eu-west-1");
        for bad in ["", "orders", "arn:aws:firehose:r:1:stream/x", "arn:aws:kinesis:r:1:table/x"] {
            assert_eq!(arn(bad).check().err().map(|error| error.setting), Some("stream_arn"), "{bad}");
        }
    }

    #[test]
    fn it_reads_as_documented_and_hides_its_secret() {
        let text = r#"{"stream_name": "s", "start": {"timestamp": "2026-11-01T00:00:00Z"}, "idle": "200ms",
            "access_key_id": "a", "secret_access_key": "hush", "leases": {"table": "app"}}"#;
        let config: KinesisConfig = serde_json::from_str(text).expect("it reads");
        assert_eq!(config.start(), Some(Some(Start::At(Timestamp(1_793_491_200_000_000)))));
        assert_eq!(config.leases.as_ref().map(|leases| leases.failover), Some(Duration::from_secs(10)));
        assert!(!format!("{config:?}").contains("hush"));
        let again: KinesisConfig =
            serde_json::from_value(serde_json::to_value(&config).expect("writes")).expect("reads");
        assert_eq!(again, config);
    }
}
