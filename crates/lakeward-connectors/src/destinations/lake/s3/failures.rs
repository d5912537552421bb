//! From the store's answers to what the engine needs to know.

use std::error::Error as StdError;
use std::time::Duration;

use lakeward_model::{Failure, FailureKind, innermost};
use object_store::client::HttpErrorKind;

use super::replies::Reply;
use crate::aws_credentials::NoCredentials;

/// The longest wait that a store may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The failure for `error`, which came of doing `action` at `address`.
pub(super) fn of(action: &str, address: &str, error: object_store::Error, reply: &Reply) -> Failure {
    advised(action, address, error, reply, advice)
}

/// The same for those who only read.
pub(crate) fn of_reading(action: &str, address: &str, error: object_store::Error, reply: &Reply) -> Failure {
    advised(action, address, error, reply, |status, code| match (status, advice(status, code)) {
        (Some(401 | 403), Some(general)) if general.contains("s3:PutObject") => Some(
            "the credentials need s3:ListBucket for the bucket and s3:GetObject for what is in it; check the \
             bucket policy and the KMS key's too",
        ),
        (_, general) => general,
    })
}

/// The same for stores that are not S3.
pub(crate) fn of_others(action: &str, address: &str, error: object_store::Error, reply: &Reply) -> Failure {
    advised(action, address, error, reply, |status, _| match status? {
        401 | 403 => Some("check the credentials in the environment, and that they may list and read there"),
        404 => Some("check `url` and `endpoint`"),
        _ => None,
    })
}

fn advised(
    action: &str,
    address: &str,
    error: object_store::Error,
    reply: &Reply,
    advice: impl Fn(Option<u16>, &str) -> Option<&'static str>,
) -> Failure {
    let text = error.to_string();
    let code = tag(&text, "Code").unwrap_or_default().to_string();
    if let Some(missing) = find::<NoCredentials>(&error) {
        let kind = if missing.temporary { FailureKind::NotDone } else { FailureKind::Refused };
        let message = format!("cannot {action} {address}: {missing}");
        return Failure::new(kind, message).caused_by(error);
    }
    let kind = kind(reply, &code);
    let said = match (reply.status, tag(&text, "Message")) {
        (Some(status), Some(message)) => format!("{status} {code}: {message}"),
        (Some(status), None) => format!("the store answered {status}"),
        (None, _) => innermost(&error),
    };
    let advice = advice(reply.status, &code).map(|advice| format!(" ({advice})")).unwrap_or_default();
    let mut failure =
        Failure::new(kind, format!("cannot {action} {address}: {said}{advice}")).caused_by(error);
    failure.retry_after = reply.retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
    failure
}

/// Error codes: "Error responses" in the Amazon S3 API reference.
fn kind(reply: &Reply, code: &str) -> FailureKind {
    match (reply.status, code) {
        (
            _,
            "SlowDown" | "ServiceUnavailable" | "RequestTimeout" | "ExpiredToken" | "TokenRefreshRequired",
        ) => FailureKind::NotDone,
        (Some(301 | 302 | 307 | 308), _) => FailureKind::Refused,
        (Some(409), _) => FailureKind::NotDone,
        (Some(status), _) => FailureKind::from_http_status(status),
        (None, _) if reply.broken == Some(HttpErrorKind::Connect) => FailureKind::NotDone,
        (None, _) => FailureKind::Unknown,
    }
}

/// What to check.
fn advice(status: Option<u16>, code: &str) -> Option<&'static str> {
    Some(match (status?, code) {
        (_, "NoSuchBucket") => "check the bucket's name in `url`, and `endpoint`",
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch") => "check the access key and its secret",
        (_, "RequestTimeTooSkewed") => "check this machine's clock",
        (_, "ExpiredToken" | "TokenRefreshRequired") => "the credentials ran out and are fetched anew",
        (301 | 302 | 307 | 308, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
            "check `region`: the bucket seems to be in another one"
        }
        (_, "InvalidBucketName") => "check `url` and `path_style`",
        (400, code) if code.starts_with("KMS") || code.contains("Encryption") => {
            "check `server_side_encryption`"
        }
        (401 | 403, _) => {
            "the credentials need s3:PutObject, and s3:GetObject and s3:ListBucket for looking; check the bucket \
             policy and the KMS key's too"
        }
        (404, _) => "check `url` and `endpoint`",
        (400 | 405, _) => "check that `endpoint` is an S3-compatible store",
        _ => return None,
    })
}

/// The text of an XML element.
fn tag<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        at = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_kinds() {
        let check = |status: u16, code: &str, expect: FailureKind| {
            let reply = Reply { status: Some(status), ..Reply::default() };
            assert_eq!(kind(&reply, code), expect, "{status} {code}");
        };
        check(503, "SlowDown", FailureKind::NotDone);
        check(503, "", FailureKind::NotDone);
        check(429, "", FailureKind::NotDone);
        check(200, "SlowDown", FailureKind::NotDone);
        check(400, "RequestTimeout", FailureKind::NotDone);
        check(400, "ExpiredToken", FailureKind::NotDone);
        check(409, "ConditionalRequestConflict", FailureKind::NotDone);
        check(500, "InternalError", FailureKind::Unknown);
        check(502, "", FailureKind::Unknown);
        check(504, "", FailureKind::Unknown);
        check(400, "InvalidRequest", FailureKind::Refused);
        check(403, "AccessDenied", FailureKind::Refused);
        check(404, "NoSuchBucket", FailureKind::Refused);
        check(301, "PermanentRedirect", FailureKind::Refused);
        let broken = |kind| Reply { broken: Some(kind), ..Reply::default() };
        assert_eq!(kind(&broken(HttpErrorKind::Connect), ""), FailureKind::NotDone);
        assert_eq!(kind(&broken(HttpErrorKind::Timeout), ""), FailureKind::Unknown);
        assert_eq!(kind(&broken(HttpErrorKind::Interrupted), ""), FailureKind::Unknown);
        assert_eq!(kind(&Reply::default(), ""), FailureKind::Unknown);
    }

    #[test]
    fn refusals_say_what_to_check() {
        assert_eq!(tag("x <Code>NoSuchBucket</Code> y", "Code"), Some("NoSuchBucket"));
        assert_eq!(tag("<Code>open", "Code"), None);
        for (status, code) in [(403, "AccessDenied"), (404, "NoSuchBucket"), (400, "Whatever"), (301, "")] {
            assert!(advice(Some(status), code).is_some(), "{status} {code}");
        }
        assert_eq!(advice(Some(500), "InternalError"), None);
    }
}
