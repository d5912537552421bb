//! What a failed call means for the source, and how long to wait after it.

use std::time::Duration;

use lakeward_model::{Failure, FailureKind, ids};

use super::api;
use super::read::ReadError;
use crate::aws_json::AwsError;

const PAUSE_FIRST: Duration = Duration::from_millis(400);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A shard that was throttled this often in a row is worth a word: others read
/// it too, and there is not enough for all.
pub(super) const THROTTLED_MAX: u32 = 5;

/// How long to wait after so many failures in a row: twice as long each time,
/// and anything from a half to the whole of it, so that many readers do not
/// come back together.
pub(super) fn backoff(failures: u32) -> Duration {
    let longest = PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let chance = u32::try_from(ids::fresh().as_u64_pair().1 % 1_000).unwrap_or(0);
    longest / 2 + longest / 2 * chance / 1_000
}

/// A call's failure in the words of a connector.
pub(super) fn of_call(error: AwsError) -> Failure {
    // An iterator that runs out as soon as it is made is their fault.
    let passing = api::is_throttling(&error) || error.code() == "ExpiredIteratorException";
    let mut failure = error.into_failure();
    if passing {
        failure.kind = FailureKind::NotDone;
    }
    failure
}

/// A failed read of a shard.
pub(super) fn of_read(shard: &str, error: ReadError) -> Failure {
    let failure = match error {
        ReadError::Call(error) => of_call(error),
        ReadError::Reply(said) => strange(said),
    };
    Failure { message: format!("{shard}: {}", failure.message), ..failure }
}

/// A reply that no Kinesis gives; perhaps the next one is better.
pub(super) fn strange(said: String) -> Failure {
    Failure::new(FailureKind::Unknown, said)
}

/// What will not work as things are.
pub(super) fn refused(said: String) -> Failure {
    Failure::new(FailureKind::Refused, said)
}

/// How long the service asked to wait.
pub(super) fn asked(error: &ReadError) -> Option<Duration> {
    match error {
        ReadError::Call(error) => error.problem().retry_after,
        ReadError::Reply(_) => None,
    }
}

pub(super) fn is_throttling(error: &ReadError) -> bool {
    matches!(error, ReadError::Call(error) if api::is_throttling(error))
}

/// Whether the shard, or the stream, is gone.
pub(super) fn is_missing(error: &ReadError) -> bool {
    matches!(error, ReadError::Call(error) if error.code() == "ResourceNotFoundException")
}

/// Whether what was asked cannot be, as a time in the future.
pub(super) fn is_about_an_argument(error: &ReadError) -> bool {
    matches!(error, ReadError::Call(error) if error.code() == "InvalidArgumentException")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        let check = |failures, longest: Duration| {
            let pauses: Vec<Duration> = (0..50).map(|_| backoff(failures)).collect();
            assert!(pauses.iter().all(|pause| *pause >= longest / 2 && *pause <= longest), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
        };
        check(1, PAUSE_FIRST);
        check(2, PAUSE_FIRST * 2);
        check(7, Duration::from_millis(25_600));
        check(8, PAUSE_MAX);
        check(u32::MAX, PAUSE_MAX);
    }
}
