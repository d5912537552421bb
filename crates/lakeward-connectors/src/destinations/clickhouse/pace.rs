//! Not more parts in a minute than a table can merge (contract
//! `amplitude-xapi-adobe-warehouses.md`, section 3.3: a table with too many
//! parts slows inserts down and then refuses them).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const MINUTE: Duration = Duration::from_secs(60);

/// What was made in the last minute.
#[derive(Debug)]
pub(super) struct Pace {
    per_minute: u32,
    made: VecDeque<(Instant, u32)>,
}

impl Pace {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, made: VecDeque::new() }
    }

    /// Waits until there is room for one part more. An insert that made more
    /// than there was room for is made up for afterwards.
    pub(super) async fn wait(&mut self) {
        loop {
            let now = Instant::now();
            while self.made.front().is_some_and(|(at, _)| *at + MINUTE <= now) {
                self.made.pop_front();
            }
            let made: u64 = self.made.iter().map(|(_, parts)| u64::from(*parts)).sum();
            match self.made.front() {
                Some((oldest, _)) if made >= u64::from(self.per_minute) => {
                    sleep_until(*oldest + MINUTE).await
                }
                _ => return,
            }
        }
    }

    /// An insert made so many.
    pub(super) fn made(&mut self, parts: u32) {
        // Memory is bounded by the limit: each entry is at least one part.
        self.made.push_back((Instant::now(), parts.max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_in_a_minute() {
        let (mut pace, start) = (Pace::new(10), Instant::now());
        let mut at = Vec::new();
        for n in 0..40 {
            pace.wait().await;
            let parts = if n % 7 == 0 { 3 } else { 1 };
            pace.made(parts);
            at.extend(std::iter::repeat_n(start.elapsed(), parts as usize));
        }
        for (n, first) in at.iter().enumerate() {
            let within = at[n..].iter().take_while(|other| **other < *first + MINUTE).count();
            // The last insert of a minute may make two parts more than fit.
            assert!(within <= 12, "{within} within a minute");
        }
        assert!(start.elapsed() < 6 * MINUTE, "{:?}", start.elapsed());
    }
}
