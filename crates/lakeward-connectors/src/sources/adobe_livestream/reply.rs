//! What servers say when they do not give what was asked for.

use std::io::Read;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use lakeward_model::Secret;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::time::timeout;

/// The longest wait that the other side may ask for: less than the minutes for
/// which Livestream keeps a place.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// How long an error's text may take to come.
const SAID_MAX: Duration = Duration::from_secs(5);

/// `Retry-After` in seconds (RFC 9110, 10.2.3); dates are for browsers.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The beginning of a body, unpacked.
pub(super) async fn said(mut answer: Response, most: usize) -> Vec<u8> {
    let is_gzip = answer.headers().get(CONTENT_ENCODING).is_some_and(|value| value == "gzip");
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = answer.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(most - body.len())]);
            if body.len() >= most {
                break;
            }
        }
    };
    // What came until then is better than nothing.
    let _ = timeout(SAID_MAX, reading).await;
    if is_gzip {
        let mut text = Vec::new();
        let mut unpacked = MultiGzDecoder::new(body.as_slice()).take(most as u64);
        let mut piece = [0; 1024];
        while let Ok(length @ 1..) = unpacked.read(&mut piece) {
            text.extend_from_slice(&piece[..length]);
        }
        return text;
    }
    body
}

/// What a person should read of it: the JSON's description (RFC 6749, 5.2, and
/// Livestream's 409), or the text's beginning; never one of `secrets`.
pub(super) fn reason(body: &[u8], secrets: &[&Secret]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let described = json.as_ref().and_then(|json| {
        let names = ["error_description", "message", "error"];
        let mut found: Vec<&str> = Vec::new();
        for said in names.iter().filter_map(|name| json.get(name)?.as_str()) {
            if !found.contains(&said) {
                found.push(said);
            }
        }
        (!found.is_empty()).then(|| found.join(", "))
    });
    let text = secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(described.unwrap_or(text), |text, secret| text.replace(secret.expose(), "…"));
    text.chars().filter(|c| !c.is_control() || *c == ' ').take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_description_and_no_secret() {
        let check = |body: &str, expect: &str| {
            assert_eq!(reason(body.as_bytes(), &[&Secret::new("hush"), &Secret::new("")]), expect);
        };
        check(r#"{"error_description": "too many\nclients"}"#, "too manyclients");
        check(r#"{"error": "invalid_client", "error_description": "wrong hush"}"#, "wrong …, invalid_client");
        check(r#"{"error": "x", "error_description": "x"}"#, "x");
        check("not authorized", "not authorized");
        check("[1]", "[1]");
        check(&"x".repeat(500), &"x".repeat(200));
    }

    #[test]
    fn waits_are_seconds() {
        let check = |text: &str, expect: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().expect("a header"));
            assert_eq!(retry_after(&headers), expect.map(Duration::from_secs), "{text}");
        };
        check("7", Some(7));
        check("999", Some(60));
        check("soon", None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
