//! The optional limit on requests per second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lakeward_model::Timestamp;
use lakeward_model::clock::SharedClock;

/// A token bucket that holds one second's worth.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    clock: SharedClock,
    state: Mutex<(f64, Timestamp)>,
}

impl Rate {
    pub(crate) fn new(per_second: u32, clock: SharedClock) -> Self {
        let start = clock.now();
        Self { per_second: f64::from(per_second), clock, state: Mutex::new((f64::from(per_second), start)) }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// There is none; the client waits this long.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) = *state;
        let tokens = (tokens + now.since(since).as_secs_f64() * self.per_second).min(self.per_second);
        if tokens >= 1.0 {
            *state = (tokens - 1.0, now);
            Ok(())
        } else {
            *state = (tokens, now);
            Err(Duration::from_secs_f64((1.0 - tokens) / self.per_second))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lakeward_model::conformance::TestClock;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let clock = TestClock::at(Timestamp(0));
        let shared: SharedClock = Arc::<TestClock>::clone(&clock);
        let rate = Rate::new(4, shared);
        assert!((0..4).all(|_| rate.take().is_ok()));
        assert_eq!(rate.take(), Err(Duration::from_millis(250)));
        clock.set(Timestamp(250_000));
        assert_eq!(rate.take(), Ok(()));
        assert!(rate.take().is_err());
        clock.set(Timestamp(60_000_000));
        assert_eq!((0..9).filter(|_| rate.take().is_ok()).count(), 4);
    }
}
