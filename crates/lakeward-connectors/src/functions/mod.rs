//! Functions in Firehose's transform contract: an AWS Lambda function, an HTTP
//! endpoint that takes the same event, or a command of this machine.
//!
//! Each calls once and says what is known when it failed
//! ([`lakeward_model::InvokeFailureKind`]); whether to call again is the
//! engine's business. `docs/lambda.md` is the page for users.

mod aws_lambda;
mod command;
mod config;
mod failures;
mod http;

use std::sync::Arc;

use lakeward_model::Function;

use config::Way;
pub use config::{FunctionConfig, FunctionConfigError, OnUnavailable};

/// Opens a function. Calls nothing and starts no process: the first invocation
/// does.
///
/// # Errors
/// The configuration cannot be used; nothing but a change of it helps.
pub fn open(config: &FunctionConfig) -> Result<Arc<dyn Function>, FunctionConfigError> {
    config.check()?;
    Ok(match config.way()? {
        Way::Lambda(function) => Arc::new(aws_lambda::Lambda::open(config, function)?),
        Way::Http(url) => Arc::new(http::Endpoint::open(config, url)?),
        Way::Command(command) if config.keep_running => Arc::new(command::Kept::open(config, command)),
        Way::Command(command) => Arc::new(command::Once::open(config, command)),
    })
}
