//! Functions: against a server that answers what it is told, and against real
//! processes.

mod aws;
mod command;
mod http;
pub(crate) mod server;

use std::sync::Arc;

use bytes::Bytes;
use lakeward_connectors::functions::{self, FunctionConfig};
use lakeward_model::{Function, InvokeFailure, InvokeFailureKind};

fn open(config: serde_json::Value) -> Arc<dyn Function> {
    let config: FunctionConfig = serde_json::from_value(config).expect("a configuration");
    functions::open(&config).expect("it opens")
}

async fn call(function: &dyn Function) -> Result<Bytes, InvokeFailure> {
    function.invoke(Bytes::from_static(br#"{"records": []}"#)).await
}

async fn fails(function: &dyn Function, kind: InvokeFailureKind, code: &str) -> InvokeFailure {
    let failure = call(function).await.expect_err("it fails");
    assert_eq!((failure.kind, &*failure.code), (kind, code), "{failure:?}");
    failure
}
