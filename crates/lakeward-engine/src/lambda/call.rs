//! The calls for one chunk: tried again, taken apart where they are too large,
//! given up where the function itself fails.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakeward_columnar::process::{Outcome, Reason, Stage};
use lakeward_model::{BatchId, FUNCTION_BYTES_MAX, Function, InvokeFailure, InvokeFailureKind};
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::chunk::{self, Chunk};
use super::event::{self, Ids};
use super::{Heard, Listener, Settings, replies, reply};

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A function that refuses us is asked again this often.
const PAUSE_REFUSED: Duration = Duration::from_secs(15);
/// The longest pause that the other side may ask for.
const PAUSE_ASKED_MAX: Duration = Duration::from_secs(300);

/// What calls are made with.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) function: Arc<dyn Function>,
    pub(super) settings: Arc<Settings>,
    pub(super) batch: BatchId,
    pub(super) listener: Listener,
    pub(super) parts: mpsc::Sender<replies::Part>,
}

/// How the calls for some pieces ended.
enum Ended {
    Said(Vec<Outcome>),
    TooLarge(Reason),
    /// The function failed on them, or could not be reached, after all tries.
    Failed {
        reason: Reason,
        ran: bool,
    },
}

/// Pieces to ask for.
struct Part {
    range: Range<u64>,
    /// Tries of calls that had these pieces in them and others too.
    tried: u32,
}

/// So many parts in a row on which the function fails say that it always does,
/// and not that some pieces are bad.
const IN_VAIN_MAX: u32 = 32;

impl Caller {
    /// Asks for the pieces `missing` of a chunk and sends on what is said, part
    /// by part.
    pub(super) async fn ask(self, chunk: Arc<Chunk>, missing: Vec<Range<u64>>) {
        let all = missing.into_iter().map(|range| Part { range, tried: 0 });
        let mut missing: VecDeque<Part> = all.collect();
        let mut in_vain = 0;
        while let Some(part) = missing.pop_front() {
            let count = part.range.end - part.range.start;
            let outcomes = match self.ask_part(&chunk, &part).await {
                Ended::Said(outcomes) => {
                    in_vain = 0;
                    outcomes
                }
                Ended::TooLarge(reason) if count == 1 => vec![Outcome::Failed(reason)],
                Ended::TooLarge(_) => {
                    halve(&part, part.tried, &mut missing);
                    continue;
                }
                // One bad piece must not take the others with it.
                Ended::Failed { reason, ran: true } if count > 1 && in_vain < IN_VAIN_MAX => {
                    in_vain += 1;
                    halve(&part, reason.attempts, &mut missing);
                    continue;
                }
                Ended::Failed { reason, .. } => {
                    in_vain += 1;
                    error!(pipeline = self.settings.pipeline, batch = %self.batch, records = count, attempts = reason.attempts, error = reason.message, "the function failed too often; the records go to quarantine");
                    let count = usize::try_from(count).expect("a call's pieces are in memory");
                    vec![Outcome::Failed(reason); count]
                }
            };
            if self.parts.send(replies::Part { first: part.range.start, outcomes }).await.is_err() {
                // Nobody waits for it any more.
                return;
            }
        }
    }

