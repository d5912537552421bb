//! A client for the services of AWS that speak JSON 1.0 or 1.1: Glue, Kinesis,
//! DynamoDB and their like. Every operation of theirs is the same call: POST `/`
//! with `X-Amz-Target: <prefix>.<Operation>` and a signed JSON body (Smithy,
//! "AWS JSON 1.0 and 1.1 protocols").
//!
//! Why not the services' own SDK crates: each is generated for all of its
//! service's operations; the three that we need cost minutes of build for two
//! dozen calls, and they would retry by themselves. Credentials and signatures
//! are AWS's own crates, as for the lake and Lambda.
//!
//! Nothing is tried again here: the caller has the loop, and [`AwsError`] says
//! what is known.

mod problem;

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Failure, FailureKind, innermost};
use reqwest::{Client, Response, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aws_access::{AwsAccess, AwsAccessError};
use crate::aws_credentials::AwsCredentials;
use crate::aws_signature::signature;

/// The most bytes of a reply: Kinesis' `GetRecords` gives 10 MiB of data, 14
/// MiB in base64, and something around each record.
const REPLY_BYTES_MAX: usize = 32 << 20;
/// The most bytes that are read of an answer that is an error.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// How long it may take to be connected.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One service: how its calls are named.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwsService {
    /// Its signing name, which is also its host's: `glue`.
    pub(crate) name: &'static str,
    /// What stands before an operation's name: `AWSGlue`, `Kinesis_20131202`,
    /// `DynamoDB_20120810`.
    pub(crate) target: &'static str,
    /// `application/x-amz-json-1.1`, or 1.0 (DynamoDB).
    pub(crate) content_type: &'static str,
}

/// A client of one service in one region with one identity. Cheap to call at
/// the same time from several tasks; connections are kept.
pub(crate) struct AwsJson {
    client: Client,
    service: AwsService,
    url: Url,
    region: String,
    credentials: AwsCredentials,
}

impl AwsJson {
    /// Asks nobody: the first call does. `timeout` is for one call, with its
    /// reply.
    ///
    /// # Errors
    /// A setting of `access` cannot be used; nothing but a change of it helps.
    pub(crate) fn open(
        service: AwsService,
        access: &AwsAccess,
        timeout: Duration,
    ) -> Result<Self, AwsAccessError> {
        access.check()?;
        let client = Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| AwsAccessError {
                setting: "endpoint",
                problem: format!("no HTTP client: {}", innermost(&error)),
            })?;
        let url = access.url(service.name)?;
        Ok(Self { client, service, url, region: access.region(), credentials: access.credentials() })
    }

    /// Calls one operation, such as `GetTable`, once. A reply without a body
    /// reads as `{}`. Dropping the future abandons the call; the service may do
    /// it all the same.
    ///
    /// # Errors
    /// [`AwsError`].
    pub(crate) async fn call<I, O>(&self, operation: &str, input: &I) -> Result<O, AwsError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let body = serde_json::to_vec(input)
            .map_err(|error| AwsError::Answered(self.problem(operation, format!("not JSON: {error}"))))?;
        let reply = self.send(operation, body).await?;
        let reply: &[u8] = if reply.is_empty() { b"{}" } else { &reply };
        // It was done; only what it says is lost. The same call may read it.
        serde_json::from_slice(reply).map_err(|error| {
            AwsError::Unknown(self.problem(operation, format!("the reply is not what it should be: {error}")))
        })
    }

    /// The part of a call that is the same for all types.
    async fn send(&self, operation: &str, body: Vec<u8>) -> Result<Bytes, AwsError> {
        let credentials = self.credentials.fetch().await.map_err(|missing| {
            let problem = self.problem(operation, short(&missing.to_string()));
            if missing.temporary { AwsError::Passing(problem) } else { AwsError::Answered(problem) }
        })?;
        let target = format!("{}.{operation}", self.service.target);
        let headers = [("content-type", self.service.content_type), ("x-amz-target", target.as_str())];
        let scope = (self.service.name, self.region.as_str());
        let signed = signature(self.url.as_str(), scope, &headers, &body, credentials, SystemClock.now())
            .map_err(|error| AwsError::Answered(self.problem(operation, error.to_string())))?;
        let mut request = self.client.post(self.url.clone()).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| self.unanswered(operation, error))?;
        if answer.status().as_u16() != 200 {
            return Err(self.refused(operation, answer).await);
        }
        match read(answer, REPLY_BYTES_MAX).await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(AwsError::Unknown(
                self.problem(operation, format!("the reply has more than {REPLY_BYTES_MAX} bytes")),
            )),
            Err(error) => Err(self.unanswered(operation, error)),
        }
    }

    /// What an answer that is no reply means.
    async fn refused(&self, operation: &str, answer: Response) -> AwsError {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = read(answer, ERROR_BYTES_MAX).await.ok().flatten().unwrap_or_default();
        let problem = problem::read(format!("{} {operation}", self.service.name), status, &headers, &body);
        if problem::is_about_credentials(&problem.code) {
            self.credentials.forget().await;
        }
        problem::judge(problem)
    }

    /// A call without an answer.
    fn unanswered(&self, operation: &str, error: reqwest::Error) -> AwsError {
        let error = error.without_url();
        let host = self.url.host_str().unwrap_or_default();
        if error.is_connect() {
            let said = format!("{host} cannot be reached: {}", innermost(&error));
            return AwsError::Passing(self.problem(operation, said));
        }
        let said = if error.is_timeout() {
            format!("{host} did not answer in time")
        } else {
            format!("no answer from {host}: {}", innermost(&error))
        };
        AwsError::Unknown(self.problem(operation, said))
    }

    fn problem(&self, operation: &str, message: String) -> AwsProblem {
        let call = format!("{} {operation}", self.service.name);
        AwsProblem { call, status: None, code: String::new(), message, retry_after: None }
    }
}

