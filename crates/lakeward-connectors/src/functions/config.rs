//! How a function is configured: `lambda:` of a pipeline.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_model::{Secret, units};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws_access::{AwsAccess, AwsAccessError, is_loopback};

/// The most bytes of records in one call: with base64 they fill a request.
const SIZE_MAX: u64 = 4_718_592;

/// A function that every record goes through, in Firehose's transform contract.
/// One of `function`, `url` and `command` says where it is.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = [
    { "required": ["function"] }, { "required": ["url"] }, { "required": ["command"] }
]))]
pub struct FunctionConfig {
    /// An AWS Lambda function: its ARN, or its name (with `:alias` or
    /// `:version` if need be).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// An HTTP endpoint that takes the same event with POST and gives the same
    /// reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A command of this machine: it reads the event from its standard input
    /// and writes the reply to its standard output. It is shown with its
    /// arguments: give secrets through the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,

    /// Bytes of records in one call, before base64: `1KiB` to `4608KiB`.
    /// Default `1MiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub size: u64,
    /// Records in one call, 1 to 100,000. Default 10,000.
    pub records: usize,
    /// Tries after the first, if the function itself fails. Default 3.
    pub retries: u32,
    /// Calls at the same time, 1 to 256. Default 4.
    pub concurrency: usize,
    /// How long one call may take. Default `5m`, which is Firehose's limit.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// What happens to records while the function cannot be reached.
    pub on_unavailable: OnUnavailable,

    /// Command: whether one process takes one event after the other, one line
    /// of JSON each. Default false: a process for every call.
    pub keep_running: bool,
    /// Command: the folder that it runs in. Default that of the configuration
    /// file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,

    /// HTTP: sent as `Authorization: Bearer …`; better as `${ENV}` than in the
    /// file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Lambda: where it is, and as whom it is asked; the region is by default the
    /// ARN's. HTTP: `allow_http` counts.
    #[serde(flatten)]
    pub aws: AwsAccess,
}

impl Default for FunctionConfig {
    fn default() -> Self {
        Self {
            function: None,
            url: None,
            command: None,
            size: 1 << 20,
            records: 10_000,
            retries: 3,
            concurrency: 4,
            timeout: Duration::from_secs(300),
            on_unavailable: OnUnavailable::default(),
            keep_running: false,
            folder: None,
            token: None,
            aws: AwsAccess::default(),
        }
    }
}

/// Only what people may see: an address's query, too, may hold a key.
impl fmt::Debug for FunctionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionConfig").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// What happens to records while the function cannot be reached, is throttled
/// or refuses us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnavailable {
    /// They wait in the journal; the call is tried again for ever.
    #[default]
    Wait,
    /// After the retries they go to quarantine, as Firehose does.
    Quarantine,
}

/// A configuration that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct FunctionConfigError {
    /// The setting at fault.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl FunctionConfigError {
    pub(super) fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self { setting, problem: problem.into() }
    }
}

