//! How an Amplitude project is configured as a source.

use std::path::PathBuf;
use std::time::Duration;

use lakeward_model::{Secret, units};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hours::{EARLIEST, Hour};
use crate::aws_access::is_loopback;
use crate::sources::ScheduleConfig;

/// The Export API's path (Amplitude's documentation, "Export API").
const PATH: &str = "/api/2/export";

/// All events of an Amplitude project, by its Export API: each hour of upload
/// once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AmplitudeConfig {
    /// The source's name, unique in the file; for people.
    pub name: String,
    /// The stream of ours that takes the records. No other source may feed it.
    pub stream: String,
    /// Where Amplitude keeps the project: `us` or `eu`. Default `us`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<AmplitudeRegion>,
    /// The service's address, if it is not Amplitude: `https://host:port`. Not
    /// together with `region`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The project's API key.
    pub api_key: Secret,
    /// The project's secret key; better as `${ENV}` than in the file.
    pub secret_key: Secret,
    /// Whether a plain `http://` endpoint may be another machine.
    pub allow_http: bool,
    /// The first hour of upload to take, in UTC: `2026-03-01`,
    /// `2026-03-01T05`. Needed: the source does not guess how much of the past
    /// is wanted. A `lakeward pull` or `backfill` may ask for earlier hours.
    pub from: String,
    /// How long after an hour's end Amplitude has all of it: it is not asked
    /// for before that. Default `2h`, as Amplitude's documentation says.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub delay: Duration,
    /// The most hours of one request, 1 to 8,760. Requests that are too large
    /// are halved, and what works is remembered. Default 24.
    pub window: usize,
    /// How many hours are read, and requests made, at the same time: 1 to 4.
    /// Amplitude allows 5 requests at once to all its clients of a project
    /// together. Default 1.
    pub parallel: usize,
    /// How often new hours are looked for; that asks nobody. Default `5m`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub every: Duration,
    /// Looks at set times instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleConfig>,
    /// The most bytes of one archive on the disk. A larger one is asked for in
    /// smaller windows. Amplitude gives at most 4 GB. The spool folder holds up
    /// to `parallel` + 1 of them. Default `8GiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub archive_max: u64,
    /// How long Amplitude may be silent, before its reply and within it.
    /// Default `2m`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub read_timeout: Duration,
    /// The folder that archives lie in while they are read. Default
    /// `sources/<name>` in the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
}

impl Default for AmplitudeConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            stream: String::new(),
            region: None,
            endpoint: None,
            api_key: Secret::new(""),
            secret_key: Secret::new(""),
            allow_http: false,
            from: String::new(),
            delay: Duration::from_secs(2 * 3_600),
            window: 24,
            parallel: 1,
            every: Duration::from_secs(300),
            schedule: None,
            archive_max: 8 << 30,
            read_timeout: Duration::from_secs(120),
            spool: None,
        }
    }
}

/// Where Amplitude keeps a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AmplitudeRegion {
    /// `https://amplitude.com`.
    Us,
    /// `https://analytics.eu.amplitude.com`.
    Eu,
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct AmplitudeConfigError {
    /// The setting's name.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn wrong(setting: &'static str, problem: &str) -> AmplitudeConfigError {
    AmplitudeConfigError { setting, problem: problem.into() }
}

