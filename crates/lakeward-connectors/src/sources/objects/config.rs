//! How objects are configured as a source.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_model::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::Names;
use super::place::Place;
use crate::aws_access::AwsAccess;
use crate::destinations::lake::LakeConfig;
use crate::sources::ScheduleConfig;

/// The objects below a prefix of a bucket, or the files below a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectsConfig {
    /// The source's name, unique in the file; for people.
    pub name: String,
    /// The stream of ours that takes the records. No other source may feed it.
    pub stream: String,
    /// Where the objects are: `s3://bucket/prefix/`, `gs://bucket/prefix/`,
    /// `az://container/prefix/`, `file:///folder/`, or a folder's path
    /// (relative to the configuration file). `glob`, `pattern` and the names
    /// of objects are relative to it. As whom `gs://` and `az://` are asked
    /// is in the usual environment variables
    /// (`GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` and
    /// their like).
    pub url: String,
    /// Where the store is, and as whom S3 is asked.
    #[serde(flatten)]
    pub aws: AwsAccess,
    /// S3: whether the bucket is in the path (`https://host/bucket/…`) rather
    /// than in the host name. Default: true with an `endpoint`, else false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Which objects are meant: `*` is anything but a slash, `**` is any number
    /// of folders, `?` is one character, `[ab]` one of these:
    /// `section/*/video/*.jsonl`. Default `**`, all of them.
    pub glob: String,
    /// What the names say, and that names must fit:
    /// `section/{section_id:int}/{category}/{timestamp:time}_{bundle_id}.jsonl`.
    /// Each `{part}` becomes a column and can be asked for (`--where
    /// section_id=145`). `{part:int}` is a whole number. `{part:time}` is the
    /// object's date, in ISO 8601, also with dashes for colons;
    /// `{part:time:yyyyMMddHH}` has it in letters of Java or in strftime's
    /// (`%Y%m%d`); or `{year}/{month}/{day}/{hour}` are the date together. In
    /// UTC, unless the name has an offset. `*` and `**` are as in `glob`. An
    /// object whose name does not fit is none of the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Which date a range of dates means: that in the name (`key`) or that of
    /// the object's last change (`modified`). Default `key` if `pattern` has
    /// one, else `modified`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<DateOf>,
    /// Whether objects are taken strictly in the order of their names, one
    /// after another. Default false: several at a time.
    pub ordered: bool,
    /// Whether the names of new objects lie behind all that are there, as names
    /// that begin with a date do. Then a look lists the last 1,000 names and
    /// what is behind them, and all there is only at the start and once a day,
    /// for what came late. Default false: each look lists all names, at a
    /// request for each 1,000.
    pub growing: bool,
    /// What the objects hold. Compression and archives (gzip, zstd, zip) are
    /// seen by their first bytes, whatever they are named. Default `auto`: by
    /// the bytes, and CSV by a name that ends in `.csv` (or `.csv.gz`,
    /// `.csv.zst`).
    pub format: ObjectFormat,
    /// How CSV is written.
    pub csv: CsvConfig,
    /// How many objects are read at the same time, 1 to 256. Default 8.
    pub parallel: usize,
    /// How often the objects are listed to find new ones. Default `1m`. With
    /// `notifications` a list is only a safety net: `1h` is enough then.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub every: Duration,
    /// Lists at set times instead of `every` so often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleConfig>,
    /// Learns of new objects by a queue of notifications, within seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<NotificationsConfig>,
    /// Objects that changed less than this ago are left for later, since they
    /// may still be written. Default: `0s` for buckets, where an object is
    /// whole as soon as it is there; `5s` for folders.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<units::DurationText>")]
    pub settle: Option<Duration>,
    /// Larger objects are set aside. Zip archives and Parquet files are copied
    /// to the state directory while they are read, so this also says how much
    /// room that may take. Default `64GiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub max_object: u64,
    /// The longest record; an object with a longer one is set aside. Default
    /// `16MiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub max_record: u64,
    /// How long one request may take, with its reply: at most 8 MiB. Default
    /// `60s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
}

