//! The server's configuration: what it listens on, who may come in, and how
//! much of everything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lakeward_model::{Secret, units};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::launchdarkly::LaunchDarklyConfig;
use crate::xapi::XapiConfig;

/// Record positions in a body are 32 bits wide; this stays well below.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// How the front doors listen and what they let in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The address to listen on. Default `127.0.0.1:7171`; port 0 takes any
    /// free port.
    pub listen: SocketAddr,
    /// TLS. Default none.
    pub tls: Option<TlsConfig>,
    /// Who may come in. Without any entry everybody may, which is allowed on a
    /// loopback address only.
    pub auth: AuthConfig,
    /// Limits; at each of them the caller gets the protocol's own refusal.
    pub limits: ServerLimits,
    /// The account id in ARNs and messages of AWS's APIs. Default
    /// `000000000000`.
    pub account_id: String,
    /// The region in ARNs of AWS's APIs. Default `us-east-1`. Signatures
    /// may name any region.
    pub region: String,
    /// Whether the Firehose API refuses every stream that AWS would refuse.
    /// Without it, rules that only AWS needs (large buffers with dynamic
    /// partitioning and format conversion, partition keys in the prefix) only
    /// give a warning in the log, as with other emulators. Default true.
    pub firehose_strict: bool,
    /// The Kinesis API.
    pub kinesis: KinesisConfig,
    /// The door for LaunchDarkly's SDKs.
    pub launchdarkly: LaunchDarklyConfig,
    /// The door for learning software.
    pub xapi: XapiConfig,
    /// Takes any credentials or none; for development, on a loopback address
    /// only. Default false.
    pub open: bool,
    /// How long requests in flight may take to end after the server was told
    /// to stop. Default `10s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7171)),
            tls: None,
            auth: AuthConfig::default(),
            limits: ServerLimits::default(),
            account_id: String::from("000000000000"),
            region: String::from("us-east-1"),
            firehose_strict: true,
            kinesis: KinesisConfig::default(),
            launchdarkly: LaunchDarklyConfig::default(),
            xapi: XapiConfig::default(),
            open: false,
            grace: Duration::from_secs(10),
        }
    }
}

impl ServerConfig {
    /// Whether anybody is named who may come in, so that others may not.
    #[must_use]
    pub fn names_somebody(&self) -> bool {
        !self.auth.is_empty() || !self.launchdarkly.sdk_keys.is_empty() || !self.xapi.credentials.is_empty()
    }

    /// Every rule that the configuration breaks, with the path of the value;
    /// empty if it can be served.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut say = |path: &str, problem: &str| found.push((path.to_owned(), problem.to_owned()));
        if !self.listen.ip().is_loopback() {
            if self.open {
                say(
                    "open",
                    "an open server listens on a loopback address only: set `listen: 127.0.0.1:7171`",
                );
            } else if !self.names_somebody() {
                say(
                    "auth",
                    "a server that listens beyond loopback needs authentication: \
                     add `sigv4_keys`, `bearer_tokens` or `firehose_access_keys`",
                );
            }
        }
        if self.account_id.len() != 12 || !self.account_id.bytes().all(|b| b.is_ascii_digit()) {
            say("account_id", "an account id is 12 digits");
        }
        if self.auth.sigv4_keys.iter().any(|k| k.access_key_id.is_empty() || k.secret.is_empty()) {
            say("auth.sigv4_keys", "an access key id or a secret is empty");
        }
        if self.auth.bearer_tokens.iter().any(Secret::is_empty) {
            say("auth.bearer_tokens", "a token is empty");
        }
        if self.auth.firehose_access_keys.iter().any(Secret::is_empty) {
            say("auth.firehose_access_keys", "an access key is empty");
        }
        for (path, problem) in self.launchdarkly.problems() {
            say(&format!("launchdarkly.{path}"), &problem);
        }
        for (path, problem) in self.xapi.problems() {
            say(&format!("xapi.{path}"), &problem);
        }
        for (path, value) in self.limits.positive() {
            if value == 0 {
                say(&format!("limits.{path}"), "this limit is at least 1");
            }
        }
        if self.limits.body_bytes.max(self.limits.decompressed_bytes) > BODY_BYTES_MAX {
            say("limits.decompressed_bytes", "a body is at most 1GiB");
        }
        found
    }
}

/// How the Kinesis API behaves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KinesisConfig {
    /// Whether shards refuse more than they take at AWS: 1,000 records and
    /// 1 MiB written a second, 2 MiB read in 5 calls a second. Default false.
    pub throttle: bool,
    /// How many shards a stream has when the API first meets it. Default 1
    /// for a stream that is not named here.
    pub shards: BTreeMap<String, u32>,
}

