//! Who may come in: tokens and access keys, compared in constant time.

use axum::http::HeaderMap;
use axum::http::request::Parts;
use lakeward_model::{Secret, Timestamp};
use subtle::{Choice, ConstantTimeEq};

use crate::config::{AuthConfig, ServerConfig};
use crate::sigv4::{SignatureError, Verifier};

/// Decides whether a request may come in. See [`AuthConfig`] for the rule.
#[derive(Debug)]
pub(crate) struct Gate {
    open: bool,
    bearer_tokens: Vec<Secret>,
    firehose_access_keys: Vec<Secret>,
    sdk_keys: Vec<Secret>,
    /// `user:password`
    credentials: Vec<Secret>,
    verifier: Verifier,
}

impl Gate {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let AuthConfig { sigv4_keys, bearer_tokens, firehose_access_keys } = config.auth.clone();
        Self {
            open: config.open || !config.names_somebody(),
            bearer_tokens,
            firehose_access_keys,
            sdk_keys: config.launchdarkly.sdk_keys.clone(),
            credentials: config.xapi.pairs(),
            verifier: Verifier::new(sigv4_keys),
        }
    }

    /// Whether the request carries a bearer token that we know.
    pub(crate) fn bearer(&self, headers: &HeaderMap) -> bool {
        let token = headers.get("authorization").and_then(|v| {
            let (scheme, token) = v.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        self.open || token.is_some_and(|t| known(&self.bearer_tokens, t))
    }

    /// Whether a delivery from Firehose carries an access key that we know.
    pub(crate) fn access_key(&self, headers: &HeaderMap) -> bool {
        let key = headers.get("x-amz-firehose-access-key");
        self.open || key.is_some_and(|k| known(&self.firehose_access_keys, k.as_bytes()))
    }

    /// Whether a LaunchDarkly SDK has a key that we know: in its header, or, if
    /// it runs in a browser, in the path.
    pub(crate) fn sdk_key(&self, headers: &HeaderMap, client_side_id: Option<&str>) -> bool {
        // Old SDKs say `api_key` before it.
        let given = headers.get("authorization").map(|v| {
            let bytes = v.as_bytes();
            bytes.strip_prefix(b"api_key ").unwrap_or(bytes).trim_ascii()
        });
        let given = given.or(client_side_id.map(str::as_bytes));
        self.open || given.is_some_and(|k| known(&self.sdk_keys, k))
    }

    /// Whether learning software has credentials that we know.
    pub(crate) fn basic(&self, headers: &HeaderMap) -> bool {
        self.open || basic(headers).is_some_and(|given| known(&self.credentials, &given))
    }

    /// Checks the signature of a request to an AWS API.
    pub(crate) fn signature(
        &self,
        service: &str,
        parts: &Parts,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        if self.open { Ok(()) } else { self.verifier.verify(service, parts, body, now) }
    }
}

/// The user and the password of a request, with a colon between them (RFC 7617).
pub(crate) fn basic(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, encoded) = headers.get("authorization")?.as_bytes().split_at_checked(6)?;
    let encoded = scheme.eq_ignore_ascii_case(b"basic ").then_some(encoded)?;
    base64_simd::STANDARD.decode_to_vec(encoded.trim_ascii()).ok()
}

/// Compares with every secret, so that the time says nothing about which.
fn known(secrets: &[Secret], given: &[u8]) -> bool {
    let any = secrets.iter().fold(Choice::from(0), |any, s| any | s.expose().as_bytes().ct_eq(given));
    bool::from(any)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_door_takes_its_own_kind_only() {
        let check = |auth: AuthConfig, open: bool, header: Option<&str>, expect: bool| {
            let gate = Gate::new(&ServerConfig { auth, open, ..ServerConfig::default() });
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert("authorization", HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(gate.bearer(&headers), expect, "{header:?}");
        };
        let tokens = || AuthConfig {
            bearer_tokens: vec![Secret::new("one"), Secret::new("two")],
            ..Default::default()
        };
        let keys = || AuthConfig { firehose_access_keys: vec![Secret::new("one")], ..Default::default() };
        check(AuthConfig::default(), false, None, true);
        check(tokens(), true, None, true);
        check(tokens(), false, None, false);
        check(tokens(), false, Some("Bearer two"), true);
        check(tokens(), false, Some("bearer  one "), true);
        check(tokens(), false, Some("Bearer three"), false);
        check(tokens(), false, Some("Bearer "), false);
        check(tokens(), false, Some("Basic two"), false);
        check(keys(), false, Some("Bearer one"), false);
    }
}