impl fmt::Debug for AwsJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "AwsJson({}, {}, {})",
            self.service.name,
            self.region,
            self.url.host_str().unwrap_or_default()
        )
    }
}

/// A call that gave no reply: what is known of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AwsError {
    /// It was certainly not done, and may work later: no connection, throttled,
    /// overloaded, credentials that ran out. Try again after a pause, not before
    /// [`AwsProblem::retry_after`].
    #[error("{0}")]
    Passing(AwsProblem),
    /// It may have been done: sent, and no answer in time, or a fault inside the
    /// service. Try again if the operation may be done twice, else ask first
    /// whether it was done.
    #[error("{0}")]
    Unknown(AwsProblem),
    /// The service said no, or there are no credentials. It was not done, and
    /// the same call will get the same answer: see [`AwsProblem::code`].
    #[error("{0}")]
    Answered(AwsProblem),
}

impl AwsError {
    /// What is known, whatever it means.
    pub(crate) fn problem(&self) -> &AwsProblem {
        match self {
            Self::Passing(problem) | Self::Unknown(problem) | Self::Answered(problem) => problem,
        }
    }

    /// The error's name without its namespace, such as
    /// `EntityNotFoundException`; empty if it was no answer of the service.
    pub(crate) fn code(&self) -> &str {
        &self.problem().code
    }

    /// The same in the words of a connector.
    pub(crate) fn into_failure(self) -> Failure {
        let kind = match self {
            Self::Passing(_) => FailureKind::NotDone,
            Self::Unknown(_) => FailureKind::Unknown,
            Self::Answered(_) => FailureKind::Refused,
        };
        let problem = self.problem();
        Failure { retry_after: problem.retry_after, ..Failure::new(kind, problem.to_string()) }
    }
}

