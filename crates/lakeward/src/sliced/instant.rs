//! Instants as people read them, in UTC.

use jiff::tz::TimeZone;
use lakeward_model::Timestamp;

/// The day: `2026-03-01`.
pub(crate) fn day(at: Timestamp) -> String {
    text(at, "%Y-%m-%d")
}

/// The hour as Amplitude writes it but with dashes: `2026-03-01T05`.
pub(crate) fn hour(at: Timestamp) -> String {
    text(at, "%Y-%m-%dT%H")
}

/// To the minute, for tables: `2026-03-01 05:30`.
pub(crate) fn minute(at: Timestamp) -> String {
    text(at, "%Y-%m-%d %H:%M")
}

fn text(at: Timestamp, format: &str) -> String {
    match jiff::Timestamp::from_microsecond(at.micros()) {
        Ok(instant) => instant.to_zoned(TimeZone::UTC).strftime(format).to_string(),
        Err(_) => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_as_short_as_their_names_say() {
        let at = lakeward_engine::instant::parse("2026-03-01T07:30:59.999999+02:00").unwrap();
        assert_eq!((day(at).as_str(), hour(at).as_str()), ("2026-03-01", "2026-03-01T05"));
        assert_eq!(minute(at), "2026-03-01 05:30");
    }
}
