//! How long there is time.

use std::time::Duration;

use lakeward_model::Timestamp;
use lakeward_model::clock::{Clock, SystemClock};

/// An instant at which work ends, so that there is time left to say what is
/// done and what is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    at: Timestamp,
}

impl Until {
    /// `margin` before the sandbox is stopped; of a short invocation at most a
    /// fifth of what there is.
    pub(super) fn before(deadline: Timestamp, margin: Duration) -> Self {
        let left = deadline.since(SystemClock.now());
        let margin = margin.min(left / 5);
        Self {
            at: Timestamp(deadline.0.saturating_sub(i64::try_from(margin.as_micros()).unwrap_or(i64::MAX))),
        }
    }

    /// What is left.
    pub(super) fn left(self) -> Duration {
        self.at.since(SystemClock.now())
    }

    /// Runs something for as long as there is time; `None` if that was not
    /// enough.
    pub(super) async fn during<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let left = self.left();
        if left.is_zero() {
            return None;
        }
        tokio::time::timeout(left, work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_in_time() {
        let now = SystemClock.now();
        let past = Until::before(Timestamp(now.0 - 1), Duration::from_secs(5));
        assert_eq!(past.during(async { 1 }).await, None);
        let later = Until::before(Timestamp(now.0 + 100_000_000), Duration::from_secs(5));
        assert!((Duration::from_secs(90)..=Duration::from_secs(95)).contains(&later.left()));
        assert_eq!(later.during(async { 1 }).await, Some(1));
        // A short one keeps most of its time.
        let short = Until::before(Timestamp(now.0 + 3_000_000), Duration::from_secs(5));
        assert!(short.left() > Duration::from_secs(1));
        let soon = Until::before(Timestamp(SystemClock.now().0 + 50_000), Duration::from_secs(5));
        assert_eq!(soon.during(std::future::pending::<()>()).await, None);
    }
}
