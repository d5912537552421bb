//! A function in AWS Lambda: `Invoke`, synchronously, signed with SigV4.
//!
//! One operation of one service: signing it with `aws-sigv4`, which the
//! credentials need anyway, costs less than the service's whole SDK.

use std::fmt;

use bytes::Bytes;
use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Function, InvokeFailure, InvokeFailureKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderMap;
use reqwest::{Client, Response};
use serde::Deserialize;

use super::failures::{self, TOO_LARGE};
use super::http::{self, FUNCTION_ERROR_HEADER};
use super::{FunctionConfig, FunctionConfigError};
use crate::aws_access::{AwsAccess, address_of, check_region};
use crate::aws_credentials::{AwsCredentials, NoCredentials};
use crate::aws_signature::{NotSigned, signature};

/// What stays as it is in a segment of a path (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The headers of every call, besides those of the signature.
const HEADERS: [(&str, &str); 2] =
    [("content-type", "application/json"), ("x-amz-invocation-type", "RequestResponse")];

/// A function and how it is called.
pub(super) struct Lambda {
    client: Client,
    name: String,
    url: String,
    region: String,
    credentials: AwsCredentials,
}

impl Lambda {
    pub(super) fn open(config: &FunctionConfig, function: &str) -> Result<Self, FunctionConfigError> {
        let access = &config.aws;
        let access =
            AwsAccess { region: access.region.clone().or_else(|| region_of(function)), ..access.clone() };
        let region = access.region();
        check_region(&region)?;
        let endpoint = access.endpoint_of("lambda").unwrap_or_else(|| address_of("lambda", &region));
        Ok(Self {
            client: http::client(config.timeout)?,
            name: function.into(),
            url: format!(
                "{}/2015-03-31/functions/{}/invocations",
                endpoint.trim_end_matches('/'),
                utf8_percent_encode(function, SEGMENT)
            ),
            credentials: access.credentials(),
            region,
        })
    }

    /// What an answer that is no reply means.
    async fn failed(&self, answer: Response) -> InvokeFailure {
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = http::read_error(answer).await;
        let problem = Problem::read(&headers, &body);
        let (kind, code) = meaning(status, &problem.name);
        if problem.name == "ExpiredTokenException" {
            self.credentials.forget().await;
        }
        let message =
            format!("{}: {status} {}{}{}", self.name, problem.name, problem.said, advice(status, kind));
        InvokeFailure { retry_after: http::retry_after(&headers), ..InvokeFailure::new(kind, code, message) }
    }
}

impl fmt::Debug for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lambda({}, {})", self.name, self.region)
    }
}

#[async_trait::async_trait]
impl Function for Lambda {
    async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeFailure> {
        let credentials = self.credentials.fetch().await.map_err(no_credentials)?;
        let scope = ("lambda", self.region.as_str());
        let signed = signature(&self.url, scope, &HEADERS, &event, credentials, SystemClock.now())
            .map_err(|error| not_signed(&error))?;
        let mut request = self.client.post(&self.url);
        for (name, value) in HEADERS {
            request = request.header(name, value);
        }
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let answer =
            request.body(event).send().await.map_err(|error| http::unavailable(&self.name, error))?;
        if answer.status().as_u16() != 200 {
            return Err(self.failed(answer).await);
        }
        let raised = answer.headers().contains_key(FUNCTION_ERROR_HEADER);
        let reply = http::read_reply(answer, &self.name).await?;
        if raised { Err(http::raised_failure(&reply)) } else { failures::unless_raised(reply) }
    }
}

fn not_signed(error: &NotSigned) -> InvokeFailure {
    InvokeFailure::new(InvokeFailureKind::Refused, "Lambda.InvokeAccessDenied", error.to_string())
}

/// An error of the service: `x-amzn-errortype: Name:url`, or `__type` or
/// `Code` in the body, and `message` or `Message` (AWS Lambda API reference,
/// "Invoke"; emulators differ).
#[derive(Debug, Default)]
struct Problem {
    name: String,
    said: String,
}

#[derive(Debug, Default, Deserialize)]
struct ProblemBody {
    #[serde(rename = "__type", alias = "Code", alias = "code")]
    name: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

impl Problem {
    fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let text = serde_json::from_slice::<ProblemBody>(body).unwrap_or_default();
        let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        let name = header.or(text.name.as_deref()).unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default();
        let name = name.rsplit('#').next().unwrap_or_default();
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(100).collect();
        let said = failures::short(&text.message.unwrap_or_default());
        Self { name, said: if said.is_empty() { said } else { format!(": {said}") } }
    }
}

/// What an error means, and Firehose's code for it (developer guide,
/// "Monitor Amazon Data Firehose using CloudWatch Logs"), else `Lambda.` and
/// the error's own name.
fn meaning(status: u16, name: &str) -> (InvokeFailureKind, String) {
    use InvokeFailureKind::{Refused, TooLarge, Unavailable};
    let kind = match (status, name) {
        (413, _) => TooLarge,
        (_, "ExpiredTokenException" | "ResourceConflictException" | "ThrottlingException") => Unavailable,
        (408 | 425 | 429 | 500..=599, _) => Unavailable,
        _ => Refused,
    };
    let code = match (status, name) {
        (413, _) => TOO_LARGE.into(),
        (429, _) | (_, "ThrottlingException") => String::from("Lambda.InvokeLimitExceeded"),
        (404, _) => String::from("Lambda.ResourceNotFound"),
        (401 | 403, _) => String::from("Lambda.InvokeAccessDenied"),
        // Firehose's list spells these with `Exception`, as Lambda does.
        (_, name) if !name.is_empty() => format!("Lambda.{name}"),
        _ => String::from("Lambda.ServiceUnavailable"),
    };
    (kind, code)
}