/// Where a function is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// In AWS Lambda, by name or ARN.
    Lambda(&'a str),
    /// Behind an address.
    Http(Url),
    /// On this machine: a program and its arguments.
    Command(&'a [String]),
}

impl FunctionConfig {
    /// What people and error objects call the function: its name or ARN, its
    /// address without a query (which may hold a key), its command.
    #[must_use]
    pub fn name(&self) -> String {
        match self.way() {
            Ok(Way::Lambda(function)) => function.into(),
            Ok(Way::Http(mut url)) => {
                url.set_query(None);
                url.set_fragment(None);
                url.into()
            }
            Ok(Way::Command(command)) => command.join(" "),
            Err(_) => String::new(),
        }
    }

    /// The same without tokens and secret keys, for what is stored.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let aws = AwsAccess { secret_access_key: None, session_token: None, ..self.aws.clone() };
        Self { token: None, aws, ..self.clone() }
    }

    /// Makes the command run in `folder`, or in what its own folder is from
    /// there.
    pub fn resolve_in(&mut self, folder: &Path) {
        if self.command.is_some() {
            self.folder = Some(self.folder.as_ref().map_or(folder.into(), |own| folder.join(own)));
        }
    }

    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`FunctionConfigError`].
    pub fn check(&self) -> Result<(), FunctionConfigError> {
        let wrong = |setting, problem: &str| Err(FunctionConfigError::new(setting, problem));
        let way = self.way()?;
        if !(1 << 10..=SIZE_MAX).contains(&self.size) {
            return wrong("size", "between 1KiB and 4608KiB");
        }
        if !(1..=100_000).contains(&self.records) {
            return wrong("records", "between 1 and 100,000");
        }
        if self.retries > 300 {
            return wrong("retries", "at most 300");
        }
        if !(1..=256).contains(&self.concurrency) {
            return wrong("concurrency", "between 1 and 256");
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(900)).contains(&self.timeout) {
            return wrong("timeout", "between 100ms and 15m");
        }
        let lambda = matches!(way, Way::Lambda(_));
        let command = matches!(way, Way::Command(_));
        for (setting, given, fits) in [
            ("keep_running", self.keep_running, command),
            ("folder", self.folder.is_some(), command),
            ("token", self.token.is_some(), matches!(way, Way::Http(_))),
            ("allow_http", self.aws.allow_http, !command),
            ("endpoint", self.aws.endpoint.is_some(), lambda),
            ("region", self.aws.region.is_some(), lambda),
            ("profile", self.aws.profile.is_some(), lambda),
            ("role_arn", self.aws.role_arn.is_some(), lambda),
            ("access_key_id", self.aws.access_key_id.is_some(), lambda),
            ("secret_access_key", self.aws.secret_access_key.is_some(), lambda),
            ("session_token", self.aws.session_token.is_some(), lambda),
        ] {
            if given && !fits {
                return wrong(setting, "it does not go with where the function is");
            }
        }
        self.aws.check_key()?;
        Ok(self.aws.check_endpoint()?)
    }

    pub(super) fn way(&self) -> Result<Way<'_>, FunctionConfigError> {
        match (self.function.as_deref(), self.url.as_deref(), self.command.as_deref()) {
            (Some(function), None, None) => {
                let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_:$.".contains(&b);
                if function.is_empty() || function.len() > 170 || !function.bytes().all(fits) {
                    return Err(FunctionConfigError::new("function", "the name or the ARN of a function"));
                }
                Ok(Way::Lambda(function))
            }
            (None, Some(url), None) => self.address(url).map(Way::Http),
            (None, None, Some(command)) => match command {
                [program, ..] if !program.is_empty() => Ok(Way::Command(command)),
                _ => {
                    Err(FunctionConfigError::new("command", "a program and its arguments: [python3, run.py]"))
                }
            },
            _ => Err(FunctionConfigError::new(
                "lambda",
                "say where the function is with exactly one of `function`, `url` and `command`",
            )),
        }
    }

    /// An address that may be called.
    fn address(&self, text: &str) -> Result<Url, FunctionConfigError> {
        let wrong = |problem: &str| Err(FunctionConfigError::new("url", problem));
        let Ok(url) = Url::parse(text) else {
            return wrong("not an address such as https://host/path");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("no user or password in the address; see `token`");
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.aws.allow_http || is_loopback(&url) => Ok(url),
            "http" => wrong("plain http to another machine: use https, or set allow_http: true"),
            _ => wrong("starts with https:// (or http://)"),
        }
    }
}

