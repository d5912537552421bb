//! Notifications that come to a process instead of being fetched from a queue:
//! an AWS Lambda function's events.

use lakeward_model::{Failure, Slice};

use super::{ObjectsSource, Store, sqs};

/// An object that a notification tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// The slice that it is; nothing if it is none of the source's, or is not
    /// there any more.
    pub slice: Option<Slice>,
}

/// Why nobody knows what a notification tells of.
#[derive(Debug, thiserror::Error)]
pub enum NotifiedError {
    /// It cannot be understood, now or later.
    #[error("{0}")]
    Unreadable(&'static str),
    /// The store does not say what it must; the caller may try again.
    #[error("{0}")]
    Store(#[from] Failure),
}

impl ObjectsSource {
    /// The objects that a notification tells of: S3's own, EventBridge's, one of
    /// them as SNS sends it, or `{"bucket": …, "key": …}`. None if it tells of
    /// something else that is known, such as S3's test event.
    ///
    /// # Errors
    /// See [`NotifiedError`].
    pub async fn notified(&self, text: &str) -> Result<Vec<Notified>, NotifiedError> {
        let events = sqs::read(text).map_err(NotifiedError::Unreadable)?;
        let mut found = Vec::with_capacity(events.len());
        for event in events {
            let (bucket, key) = (event.bucket.clone(), event.key.clone());
            let slice = self.announced(event).await?;
            found.push(Notified { bucket, key, slice });
        }
        Ok(found)
    }

    /// The bucket, and what all of its keys that are meant begin with; nothing
    /// for a folder.
    #[must_use]
    pub fn bucket(&self) -> Option<(&str, &str)> {
        match &self.inner.store {
            Store::Folder(_) => None,
            Store::Bucket(bucket) => Some((bucket.name(), bucket.prefix())),
        }
    }
}
