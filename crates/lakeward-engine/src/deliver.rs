//! Delivering a batch: the only retry loop in the product.

use std::time::Duration;

use lakeward_model::{Batch, Destination, FailureKind, Receipt, UnfitRow};
use tokio::sync::watch;
use tracing::{error, warn};

use crate::status::PipelineState;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A destination that refuses is asked again this often: somebody may grant
/// the permission or create the bucket without restarting us.
const PAUSE_REFUSED: Duration = Duration::from_secs(15);

/// Most rows of a batch that a destination may refuse for good: where it is
/// more, the table is wrong and not the rows.
const UNFIT_MAX: usize = 10_000;

/// How a delivery ended.
pub(crate) enum Delivered {
    /// All of it is at the destination.
    Stored(Receipt),
    /// Nothing of it is, and never will be with these rows.
    Unfit(Vec<UnfitRow>),
}

/// Delivers `batch`, however long it takes.
///
/// Nothing is ever given up: a batch that is not delivered stays planned and
/// its records stay in the journal. Whether a failed try happened or not does
/// not matter here, because `deliver` is idempotent by the batch's id.
pub(crate) async fn deliver(
    pipeline: &str,
    destination: &dyn Destination,
    batch: &Batch,
    state: &watch::Sender<PipelineState>,
) -> Delivered {
    let mut attempts = 0_u32;
    loop {
        let failure = match destination.deliver(batch).await {
            Ok(receipt) => return Delivered::Stored(receipt),
            Err(failure) if (1..=UNFIT_MAX).contains(&failure.unfit.len()) => {
                return Delivered::Unfit(failure.unfit);
            }
            Err(failure) => failure,
        };
        attempts = attempts.saturating_add(1);
        metrics::counter!("lakeward_delivery_failures_total", "pipeline" => pipeline.to_string())
            .increment(1);
        let pause = pause_after(failure.kind, attempts, failure.retry_after);
        match failure.kind {
            FailureKind::Refused => {
                error!(pipeline, batch = %batch.id, code = "LW-2001", error = %failure, retry_in = ?pause, "the destination refuses the batch; its records stay in the journal");
                state.send_replace(PipelineState::Halted {
                    code: "LW-2001".to_string(),
                    error: failure.message,
                });
            }
            FailureKind::NotDone | FailureKind::Unknown => {
                warn!(pipeline, batch = %batch.id, attempts, error = %failure, retry_in = ?pause, "delivery failed; trying the same batch again");
                state.send_replace(PipelineState::Retrying { attempts, error: failure.message });
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait before try `attempts + 1`.
pub(crate) fn pause_after(kind: FailureKind, attempts: u32, asked: Option<Duration>) -> Duration {
    let backoff = match kind {
        FailureKind::Refused => PAUSE_REFUSED,
        FailureKind::NotDone | FailureKind::Unknown => {
            PAUSE_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(PAUSE_MAX)
        }
    };
    asked.map_or(backoff, |asked| asked.clamp(PAUSE_FIRST, Duration::from_secs(300)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_honour_what_was_asked() {
        let check = |kind, attempts, asked: Option<u64>, expect| {
            assert_eq!(pause_after(kind, attempts, asked.map(Duration::from_secs)), expect);
        };
        check(FailureKind::NotDone, 1, None, Duration::from_millis(100));
        check(FailureKind::Unknown, 4, None, Duration::from_millis(800));
        check(FailureKind::Unknown, u32::MAX, None, PAUSE_MAX);
        check(FailureKind::Refused, 1, None, PAUSE_REFUSED);
        check(FailureKind::NotDone, 1, Some(7), Duration::from_secs(7));
        check(FailureKind::NotDone, 1, Some(1 << 40), Duration::from_secs(300));
    }
}