impl From<AwsAccessError> for FunctionConfigError {
    fn from(AwsAccessError { setting, problem }: AwsAccessError) -> Self {
        Self { setting, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FunctionConfig, String> {
        let config: FunctionConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.check().map(|()| config).map_err(|error| error.to_string())
    }

    #[test]
    fn the_three_ways() {
        let check = |text: &str, name: &str| assert_eq!(read(text).expect(text).name(), name, "{text}");
        check(r#"{"command": ["python3", "run.py"], "keep_running": true}"#, "python3 run.py");
        check(r#"{"url": "https://example.com/f?code=hush", "token": "t"}"#, "https://example.com/f");
        check(r#"{"url": "http://127.0.0.1:9000/f", "size": "4608KiB"}"#, "http://127.0.0.1:9000/f");
        check(r#"{"url": "http://[::1]:9000/f"}"#, "http://[::1]:9000/f");
        check(r#"{"url": "http://example.com/f", "allow_http": true}"#, "http://example.com/f");
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:f:live";
        check(&format!(r#"{{"function": "{arn}", "region": "eu-west-1"}}"#), arn);
        check(r#"{"function": "f:$LATEST", "endpoint": "http://localhost:4566"}"#, "f:$LATEST");
    }

    #[test]
    fn what_does_not_fit_says_so() {
        let check = |text: &str, expect: &str| {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(expect), "{text}: {error}");
        };
        check("{}", "lambda:");
        check(r#"{"url": "https://h/", "command": ["x"]}"#, "lambda:");
        check(r#"{"command": []}"#, "command:");
        check(r#"{"command": [""]}"#, "command:");
        check(r#"{"function": "a/../b"}"#, "function:");
        check(r#"{"url": "ftp://h/"}"#, "url:");
        check(r#"{"url": "nonsense"}"#, "url:");
        check(r#"{"url": "http://example.com/"}"#, "url:");
        check(r#"{"url": "http://127.0.0.1:80@example.com/"}"#, "url:");
        check(r#"{"url": "https://a:b@example.com/"}"#, "url:");
        check(r#"{"function": "f", "endpoint": "http://example.com"}"#, "endpoint:");
        check(r#"{"function": "f", "token": "t"}"#, "token:");
        check(r#"{"url": "https://h/", "region": "r"}"#, "region:");
        check(r#"{"url": "https://h/", "keep_running": true}"#, "keep_running:");
        check(r#"{"function": "f", "access_key_id": "a"}"#, "access_key_id:");
        check(r#"{"command": ["x"], "size": 4718593}"#, "size:");
        check(r#"{"command": ["x"], "size": 1023}"#, "size:");
        check(r#"{"command": ["x"], "records": 0}"#, "records:");
        check(r#"{"command": ["x"], "concurrency": 0}"#, "concurrency:");
        check(r#"{"command": ["x"], "timeout": "1h"}"#, "timeout:");
        check(r#"{"command": ["x"], "nope": 1}"#, "unknown field");
    }

    #[test]
    fn secrets_are_neither_shown_nor_kept() {
        let mut config = read(
            r#"{"function": "f", "access_key_id": "a", "secret_access_key": "hush", "session_token": "hush"}"#,
        )
        .expect("it reads");
        config.token = Some(Secret::new("hush"));
        assert!(!format!("{config:?}").contains("hush"));
        let with_key = read(r#"{"url": "https://h/f?code=hush"}"#).expect("it reads");
        assert!(!format!("{with_key:?} {}", with_key.name()).contains("hush"));
        let kept = serde_json::to_string(&config.without_secrets()).expect("it writes");
        assert!(!kept.contains("hush"), "{kept}");
        let again: FunctionConfig = serde_json::from_str(&kept).expect("it reads");
        assert_eq!(again, config.without_secrets());
    }

    #[test]
    fn commands_run_beside_the_configuration() {
        let check = |text: &str, expect: Option<&str>| {
            let mut config: FunctionConfig = serde_json::from_str(text).expect(text);
            config.resolve_in(Path::new("/etc/lakeward"));
            assert_eq!(config.folder.as_deref(), expect.map(Path::new), "{text}");
        };
        check(r#"{"command": ["x"]}"#, Some("/etc/lakeward"));
        check(r#"{"command": ["x"], "folder": "f"}"#, Some("/etc/lakeward/f"));
        check(r#"{"command": ["x"], "folder": "/f"}"#, Some("/f"));
        check(r#"{"url": "https://h/"}"#, None);
    }

    #[test]
    fn the_schema_wants_one_way() {
        let schema = serde_json::to_value(schemars::schema_for!(FunctionConfig)).expect("a schema is JSON");
        assert_eq!(schema["oneOf"].as_array().map(Vec::len), Some(3));
        assert_eq!(schema["additionalProperties"], serde_json::json!(false));
    }
}
