//! What can go wrong on the way to an archive, and what a person is told. Every
//! message is a row of the table in `docs/amplitude.md`.

use std::io;
use std::time::Duration;

use lakeward_model::{Failure, FailureKind, SliceFailure};
use lakeward_unpack::UnpackError;
use reqwest::Url;

use super::hours::{Hour, Window};

/// What a request failed with, by what is done next.
#[derive(Debug)]
pub(super) enum Miss {
    /// Less has to be asked for. For a single hour the text is why it cannot be
    /// had at all.
    TooLarge(String),
    /// Less has to be asked for; a single hour is tried again later.
    Slow(Failure),
    /// What came is no archive, or not a whole one: asked again three times,
    /// then for less. A single hour is then given up.
    Corrupt(String),
    /// The body did not come to its end: asked again three times, then for less.
    /// A single hour is tried again later.
    Cut(Failure),
    /// It is unclear which hour a member belongs to: asked hour by hour.
    Strange(String),
    /// Nothing that another window would change.
    Failed(Failure),
}

impl Miss {
    /// What it means if nothing smaller can be asked for.
    pub(super) fn given_up(self) -> SliceFailure {
        match self {
            Self::TooLarge(why) | Self::Corrupt(why) | Self::Strange(why) => SliceFailure::Broken(why),
            Self::Slow(failure) | Self::Cut(failure) | Self::Failed(failure) => SliceFailure::Source(failure),
        }
    }

    /// What it means for one who only wanted to know.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::TooLarge(why) | Self::Corrupt(why) | Self::Strange(why) => {
                Failure::new(FailureKind::Refused, why)
            }
            Self::Slow(failure) | Self::Cut(failure) | Self::Failed(failure) => failure,
        }
    }

    pub(super) fn message(&self) -> &str {
        match self {
            Self::TooLarge(why) | Self::Corrupt(why) | Self::Strange(why) => why,
            Self::Slow(failure) | Self::Cut(failure) | Self::Failed(failure) => &failure.message,
        }
    }
}

/// What is done with the spool folder.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    Read,
    Write,
}

/// What an answer without an archive means.
pub(super) fn of_status(
    status: u16,
    window: Window,
    said: &str,
    elsewhere: &str,
    wait: Option<Duration>,
) -> Miss {
    let said = said.trim();
    let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
    let failed =
        |kind, message: String| Miss::Failed(Failure { retry_after: wait, ..Failure::new(kind, message) });
    match status {
        400 | 413 => Miss::TooLarge(format!(
            "Amplitude answered {status} for {window}{said}: this hour is larger than the 4 GB that the \
             Export API gives out. Use Amplitude's S3 export and an `objects` source for it"
        )),
        504 | 524 => slow(window, &format!("Amplitude answered {status}"), wait),
        401 | 403 => failed(
            FailureKind::Refused,
            format!(
                "Amplitude answered {status}{said}: check that api_key and secret_key are of the same \
                 project (Settings, Projects), and region: `us` asks amplitude.com, `eu` \
                 analytics.eu.amplitude.com"
            ),
        ),
        300..=399 => failed(
            FailureKind::Refused,
            format!(
                "Amplitude answered {status}, a redirection to {elsewhere:?}: it is not followed, so that \
                 the keys go nowhere else. Check region, or give the last address as endpoint"
            ),
        ),
        408 | 425 | 429 | 503 => failed(
            FailureKind::NotDone,
            format!("Amplitude answered {status} for {window}: asked again later"),
        ),
        402..=499 => failed(
            FailureKind::Refused,
            format!(
                "Amplitude answered {status}{said}: check region or endpoint, and whether the plan has exports"
            ),
        ),
        _ => failed(
            FailureKind::Unknown,
            format!("Amplitude answered {status} for {window}{said}: asked again later"),
        ),
    }
}

pub(super) fn slow(window: Window, what: &str, wait: Option<Duration>) -> Miss {
    let message = format!("{what} for {window}: preparing the export took too long, asked again later");
    Miss::Slow(Failure { retry_after: wait, ..Failure::new(FailureKind::Unknown, message) })
}