/// The server's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain, the server's own first.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Who may come in. As soon as one list has an entry, every door wants an
/// entry of its own kind; a door whose list is empty then refuses everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Keys that sign requests to AWS's APIs.
    pub sigv4_keys: Vec<SigV4Key>,
    /// Tokens for `/v1/…` and `/metrics`.
    pub bearer_tokens: Vec<Secret>,
    /// Keys for the Firehose HTTP-endpoint delivery protocol.
    pub firehose_access_keys: Vec<Secret>,
}

impl AuthConfig {
    /// Whether nobody is named, so that everybody may come in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sigv4_keys.is_empty() && self.bearer_tokens.is_empty() && self.firehose_access_keys.is_empty()
    }
}

/// An AWS-style key pair of our own; it need not exist at AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigV4Key {
    /// The public half, as in `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// The secret half, as in `AWS_SECRET_ACCESS_KEY`.
    pub secret: Secret,
}

/// How much of everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// Largest body of `POST /v1/streams/…` on the wire. Default `64MiB`. The
    /// Firehose API has its own limits.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub body_bytes: u64,
    /// Largest body after decompression. Default `128MiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub decompressed_bytes: u64,
    /// Most records in one `POST /v1/streams/…`. Default 1,000,000.
    pub records_per_request: usize,
    /// Most open connections; further ones wait in the operating system's
    /// queue. Default 1,024.
    pub connections: usize,
    /// How long a connection may take to send its first request's headers.
    /// Default `10s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub header_read_timeout: Duration,
    /// How long a body may pause, and the time within which each further
    /// 16 KiB must come. Default `30s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub body_read_timeout: Duration,
    /// Memory for all bodies being read, unpacked and appended; beyond it
    /// requests are refused with 429 or 503. Default `256MiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub in_flight_bytes: u64,
    /// Most requests per second over all doors, with bursts of one second's
    /// worth. Default none.
    pub requests_per_second: Option<u32>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            decompressed_bytes: 128 << 20,
            records_per_request: 1_000_000,
            connections: 1_024,
            header_read_timeout: Duration::from_secs(10),
            body_read_timeout: Duration::from_secs(30),
            in_flight_bytes: 256 << 20,
            requests_per_second: None,
        }
    }
}

impl ServerLimits {
    /// The limits that may not be 0, with their names.
    fn positive(&self) -> [(&'static str, u64); 8] {
        [
            ("body_bytes", self.body_bytes),
            ("decompressed_bytes", self.decompressed_bytes),
            ("records_per_request", self.records_per_request as u64),
            ("connections", self.connections as u64),
            ("header_read_timeout", u64::try_from(self.header_read_timeout.as_millis()).unwrap_or(u64::MAX)),
            ("body_read_timeout", u64::try_from(self.body_read_timeout.as_millis()).unwrap_or(u64::MAX)),
            ("in_flight_bytes", self.in_flight_bytes),
            ("requests_per_second", self.requests_per_second.map_or(1, u64::from)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(yaml: serde_json::Value) -> Vec<String> {
        let config: ServerConfig = serde_json::from_value(yaml).unwrap();
        config.problems().into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_public_address_needs_authentication() {
        assert_eq!(problems(serde_json::json!({})), Vec::<String>::new());
        assert_eq!(problems(serde_json::json!({"listen": "0.0.0.0:1"})), ["auth"]);
        assert_eq!(problems(serde_json::json!({"listen": "0.0.0.0:1", "open": true})), ["open"]);
        let keyed = serde_json::json!({"listen": "0.0.0.0:1", "auth": {"bearer_tokens": ["t"]}});
        assert_eq!(problems(keyed), Vec::<String>::new());
        let empty = serde_json::json!({"auth": {"bearer_tokens": [""]}, "limits": {"connections": 0}});
        assert_eq!(problems(empty), ["auth.bearer_tokens", "limits.connections"]);
    }

    #[test]
    fn sizes_and_times_are_texts_and_secrets_stay_hidden() {
        let config: ServerConfig = serde_json::from_value(serde_json::json!({
            "limits": {"body_bytes": "8MiB", "in_flight_bytes": 1000, "body_read_timeout": "1m 30s"},
            "auth": {"sigv4_keys": [{"access_key_id": "AK", "secret": "hush"}]},
        }))
        .unwrap();
        assert_eq!(config.limits.body_bytes, 8 << 20);
        assert_eq!(config.limits.in_flight_bytes, 1000);
        assert_eq!(config.limits.body_read_timeout, Duration::from_secs(90));
        assert!(!format!("{config:?}").contains("hush"));
        let again: ServerConfig = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        assert!(serde_json::from_value::<ServerConfig>(serde_json::json!({"lissten": ""})).is_err());
    }
}
