//! What all functions share: the errors that a function gives as its reply,
//! and texts that stay short.

use bytes::Bytes;
use lakeward_model::{FUNCTION_BYTES_MAX, InvokeFailure, InvokeFailureKind};
use serde::Deserialize;

/// Firehose's code for a function that failed.
pub(super) const FUNCTION_ERROR: &str = "Lambda.FunctionError";
/// Ours: Firehose has no code for what is too large.
pub(super) const TOO_LARGE: &str = "Lambda.PayloadTooLarge";
/// The most characters of what the other side says in a message.
const SAID_MAX: usize = 1_000;
/// Replies above this size are records, not an error.
const ERROR_BYTES_MAX: usize = 256 << 10;

/// What Lambda's runtimes give as the reply when a handler raised (AWS Lambda
/// developer guide, "Understanding and troubleshooting Lambda function
/// errors").
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raised {
    error_message: Option<String>,
    error_type: Option<String>,
    records: Option<serde::de::IgnoredAny>,
}

/// The failure that a reply stands for, if the function raised.
pub(super) fn raised(reply: &[u8]) -> Option<InvokeFailure> {
    if reply.len() > ERROR_BYTES_MAX {
        return None;
    }
    let raised: Raised = serde_json::from_slice(reply).ok()?;
    if raised.records.is_some() || (raised.error_message.is_none() && raised.error_type.is_none()) {
        return None;
    }
    let message = raised.error_message.unwrap_or_default();
    let kind = raised.error_type.unwrap_or_default();
    // What Lambda says when the reply is over its limit.
    if kind == "Function.ResponseSizeTooLarge" || message.contains("exceeded maximum allowed payload size") {
        return Some(InvokeFailure::new(
            InvokeFailureKind::TooLarge,
            TOO_LARGE,
            format!("the function's reply is too large: {}", short(&message)),
        ));
    }
    let said = if kind.is_empty() { short(&message) } else { short(&format!("{kind}: {message}")) };
    Some(function_error(format!("the function raised {said}")))
}

/// The reply, unless it says that the function raised.
pub(super) fn unless_raised(reply: Bytes) -> Result<Bytes, InvokeFailure> {
    raised(&reply).map_or(Ok(reply), Err)
}

pub(super) fn function_error(message: String) -> InvokeFailure {
    InvokeFailure::new(InvokeFailureKind::FunctionError, FUNCTION_ERROR, message)
}

pub(super) fn reply_too_large() -> InvokeFailure {
    InvokeFailure::new(
        InvokeFailureKind::TooLarge,
        TOO_LARGE,
        format!("the function's reply has more than {FUNCTION_BYTES_MAX} bytes"),
    )
}

/// At most so many characters of a text, without control characters but for
/// line ends.
pub(super) fn short(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control() || *c == '\n').take(SAID_MAX).collect();
    clean.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_are_errors() {
        let check = |reply: &str, expect: Option<(InvokeFailureKind, &str)>| {
            let got = raised(reply.as_bytes());
            assert_eq!(got.as_ref().map(|f| (f.kind, f.message.as_str())), expect, "{reply}");
        };
        check(r#"{"records": []}"#, None);
        check(r#"{"records": [], "errorMessage": "x"}"#, None);
        check("{}", None);
        check("[1]", None);
        check("", None);
        let raised = |message| Some((InvokeFailureKind::FunctionError, message));
        check(
            r#"{"errorMessage": "'a'", "errorType": "KeyError", "stackTrace": ["…"]}"#,
            raised("the function raised KeyError: 'a'"),
        );
        check(r#"{"errorMessage": "Task timed out"}"#, raised("the function raised Task timed out"));
        check(
            r#"{"errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).", "errorType": "Function.ResponseSizeTooLarge"}"#,
            Some((
                InvokeFailureKind::TooLarge,
                "the function's reply is too large: Response payload size exceeded maximum allowed payload size (6291556 bytes).",
            )),
        );
    }

    #[test]
    fn texts_stay_short() {
        assert_eq!(short("  a\u{1b}[0m\nb\n"), "a[0m\nb");
        assert_eq!(short(&"é".repeat(2_000)).chars().count(), SAID_MAX);
    }
}