/// Which date of an object is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DateOf {
    /// That in its name.
    Key,
    /// That of its last change, as the store tells.
    Modified,
}

/// What objects hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectFormat {
    /// As the bytes say.
    #[default]
    Auto,
    /// A JSON value on each line.
    Ndjson,
    /// One array of records, or one JSON document after another.
    Json,
    /// Comma-separated values; each row becomes a JSON object of texts.
    Csv,
    /// Parquet.
    Parquet,
}

/// How CSV is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvConfig {
    /// What separates the fields: one ASCII character. Default `,`.
    pub delimiter: char,
    /// Whether the first row names the columns. Default true.
    pub header: bool,
    /// The columns' names, where no row does.
    pub columns: Vec<String>,
}

impl Default for CsvConfig {
    fn default() -> Self {
        Self { delimiter: ',', header: true, columns: Vec::new() }
    }
}

/// An SQS queue that is told of new objects: by S3 itself, by EventBridge, or
/// by either through SNS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationsConfig {
    /// The queue's address:
    /// `https://sqs.eu-west-1.amazonaws.com/123456789012/objects`.
    pub queue_url: String,
    /// The service's address, if it is not that of `queue_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The queue's region. Default: that in `queue_url`, else the bucket's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How long one question waits for messages, up to 20s. Default `20s`.
    #[serde(default = "wait", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub wait: Duration,
    /// How long a message is hidden from others at a time, 30s to 12h. It is
    /// hidden anew until its objects are taken; if this process dies, others
    /// see it after this long. Default `5m`.
    #[serde(default = "visibility", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub visibility: Duration,
}

fn wait() -> Duration {
    Duration::from_secs(20)
}

