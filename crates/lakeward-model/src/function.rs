//! A function that records go through, and what it says when it could not.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// The most bytes of an event and of a reply: AWS Lambda's payload limit for
/// synchronous calls (AWS Lambda developer guide, "Lambda quotas", 6 MB; its
/// own error messages give the exact number). It holds for every function, so
/// that one can be moved to another place.
pub const FUNCTION_BYTES_MAX: usize = 6_291_556;

/// What takes an event in Firehose's transform contract and gives the reply: an
/// AWS Lambda function, an HTTP endpoint, a command.
///
/// It may be called several times with the same event, and at the same time
/// with several.
#[async_trait::async_trait]
pub trait Function: Send + Sync + fmt::Debug {
    /// Calls the function once with `event`, one line of JSON, and gives its
    /// reply, which nobody has looked into: at most [`FUNCTION_BYTES_MAX`]
    /// bytes. Dropping the future abandons the call.
    ///
    /// # Errors
    /// An [`InvokeFailure`]; the caller decides by its kind whether to call
    /// again. Nothing is tried again inside.
    async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeFailure>;
}

/// What is known about a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeFailureKind {
    /// The function could not be reached or had no room: throttled, no
    /// connection, no answer in time, a fault of the service. It says nothing
    /// about the records; the same call may work later.
    Unavailable,
    /// The function ran on these records and failed: it raised, or its process
    /// died. The same call may fail for ever.
    FunctionError,
    /// The event or the reply is larger than is allowed. Fewer records may
    /// pass.
    TooLarge,
    /// It will never work as things are: no permission, no such function.
    /// Somebody must change something; asking slowly notices it.
    Refused,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokeFailure {
    /// What is known.
    pub kind: InvokeFailureKind,
    /// For machines, in Firehose's words: `Lambda.FunctionError` (contract
    /// `aws-and-launchdarkly.md`, section 2.8).
    pub code: Cow<'static, str>,
    /// What happened, for a person; never holds a secret or a record's bytes,
    /// except where the function itself says them.
    pub message: String,
    /// How long the other side asked us to wait.
    pub retry_after: Option<Duration>,
}

impl InvokeFailure {
    /// A failure with a code and a message and nothing more.
    #[must_use]
    pub fn new(
        kind: InvokeFailureKind,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, code: code.into(), message: message.into(), retry_after: None }
    }
}

impl fmt::Display for InvokeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for InvokeFailure {}
