//! Hours of upload: always UTC, never this machine's time zone.

use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use lakeward_model::Timestamp;

const HOUR_MICROS: i64 = 3_600_000_000;
/// Amplitude took its first event later; no list starts earlier, whatever
/// range is asked for.
pub(super) const EARLIEST: Hour = Hour(368_184);

/// An hour, counted from 1970 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Hour(i64);

impl Hour {
    /// The hour that an instant lies in.
    pub(super) fn of(at: Timestamp) -> Self {
        Self(at.0.div_euclid(HOUR_MICROS))
    }

    /// The first hour that starts at this instant or behind it.
    pub(super) fn from(at: Timestamp) -> Self {
        Self(at.0.div_euclid(HOUR_MICROS) + i64::from(at.0.rem_euclid(HOUR_MICROS) != 0))
    }

    /// The hour that a slice's name says: `2026-03-01T05`, nothing else.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (date, hour) = name.split_once('T')?;
        let hour = Self::of_parts(date, hour)?;
        (hour.name() == name).then_some(hour)
    }

    /// What people write in a configuration: `2026-03-01`, `2026-03-01T05`,
    /// Amplitude's `20260301T05`, or an instant with a zone on a whole hour.
    pub(super) fn written(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            let at = Timestamp(at.as_microsecond());
            return (at.0.rem_euclid(HOUR_MICROS) == 0).then(|| Self::of(at));
        }
        let (date, hour) = text.split_once('T').unwrap_or((text, "00"));
        Self::of_parts(date, hour)
    }

    /// A day as `2026-03-01` or `20260301` and an hour of one or two digits.
    pub(super) fn of_parts(date: &str, hour: &str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = |text: &str| if digits(text) { text.parse::<i16>().ok() } else { None };
        let (year, month, day) = match date.len() {
            10 if date.is_ascii() && &date[4..5] == "-" && &date[7..8] == "-" => {
                (&date[..4], &date[5..7], &date[8..])
            }
            8 if date.is_ascii() => (&date[..4], &date[4..6], &date[6..]),
            _ => return None,
        };
        if hour.len() > 2 {
            return None;
        }
        let small = |text: &str| number(text).and_then(|value| i8::try_from(value).ok());
        let date = Date::new(number(year)?, small(month)?, small(day)?).ok()?;
        let at = date.at(small(hour).filter(|hour| (0..24).contains(hour))?, 0, 0, 0);
        let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some(Self(at.as_second().div_euclid(3_600)))
    }

    pub(super) fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(HOUR_MICROS))
    }

    /// When Amplitude has it, `delay` after it closed.
    pub(super) fn ready_at(self, delay: Duration) -> Timestamp {
        let delay = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.plus(1).start().0.saturating_add(delay))
    }

    pub(super) fn plus(self, hours: usize) -> Self {
        Self(self.0.saturating_add(i64::try_from(hours).unwrap_or(i64::MAX)))
    }

    pub(super) fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Hours from `self` to `later`; none if it is not later.
    pub(super) fn until(self, later: Self) -> usize {
        usize::try_from(later.0.saturating_sub(self.0)).unwrap_or(0)
    }

    /// Its slice's name: `2026-03-01T05`.
    pub(super) fn name(self) -> String {
        let at = self.civil();
        format!("{:04}-{:02}-{:02}T{:02}", at.year(), at.month(), at.day(), at.hour())
    }

    /// As the Export API wants it: `20260301T05`.
    pub(super) fn query(self) -> String {
        let at = self.civil();
        format!("{:04}{:02}{:02}T{:02}", at.year(), at.month(), at.day(), at.hour())
    }

    fn civil(self) -> DateTime {
        let seconds = self.0.saturating_mul(3_600);
        let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        at.to_zoned(TimeZone::UTC).datetime()
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hours that are asked for in one request: a closed range, so that the last
/// one is one of them and never an hour of the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) first: Hour,
    /// At least 1.
    pub(super) hours: usize,
}

impl Window {
    pub(super) fn last(self) -> Hour {
        self.first.plus(self.hours - 1)
    }

    pub(super) fn has(self, hour: Hour) -> bool {
        (self.first..=self.last()).contains(&hour)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hours {
            1 => write!(f, "hour {}", self.first),
            _ => write!(f, "hours {} to {}", self.first, self.last()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_hours_and_nothing_else_is() {
        let hour = Hour::named("2026-03-01T05").expect("an hour");
        assert_eq!(hour.start(), Timestamp(1_772_341_200_000_000));
        assert_eq!((hour.name().as_str(), hour.query().as_str()), ("2026-03-01T05", "20260301T05"));
        for text in ["20260301T05", "2026-03-01T5", "2026-03-01T24", "2026-02-30T00", "2026-03-01", "x", "T"]
        {
            assert_eq!(Hour::named(text), None, "{text}");
        }
        for text in ["2026-03-01T05", "20260301T05", "2026-03-01T05:00:00Z", "2026-03-01T06:00:00+01:00"] {
            assert_eq!(Hour::written(text), Some(hour), "{text}");
        }
        assert_eq!(Hour::written("2026-03-01").map(Hour::name).as_deref(), Some("2026-03-01T00"));
        for text in ["", "yesterday", "2026-03-01T05:30:00Z", "2026-3-1", "2026-03-01T", "20é0301T05"] {
            assert_eq!(Hour::written(text), None, "{text}");
        }
        assert_eq!(EARLIEST.name(), "2012-01-02T00");
    }

    #[test]
    fn an_hour_is_ready_a_while_after_its_end() {
        let hour = Hour::named("2026-03-01T20").expect("an hour");
        let ready = hour.ready_at(Duration::from_secs(2 * 3_600));
        // "data sent between 8 and 9 PM … is available at 11 PM"
        assert_eq!(Hour::of(ready).name(), "2026-03-01T23");
    }

    proptest! {
        #[test]
        fn an_hour_comes_back_from_its_name(hours in 300_000_i64..800_000, rest in 0..HOUR_MICROS) {
            let hour = Hour(hours);
            prop_assert_eq!(Hour::named(&hour.name()), Some(hour));
            prop_assert_eq!(Hour::written(&hour.query()), Some(hour));
            prop_assert_eq!(Hour::of(Timestamp(hour.start().0 + rest)), hour);
            // Names and hours have the same order.
            prop_assert!(hour.name() < hour.plus(1).name());
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = (Hour::named(&text), Hour::written(&text));
        }
    }
}
