//! A clock that can be set, and that may run faster than the real one.

use std::sync::{Mutex, PoisonError};

use lakeward_model::Timestamp;
use lakeward_model::clock::{Clock, SharedClock};

/// What the simulated upstream takes for now.
#[derive(Debug)]
pub struct SimulatedClock {
    real: SharedClock,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// At this real instant …
    real: Timestamp,
    /// … it was this one here.
    simulated: Timestamp,
    speed: f64,
}

impl SimulatedClock {
    /// A clock that starts at `start` (without one: at the real now) and runs
    /// `speed` times as fast as `real`; 0 stands still.
    #[must_use]
    pub fn new(real: SharedClock, start: Option<Timestamp>, speed: f64) -> Self {
        let now = real.now();
        Self { real, state: Mutex::new(State { real: now, simulated: start.unwrap_or(now), speed }) }
    }

    /// Sets what is now, how fast it goes on, or both.
    pub fn set(&self, now: Option<Timestamp>, speed: Option<f64>) {
        let real = self.real.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let simulated = now.unwrap_or_else(|| state.at(real));
        *state = State { real, simulated, speed: speed.unwrap_or(state.speed) };
    }

    /// How many times as fast as the real clock it runs.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).speed
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let real = self.real.now();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).at(real)
    }
}

impl State {
    fn at(self, real: Timestamp) -> Timestamp {
        let gone = real.micros().saturating_sub(self.real.micros());
        Timestamp(self.simulated.micros().saturating_add((gone as f64 * self.speed) as i64))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lakeward_model::conformance::TestClock;

    use super::*;

    #[test]
    fn it_runs_at_its_speed_and_can_be_set() {
        let hand = TestClock::at(Timestamp(0));
        let shared: SharedClock = Arc::<TestClock>::clone(&hand);
        let clock = SimulatedClock::new(shared, Some(Timestamp(1_000)), 10.0);
        hand.set(Timestamp(50));
        assert_eq!(clock.now(), Timestamp(1_500));
        clock.set(None, Some(0.0));
        hand.set(Timestamp(90));
        assert_eq!(clock.now(), Timestamp(1_500));
        clock.set(Some(Timestamp(7)), Some(1.0));
        hand.set(Timestamp(95));
        assert_eq!(clock.now(), Timestamp(12));
    }
}
