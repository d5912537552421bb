//! What an AWS API answers when it does not do as asked.

use std::time::Duration;

use crate::body::BodyError;
use crate::sigv4::SignatureError;

/// An exception of the AWS JSON 1.1 protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The HTTP status: 400 unless the fault is ours.
    pub(crate) status: u16,
    /// The exception's name, `__type`.
    pub(crate) kind: &'static str,
    /// What is wrong, for a person.
    pub(crate) message: String,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    /// An exception that only one API has.
    pub(crate) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, kind, message: message.into(), retry_after: None }
    }

    /// The input breaks a constraint of the API's model.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// The input breaks another rule, or asks for what is not there.
    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    /// The body is not JSON, or a member has the wrong JSON type.
    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// There is no such delivery stream.
    pub(crate) fn not_found(stream: &str, account: &str) -> Self {
        Self::new(
            "ResourceNotFoundException",
            format!("Firehose {stream} under account {account} not found."),
        )
    }

    /// There is such a stream already, or it may not be changed.
    pub(crate) fn in_use(message: impl Into<String>) -> Self {
        Self::new("ResourceInUseException", message)
    }

    /// A quota is reached.
    pub(crate) fn limit_exceeded(message: impl Into<String>) -> Self {
        Self::new("LimitExceededException", message)
    }

    /// Somebody else changed the stream first.
    pub(crate) fn concurrent(message: impl Into<String>) -> Self {
        Self::new("ConcurrentModificationException", message)
    }

    /// Nobody knows this operation.
    pub(crate) fn unknown_operation() -> Self {
        Self::new("UnknownOperationException", "")
    }

    /// AWS has this operation, we do not.
    pub(crate) fn unsupported(operation: &str) -> Self {
        Self::new("UnknownOperationException", format!("{operation} is not supported by Lakeward."))
    }

    /// The body is longer than any valid one.
    pub(crate) fn too_large(limit: u64) -> Self {
        let message = format!("The request is larger than {limit} bytes.");
        Self { status: 413, ..Self::new("RequestEntityTooLargeException", message) }
    }

    /// The body came too slowly or broke off.
    pub(crate) fn incomplete(message: impl Into<String>) -> Self {
        Self { status: 408, ..Self::new("RequestTimeoutException", message) }
    }

    /// Not now.
    pub(crate) fn slow_down(retry_after: Option<Duration>) -> Self {
        Self { status: 503, retry_after, ..Self::new("ServiceUnavailableException", "Slow down.") }
    }

    /// Something broke here; the log says what.
    pub(crate) fn internal() -> Self {
        Self {
            status: 500,
            ..Self::new("InternalFailure", "The request failed because of an internal error.")
        }
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => Self::too_large(limit),
            BodyError::Busy => Self::slow_down(Some(Duration::from_secs(1))),
            BodyError::Stalled | BodyError::Cut(_) => Self::incomplete(error.to_string()),
        }
    }
}

impl From<SignatureError> for Fault {
    fn from(error: SignatureError) -> Self {
        let kind = match error {
            SignatureError::Missing => "MissingAuthenticationTokenException",
            SignatureError::Incomplete(_) => "IncompleteSignatureException",
            SignatureError::UnknownKey => "UnrecognizedClientException",
            SignatureError::Invalid(_) => "InvalidSignatureException",
        };
        Self::new(kind, error.to_string())
    }
}
