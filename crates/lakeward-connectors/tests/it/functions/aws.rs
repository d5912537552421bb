//! AWS Lambda's API: signature, answers, errors.

use std::time::Duration;

use hmac::{Hmac, Mac};
use lakeward_model::InvokeFailureKind::{FunctionError, Refused, TooLarge, Unavailable};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::server::{Request, Server, reply};
use super::{call, fails, open};

const SECRET: &str = "hush-hush";

fn lambda(server: &Server) -> std::sync::Arc<dyn lakeward_model::Function> {
    open(json!({
        "function": "arn:aws:lambda:eu-west-1:123456789012:function:f:live",
        "endpoint": server.address,
        "access_key_id": "AKID",
        "secret_access_key": SECRET,
        "session_token": "hush-token",
    }))
}

#[tokio::test]
async fn the_call_is_signed_as_aws_checks_it() {
    let server = Server::start([reply(200, "", r#"{"records": [1]}"#)]).await;
    let function = lambda(&server);
    assert_eq!(call(&*function).await.expect("a reply"), r#"{"records": [1]}"#);
    let request = &server.requests()[0];
    let path = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Af%3Alive/invocations";
    assert_eq!(request.line, format!("POST {path} HTTP/1.1"));
    assert_eq!(request.headers["x-amz-invocation-type"], "RequestResponse");
    assert_eq!(request.headers["x-amz-security-token"], "hush-token");
    let expected = signature(request, &path.replace('%', "%25"));
    let authorization = &request.headers["authorization"];
    assert!(authorization.ends_with(&format!("Signature={expected}")), "{authorization}");
    assert!(!format!("{function:?}").contains("hush"));
}

/// The signature by the book (IAM user guide, "Create a signed AWS API
/// request"): a service other than S3 encodes the path twice.
fn signature(request: &Request, path: &str) -> String {
    let hmac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let field = |name: &str| {
        let (_, rest) = request.headers["authorization"].split_once(&format!("{name}=")).expect("the field");
        rest.split(',').next().unwrap_or_default().to_string()
    };
    let signed = field("SignedHeaders");
    for needed in ["host", "x-amz-date", "x-amz-security-token"] {
        assert!(signed.split(';').any(|name| name == needed), "{signed}");
    }
    let headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", request.headers[name])).collect();
    let canonical = format!("POST\n{path}\n\n{headers}\n{signed}\n{}", hex(&Sha256::digest(&request.body)));
    let time = &request.headers["x-amz-date"];
    let scope = format!("{}/eu-west-1/lambda/aws4_request", &time[..8]);
    assert!(request.headers["authorization"].contains(&format!("Credential=AKID/{scope}")));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in [&time[..8], "eu-west-1", "lambda", "aws4_request", text.as_str()] {
        key = hmac(&key, part);
    }
    hex(&key)
}

#[tokio::test]
async fn every_error_says_what_is_known() {
    let server = Server::start([
        reply(429, "x-amzn-errortype: TooManyRequestsException\r\nretry-after: 2\r\n", r#"{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#),
        reply(413, "x-amzn-errortype: RequestTooLargeException\r\n", r#"{"Type":"User","message":"must be smaller than 6291456 bytes"}"#),
        reply(403, "", r#"{"Message":"User is not authorized to perform: lambda:InvokeFunction"}"#),
        reply(404, "x-amzn-errortype: ResourceNotFoundException\r\n", r#"{"Message":"Function not found: f","Type":"User"}"#),
        reply(500, "x-amzn-errortype: ServiceException\r\n", r#"{"Message":null}"#),
        reply(502, "", r#"{"__type":"ENILimitReachedException"}"#),
        reply(403, "x-amzn-errortype: ExpiredTokenException:http://x/\r\n", r#"{"message":"expired"}"#),
        reply(200, "x-amz-function-error: Unhandled\r\n", r#"{"errorMessage":"Task timed out after 3.00 seconds"}"#),
        reply(200, "x-amz-function-error: Unhandled\r\n", "not even JSON"),
        reply(200, "x-amz-function-error: Unhandled\r\n", r#"{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}"#),
    ])
    .await;
    let function = lambda(&server);
    let expected = [
        (Unavailable, "Lambda.InvokeLimitExceeded", "Rate Exceeded.", Some(2)),
        (TooLarge, "Lambda.PayloadTooLarge", "6291456", None),
        (Refused, "Lambda.InvokeAccessDenied", "lambda:InvokeFunction", None),
        (Refused, "Lambda.ResourceNotFound", "Function not found: f", None),
        (Unavailable, "Lambda.ServiceException", "500", None),
        (Unavailable, "Lambda.ENILimitReachedException", "502", None),
        (Unavailable, "Lambda.InvokeAccessDenied", "expired", None),
        (FunctionError, "Lambda.FunctionError", "Task timed out", None),
        (FunctionError, "Lambda.FunctionError", "not even JSON", None),
        (TooLarge, "Lambda.PayloadTooLarge", "too large", None),
    ];
    for (kind, code, says, wait) in expected {
        let failure = fails(&*function, kind, code).await;
        assert!(failure.message.contains(says), "{failure}");
        assert!(!format!("{failure:?}").contains("hush"), "{failure:?}");
        assert_eq!(failure.retry_after, wait.map(Duration::from_secs));
    }
}
