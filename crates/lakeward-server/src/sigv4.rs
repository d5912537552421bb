//! AWS Signature Version 4, the server's side: header signatures only.
//!
//! Source: *AWS IAM User Guide*, "Create a signed AWS API request". The body's
//! hash is always computed from the body, whatever `x-amz-content-sha256`
//! says. The region in the scope is part of what is signed, but any region is
//! taken: keys here are ours, and one server stands in for every region that a
//! fleet names.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderMap;
use axum::http::request::Parts;
use hmac::{Hmac, Mac};
use lakeward_model::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::SigV4Key;

type HmacSha256 = Hmac<Sha256>;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a request's date may be from ours.
const SKEW_SECONDS: i64 = 300;
/// How many derived keys are kept. Only verified requests add one.
const CACHED_KEYS: usize = 1_024;

/// Why a signature was not taken; each is another exception of AWS's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    /// There is none.
    #[error("Missing Authentication Token")]
    Missing,
    /// The `Authorization` header lacks a part.
    #[error("{0}")]
    Incomplete(String),
    /// Nobody knows the access key.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// It is stale, for something else, or wrong.
    #[error("{0}")]
    Invalid(String),
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check \
                        your AWS Secret Access Key and signing method. Consult the service documentation for \
                        details.";

/// Checks signatures against the configured keys.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<SigV4Key>,
    derived: Mutex<HashMap<String, HmacSha256>>,
}

impl Verifier {
    pub(crate) fn new(keys: Vec<SigV4Key>) -> Self {
        Self { keys, derived: Mutex::new(HashMap::new()) }
    }

    /// Checks the signature of a request to `/`.
    ///
    /// # Errors
    /// The request is refused with the exception that the variant stands for.
    pub(crate) fn verify(
        &self,
        service: &str,
        parts: &Parts,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        let header = parts.headers.get("authorization").ok_or(SignatureError::Missing)?;
        let header = header.to_str().map_err(|_| SignatureError::Missing)?;
        let claim = Claim::parse(header)?;
        let date = request_date(&parts.headers)?;
        claim.check_scope(service, &date)?;
        check_skew(&date, now)?;
        let key = self
            .keys
            .iter()
            .find(|k| k.access_key_id == claim.access_key_id)
            .ok_or(SignatureError::UnknownKey)?;
        check_signed_headers(&parts.headers, &claim)?;

        let canonical = canonical_hash(parts, &claim.signed_headers, body)?;
        let scope_key = format!("{}/{}", claim.access_key_id, claim.scope());
        let cached = self.lock().get(&scope_key).cloned();
        let fresh = cached.is_none();
        let signing = cached.unwrap_or_else(|| derive(key.secret.expose(), &claim));
        let mut mac = signing.clone();
        mac.update(format!("{ALGORITHM}\n{date}\n{}\n", claim.scope()).as_bytes());
        mac.update(hex(&canonical).as_bytes());
        let expect = hex(&mac.finalize().into_bytes());
        if !bool::from(expect.as_bytes().ct_eq(claim.signature.as_bytes())) {
            return Err(SignatureError::Invalid(MISMATCH.to_owned()));
        }
        if fresh {
            let mut derived = self.lock();
            if derived.len() >= CACHED_KEYS {
                derived.clear();
            }
            derived.insert(scope_key, signing);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, HmacSha256>> {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the `Authorization` header says.
#[derive(Debug)]
struct Claim<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    fn parse(header: &'a str) -> Result<Self, SignatureError> {
        let Some(rest) = header.strip_prefix(ALGORITHM).filter(|r| r.starts_with([' ', '\t'])) else {
            return Err(SignatureError::Incomplete(format!(
                "Unsupported AWS 'algorithm': '{}'.",
                header.split(' ').next().unwrap_or_default()
            )));
        };
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", value)) => credential = Some(value),
                Some(("SignedHeaders", value)) => signed = Some(value),
                Some(("Signature", value)) => signature = Some(value),
                Some(_) => {}
                None => {
                    return Err(SignatureError::Incomplete(format!(
                        "'{}' not a valid key=value pair (missing equal-sign) in Authorization header: '{header}'.",
                        part.trim()
                    )));
                }
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature) else {
            let lacking = [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed)];
            let mut message = String::new();
            for (name, _) in lacking.iter().filter(|(_, value)| value.is_none()) {
                message.push_str(&format!("Authorization header requires '{name}' parameter. "));
            }
            return Err(SignatureError::Incomplete(message.trim_end().to_owned()));
        };
        // The access key comes first and may hold slashes itself.
        let mut scope = credential.rsplitn(5, '/');
        let parts = [scope.next(), scope.next(), scope.next(), scope.next(), scope.next()];
        let [Some("aws4_request"), Some(service), Some(region), Some(date), Some(access_key_id)] = parts
        else {
            return Err(SignatureError::Incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term, got '{credential}'"
            )));
        };
        let signed_headers = signed.split(';').collect();
        Ok(Self { access_key_id, date, region, service, signed_headers, signature })
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }

    fn check_scope(&self, service: &str, date: &str) -> Result<(), SignatureError> {
        if self.service != service {
            return Err(SignatureError::Invalid(format!(
                "Credential should be scoped to correct service: '{service}'. "
            )));
        }
        if self.date != &date[..8] {
            return Err(SignatureError::Invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{}' != '{}', from '{date}'.",
                self.date,
                &date[..8]
            )));
        }
        Ok(())
    }
}