impl AmplitudeConfig {
    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`AmplitudeConfigError`].
    pub fn check(&self) -> Result<(), AmplitudeConfigError> {
        self.url()?;
        for (setting, key) in [("api_key", &self.api_key), ("secret_key", &self.secret_key)] {
            if key.is_empty() {
                return Err(wrong(
                    setting,
                    "missing: give the project's API key and secret key, \
                     from Settings, Projects in Amplitude, as ${ENV}",
                ));
            }
            if !key.expose().bytes().all(|b| b.is_ascii_graphic()) || key.expose().contains(':') {
                return Err(wrong(setting, "it has a space or another character that no key has"));
            }
        }
        self.first()?;
        if self.delay > Duration::from_secs(30 * 86_400) {
            return Err(wrong("delay", "0s to 30d; Amplitude says 2h"));
        }
        if !(1..=8_760).contains(&self.window) {
            return Err(wrong("window", "between 1 and 8,760 hours, a year"));
        }
        if !(1..=4).contains(&self.parallel) {
            return Err(wrong("parallel", "between 1 and 4: Amplitude allows few requests at a time"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&self.every) {
            return Err(wrong("every", "1s to 1d"));
        }
        if self.archive_max < 1 << 20 {
            return Err(wrong("archive_max", "at least 1MiB"));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&self.read_timeout) {
            return Err(wrong("read_timeout", "100ms to 1h"));
        }
        Ok(())
    }

    /// The first hour.
    pub(super) fn first(&self) -> Result<Hour, AmplitudeConfigError> {
        if self.from.is_empty() {
            return Err(wrong(
                "from",
                "missing: say which hour of upload is the first to take, in UTC, such as 2026-03-01",
            ));
        }
        let hour = Hour::written(&self.from).filter(|hour| *hour >= EARLIEST);
        hour.ok_or_else(|| wrong("from", "a day or an hour in UTC since 2012: 2026-03-01 or 2026-03-01T05"))
    }

    /// What is asked.
    pub(super) fn url(&self) -> Result<Url, AmplitudeConfigError> {
        let endpoint = match (&self.endpoint, self.region) {
            (Some(_), Some(_)) => return Err(wrong("endpoint", "not together with region")),
            (Some(endpoint), None) => endpoint.as_str(),
            (None, Some(AmplitudeRegion::Eu)) => "https://analytics.eu.amplitude.com",
            (None, _) => "https://amplitude.com",
        };
        let Ok(mut url) = Url::parse(endpoint) else {
            return Err(wrong("endpoint", "not an address such as https://host:port"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("endpoint", "no user or password in the address: use api_key and secret_key"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("endpoint", "only scheme, host and port, without `?` and `#`"));
        }
        if url.host_str() == Some("analytics.amplitude.com") {
            return Err(wrong("endpoint", "that is the web site's host: use region: us (or eu)"));
        }
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http || is_loopback(&url) => {}
            "http" => {
                return Err(wrong(
                    "endpoint",
                    "plain http to another machine would show the keys: use https, or set allow_http: true",
                ));
            }
            _ => return Err(wrong("endpoint", "starts with https:// (or http://)")),
        }
        let base = url.path().trim_end_matches('/');
        let path = if base.ends_with(PATH) { base.to_string() } else { format!("{base}{PATH}") };
        url.set_path(&path);
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> AmplitudeConfig {
        AmplitudeConfig {
            api_key: Secret::new("key"),
            secret_key: Secret::new("hush"),
            from: "2026-03-01".into(),
            ..AmplitudeConfig::default()
        }
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut AmplitudeConfig), expect: Option<&str>| {
            let mut config = good();
            change(&mut config);
            assert_eq!(config.check().err().map(|error| error.setting), expect);
        };
        check(|_| {}, None);
        check(|c| c.api_key = Secret::new(""), Some("api_key"));
        check(|c| c.api_key = Secret::new("a:b"), Some("api_key"));
        check(|c| c.secret_key = Secret::new(""), Some("secret_key"));
        check(|c| c.secret_key = Secret::new("a b\n"), Some("secret_key"));
        check(|c| c.from = String::new(), Some("from"));
        check(|c| c.from = "yesterday".into(), Some("from"));
        check(|c| c.from = "2026-03-01T05:30:00Z".into(), Some("from"));
        check(|c| c.from = "1999-01-01".into(), Some("from"));
        check(|c| c.window = 0, Some("window"));
        check(|c| c.window = 8_761, Some("window"));
        check(|c| c.parallel = 5, Some("parallel"));
        check(|c| c.every = Duration::ZERO, Some("every"));
        check(|c| c.delay = Duration::from_secs(31 * 86_400), Some("delay"));
        check(|c| c.delay = Duration::ZERO, None);
        check(|c| c.archive_max = 1, Some("archive_max"));
        check(|c| c.read_timeout = Duration::ZERO, Some("read_timeout"));
    }

    #[test]
    fn addresses() {
        let check = |region, endpoint: Option<&str>, expect: Option<&str>| {
            let config = AmplitudeConfig { region, endpoint: endpoint.map(Into::into), ..good() };
            assert_eq!(config.url().ok().as_ref().map(Url::as_str), expect, "{endpoint:?}");
        };
        check(None, None, Some("https://amplitude.com/api/2/export"));
        check(Some(AmplitudeRegion::Us), None, Some("https://amplitude.com/api/2/export"));
        check(Some(AmplitudeRegion::Eu), None, Some("https://analytics.eu.amplitude.com/api/2/export"));
        check(Some(AmplitudeRegion::Eu), Some("http://127.0.0.1:1"), None);
        check(None, Some("http://127.0.0.1:1"), Some("http://127.0.0.1:1/api/2/export"));
        check(None, Some("https://h/proxy/"), Some("https://h/proxy/api/2/export"));
        check(None, Some("https://h/api/2/export"), Some("https://h/api/2/export"));
        for bad in ["h:1", "ftp://h", "http://h", "https://u:p@h", "https://h?a=b"] {
            check(None, Some(bad), None);
        }
        check(None, Some("https://analytics.amplitude.com"), None);
    }

    #[test]
    fn it_reads_as_documented_and_hides_its_secrets() {
        let text = r#"{"name": "a", "stream": "amplitude", "region": "eu", "api_key": "pssst",
            "secret_key": "hush", "from": "2026-03-01", "delay": "3h", "archive_max": "1GiB",
            "schedule": {"cron": "15 * * * *"}}"#;
        let config: AmplitudeConfig = serde_json::from_str(text).expect("it reads");
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.delay, config.archive_max), (Duration::from_secs(10_800), 1 << 30));
        let shown = format!("{config:?}");
        assert!(!shown.contains("hush") && !shown.contains("pssst"), "{shown}");
        let again: AmplitudeConfig =
            serde_json::from_value(serde_json::to_value(&config).expect("writes")).expect("reads");
        assert_eq!(again, config);
    }
}
