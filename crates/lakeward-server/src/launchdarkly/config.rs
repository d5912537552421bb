//! The events door's settings.

use lakeward_model::{Secret, StreamName};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The path of a value in the section, and what is wrong with it.
pub(crate) type Problem = (&'static str, String);

/// The door that LaunchDarkly SDKs send their events to: `POST /bulk` and its
/// sisters. The SDK's events URI is this server's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LaunchDarklyConfig {
    /// The stream that events go to, one record each. Default
    /// `launchdarkly-events`. As long as no pipeline delivers it, SDKs are
    /// asked to try again later.
    pub stream: String,
    /// Who may send: SDK keys, mobile keys, and the client-side ids that
    /// browsers have in the path. Default none: everybody, unless anything is
    /// named here or in `auth`.
    pub sdk_keys: Vec<Secret>,
    /// The stream for the SDKs' diagnostics of themselves. Default none: they
    /// are accepted and dropped.
    pub diagnostics: Option<String>,
    /// Where requests are sent on to after their events are durable, for
    /// instance `https://events.launchdarkly.com`. Default nowhere. This is
    /// best effort, as it is between an SDK and LaunchDarkly: it delays and
    /// fails no reply. The requests have SDK keys: `https`, or `http` to this
    /// machine.
    pub forward: Option<String>,
}

impl Default for LaunchDarklyConfig {
    fn default() -> Self {
        Self {
            stream: String::from("launchdarkly-events"),
            sdk_keys: Vec::new(),
            diagnostics: None,
            forward: None,
        }
    }
}

impl LaunchDarklyConfig {
    /// Every rule that the section breaks.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if let Err(error) = StreamName::new(&self.stream) {
            found.push(("stream", error.to_string()));
        }
        if self.sdk_keys.iter().any(Secret::is_empty) {
            found.push(("sdk_keys", String::from("a key is empty")));
        }
        if let Some(Err(error)) = self.diagnostics.as_deref().map(StreamName::new) {
            found.push(("diagnostics", error.to_string()));
        }
        if let Some(Err(problem)) = self.forward.as_deref().map(base) {
            found.push(("forward", problem.into()));
        }
        found
    }
}

/// The address to send on to. It is logged and every request has an SDK key, so
/// it has no credentials of its own and no other machine hears it in plain text.
///
/// # Errors
/// What is wrong with it.
pub(super) fn base(text: &str) -> Result<Url, &'static str> {
    let wrong = Err("this is an address such as `https://events.launchdarkly.com`");
    let Ok(url) = Url::parse(text) else { return wrong };
    if url.query().is_some() || url.fragment().is_some() || !url.has_host() {
        return wrong;
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user or password in the address: SDKs send their keys themselves");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("plain http to another machine would show it the SDK keys: use https"),
        _ => wrong,
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let problems = |config: serde_json::Value| -> Vec<&'static str> {
            let config: LaunchDarklyConfig = serde_json::from_value(config).unwrap();
            config.problems().into_iter().map(|(path, _)| path).collect()
        };
        assert_eq!(problems(serde_json::json!({})), Vec::<&str>::new());
        for forward in
            ["https://events.launchdarkly.com", "http://127.0.0.1:1", "http://[::1]:1/p", "http://localhost"]
        {
            assert_eq!(problems(serde_json::json!({"forward": forward})).len(), 0, "{forward}");
        }
        let wrong = serde_json::json!({
            "stream": "a b", "sdk_keys": [""], "diagnostics": "", "forward": "events.launchdarkly.com",
        });
        assert_eq!(problems(wrong), ["stream", "sdk_keys", "diagnostics", "forward"]);
        for forward in [
            "ftp://x",
            "https://x/?a=b",
            "file:///tmp",
            "",
            "http://events.launchdarkly.com",
            "http://127.0.0.1.example.com",
            "https://user:hush@host",
            "https://user@host",
            "http://:hush@127.0.0.1",
        ] {
            assert_eq!(problems(serde_json::json!({"forward": forward})), ["forward"], "{forward}");
        }
    }

    #[test]
    fn keys_stay_hidden() {
        let config = LaunchDarklyConfig { sdk_keys: vec![Secret::new("sdk-hush")], ..Default::default() };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
