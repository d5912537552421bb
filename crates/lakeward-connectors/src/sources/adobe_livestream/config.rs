//! How an Adobe Analytics Livestream is configured as a source.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_model::{Secret, units};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws_access::is_loopback;

/// Adobe's own addresses (Livestream documentation, "Getting started"; Adobe
/// developer documentation, "OAuth Server-to-Server credential").
const ENDPOINT: &str = "https://livestream.adobe.net";
const TOKEN_URL: &str = "https://ims-na1.adobelogin.com/ims/token/v3";
/// What every name of a stream begins with.
const PREFIX: &str = "adobe-livestream-";

/// The hits of Adobe Analytics as they are processed, by its Livestream.
///
/// Livestream has no place to read again from: what arrives is durable in the
/// journal before more is read, and what was lost on the way comes again from
/// Adobe's backlog, so a pipeline needs `dedup: { key: [hit_id_high, hit_id_low] }`
/// or the like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdobeLivestreamConfig {
    /// The source's name, unique in the file; for people.
    pub name: String,
    /// The stream of ours that takes the records. No other source may feed it.
    pub stream: String,
    /// The Livestream's own name, as Adobe's Customer Care gave it, with or
    /// without `adobe-livestream-` before it.
    pub livestream: String,
    /// The version of the path, 1 or 2; both give the same since April 2026.
    /// Default 1.
    pub version: u8,
    /// The service's address, if it is not Adobe: `https://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The client id of the project's OAuth server-to-server credential (the
    /// console's "Client ID", also known as API key).
    pub client_id: String,
    /// Its client secret; better as `${ENV}` than in the file.
    pub client_secret: Secret,
    /// Its scopes, separated by commas, as the console shows them.
    pub scopes: String,
    /// Where tokens are had. Default Adobe's
    /// `https://ims-na1.adobelogin.com/ims/token/v3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The file that keeps the token, readable by its owner only. Several
    /// instances may share one: then only one of them asks for a new token.
    /// Default `sources/<name>/token` in the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether plain `http://` addresses may be other machines.
    pub allow_http: bool,
    /// How many connections all clients of this Livestream have together, 1 to
    /// 8. It must be the same for all of them. Default 1.
    pub max_connections: u8,
    /// How many of them this source opens. Default 1.
    pub connections: u8,
    /// Where the very first connection starts. Default: now. It is used once,
    /// never when connecting again: that would skip or repeat what Adobe keeps
    /// for us. Another value than the one that was used is used once too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// Whether Adobe spreads peaks over time. Default false.
    pub smoothing: bool,
    /// Over how many seconds, 1 to 7,200. Default what Adobe takes: 270.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoothing_bucket_size: Option<u16>,
    /// How long the connection may be silent, without even an empty record,
    /// before it is taken for dead and made anew. Default `60s`, as in Adobe's
    /// sample client.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub read_timeout: Duration,
    /// The most bytes of one record. Of a longer one the beginning goes to
    /// quarantine. Default `1MiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub record_max: u64,
}

/// Where the first connection starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// With the oldest records that Adobe still has.
    Smallest,
    /// With the newest.
    Largest,
}

impl Reset {
    /// As the request has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Smallest => "smallest",
            Self::Largest => "largest",
        }
    }
}