fn visibility() -> Duration {
    Duration::from_secs(300)
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            stream: String::new(),
            url: String::new(),
            aws: AwsAccess::default(),
            path_style: None,
            glob: String::from("**"),
            pattern: None,
            date: None,
            ordered: false,
            growing: false,
            format: ObjectFormat::Auto,
            csv: CsvConfig::default(),
            parallel: 8,
            every: Duration::from_secs(60),
            schedule: None,
            notifications: None,
            settle: None,
            max_object: 64 << 30,
            max_record: 16 << 20,
            timeout: Duration::from_secs(60),
        }
    }
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ObjectsConfigError {
    /// The setting's name.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

pub(super) fn wrong<T>(setting: &'static str, problem: impl Into<String>) -> Result<T, ObjectsConfigError> {
    Err(ObjectsConfigError { setting, problem: problem.into() })
}

impl ObjectsConfig {
    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`ObjectsConfigError`].
    pub fn check(&self) -> Result<(), ObjectsConfigError> {
        let place = Place::of(self)?;
        Names::of(self)?;
        if !(1..=256).contains(&self.parallel) {
            return wrong("parallel", "between 1 and 256");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&self.every) {
            return wrong("every", "1s to 24h");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.timeout) {
            return wrong("timeout", "1s to 10m");
        }
        if self.settle.is_some_and(|settle| settle > Duration::from_secs(7 * 86_400)) {
            return wrong("settle", "at most 7d");
        }
        if self.max_object == 0 {
            return wrong("max_object", "more than 0");
        }
        if !(1_024..=64 << 20).contains(&self.max_record) {
            return wrong("max_record", "1KiB to 64MiB");
        }
        if !self.csv.delimiter.is_ascii() || matches!(self.csv.delimiter, '"' | '\n' | '\r') {
            return wrong("csv.delimiter", "one ASCII character, such as `,`, `;` or a tab");
        }
        if !self.csv.header && self.csv.columns.is_empty() && self.format == ObjectFormat::Csv {
            return wrong("csv.columns", "name the columns, since the files have no header");
        }
        match (&self.notifications, &place) {
            (Some(_), Place::Folder(_)) => {
                wrong("notifications", "a folder sends none: leave them out, new files are found by `every`")
            }
            (Some(notifications), _) => self.check_notifications(notifications),
            (None, _) => Ok(()),
        }
    }

    fn check_notifications(&self, notifications: &NotificationsConfig) -> Result<(), ObjectsConfigError> {
        let url = reqwest::Url::parse(&notifications.queue_url).ok();
        if url.is_none_or(|url| url.path_segments().is_none_or(|parts| parts.count() < 2)) {
            let example = "an address such as https://sqs.eu-west-1.amazonaws.com/123456789012/objects";
            return wrong("notifications.queue_url", example);
        }
        if notifications.wait > Duration::from_secs(20) {
            return wrong("notifications.wait", "at most 20s, which is all that SQS waits");
        }
        let visible = Duration::from_secs(30)..=Duration::from_secs(43_200);
        if !visible.contains(&notifications.visibility) {
            return wrong("notifications.visibility", "30s to 12h");
        }
        self.queue(notifications)
            .check()
            .map_err(|error| ObjectsConfigError { setting: "notifications", problem: error.to_string() })
    }

    /// Makes a relative folder relative to `folder`.
    pub fn resolve_in(&mut self, folder: &Path) {
        if let Ok(Place::Folder(path)) = Place::of(self)
            && path.is_relative()
        {
            self.url = folder.join(path).display().to_string();
        }
    }

    /// How many objects are read at the same time.
    #[must_use]
    pub fn at_once(&self) -> usize {
        if self.ordered { 1 } else { self.parallel }
    }

    /// How often all names are listed, if most looks list only the last ones.
    #[must_use]
    pub fn growing(&self) -> Option<Duration> {
        self.growing.then_some(Duration::from_secs(86_400))
    }

    /// How old an object must be.
    pub(super) fn settle(&self, place: &Place) -> Duration {
        let default = match place {
            Place::Folder(_) => Duration::from_secs(5),
            _ => Duration::ZERO,
        };
        self.settle.unwrap_or(default)
    }

    /// The bucket's settings in the words of a lake.
    pub(super) fn lake(&self) -> LakeConfig {
        LakeConfig {
            url: self.url.clone(),
            aws: self.aws.clone(),
            path_style: self.path_style,
            put_timeout: self.timeout,
            ..LakeConfig::default()
        }
    }

    /// How the queue is reached. Its address is that of `queue_url` unless
    /// something else is said, here or in the environment.
    pub(super) fn queue(&self, notifications: &NotificationsConfig) -> AwsAccess {
        let said = ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"];
        let said = said.iter().any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()));
        let url = reqwest::Url::parse(&notifications.queue_url).ok();
        let origin = url.as_ref().filter(|_| !said).map(|url| url.origin().ascii_serialization());
        let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
        AwsAccess {
            endpoint: notifications.endpoint.clone().or(origin),
            region: notifications
                .region
                .clone()
                .or_else(|| region_of(host))
                .or_else(|| self.aws.region.clone()),
            ..self.aws.clone()
        }
    }

    /// The folder that `url` means, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        match Place::of(self) {
            Ok(Place::Folder(path)) => Some(path),
            _ => None,
        }
    }
}

