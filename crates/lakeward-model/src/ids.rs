//! Random ids. The only place that draws them.

/// A fresh random id, for things that are named once and then stored: a
/// stream's incarnation, a request id. Never for anything a retry must find
/// again.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn fresh() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}