impl Default for AdobeLivestreamConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            stream: String::new(),
            livestream: String::new(),
            version: 1,
            endpoint: None,
            client_id: String::new(),
            client_secret: Secret::new(""),
            scopes: String::new(),
            token_url: None,
            token_file: None,
            allow_http: false,
            max_connections: 1,
            connections: 1,
            reset: None,
            smoothing: false,
            smoothing_bucket_size: None,
            read_timeout: Duration::from_secs(60),
            record_max: 1 << 20,
        }
    }
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct AdobeLivestreamConfigError {
    /// The setting's name.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

pub(super) fn wrong(setting: &'static str, problem: &str) -> AdobeLivestreamConfigError {
    AdobeLivestreamConfigError { setting, problem: problem.into() }
}

impl AdobeLivestreamConfig {
    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`AdobeLivestreamConfigError`].
    pub fn check(&self) -> Result<(), AdobeLivestreamConfigError> {
        if !matches!(self.version, 1 | 2) {
            return Err(wrong("version", "1 or 2"));
        }
        self.url(None)?;
        self.token_url()?;
        let is_graphic = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if self.client_id.is_empty() || !is_graphic(&self.client_id) {
            return Err(wrong(
                "client_id",
                "give the client id of the OAuth server-to-server credential, from developer.adobe.com/console",
            ));
        }
        if self.client_secret.is_empty() || !is_graphic(self.client_secret.expose()) {
            return Err(wrong(
                "client_secret",
                "give the client secret of the OAuth server-to-server credential, as ${ENV}. \
                 JWT credentials are no longer taken by Adobe",
            ));
        }
        if self.scopes.trim().is_empty() {
            return Err(wrong(
                "scopes",
                "give the credential's scopes, separated by commas, as the console shows them",
            ));
        }
        if !(1..=8).contains(&self.max_connections) {
            return Err(wrong("max_connections", "between 1 and 8, the same for all clients of the stream"));
        }
        if self.connections == 0 || self.connections > self.max_connections {
            return Err(wrong("connections", "between 1 and max_connections"));
        }
        match self.smoothing_bucket_size {
            Some(_) if !self.smoothing => {
                return Err(wrong("smoothing_bucket_size", "only together with smoothing: true"));
            }
            Some(seconds) if !(1..=7_200).contains(&seconds) => {
                return Err(wrong("smoothing_bucket_size", "between 1 and 7,200 seconds"));
            }
            _ => {}
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&self.read_timeout) {
            return Err(wrong("read_timeout", "100ms to 1h"));
        }
        if !((1 << 10)..=(16 << 20)).contains(&self.record_max) {
            return Err(wrong("record_max", "1KiB to 16MiB"));
        }
        Ok(())
    }

    /// Paths in it are meant from this folder on.
    pub fn resolve_in(&mut self, folder: &Path) {
        self.token_file = self.token_file.as_ref().map(|file| folder.join(file));
    }

    /// The whole name of the Livestream.
    pub(super) fn stream_name(&self) -> String {
        let bare = self.livestream.strip_prefix(PREFIX).unwrap_or(&self.livestream);
        format!("{PREFIX}{bare}")
    }

    /// What is asked for when a connection starts.
    pub(super) fn url(&self, reset: Option<Reset>) -> Result<Url, AdobeLivestreamConfigError> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if self.livestream.is_empty() || !self.livestream.bytes().all(is_name) {
            return Err(wrong(
                "livestream",
                "give the Livestream's name, as Adobe's Customer Care set it up",
            ));
        }
        let mut url = self.address("endpoint", self.endpoint.as_deref().unwrap_or(ENDPOINT))?;
        let base = url.path().trim_end_matches('/');
        url.set_path(&format!("{base}/api/{}/stream/{}", self.version, self.stream_name()));
        let mut query = url.query_pairs_mut();
        query.append_pair("maxConnections", &self.max_connections.to_string());
        if let Some(reset) = reset {
            query.append_pair("reset", reset.as_str());
        }
        if self.smoothing {
            query.append_pair("smoothing", "1");
        }
        if let Some(seconds) = self.smoothing_bucket_size {
            query.append_pair("smoothingBucketSize", &seconds.to_string());
        }
        drop(query);
        Ok(url)
    }

    /// Where tokens are had.
    pub(super) fn token_url(&self) -> Result<Url, AdobeLivestreamConfigError> {
        self.address("token_url", self.token_url.as_deref().unwrap_or(TOKEN_URL))
    }

    fn address(&self, setting: &'static str, text: &str) -> Result<Url, AdobeLivestreamConfigError> {
        let Ok(url) = Url::parse(text) else {
            return Err(wrong(setting, "not an address such as https://host:port"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                setting,
                "no user or password in the address: use client_id and client_secret",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(setting, "without `?` and `#`: every parameter has a setting of its own"));
        }
        match self.may_be_told(&url) {
            Ok(()) => Ok(url),
            Err(problem) => Err(wrong(setting, problem)),
        }
    }

    /// Whether secrets may be sent to this address.
    pub(super) fn may_be_told(&self, url: &Url) -> Result<(), &'static str> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.allow_http || is_loopback(url) => Ok(()),
            "http" => {
                Err("plain http to another machine would show the token: use https, or set allow_http: true")
            }
            _ => Err("starts with https:// (or http://)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> AdobeLivestreamConfig {
        AdobeLivestreamConfig {
            livestream: "acme".into(),
            client_id: "id".into(),
            client_secret: Secret::new("hush"),
            scopes: "openid,AdobeID".into(),
            ..AdobeLivestreamConfig::default()
        }
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut AdobeLivestreamConfig), expect: Option<&str>| {
            let mut config = good();
            change(&mut config);
            assert_eq!(config.check().err().map(|error| error.setting), expect);
        };
        check(|_| {}, None);
        check(|c| c.livestream = String::new(), Some("livestream"));
        check(|c| c.livestream = "../x".into(), Some("livestream"));
        check(|c| c.version = 3, Some("version"));
        check(|c| c.client_id = String::new(), Some("client_id"));
        check(|c| c.client_secret = Secret::new("a b"), Some("client_secret"));
        check(|c| c.scopes = " ".into(), Some("scopes"));
        check(|c| c.max_connections = 9, Some("max_connections"));
        check(|c| c.connections = 2, Some("connections"));
        check(|c| c.connections = 0, Some("connections"));
        check(|c| (c.max_connections, c.connections) = (8, 8), None);
        check(|c| c.smoothing_bucket_size = Some(270), Some("smoothing_bucket_size"));
        check(|c| (c.smoothing, c.smoothing_bucket_size) = (true, Some(270)), None);
        check(
            |c| (c.smoothing, c.smoothing_bucket_size) = (true, Some(7_201)),
            Some("smoothing_bucket_size"),
        );
        check(|c| c.read_timeout = Duration::ZERO, Some("read_timeout"));
        check(|c| c.record_max = 1, Some("record_max"));
        check(|c| c.endpoint = Some("http://elsewhere".into()), Some("endpoint"));
        check(|c| (c.endpoint, c.allow_http) = (Some("http://elsewhere".into()), true), None);
        check(|c| c.token_url = Some("https://u:p@h/".into()), Some("token_url"));
        check(|c| c.token_url = Some("ftp://h/".into()), Some("token_url"));
    }

    #[test]
    fn the_request_is_as_documented() {
        let check = |config: AdobeLivestreamConfig, reset, expect: &str| {
            assert_eq!(config.url(reset).expect("an address").as_str(), expect);
        };
        let root = "https://livestream.adobe.net/api";
        check(good(), None, &format!("{root}/1/stream/adobe-livestream-acme?maxConnections=1"));
        let whole =
            AdobeLivestreamConfig { livestream: "adobe-livestream-acme".into(), version: 2, ..good() };
        check(whole, None, &format!("{root}/2/stream/adobe-livestream-acme?maxConnections=1"));
        let all = AdobeLivestreamConfig {
            endpoint: Some("http://127.0.0.1:1/x/".into()),
            max_connections: 4,
            smoothing: true,
            smoothing_bucket_size: Some(60),
            ..good()
        };
        check(
            all,
            Some(Reset::Smallest),
            "http://127.0.0.1:1/x/api/1/stream/adobe-livestream-acme\
             ?maxConnections=4&reset=smallest&smoothing=1&smoothingBucketSize=60",
        );
    }

    #[test]
    fn it_reads_as_documented_and_hides_its_secret() {
        let text = r#"{"name": "a", "stream": "hits", "livestream": "acme", "client_id": "id",
            "client_secret": "pssst", "scopes": "openid", "reset": "smallest", "read_timeout": "30s"}"#;
        let config: AdobeLivestreamConfig = serde_json::from_str(text).expect("it reads");
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.reset, config.read_timeout), (Some(Reset::Smallest), Duration::from_secs(30)));
        let shown = format!("{config:?}");
        assert!(!shown.contains("pssst"), "{shown}");
        let again: AdobeLivestreamConfig =
            serde_json::from_value(serde_json::to_value(&config).expect("writes")).expect("reads");
        assert_eq!(again, config);
    }
}