/// What a failed call said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AwsProblem {
    /// The call, for a person: `glue GetTable`.
    pub(crate) call: String,
    /// The HTTP status, if there was an answer.
    pub(crate) status: Option<u16>,
    /// The error's name without its namespace; may be empty.
    pub(crate) code: String,
    /// What happened or what the service says, at most 1,000 characters.
    pub(crate) message: String,
    /// How long the service asked us to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl fmt::Display for AwsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.call)?;
        match (self.status, self.code.as_str()) {
            (None, _) => {}
            (Some(status), "") => write!(f, ": status {status}")?,
            (Some(_), code) => write!(f, ": {code}")?,
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// The body, or `None` if it is longer than `limit`.
async fn read(mut answer: Response, limit: usize) -> Result<Option<Bytes>, reqwest::Error> {
    let declared = answer.content_length().and_then(|length| usize::try_from(length).ok());
    if answer.content_length().is_some() && declared.is_none_or(|length| length > limit) {
        return Ok(None);
    }
    let mut body = BytesMut::with_capacity(declared.unwrap_or(0));
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// At most 1,000 characters of a text, without control characters.
fn short(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(1_000).collect();
    clean.trim().to_string()
}

#[cfg(test)]
mod tests {
    use lakeward_model::Secret;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const GLUE: AwsService =
        AwsService { name: "glue", target: "AWSGlue", content_type: "application/x-amz-json-1.1" };

    fn client(endpoint: String) -> AwsJson {
        let access = AwsAccess {
            endpoint: Some(endpoint),
            region: Some("eu-west-1".into()),
            access_key_id: Some("AKID".into()),
            secret_access_key: Some(Secret::new("hush")),
            ..AwsAccess::default()
        };
        AwsJson::open(GLUE, &access, Duration::from_millis(300)).expect("it opens")
    }

    /// Answers one call with `answer` (never, if there is none), and gives the
    /// call's result and what was sent.
    async fn one(answer: Option<&str>) -> (Result<Value, AwsError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let glue = client(format!("http://{}", listener.local_addr().expect("an address")));
        let asked = json!({"Name": "t"});
        let call = glue.call("GetTable", &asked);
        let serve = async {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                socket.read_buf(&mut request).await.expect("it reads");
            }
            match answer {
                Some(answer) => socket.write_all(answer.as_bytes()).await.expect("it writes"),
                None => tokio::time::sleep(Duration::from_secs(5)).await,
            }
            String::from_utf8(request).expect("text")
        };
        if answer.is_none() {
            return tokio::select! { result = call => (result, String::new()), _ = serve => unreachable!() };
        }
        tokio::join!(call, serve)
    }

    #[tokio::test]
    async fn a_call_and_its_reply() {
        let (reply, request) = one(Some("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\": 1}")).await;
        assert_eq!(reply.expect("a reply"), json!({"a": 1}));
        let request = request.to_lowercase();
        assert!(request.starts_with("post / http/1.1\r\n"), "{request}");
        assert!(request.contains("x-amz-target: awsglue.gettable\r\n"), "{request}");
        assert!(request.contains("content-type: application/x-amz-json-1.1\r\n"), "{request}");
        assert!(request.contains("/eu-west-1/glue/aws4_request"), "{request}");
        assert!(request.contains("signedheaders=content-type;host;x-amz-date;x-amz-target"), "{request}");
        let (reply, _) = one(Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(reply.expect("a reply"), json!({}));
    }

    #[tokio::test]
    async fn what_is_known_without_a_reply() {
        let (reply, _) = one(None).await;
        assert!(matches!(&reply, Err(AwsError::Unknown(p)) if p.message.contains("in time")), "{reply:?}");
        let (reply, _) = one(Some("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")).await;
        assert!(matches!(&reply, Err(AwsError::Unknown(_))), "{reply:?}");
        let (reply, _) = one(Some("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{")).await;
        assert!(matches!(&reply, Err(AwsError::Unknown(_))), "{reply:?}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let reply = client(address).call::<_, Value>("GetTable", &json!({})).await;
        assert!(matches!(&reply, Err(AwsError::Passing(_))), "{reply:?}");
        let failure = reply.expect_err("refused").into_failure();
        assert_eq!(failure.kind, FailureKind::NotDone);
        assert!(failure.message.starts_with("glue GetTable: 127.0.0.1 cannot be reached"), "{failure}");
    }

    #[tokio::test]
    async fn errors_of_the_service() {
        let body = r#"{"__type":"EntityNotFoundException","Message":"no t"}"#;
        let answer = format!("HTTP/1.1 400 Bad\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let error = one(Some(&answer)).await.0.expect_err("an error");
        assert!(matches!(&error, AwsError::Answered(_)));
        assert_eq!(error.code(), "EntityNotFoundException");
        assert_eq!(error.to_string(), "glue GetTable: EntityNotFoundException: no t");
        let answer = "HTTP/1.1 503 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
        let failure = one(Some(answer)).await.0.expect_err("an error").into_failure();
        assert_eq!((failure.kind, failure.retry_after), (FailureKind::NotDone, Some(Duration::from_secs(7))));
    }
}