fn advice(status: u16, kind: InvokeFailureKind) -> &'static str {
    match (status, kind) {
        (401 | 403, InvokeFailureKind::Refused) => {
            " (the credentials need lambda:InvokeFunction on the function; check the access key and this \
             machine's clock too)"
        }
        (404, _) => " (check the function's name, `region` and `endpoint`)",
        _ => "",
    }
}

fn no_credentials(missing: NoCredentials) -> InvokeFailure {
    let (kind, code) = if missing.temporary {
        (InvokeFailureKind::Unavailable, "Lambda.AssumeRoleAccessDenied")
    } else {
        (InvokeFailureKind::Refused, "Lambda.InvokeAccessDenied")
    };
    InvokeFailure::new(kind, code, failures::short(&missing.to_string()))
}

/// The region in an ARN: `arn:aws:lambda:eu-west-1:…`.
fn region_of(function: &str) -> Option<String> {
    let mut parts = function.split(':');
    (parts.next() == Some("arn")).then(|| parts.nth(2)).flatten().filter(|r| !r.is_empty()).map(Into::into)
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use lakeward_model::Timestamp;

    use super::*;
    use InvokeFailureKind::{Refused, TooLarge, Unavailable};

    #[test]
    fn regions_and_addresses() {
        let arn = "arn:aws-cn:lambda:cn-north-1:123456789012:function:f";
        assert_eq!(region_of(arn).as_deref(), Some("cn-north-1"));
        assert_eq!(region_of("f:live"), None);
        let aws = AwsAccess { endpoint: Some("http://localhost:1/".into()), ..AwsAccess::default() };
        let config = FunctionConfig { aws, ..FunctionConfig::default() };
        let lambda = Lambda::open(&config, arn).expect("it opens");
        assert_eq!(
            lambda.url,
            "http://localhost:1/2015-03-31/functions/arn%3Aaws-cn%3Alambda%3Acn-north-1%3A123456789012%3Afunction%3Af/invocations"
        );
    }

    #[test]
    fn the_services_errors() {
        let check = |status: u16, name: &str, kind, code: &str| {
            assert_eq!(meaning(status, name), (kind, code.to_string()), "{status} {name}");
        };
        check(429, "TooManyRequestsException", Unavailable, "Lambda.InvokeLimitExceeded");
        check(413, "RequestTooLargeException", TooLarge, TOO_LARGE);
        check(403, "AccessDeniedException", Refused, "Lambda.InvokeAccessDenied");
        check(403, "ExpiredTokenException", Unavailable, "Lambda.InvokeAccessDenied");
        check(403, "InvalidSignatureException", Refused, "Lambda.InvokeAccessDenied");
        check(404, "ResourceNotFoundException", Refused, "Lambda.ResourceNotFound");
        check(400, "InvalidParameterValueException", Refused, "Lambda.InvalidParameterValueException");
        check(409, "ResourceConflictException", Unavailable, "Lambda.ResourceConflictException");
        check(500, "ServiceException", Unavailable, "Lambda.ServiceException");
        check(502, "InvalidSubnetIDException", Unavailable, "Lambda.InvalidSubnetIDException");
        check(502, "ENILimitReachedException", Unavailable, "Lambda.ENILimitReachedException");
        check(503, "", Unavailable, "Lambda.ServiceUnavailable");
    }

    #[test]
    fn errors_in_every_documented_form() {
        let check = |header: Option<&str>, body: &str, name: &str, said: &str| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-amzn-errortype", header.parse().expect("a header"));
            }
            let problem = Problem::read(&headers, body.as_bytes());
            assert_eq!((problem.name.as_str(), problem.said.as_str()), (name, said), "{header:?} {body}");
        };
        check(
            Some("ResourceNotFoundException"),
            r#"{"Message":"no f","Type":"User"}"#,
            "ResourceNotFoundException",
            ": no f",
        );
        check(Some("X:http://internal.amazon.com/coral/"), r#"{"message":"m"}"#, "X", ": m");
        check(None, r#"{"__type":"com.amazonaws.lambda#ServiceException"}"#, "ServiceException", "");
        check(None, r#"{"Code":"X","message":"m"}"#, "X", ": m");
        check(None, "<html>", "", "");
    }

    /// Computed with Python's `hmac` over the canonical request that AWS's
    /// "Create a signed AWS API request" describes, with the key and the date of
    /// its test suite.
    #[test]
    fn a_fixed_signature() {
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            Some("token".into()),
            None,
            "test",
        );
        let url = "https://lambda.us-east-1.amazonaws.com/2015-03-31/functions/f%3Alive/invocations";
        let at = Timestamp(1_440_938_160_000_000);
        let headers =
            signature(url, ("lambda", "us-east-1"), &HEADERS, b"{}", credentials, at).expect("signed");
        let authorization = &headers.iter().find(|(name, _)| name == "authorization").expect("signed").1;
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-invocation-type;x-amz-security-token, Signature=25fde3844beb61a293ffb16b5e227bb2ace049e7b390e68e90440f4a438a2c11"
        );
    }
}
