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
    /// fails no reply.
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
        if let Some(text) = &self.forward
            && base(text).is_none()
        {
            let problem = "this is an address such as `https://events.launchdarkly.com`";
            found.push(("forward", String::from(problem)));
        }
        found
    }
}

/// The address to send on to; `None` if it is none.
pub(super) fn base(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.has_host();
    (matches!(url.scheme(), "http" | "https") && plain).then_some(url)
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
        assert_eq!(problems(serde_json::json!({"forward": "https://events.launchdarkly.com"})).len(), 0);
        let wrong = serde_json::json!({
            "stream": "a b", "sdk_keys": [""], "diagnostics": "", "forward": "events.launchdarkly.com",
        });
        assert_eq!(problems(wrong), ["stream", "sdk_keys", "diagnostics", "forward"]);
        for forward in ["ftp://x", "https://x/?a=b", "file:///tmp", ""] {
            assert_eq!(problems(serde_json::json!({"forward": forward})), ["forward"], "{forward}");
        }
    }

    #[test]
    fn keys_stay_hidden() {
        let config = LaunchDarklyConfig { sdk_keys: vec![Secret::new("sdk-hush")], ..Default::default() };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
