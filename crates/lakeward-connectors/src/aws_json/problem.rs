//! What an error of a JSON service says and means.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::{AwsError, AwsProblem, short};

/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// "Slow down", in all the words that AWS has for it (AWS SDKs and Tools
/// reference guide, "Retry behavior", throttling errors).
const THROTTLING: [&str; 12] = [
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Answers that were given before anything was done, though not as 503.
const NOT_DONE: [&str; 3] =
    ["ServiceUnavailable", "ServiceUnavailableException", "TransactionInProgressException"];

/// The credentials ran out, or were replaced behind our back.
const CREDENTIALS: [&str; 4] =
    ["ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"];

#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(rename = "__type", alias = "code", alias = "Code")]
    code: Option<String>,
    #[serde(alias = "Message", alias = "errorMessage")]
    message: Option<String>,
}

/// Reads an error in every form that the services and their emulators give it:
/// the name in `x-amzn-errortype` or `__type`, perhaps with a namespace before
/// `#` and an address after `:`.
pub(super) fn read(call: String, status: u16, headers: &HeaderMap, body: &[u8]) -> AwsProblem {
    let text = serde_json::from_slice::<Body>(body).unwrap_or_default();
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let name = header.or(text.code.as_deref()).unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default();
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(100).collect();
    let message = short(&text.message.unwrap_or_default());
    AwsProblem { call, status: Some(status), code: name, message, retry_after: retry_after(headers) }
}

/// What is known after this answer.
pub(super) fn judge(problem: AwsProblem) -> AwsError {
    let code = problem.code.as_str();
    let status = problem.status.unwrap_or(0);
    let expired = matches!(code, "ExpiredToken" | "ExpiredTokenException");
    if THROTTLING.contains(&code) || NOT_DONE.contains(&code) || expired || matches!(status, 425 | 429 | 503)
    {
        AwsError::Passing(problem)
    } else if status >= 500 || matches!(status, 200..=399 | 408) || code.starts_with("RequestTimeout") {
        AwsError::Unknown(problem)
    } else {
        AwsError::Answered(problem)
    }
}

/// Whether other credentials may be the cure, so that they are fetched anew for
/// the next call.
pub(super) fn is_about_credentials(code: &str) -> bool {
    CREDENTIALS.contains(&code)
}

/// `Retry-After` in seconds; as a date it is left to the caller's own pauses.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_every_documented_form() {
        let check = |header: Option<&str>, body: &str, code: &str, said: &str| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-amzn-errortype", header.parse().expect("a header"));
            }
            let problem = read("glue GetTable".into(), 400, &headers, body.as_bytes());
            assert_eq!((problem.code.as_str(), problem.message.as_str()), (code, said), "{header:?} {body}");
        };
        let found = "EntityNotFoundException";
        check(None, r#"{"__type":"EntityNotFoundException","Message":"no t"}"#, found, "no t");
        check(None, r#"{"__type":"com.amazonaws.glue#EntityNotFoundException","message":"m"}"#, found, "m");
        check(Some("EntityNotFoundException:http://internal.amazon.com/coral/"), "{}", found, "");
        check(Some("com.amazonaws.glue#Foo:http://x#y/"), "", "Foo", "");
        check(None, r#"{"code":"X"}"#, "X", "");
        check(None, "<html>", "", "");
        check(None, r#"{"__type": 3}"#, "", "");
    }

    #[test]
    fn what_is_known() {
        let check = |status: u16, code: &str, expect: &str| {
            let problem = AwsProblem {
                call: "glue GetTable".into(),
                status: Some(status),
                code: code.into(),
                message: String::new(),
                retry_after: None,
            };
            let got = match judge(problem) {
                AwsError::Passing(_) => "passing",
                AwsError::Unknown(_) => "unknown",
                AwsError::Answered(_) => "answered",
            };
            assert_eq!(got, expect, "{status} {code}");
        };
        check(400, "ThrottlingException", "passing");
        check(400, "ProvisionedThroughputExceededException", "passing");
        check(400, "ExpiredTokenException", "passing");
        check(429, "", "passing");
        check(503, "", "passing");
        check(503, "ServiceUnavailable", "passing");
        check(500, "InternalServiceException", "unknown");
        check(500, "InternalFailure", "unknown");
        check(504, "", "unknown");
        check(302, "", "unknown");
        check(400, "EntityNotFoundException", "answered");
        check(400, "ConditionalCheckFailedException", "answered");
        check(403, "UnrecognizedClientException", "answered");
        check(404, "", "answered");
    }

    #[test]
    fn waits_have_a_limit() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "2".parse().expect("a header"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(2)));
        headers.insert("retry-after", "99999".parse().expect("a header"));
        assert_eq!(retry_after(&headers), Some(RETRY_AFTER_MAX));
        headers.insert("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT".parse().expect("a header"));
        assert_eq!(retry_after(&headers), None);
    }
}
