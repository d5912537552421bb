//! Slices that are announced are taken as they come.

use std::time::Duration;

use lakeward_model::{Announcements, FailureKind, Slice};
use tracing::warn;

use super::admit::Purpose;
use super::flow::Flow;
use crate::source::pause_after;

/// Most announcements whose slices are not taken yet; more are not asked for.
const ANNOUNCED_MAX: usize = 1_000;
/// How long the last acknowledgements may take when the process stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Flow {
    /// Takes what is announced as long as the process runs.
    pub(super) async fn announce(&self, mut announcements: Box<dyn Announcements>) {
        let mut failures = 0_u32;
        loop {
            let room = self.until(|state| {
                let full = state.announced.len() >= ANNOUNCED_MAX;
                if full && state.settled.is_empty() { Err(None) } else { Ok(full) }
            });
            let Some(full) = room.await else { break };
            if !full {
                let next = tokio::select! {
                    next = announcements.next() => next,
                    () = self.stop.cancelled() => break,
                };
                match next {
                    Ok(announced) => {
                        failures = 0;
                        for one in announced {
                            if self.heed(one.number, one.slices).await.is_none() {
                                return;
                            }
                        }
                    }
                    Err(failure) => {
                        failures = failures.saturating_add(1);
                        if !self.announcements_failed(failures, &failure).await {
                            break;
                        }
                    }
                }
            }
            let settled = self.change(|state| std::mem::take(&mut state.settled));
            if !settled.is_empty()
                && let Err(failure) = announcements.done(&settled).await
            {
                // They come again, and are known.
                failures = failures.saturating_add(1);
                if !self.announcements_failed(failures, &failure).await {
                    break;
                }
            }
        }
        let settled = self.change(|state| std::mem::take(&mut state.settled));
        if !settled.is_empty() {
            let _ = tokio::time::timeout(LAST_WORDS, announcements.done(&settled)).await;
        }
    }

    /// Takes the slices of an announcement; `None` if the process stops.
    async fn heed(&self, number: u64, slices: Vec<Slice>) -> Option<()> {
        let ours: Vec<Slice> = slices.into_iter().filter(|slice| self.wanted.means(slice)).collect();
        // Held until all its slices are looked at.
        self.state().announced.insert(number, 1);
        self.admit(&ours, Purpose::Announced(number)).await?;
        self.change(|state| state.release(number));
        Some(())
    }

    /// Whether the process goes on.
    async fn announcements_failed(&self, attempts: u32, failure: &lakeward_model::Failure) -> bool {
        let said = failure.to_string();
        let pause = pause_after(failure.kind, attempts, failure.retry_after);
        warn!(source = self.name, error = said, retry_in = ?pause, "announcements failed; trying again");
        metrics::counter!("lakeward_source_failures_total", "source" => self.name.clone()).increment(1);
        self.tell(|status| {
            if failure.kind == FailureKind::Refused {
                status.state = crate::source::SourceState::Refused;
            }
            status.last_error = Some(said);
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.stop.cancelled() => false,
        }
    }
}