/// `sqs.<region>.amazonaws.com`, also `.com.cn` (AWS General Reference,
/// "Amazon SQS endpoints").
fn region_of(host: &str) -> Option<String> {
    let (region, end) = host.strip_prefix("sqs.")?.split_once('.')?;
    end.starts_with("amazonaws.com").then(|| region.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut ObjectsConfig), expect: Option<&str>| {
            let mut config = ObjectsConfig { url: "s3://b/p/".into(), ..ObjectsConfig::default() };
            change(&mut config);
            let found = config.check().err();
            assert_eq!(found.as_ref().map(|error| error.setting), expect, "{found:?}");
        };
        check(|_| {}, None);
        check(|c| c.url = String::new(), Some("url"));
        check(|c| c.url = "ftp://x".into(), Some("url"));
        check(|c| c.url = "s3://b/a//b".into(), Some("url"));
        check(|c| c.url = "s3://b/*.json".into(), Some("url"));
        check(|c| c.url = "file://relative".into(), Some("url"));
        check(|c| c.url = "some/folder".into(), None);
        check(|c| c.url = "gs://bucket/x".into(), None);
        check(|c| c.aws.endpoint = Some("http://elsewhere:1".into()), Some("endpoint"));
        check(|c| c.aws.access_key_id = Some("a".into()), Some("access_key_id"));
        check(|c| c.glob = "a/{b}".into(), Some("glob"));
        check(|c| c.glob = "a**b".into(), Some("glob"));
        check(|c| c.glob = "/a".into(), Some("glob"));
        check(|c| c.pattern = Some("{a".into()), Some("pattern"));
        check(|c| c.date = Some(DateOf::Key), Some("date"));
        check(|c| c.parallel = 0, Some("parallel"));
        check(|c| c.every = Duration::ZERO, Some("every"));
        check(|c| c.timeout = Duration::ZERO, Some("timeout"));
        check(|c| c.max_object = 0, Some("max_object"));
        check(|c| c.max_record = 1, Some("max_record"));
        check(|c| c.csv.delimiter = 'ä', Some("csv.delimiter"));
        check(|c| c.settle = Some(Duration::from_secs(8 * 86_400)), Some("settle"));
        let notified = |url: &str, queue: &str| {
            let text = format!(r#"{{"url": "{url}", "notifications": {{"queue_url": "{queue}"}}}}"#);
            let config: ObjectsConfig = serde_json::from_str(&text).expect("it reads");
            config.check().err().map(|error| error.setting)
        };
        assert_eq!(notified("s3://b", "https://sqs.eu-west-1.amazonaws.com/1/q"), None);
        assert_eq!(notified("s3://b", "q"), Some("notifications.queue_url"));
        assert_eq!(notified("s3://b", "http://elsewhere/1/q"), Some("notifications"));
        assert_eq!(notified("folder", "https://sqs.eu-west-1.amazonaws.com/1/q"), Some("notifications"));
    }

    #[test]
    fn it_reads_as_documented_and_hides_its_secret() {
        let text = r#"{"url": "s3://b/p/", "pattern": "{year}/{month}/*", "format": "csv", "csv": {"delimiter": ";"},
            "access_key_id": "a", "secret_access_key": "hush", "settle": "3s", "date": "modified", "max_object": "1GiB",
            "notifications": {"queue_url": "https://sqs.eu-west-3.amazonaws.com/1/q"}}"#;
        let config: ObjectsConfig = serde_json::from_str(text).expect("it reads");
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.csv.delimiter, config.csv.header, config.at_once()), (';', true, 8));
        let notifications = config.notifications.as_ref().expect("a queue");
        assert_eq!(config.queue(notifications).region(), "eu-west-3");
        assert_eq!(notifications.visibility, Duration::from_secs(300));
        assert!(!format!("{config:?}").contains("hush"));
        let again: ObjectsConfig =
            serde_json::from_value(serde_json::to_value(&config).expect("writes")).expect("reads");
        assert_eq!(again, config);
        assert!(serde_json::from_str::<ObjectsConfig>(r#"{"url": "x", "nope": 1}"#).is_err());
        let ordered = ObjectsConfig { ordered: true, ..config };
        assert_eq!(ordered.at_once(), 1);
    }

    #[test]
    fn folders_are_relative_to_the_file() {
        let mut config = ObjectsConfig { url: "in/".into(), ..ObjectsConfig::default() };
        config.resolve_in(Path::new("/etc/lakeward"));
        assert_eq!(config.folder(), Some(PathBuf::from("/etc/lakeward/in/")));
    }
}
