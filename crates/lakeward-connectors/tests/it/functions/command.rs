//! A function as a process of this machine: real Python.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use futures::future::join_all;
use lakeward_model::InvokeFailureKind::{FunctionError, Refused, TooLarge};
use lakeward_model::{FUNCTION_BYTES_MAX, Function, InvokeFailure};
use serde_json::{Value, json};

use super::{call, fails, open};

/// The runner that we ship, on a fixture.
fn python(fixture: &str, keep_running: bool) -> std::sync::Arc<dyn Function> {
    python_within(fixture, keep_running, "60s")
}

fn python_within(fixture: &str, keep_running: bool, timeout: &str) -> std::sync::Arc<dyn Function> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runner = here.join("../../examples/lambda/run_lambda.py");
    open(json!({
        "command": ["python3", runner, fixture],
        "folder": here.join("tests/fixtures"),
        "keep_running": keep_running,
        "concurrency": 2,
        "timeout": timeout,
    }))
}

async fn ask(function: &dyn Function, event: Value) -> Result<Value, InvokeFailure> {
    let mut event = event;
    event["invocationId"] = json!("00000000-0000-0000-0000-000000000000");
    let reply = function.invoke(Bytes::from(event.to_string())).await?;
    Ok(serde_json::from_slice(&reply).expect("a reply is JSON"))
}

#[tokio::test]
async fn a_real_lambda_function_runs() {
    for keep_running in [false, true] {
        let function = python("lambda_function.py", keep_running);
        for _ in 0..2 {
            let record = json!({ "recordId": "1", "approximateArrivalTimestamp": 1,
                "data": "eyJldmVudF91dWlkIjoiYSIsImV2ZW50X25hbWUiOiJwYXltZW50Om9yZGVyOmNvbXBsZXRlZCIsImNyZWF0ZWRfYXQiOjE3MTI1MTE3MjEuNX0=" });
            let reply = ask(&*function, json!({ "records": [record] })).await.expect("a reply");
            let keys = &reply["records"][0]["metadata"]["partitionKeys"];
            assert_eq!(keys, &json!({ "year": 2024, "month": 4, "day": 7, "hour": 17 }), "in UTC");
        }
    }
}

#[tokio::test]
async fn what_it_prints_is_no_reply_and_its_zone_is_utc() {
    for keep_running in [false, true] {
        let function = python("odd.py:lambda_handler", keep_running);
        assert_eq!(
            ask(&*function, json!({ "do": "print" })).await.expect("a reply"),
            json!({ "records": [] })
        );
        let reply = ask(&*function, json!({ "do": "pid" })).await.expect("a reply");
        assert_eq!(reply["zone"], "UTC");
    }
}

#[tokio::test]
async fn a_kept_process_takes_one_event_after_the_other() {
    let function = python("odd.py", true);
    let pid = async || ask(&*function, json!({ "do": "pid" })).await.expect("a reply")["pid"].clone();
    let first = pid().await;
    assert_eq!(pid().await, first);
    // Two places, however many ask.
    let many: BTreeSet<String> =
        join_all((0..12).map(|_| pid())).await.into_iter().map(|p| p.to_string()).collect();
    assert!(many.len() <= 2, "{many:?}");
    // A handler that raised does not cost the process; one that died does.
    let failure = ask(&*function, json!({ "do": "raise" })).await.expect_err("raised");
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FunctionError, "the function raised ValueError: as told")
    );
    for way in ["exit", "die"] {
        for _ in 0..3 {
            let failure = ask(&*function, json!({ "do": way })).await.expect_err("died");
            assert_eq!((failure.kind, &*failure.code), (FunctionError, "Lambda.FunctionError"), "{failure}");
        }
        assert!(pid().await.is_u64(), "it was started again");
    }
}

#[tokio::test]
async fn a_process_that_fails_says_why() {
    let function = python("odd.py", false);
    let failure = ask(&*function, json!({ "do": "raise" })).await.expect_err("raised");
    assert_eq!(failure.message, "the function raised ValueError: as told");
    for keep_running in [false, true] {
        let function = python("odd.py", keep_running);
        let failure = ask(&*function, json!({ "do": "exit" })).await.expect_err("exited");
        assert!(
            failure.message.contains("exit status: 3") && failure.message.contains("going down"),
            "{failure}"
        );
        let failure = ask(&*python("no_such.py", keep_running), json!({})).await.expect_err("no file");
        assert_eq!(failure.kind, FunctionError);
        assert!(failure.message.contains("no_such.py"), "{failure}");
    }
    for (command, code) in [
        (json!(["/no/such/program"]), "Lambda.ResourceNotFound"),
        (json!(["/etc/passwd"]), "Lambda.InvokeAccessDenied"),
    ] {
        fails(&*open(json!({ "command": command })), Refused, code).await;
    }
    // It reads nothing, says nothing and is content.
    assert_eq!(call(&*open(json!({ "command": ["true"] }))).await.expect("an empty reply"), "");
    fails(
        &*open(json!({ "command": ["true"], "keep_running": true })),
        FunctionError,
        "Lambda.FunctionError",
    )
    .await;
}

#[tokio::test]
async fn a_reply_is_read_up_to_the_limit() {
    for keep_running in [false, true] {
        let function = python("odd.py", keep_running);
        let fits = json!({ "do": "large", "bytes": FUNCTION_BYTES_MAX - 100 });
        assert!(ask(&*function, fits).await.is_ok());
        let failure = ask(&*function, json!({ "do": "large", "bytes": FUNCTION_BYTES_MAX })).await;
        assert_eq!(failure.expect_err("too large").kind, TooLarge);
        assert!(ask(&*function, json!({ "do": "print" })).await.is_ok(), "it goes on");
    }
}

#[tokio::test]
async fn a_process_that_hangs_dies_with_its_children() {
    for (keep_running, dropped) in [(false, false), (true, false), (false, true), (true, true)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let function = python_within("odd.py", keep_running, if dropped { "60s" } else { "4s" });
        let hang = ask(&*function, json!({ "do": "hang", "pids": file }));
        let pids = || std::fs::read_to_string(&file).unwrap_or_default();
        let both_run = async {
            while pids().lines().count() < 2 {
                tokio::task::yield_now().await;
            }
        };
        if dropped {
            tokio::select! {
                _ = hang => panic!("it hangs"),
                () = both_run => {}
            }
        } else {
            let failure = hang.await.expect_err("it hangs");
            assert_eq!(pids().lines().count(), 2, "it had time to start");
            assert_eq!(failure.kind, FunctionError);
            assert!(failure.message.contains("within 4s"), "{failure}");
        }
        for pid in pids().lines() {
            while is_alive(pid) {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Whether a process runs; one that is dead and not yet waited for does not.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}
