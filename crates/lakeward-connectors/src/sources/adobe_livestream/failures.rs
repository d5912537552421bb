//! What can go wrong on the way to records, and what a person is told. Every
//! message is a row of the table in `docs/adobe-livestream.md`.

use std::time::Duration;

use lakeward_model::{Failure, FailureKind, ids};

const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Somebody may correct what is refused without restarting us.
const PAUSE_REFUSED: Duration = Duration::from_secs(30);

/// How long to wait after so many failures in a row: twice as long each time,
/// and anything from a half to the whole of it, so that many clients do not
/// come back together. Far below the minutes for which Adobe keeps a place.
pub(super) fn pause(failures: u32, kind: FailureKind) -> Duration {
    let longest = match kind {
        FailureKind::Refused => PAUSE_REFUSED,
        _ => PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX),
    };
    longest.mul_f64(0.5 + 0.5 * chance())
}

/// A number from 0 to 1, another one each time.
pub(super) fn chance() -> f64 {
    (ids::fresh().as_u64_pair().1 % 1_000) as f64 / 1_000.0
}

pub(super) fn not_done(said: impl Into<String>) -> Failure {
    Failure::new(FailureKind::NotDone, said)
}

pub(super) fn refused(said: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Refused, said)
}

/// What Livestream's answer means (contract §4.1: Adobe's table of statuses).
pub(super) fn of_status(status: u16, said: &str, wait: Option<Duration>) -> Failure {
    let said = said.trim();
    let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
    let (kind, advice) = match status {
        400 => (
            FailureKind::Refused,
            "a parameter is not what it takes: check max_connections, smoothing_bucket_size and reset",
        ),
        401 => (
            FailureKind::Refused,
            "it refuses a token that was just made: check that client_id is of the technical account that \
             Adobe's Customer Care set up for this Livestream, and scopes",
        ),
        403 => (
            FailureKind::Refused,
            "the technical account may not read this Livestream: ask Adobe's Customer Care to allow it",
        ),
        404 => (
            FailureKind::Refused,
            "there is no such Livestream: check livestream, as Adobe's Customer Care set it up",
        ),
        405 => (FailureKind::Refused, "only GET is allowed, and a GET was sent: is a proxy in between?"),
        406 => (
            FailureKind::Refused,
            "it insists on gzip, which was asked for: a proxy in between takes Accept-Encoding away",
        ),
        409 => (
            FailureKind::NotDone,
            "too many clients are connected, or some with another max_connections: it must be the same for all \
             of them, and count them all. After a crash Adobe may take the old connection for alive for a while",
        ),
        424 => (
            FailureKind::Refused,
            "version 2 is not enabled for this Livestream: set version: 1, or enable it at /api/2/enable/<name>",
        ),
        503 => (
            FailureKind::NotDone,
            "it is being moved, or has no hits: asked again later. If it stays so for hours, its place to go on \
             from may be gone: set reset: largest (what is left out is lost) or smallest",
        ),
        505 => (FailureKind::Refused, "it insists on HTTP/1.1, which was spoken: is a proxy in between?"),
        _ => (FailureKind::from_http_status(status), "asked again later"),
    };
    let message = format!("Livestream answered {status}{said}: {advice}");
    Failure { retry_after: wait, ..Failure::new(kind, message) }
}

/// What an answer of the token's service means.
pub(super) fn of_token_status(status: u16, said: &str, wait: Option<Duration>) -> Failure {
    let said = said.trim();
    let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
    let (kind, advice) = match status {
        400 | 401 | 403 => (
            FailureKind::Refused,
            "check client_id, client_secret and scopes: they are those of an OAuth server-to-server credential, \
             and the secret may have been rotated",
        ),
        404 | 405 => (FailureKind::Refused, "check token_url"),
        300..=399 => {
            (FailureKind::Refused, "a redirection, which is not followed with a secret: check token_url")
        }
        _ => (FailureKind::from_http_status(status), "asked again later"),
    };
    let message = format!("no token: Adobe's identity service answered {status}{said}: {advice}");
    Failure { retry_after: wait, ..Failure::new(kind, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        let check = |failures, kind, longest: Duration| {
            let pauses: Vec<Duration> = (0..50).map(|_| pause(failures, kind)).collect();
            assert!(pauses.iter().all(|pause| *pause >= longest / 2 && *pause <= longest), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
        };
        check(0, FailureKind::Unknown, PAUSE_FIRST);
        check(1, FailureKind::NotDone, PAUSE_FIRST);
        check(3, FailureKind::Unknown, PAUSE_FIRST * 4);
        check(u32::MAX, FailureKind::Unknown, PAUSE_MAX);
        check(1, FailureKind::Refused, PAUSE_REFUSED);
    }
}
