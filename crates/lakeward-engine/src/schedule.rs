//! Schedules: when a source looks by itself, in cron's words and a zone's time.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use lakeward_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

/// The longest jitter: more would be another schedule.
const JITTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Jittered times of neighbours can change places; so many are looked at.
const NEIGHBOURS_MAX: usize = 2_000;

/// When something is due.
///
/// Around a change of the clocks it does as cron does: a time that does not
/// exist comes at the first instant behind the gap, one that exists twice comes
/// once; a pattern with `*` or `/` in its hours or minutes follows the clock on
/// the wall and so comes in both hours.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    jitter: Duration,
    name: String,
    /// Whether a time that was missed is made up for, once.
    pub(crate) catch_up: bool,
}

/// Why a schedule cannot be. The configuration must change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The pattern.
    #[error("{cron:?} is no cron expression of five fields (minute hour day month weekday): {problem}")]
    Cron {
        /// As it was given.
        cron: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The zone.
    #[error("{0:?} is no time zone; give a name such as Europe/Berlin, America/New_York or UTC")]
    Zone(String),
    /// The jitter.
    #[error("a jitter is at most 24h")]
    Jitter,
    /// It never comes.
    #[error("{0:?} never comes: there is no such day")]
    Never(String),
}

impl Schedule {
    /// The times of `cron` (five fields) on the clocks of `zone`, an IANA name.
    /// Each comes up to `jitter` later, always the same for `name`, so that many
    /// sources with one pattern do not all ask at once. With `catch_up` a time
    /// that was missed because no process ran is made up for at the start, once
    /// however many were missed.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn new(
        cron: &str,
        zone: &str,
        jitter: Duration,
        catch_up: bool,
        name: &str,
    ) -> Result<Self, ScheduleError> {
        let bad = |problem: String| ScheduleError::Cron { cron: cron.chars().take(200).collect(), problem };
        let fields = cron.split_whitespace().count();
        if fields != 5 && !cron.trim_start().starts_with('@') {
            return Err(bad(format!("it has {fields}")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|error| bad(error.to_string()))?;
        let zone = match zone {
            "UTC" | "utc" | "Z" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|_| ScheduleError::Zone(name.chars().take(200).collect()))?,
        };
        if jitter > JITTER_MAX {
            return Err(ScheduleError::Jitter);
        }
        let schedule = Self { cron: parsed, zone, jitter, name: name.to_string(), catch_up };
        if schedule.next(Timestamp(0)).is_none() {
            return Err(ScheduleError::Never(cron.to_string()));
        }
        Ok(schedule)
    }

    /// The first instant behind `after`; `None` if none comes any more.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let jitter = i64::try_from(self.jitter.as_micros()).ok()?;
        let start = jiff::Timestamp::from_microsecond(after.0.checked_sub(jitter)?).ok()?;
        let mut at = start.to_zoned(self.zone.clone());
        let mut first: Option<Timestamp> = None;
        for _ in 0..NEIGHBOURS_MAX {
            at = self.cron.find_next_occurrence(&at, false).ok()?;
            let due = Timestamp(at.timestamp().as_microsecond());
            if first.is_some_and(|first| due >= first) {
                break;
            }
            let late = Timestamp(due.0 + self.late(due, jitter));
            if late > after && first.is_none_or(|first| late < first) {
                first = Some(late);
            }
        }
        first
    }

    /// How many microseconds later this one comes.
    fn late(&self, due: Timestamp, jitter: i64) -> i64 {
        let Some(jitter) = u64::try_from(jitter).ok().filter(|jitter| *jitter > 0) else { return 0 };
        let drawn = xxh3_64(&[self.name.as_bytes(), &due.0.to_le_bytes()].concat()) % jitter;
        i64::try_from(drawn).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect("an instant").as_microsecond())
    }

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule::new(cron, zone, Duration::ZERO, true, "s").expect("a schedule")
    }

    #[test]
    fn times_come_on_the_clocks_of_the_zone() {
        let check = |cron: &str, zone: &str, after: &str, expect: &[&str]| {
            let schedule = schedule(cron, zone);
            let mut at = instant(after);
            for expect in expect {
                at = schedule.next(at).expect("it comes");
                assert_eq!(at.to_string(), instant(expect).to_string(), "{cron} in {zone} after {after}");
            }
        };
        check("15 * * * *", "UTC", "2026-03-01T05:15:00Z", &["2026-03-01T06:15:00Z"]);
        check(
            "*/20 * * * *",
            "UTC",
            "2026-03-01T05:15:00Z",
            &["2026-03-01T05:20:00Z", "2026-03-01T05:40:00Z"],
        );
        check("0 6 * * 1-5", "Europe/Berlin", "2026-07-03T04:00:00Z", &["2026-07-06T04:00:00Z"]);
        check("30 0 29 2 *", "UTC", "2026-03-01T00:00:00Z", &["2028-02-29T00:30:00Z"]);
        check("@daily", "America/New_York", "2026-01-01T00:00:00Z", &["2026-01-01T05:00:00Z"]);
        // 02:30 does not exist on 2026-03-29 in Berlin: it comes at 03:00.
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        );
        // 02:30 comes twice on 2026-10-25 in Berlin: once.
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        // Every hour means every hour, also the one that comes twice or not.
        check(
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"],
        );
        check(
            "30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"],
        );
    }

    #[test]
    fn a_jitter_delays_each_time_by_less_than_itself_and_skips_none() {
        for (cron, jitter, hours) in
            [("0 * * * *", 600, 1_u64), ("0 * * * *", 7_200, 1), ("5 3 * * *", 60, 24)]
        {
            let jitter = Duration::from_secs(jitter);
            let jittered = Schedule::new(cron, "UTC", jitter, false, "a").expect("a schedule");
            let exact = schedule(cron, "UTC");
            let mut due = Vec::new();
            let mut at = instant("2026-01-01T00:00:00Z");
            for _ in 0..100 {
                at = exact.next(at).expect("it comes");
                due.push(Timestamp(at.0 + jittered.late(at, jitter.as_micros() as i64)));
                assert!(due.last().expect("one").since(at) < jitter);
            }
            due.sort_unstable();
            let mut seen = vec![jittered.next(Timestamp(due[0].0 - 1)).expect("it comes")];
            while seen.len() < 90 {
                let next = jittered.next(seen[seen.len() - 1]).expect("it comes");
                seen.push(next);
            }
            assert_eq!(seen, due[..90], "{cron}");
            assert!(due[99].since(due[0]) < Duration::from_secs(hours * 3600 * 101) + jitter);
        }
        let other =
            Schedule::new("0 * * * *", "UTC", Duration::from_secs(600), false, "b").expect("a schedule");
        let one =
            Schedule::new("0 * * * *", "UTC", Duration::from_secs(600), false, "a").expect("a schedule");
        assert_ne!(one.next(Timestamp(0)), other.next(Timestamp(0)));
    }

    #[test]
    fn what_cannot_be_says_why() {
        let check = |cron: &str, zone: &str, words: &str| {
            let error = Schedule::new(cron, zone, Duration::ZERO, true, "s").expect_err("it cannot be");
            assert!(error.to_string().contains(words), "{error}");
        };
        check("0 * * *", "UTC", "it has 4");
        check("0 0 * * * *", "UTC", "it has 6");
        check("61 * * * *", "UTC", "five fields");
        check("nonsense a b c d", "UTC", "five fields");
        check("0 0 * * *", "Europe/Atlantis", "Europe/Berlin");
        check("0 0 30 2 *", "UTC", "never comes");
        let long = Schedule::new("0 0 * * *", "UTC", Duration::from_secs(90_000), true, "s");
        assert_eq!(long.expect_err("it is too long"), ScheduleError::Jitter);
    }
}