pub(super) fn over_archive_max(window: Window, limit: u64) -> Miss {
    Miss::TooLarge(format!(
        "the archive of {window} has more than {limit} bytes: raise archive_max and pull this hour again"
    ))
}

pub(super) fn cut(window: Window, bytes: u64, why: &str) -> Miss {
    let message = format!("the archive of {window} ended after {bytes} bytes: {why}; asked again later");
    Miss::Cut(Failure::new(FailureKind::Unknown, message))
}

/// The body does not start as a zip.
pub(super) fn no_zip(window: Window, first: &[u8]) -> Miss {
    let what = match first {
        [] => "nothing",
        [0x1f, 0x8b, ..] => "gzip",
        [b'<', ..] => "a web page: is a proxy in between?",
        [b'{' | b'[', ..] => "JSON",
        _ => "something else",
    };
    corrupt(window, &format!("it is no zip but {what}"))
}

pub(super) fn corrupt(window: Window, problem: &str) -> Miss {
    Miss::Corrupt(format!(
        "the archive of {window} is not whole, also when fetched again: {problem}. Nothing of it is skipped: \
         pull this hour again later, and ask Amplitude if it stays so"
    ))
}

pub(super) fn strange(window: Window, member: &str) -> Miss {
    let member: String = member.chars().take(200).collect();
    Miss::Strange(format!("the archive of {window} has a member that names none of its hours: {member:?}"))
}

pub(super) fn no_export_api(url: &Url) -> Miss {
    let host = url.host_str().unwrap_or_default();
    Miss::Failed(Failure::new(
        FailureKind::Refused,
        format!("{host} answered 404 with a web page, which the Export API does not: check endpoint"),
    ))
}

pub(super) fn spool(stage: Stage, error: &io::Error) -> Failure {
    let what = match stage {
        Stage::Read => "cannot be read",
        Stage::Write => "cannot be written",
    };
    Failure::new(
        FailureKind::NotDone,
        format!("the spool folder {what}: {error}. Check its disk and rights; it needs room for archive_max"),
    )
}

pub(super) fn not_ready(hour: Hour, wait: Duration) -> Failure {
    Failure {
        retry_after: Some(wait),
        ..Failure::new(FailureKind::NotDone, format!("Amplitude does not have all of hour {hour} yet"))
    }
}

pub(super) fn later_release() -> Failure {
    Failure::new(
        FailureKind::Refused,
        "the stored place in a half-read hour is none of an Amplitude source, or of a later release: update \
         Lakeward, or give this source a stream of its own",
    )
}

pub(super) fn restarted(hour: Hour) -> String {
    format!(
        "hour {hour} was read in part, and fetched again it has other files: it is read from its start. What \
         comes twice has the same uuid: pipelines with `dedup: {{ key: [uuid] }}` drop it"
    )
}

pub(super) fn vanished(hour: Hour) -> String {
    format!(
        "hour {hour} was read in part, and fetched again it has no events: what was read of it stays. Pull it \
         again, and ask Amplitude if it stays so"
    )
}

/// What the unpacker found wrong with a checked archive, by what is done next.
#[derive(Debug)]
pub(super) enum Found {
    /// The disk failed.
    Disk(Failure),
    /// The archive has to be fetched again.
    Damaged(String),
    /// It would be the same again.
    Never(String),
}

pub(super) fn unpacking(hour: Hour, error: &UnpackError) -> Found {
    match error {
        UnpackError::Io(error) => Found::Disk(spool(Stage::Read, error)),
        UnpackError::Corrupt { member, at, problem } => Found::Damaged(format!(
            "hour {hour} has a file that is not whole: {} at {at}: {problem}",
            member.as_deref().unwrap_or("the archive")
        )),
        UnpackError::Limit { member, limit, problem } => Found::Never(format!(
            "hour {hour} is beyond the limit {limit}: {}: {problem}",
            member.as_deref().unwrap_or("the archive")
        )),
        UnpackError::NeedsFile(_) => {
            Found::Never(format!("hour {hour} has an archive within a file, which cannot be read"))
        }
    }
}
