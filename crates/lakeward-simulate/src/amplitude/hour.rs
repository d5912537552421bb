//! An hour of upload, in UTC: what an export is asked for by.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use lakeward_model::Timestamp;

/// Microseconds of an hour.
pub(crate) const MICROS: i64 = 3_600_000_000;

/// The first and the last hour there is: jiff's calendar, a day less.
const FIRST: i64 = -104_918_000;
const LAST: i64 = 70_389_500;

/// An hour, counted from 1970-01-01T00 in UTC. Shown as `2026-03-01T05`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

/// A text that names no hour.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is no hour in UTC such as 2026-03-01T05 (a date means its hour 00)")]
pub struct NoHour(String);

impl Hour {
    /// The hour that an instant lies in; the last or first one there is for an
    /// instant beyond the year 9999.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(at.micros().div_euclid(MICROS).clamp(FIRST, LAST))
    }

    /// Its first instant.
    #[must_use]
    pub fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(MICROS))
    }

    /// The hour `hours` later, or the last one there is.
    #[must_use]
    pub fn plus(self, hours: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(hours).unwrap_or(i64::MAX)).min(LAST))
    }

    /// How many hours `later` is behind this one; 0 if it is not.
    #[must_use]
    pub fn until(self, later: Self) -> u64 {
        u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0)
    }

    /// The hours from this one to `end`, which is left out.
    pub(crate) fn to(self, end: Self) -> impl Iterator<Item = Self> {
        (self.0..end.0).map(Self)
    }

    /// For draws: the same number for the same hour.
    pub(crate) fn number(self) -> u64 {
        self.0.cast_unsigned()
    }

    /// The day it lies in, as a number for draws.
    pub(crate) fn day(self) -> u64 {
        self.0.div_euclid(24).cast_unsigned()
    }

    /// `YYYYMMDDTHH`, as the Export API takes it.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_export(text: &str) -> Result<Self, NoHour> {
        let no = || NoHour(text.to_string());
        if text.len() != 11 || !text.is_ascii() || text.as_bytes()[8] != b'T' {
            return Err(no());
        }
        let number = |part: &str| {
            part.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| part.parse::<i16>().ok())
                .flatten()
                .ok_or_else(no)
        };
        let (year, month, day) = (number(&text[..4])?, number(&text[4..6])?, number(&text[6..8])?);
        let hour = number(&text[9..])?;
        let small = |n: i16| i8::try_from(n).map_err(|_| no());
        let civil =
            DateTime::new(year, small(month)?, small(day)?, small(hour)?, 0, 0, 0).map_err(|_| no())?;
        Self::of_civil(civil).ok_or_else(no)
    }

    fn of_civil(civil: DateTime) -> Option<Self> {
        let instant = Offset::UTC.to_timestamp(civil).ok()?;
        Some(Self::of(Timestamp(instant.as_microsecond())))
    }

    pub(crate) fn civil(self) -> DateTime {
        let instant = jiff::Timestamp::from_second(self.0.saturating_mul(3600)).unwrap_or_default();
        Offset::UTC.to_datetime(instant)
    }

    /// The name of a member of an archive: the hour without a zero before it.
    /// Contract: `<project>/<project>_<YYYY-MM-DD>_<H>#<part>.json.gz`.
    pub(crate) fn member(self, project: u64, part: u64) -> String {
        let civil = self.civil();
        format!("{project}/{project}_{}_{}#{part}.json.gz", civil.date(), civil.hour())
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = self.civil();
        write!(f, "{}T{:02}", civil.date(), civil.hour())
    }
}

impl FromStr for Hour {
    type Err = NoHour;
    /// `2026-03-01T05`, `20260301T05`, `2026-03-01` (its hour 00), or an instant
    /// with a zone, which means the hour that it lies in.
    fn from_str(text: &str) -> Result<Self, NoHour> {
        if let Ok(hour) = Self::from_export(text) {
            return Ok(hour);
        }
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::of(Timestamp(instant.as_microsecond())));
        }
        let no = || NoHour(text.to_string());
        let (date, hour) = text.split_once('T').unwrap_or((text, "0"));
        let date: jiff::civil::Date = date.parse().map_err(|_| no())?;
        let hour: i8 = hour.split(':').next().unwrap_or_default().parse().map_err(|_| no())?;
        let civil = DateTime::new(date.year(), date.month(), date.day(), hour, 0, 0, 0).map_err(|_| no())?;
        Self::of_civil(civil).ok_or_else(no)
    }
}

impl serde::Serialize for Hour {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hours_read_and_write() {
        let hour: Hour = "2026-03-01T05".parse().unwrap();
        assert_eq!(hour.to_string(), "2026-03-01T05");
        for same in
            ["20260301T05", "2026-03-01T05:00:00Z", "2026-03-01T05:59:59.9Z", "2026-03-01T06:10+01:00"]
        {
            assert_eq!(same.parse::<Hour>().unwrap(), hour, "{same}");
        }
        for day in ["2026-03-01", "20260301"] {
            assert_eq!(day.parse::<Hour>().unwrap().plus(5), hour);
        }
        assert_eq!(hour.member(203_138, 627), "203138/203138_2026-03-01_5#627.json.gz");
        assert_eq!("2026-03-01T17".parse::<Hour>().unwrap().member(7, 0), "7/7_2026-03-01_17#0.json.gz");
        for bad in ["", "2026-02-30", "2026-03-01T24", "20260301T24", "yesterday"] {
            assert!(bad.parse::<Hour>().is_err(), "{bad}");
        }
        for bad in [
            "2026-03-01T05",
            "20260301",
            "20260301T5",
            "20260301T055",
            "20260301t05",
            "+2260301T05",
            "２０２６",
        ] {
            assert!(Hour::from_export(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,16}") {
            let _ = text.parse::<Hour>();
            let _ = Hour::from_export(&text);
        }

        #[test]
        fn every_hour_reads_back(number in 0_i64..3_000_000) {
            let hour = Hour(number);
            prop_assert_eq!(hour.to_string().parse::<Hour>().unwrap(), hour);
            let text = hour.to_string().replace('-', "");
            prop_assert_eq!(Hour::from_export(&text).unwrap(), hour);
        }
    }
}