/// The request's date in basic ISO 8601, from `x-amz-date` or `date`.
fn request_date(headers: &HeaderMap) -> Result<String, SignatureError> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(date) = text("x-amz-date") {
        return match parse_basic(date) {
            Some(_) => Ok(date.to_owned()),
            None => Err(SignatureError::Incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{date}'. See \
                 http://en.wikipedia.org/wiki/ISO_8601"
            ))),
        };
    }
    let date = text("date").and_then(|d| jiff::fmt::rfc2822::parse(d).ok()).ok_or_else(|| {
        SignatureError::Incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.".to_owned(),
        )
    })?;
    Ok(basic(date.timestamp()))
}

/// Reads `yyyyMMddTHHmmssZ`.
fn parse_basic(text: &str) -> Option<jiff::Timestamp> {
    let shape = text.len() == 16
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        });
    shape.then(|| text.parse().ok()).flatten()
}

fn basic(instant: jiff::Timestamp) -> String {
    instant.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn check_skew(date: &str, now: Timestamp) -> Result<(), SignatureError> {
    let at = parse_basic(date).ok_or(SignatureError::Missing)?;
    let now = jiff::Timestamp::from_microsecond(now.micros()).unwrap_or_default();
    let edge =
        |seconds: i64| basic(jiff::Timestamp::from_second(now.as_second() + seconds).unwrap_or_default());
    let ahead = at.as_second() - now.as_second();
    if ahead < -SKEW_SECONDS {
        return Err(SignatureError::Invalid(format!(
            "Signature expired: {date} is now earlier than {} ({} - 5 min.)",
            edge(-SKEW_SECONDS),
            basic(now)
        )));
    }
    if ahead > SKEW_SECONDS {
        return Err(SignatureError::Invalid(format!(
            "Signature not yet current: {date} is still later than {} ({} + 5 min.)",
            edge(SKEW_SECONDS),
            basic(now)
        )));
    }
    Ok(())
}

/// `host` and every `x-amz-…` header must be signed, or a third party could
/// change them. Without `x-amz-date` the `date` header takes its place.
fn check_signed_headers(headers: &HeaderMap, claim: &Claim<'_>) -> Result<(), SignatureError> {
    let signed = |name: &str| claim.signed_headers.contains(&name);
    let dated = headers.contains_key("x-amz-date") || signed("date");
    let covered = headers.keys().filter(|n| n.as_str().starts_with("x-amz-")).all(|n| signed(n.as_str()));
    if signed("host") && dated && covered {
        Ok(())
    } else {
        Err(SignatureError::Invalid(
            "'Host' or ':authority', the date and every 'X-Amz-' header must be a 'SignedHeader' in the AWS \
             Authorization."
                .to_owned(),
        ))
    }
}

/// The SHA-256 of the canonical request.
fn canonical_hash(parts: &Parts, signed: &[&str], body: &[u8]) -> Result<[u8; 32], SignatureError> {
    let mut text = String::with_capacity(1_024);
    text.push_str(parts.method.as_str());
    text.push_str("\n/\n");
    if let Some(query) = parts.uri.query() {
        let mut pairs: Vec<String> = query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| if p.contains('=') { p.to_owned() } else { format!("{p}=") })
            .collect();
        pairs.sort_unstable();
        text.push_str(&pairs.join("&"));
    }
    text.push('\n');
    for name in signed {
        text.push_str(name);
        text.push(':');
        push_values(parts, name, &mut text)?;
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed.join(";"));
    text.push('\n');
    text.push_str(&hex(&Sha256::digest(body)));
    Ok(Sha256::digest(text.as_bytes()).into())
}

/// Adds a header's values, trimmed, with runs of spaces folded, joined by
/// commas.
fn push_values(parts: &Parts, name: &str, text: &mut String) -> Result<(), SignatureError> {
    let mut found = false;
    for value in parts.headers.get_all(name) {
        let value = value.to_str().map_err(|_| SignatureError::Invalid(MISMATCH.to_owned()))?;
        if found {
            text.push(',');
        }
        found = true;
        for (i, word) in value.split(' ').filter(|w| !w.is_empty()).enumerate() {
            if i > 0 {
                text.push(' ');
            }
            text.push_str(word.trim_matches('\t'));
        }
    }
    // Over HTTP/2 the host is the `:authority` pseudo-header.
    if !found && name == "host" {
        text.push_str(parts.uri.authority().map_or("", |a| a.as_str()));
    }
    Ok(())
}

fn derive(secret: &str, claim: &Claim<'_>) -> HmacSha256 {
    let mut key = keyed(format!("AWS4{secret}").as_bytes());
    for part in [claim.date, claim.region, claim.service, "aws4_request"] {
        key.update(part.as_bytes());
        key = keyed(&key.finalize().into_bytes());
    }
    key
}

fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests;