    async fn ask_part(&self, chunk: &Arc<Chunk>, part: &Part) -> Ended {
        let range = &part.range;
        let piece = &chunk.part(range)[0];
        if range.end - range.start == 1 && chunk::is_too_large(piece) {
            let message = format!(
                "the record has {} bytes; in base64 it does not fit into the {FUNCTION_BYTES_MAX} bytes that a \
                 function takes",
                piece.data.len()
            );
            return Ended::TooLarge(reason("Lambda.RecordTooLarge".into(), message, 0));
        }
        let event = self.event(chunk, range).await;
        let (mut attempts, mut faults, mut in_a_row) = (part.tried, 0_u32, 0_u32);
        loop {
            let answer = self.function.invoke(event.clone()).await;
            attempts = attempts.saturating_add(1);
            let failure = match answer {
                Ok(reply) if reply.len() <= FUNCTION_BYTES_MAX => {
                    self.count("ok");
                    (self.listener)(&Heard::Answered);
                    return Ended::Said(self.read(reply, range.clone(), attempts).await);
                }
                Ok(_) => too_large_reply(),
                Err(failure) => failure,
            };
            self.count("failed");
            let counts = match failure.kind {
                InvokeFailureKind::TooLarge => {
                    return Ended::TooLarge(reason(failure.code, failure.message, attempts));
                }
                InvokeFailureKind::FunctionError => true,
                InvokeFailureKind::Unavailable | InvokeFailureKind::Refused => !self.settings.wait,
            };
            faults = faults.saturating_add(u32::from(counts));
            in_a_row = in_a_row.saturating_add(1);
            let ran = failure.kind == InvokeFailureKind::FunctionError;
            // What the function failed on in company was tried often enough.
            let retries = if part.tried > 0 && ran { 0 } else { self.settings.retries };
            if counts && faults > retries {
                return Ended::Failed { reason: reason(failure.code, failure.message, attempts), ran };
            }
            let pause = pause_after(failure.kind, in_a_row, failure.retry_after);
            warn!(pipeline = self.settings.pipeline, batch = %self.batch, attempts, error = %failure, retry_in = ?pause, "a call of the function failed; calling it again");
            (self.listener)(&Heard::Failed { failure, attempts, pause });
            tokio::time::sleep(pause).await;
        }
    }

    async fn event(&self, chunk: &Arc<Chunk>, range: &Range<u64>) -> Bytes {
        let (settings, batch) = (Arc::clone(&self.settings), self.batch);
        let (chunk, range) = (Arc::clone(chunk), range.clone());
        blocking(move || event::render(&settings, batch, &chunk, &range)).await
    }

    async fn read(&self, reply: Bytes, range: Range<u64>, attempts: u32) -> Vec<Outcome> {
        let ids = Ids::new(self.batch);
        blocking(move || reply::read(&reply, ids, &range, attempts)).await
    }

    fn count(&self, result: &'static str) {
        let labels = [("pipeline", self.settings.pipeline.clone()), ("result", result.to_string())];
        metrics::counter!("lakeward_function_calls_total", &labels).increment(1);
    }
}

/// Puts both halves of a part before all others.
fn halve(part: &Part, tried: u32, missing: &mut VecDeque<Part>) {
    let Range { start, end } = part.range;
    let middle = start + (end - start) / 2;
    missing.push_front(Part { range: middle..end, tried });
    missing.push_front(Part { range: start..middle, tried });
}

fn reason(code: std::borrow::Cow<'static, str>, message: String, attempts: u32) -> Reason {
    Reason { stage: Stage::Processing, code, message, attempts }
}

fn too_large_reply() -> InvokeFailure {
    InvokeFailure::new(
        InvokeFailureKind::TooLarge,
        "Lambda.PayloadTooLarge",
        format!("the function's reply has more than {FUNCTION_BYTES_MAX} bytes"),
    )
}

/// How long to wait after so many failures in a row.
fn pause_after(kind: InvokeFailureKind, in_a_row: u32, asked: Option<Duration>) -> Duration {
    let backoff = match kind {
        InvokeFailureKind::Refused => PAUSE_REFUSED,
        _ => PAUSE_FIRST.saturating_mul(1 << in_a_row.saturating_sub(1).min(16)).min(PAUSE_MAX),
    };
    asked.map_or(backoff, |asked| asked.clamp(PAUSE_FIRST, PAUSE_ASKED_MAX))
}

/// Runs what takes a while, or blocks, where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime shuts down, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_honour_what_was_asked() {
        let check = |kind, failures, asked: Option<u64>, expect| {
            assert_eq!(pause_after(kind, failures, asked.map(Duration::from_secs)), expect);
        };
        check(InvokeFailureKind::FunctionError, 1, None, PAUSE_FIRST);
        check(InvokeFailureKind::Unavailable, 4, None, Duration::from_millis(800));
        check(InvokeFailureKind::Unavailable, u32::MAX, None, PAUSE_MAX);
        check(InvokeFailureKind::Refused, 1, None, PAUSE_REFUSED);
        check(InvokeFailureKind::Unavailable, 1, Some(7), Duration::from_secs(7));
        check(InvokeFailureKind::Unavailable, 1, Some(0), PAUSE_FIRST);
        check(InvokeFailureKind::Unavailable, 1, Some(1 << 40), PAUSE_ASKED_MAX);
    }
}
