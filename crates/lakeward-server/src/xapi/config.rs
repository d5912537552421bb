//! The xAPI door's settings.

use lakeward_model::{Secret, StreamName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The door for learning software: xAPI statements, `POST /xAPI/statements`
/// and `PUT /xAPI/statements?statementId=…`. The endpoint that learning
/// software wants to know is this server's address with `/xAPI/` behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct XapiConfig {
    /// The stream that statements go to, one record each. Default `xapi`. As
    /// long as no pipeline delivers it, clients are asked to try again later.
    pub stream: String,
    /// Who may send, by HTTP basic authentication. Default none: everybody,
    /// unless anything is named here or in `auth`.
    pub credentials: Vec<XapiCredential>,
    /// Whether statements must keep every rule of the specification. Default
    /// false: the required parts must be there; what real learning platforms
    /// write otherwise is taken as it is.
    pub strict: bool,
    /// Whether `id`, `stored`, `version` and `authority` are written into the
    /// statements. Default false: a record is what was sent, byte for byte, so
    /// that its hash is that of a copy that comes through a bucket.
    pub stamp: bool,
}

/// Somebody who may send statements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct XapiCredential {
    /// The name; no colon in it.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl Default for XapiConfig {
    fn default() -> Self {
        Self { stream: String::from("xapi"), credentials: Vec::new(), strict: false, stamp: false }
    }
}

impl XapiConfig {
    /// Every rule that the section breaks: the path of a value, and what is
    /// wrong with it.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Err(error) = StreamName::new(&self.stream) {
            found.push(("stream", error.to_string()));
        }
        let is_bad =
            |it: &XapiCredential| it.user.is_empty() || it.user.contains(':') || it.password.is_empty();
        if self.credentials.iter().any(is_bad) {
            found.push(("credentials", String::from("a user or a password is empty, or a user has a colon")));
        }
        found
    }

    /// The credentials as they stand in a header, before base64.
    pub(crate) fn pairs(&self) -> Vec<Secret> {
        let pair = |it: &XapiCredential| Secret::new(format!("{}:{}", it.user, it.password.expose()));
        self.credentials.iter().map(pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_and_passwords_stay_hidden() {
        let problems = |config: serde_json::Value| -> Vec<&'static str> {
            let config: XapiConfig = serde_json::from_value(config).unwrap();
            config.problems().into_iter().map(|(path, _)| path).collect()
        };
        assert_eq!(problems(serde_json::json!({})), Vec::<&str>::new());
        let good = serde_json::json!({"credentials": [{"user": "a", "password": "b"}]});
        assert_eq!(problems(good.clone()), Vec::<&str>::new());
        for (user, password) in [("", "b"), ("a:b", "c"), ("a", "")] {
            let bad = serde_json::json!({"credentials": [{"user": user, "password": password}]});
            assert_eq!(problems(bad), ["credentials"], "{user}");
        }
        assert_eq!(problems(serde_json::json!({"stream": "a b"})), ["stream"]);
        let config = XapiConfig {
            credentials: vec![XapiCredential { user: "a".into(), password: Secret::new("hush") }],
            ..XapiConfig::default()
        };
        assert!(!format!("{config:?} {:?}", config.pairs()).contains("hush"));
    }
}
