//! A function behind an HTTP address.

use std::time::Duration;

use lakeward_model::FUNCTION_BYTES_MAX;
use lakeward_model::InvokeFailureKind::{FunctionError, Refused, TooLarge, Unavailable};
use serde_json::json;

use super::server::{Answer, Server, reply};
use super::{call, fails, open};

#[tokio::test]
async fn the_event_is_posted_and_the_reply_is_taken() {
    let server = Server::start([reply(200, "", r#"{"records": [1]}"#)]).await;
    let function = open(json!({ "url": format!("{}/f?code=hush", server.address), "token": "hush" }));
    assert_eq!(call(&*function).await.expect("a reply"), r#"{"records": [1]}"#);
    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /f?code=hush HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["authorization"], "Bearer hush");
    assert_eq!(request.body, br#"{"records": []}"#);
    assert!(!format!("{function:?}").contains("hush"));
}

#[tokio::test]
async fn every_answer_says_what_is_known() {
    let server = Server::start([
        reply(429, "retry-after: 7\r\n", "slow down"),
        reply(503, "retry-after: 100000\r\n", ""),
        reply(500, "", "Traceback: KeyError"),
        reply(413, "", ""),
        reply(401, "", "who are you"),
        reply(404, "", ""),
        reply(302, "location: /elsewhere\r\n", ""),
        reply(
            200,
            "x-amz-function-error: Unhandled\r\n",
            r#"{"errorMessage": "'a'", "errorType": "KeyError"}"#,
        ),
        reply(200, "", r#"{"errorMessage": "'a'", "errorType": "KeyError"}"#),
        Answer::Close,
    ])
    .await;
    let function = open(json!({ "url": format!("{}/f?code=hush", server.address), "token": "hush" }));
    let expected = [
        (Unavailable, "Lambda.InvokeLimitExceeded", "slow down", Some(7)),
        (Unavailable, "Lambda.ServiceUnavailable", "503", Some(300)),
        (FunctionError, "Lambda.FunctionError", "KeyError", None),
        (TooLarge, "Lambda.PayloadTooLarge", "413", None),
        (Refused, "Lambda.InvokeAccessDenied", "token", None),
        (Refused, "Lambda.ResourceNotFound", "check `url`", None),
        (Refused, "Lambda.InvokeAccessDenied", "redirections", None),
        (FunctionError, "Lambda.FunctionError", "KeyError: 'a'", None),
        (FunctionError, "Lambda.FunctionError", "KeyError: 'a'", None),
        (Unavailable, "Lambda.ServiceUnavailable", "cannot be reached", None),
    ];
    for (kind, code, says, wait) in expected {
        let failure = fails(&*function, kind, code).await;
        assert!(failure.message.contains(says), "{failure}");
        assert!(!format!("{failure:?}").contains("hush"), "{failure:?}");
        assert_eq!(failure.retry_after, wait.map(Duration::from_secs));
    }
    assert_eq!(server.requests().len(), expected.len(), "one request for each call, no redirection followed");
}

#[tokio::test]
async fn garbage_is_the_callers_to_judge() {
    let server = Server::start([reply(200, "", "<html>"), reply(204, "", "")]).await;
    let function = open(json!({ "url": server.address }));
    assert_eq!(call(&*function).await.expect("a reply"), "<html>");
    assert_eq!(call(&*function).await.expect("a reply"), "");
}

#[tokio::test]
async fn a_reply_is_read_up_to_the_limit() {
    let server = Server::start([
        reply(200, "", &" ".repeat(FUNCTION_BYTES_MAX)),
        reply(200, "", &" ".repeat(FUNCTION_BYTES_MAX + 1)),
        Answer::Endless(64 << 20),
    ])
    .await;
    let function = open(json!({ "url": server.address }));
    assert_eq!(call(&*function).await.expect("a reply").len(), FUNCTION_BYTES_MAX);
    fails(&*function, TooLarge, "Lambda.PayloadTooLarge").await;
    fails(&*function, TooLarge, "Lambda.PayloadTooLarge").await;
}

#[tokio::test]
async fn no_answer_in_time_is_no_answer() {
    let server = Server::start([Answer::Hang]).await;
    let function = open(json!({ "url": server.address, "timeout": "200ms" }));
    let failure = fails(&*function, Unavailable, "Lambda.ServiceUnavailable").await;
    assert!(failure.message.contains("in time"), "{failure}");
    drop(server);
    let nobody = open(json!({ "url": "http://127.0.0.1:9/f?code=hush" }));
    let failure = fails(&*nobody, Unavailable, "Lambda.ServiceUnavailable").await;
    assert!(!format!("{failure:?}").contains("hush"), "{failure:?}");
}
