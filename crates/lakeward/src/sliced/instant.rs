//! Instants as the control API writes them: RFC 3339 in UTC.

use std::fmt;

use jiff::tz::TimeZone;
use lakeward_model::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant that is RFC 3339 text in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(pub(crate) Timestamp);

impl Instant {
    /// The day in UTC: `2026-03-01`.
    pub(crate) fn day(self) -> String {
        self.text("%Y-%m-%d")
    }

    /// The hour in UTC as Amplitude writes it but with dashes: `2026-03-01T05`.
    pub(crate) fn hour(self) -> String {
        self.text("%Y-%m-%dT%H")
    }

    /// To the minute, for tables.
    pub(crate) fn minute(self) -> String {
        self.text("%Y-%m-%d %H:%M")
    }

    fn text(self, format: &str) -> String {
        match jiff::Timestamp::from_microsecond(self.0.micros()) {
            Ok(at) => at.to_zoned(TimeZone::UTC).strftime(format).to_string(),
            Err(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<jiff::Timestamp> for Instant {
    fn from(at: jiff::Timestamp) -> Self {
        Self(Timestamp(at.as_microsecond()))
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let at: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(at.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_writes() {
        let at: Instant = serde_json::from_str("\"2026-03-01T07:30:00.000001+02:00\"").unwrap();
        assert_eq!(serde_json::to_string(&at).unwrap(), "\"2026-03-01T05:30:00.000001Z\"");
        assert_eq!((at.day().as_str(), at.hour().as_str()), ("2026-03-01", "2026-03-01T05"));
        assert_eq!(at.minute(), "2026-03-01 05:30");
        assert!(serde_json::from_str::<Instant>("17").is_err());
    }
}
