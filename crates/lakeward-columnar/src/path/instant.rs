//! Instants in records: text or number to microseconds since the epoch.

/// `0001-01-01T00:00:00Z` and `9999-12-30T22:00:00Z` (jiff's last instant that
/// has a year of four digits in every zone), in microseconds: what lies outside
/// is not a time.
pub(super) const RANGE: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_207_200_000_000;

/// An epoch number in seconds, milliseconds, microseconds or nanoseconds by
/// its magnitude: below 10^11 it is seconds (to the year 5138), below 10^14
/// milliseconds, below 10^17 microseconds, else nanoseconds.
///
/// Returns microseconds since the epoch, or `None` outside the years 1 to 9999.
#[must_use]
pub fn from_number(number: i64) -> Option<i64> {
    let micros = match number.unsigned_abs() {
        0..100_000_000_000 => number * 1_000_000,
        100_000_000_000..100_000_000_000_000 => number * 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => number,
        _ => number.div_euclid(1_000),
    };
    RANGE.contains(&micros).then_some(micros)
}

/// [`from_number`] for a number with a fraction.
#[must_use]
pub fn from_float(number: f64) -> Option<i64> {
    let micros = match number.abs() {
        n if n < 1e11 => number * 1e6,
        n if n < 1e14 => number * 1e3,
        n if n < 1e17 => number,
        n if n < 1e19 => number / 1e3,
        _ => return None,
    };
    // Rounded, since 1700000000.123 has no exact double.
    let micros = micros.round() as i64;
    RANGE.contains(&micros).then_some(micros)
}

/// Reads times as text, fast when they come in order: remembers the last
/// minute that it read.
#[derive(Debug)]
pub struct TimeReader {
    /// `YYYY-MM-DDTHH:MM` of the last text that was read.
    minute: [u8; 16],
    /// Microseconds since the epoch at its start, in UTC.
    minute_start: i64,
}

impl Default for TimeReader {
    fn default() -> Self {
        Self { minute: *b"1970-01-01T00:00", minute_start: 0 }
    }
}

impl TimeReader {
    /// Reads ISO 8601 (`T` or a space, `Z`, an offset or none, any fraction),
    /// `YYYY-MM-DD` alone, or an epoch number of at least 9 digits. Text
    /// without a zone is UTC.
    ///
    /// Returns microseconds since the epoch (finer digits are cut), or `None`
    /// if it is no time.
    #[inline]
    pub fn read(&mut self, text: &[u8]) -> Option<i64> {
        if let Some((minute, rest)) = text.split_first_chunk::<16>()
            && (*minute == self.minute || self.enter(minute))
            && let Some(in_minute) = seconds_and_zone(rest)
        {
            return Some(self.minute_start + in_minute);
        }
        slow(text)
    }

    /// Makes `minute` the remembered one. Returns whether it is one.
    #[cold]
    fn enter(&mut self, minute: &[u8; 16]) -> bool {
        let separators =
            [minute[4], minute[7], minute[13]] == *b"--:" && matches!(minute[10], b'T' | b't' | b' ');
        let number = |at: &[usize]| {
            at.iter().try_fold(0_i64, |n, &i| {
                minute[i].is_ascii_digit().then(|| n * 10 + i64::from(minute[i] - b'0'))
            })
        };
        let (Some(year), Some(month), Some(day), Some(hour), Some(min)) =
            (number(&[0, 1, 2, 3]), number(&[5, 6]), number(&[8, 9]), number(&[11, 12]), number(&[14, 15]))
        else {
            return false;
        };
        let Ok(date) = jiff::civil::Date::new(year as i16, month as i8, day as i8) else { return false };
        if !separators || year < 1 || hour > 23 || min > 59 {
            return false;
        }
        let epoch = jiff::civil::date(1970, 1, 1);
        let days = i64::from(epoch.until(date).map_or(0, |span| span.get_days()));
        self.minute = *minute;
        self.minute_start = ((days * 24 + hour) * 60 + min) * 60_000_000;
        true
    }
}

/// The value of two ASCII digits.
#[inline]
fn two_digits(text: [u8; 2]) -> Option<i64> {
    let (tens, ones) = (text[0].wrapping_sub(b'0'), text[1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// `:SS`, a fraction and a zone, each optional, in microseconds. A leap second
/// counts as the second before it.
#[inline]
fn seconds_and_zone(text: &[u8]) -> Option<i64> {
    let [b':', tens, ones, rest @ ..] = text else { return zone(text).map(|offset| -offset) };
    let second = two_digits([*tens, *ones]).filter(|s| *s <= 60)?.min(59);
    let mut micros = second * 1_000_000;
    let mut rest = rest;
    if let [b'.' | b',', digits @ ..] = rest {
        let mut weight = 1_000_000;
        let mut count = 0;
        while let Some(digit) = digits.get(count).map(|d| d.wrapping_sub(b'0')).filter(|d| *d < 10) {
            weight /= 10;
            micros += weight * i64::from(digit);
            count += 1;
        }
        if count == 0 {
            return None;
        }
        rest = &digits[count..];
    }
    Some(micros - zone(rest)?)
}

/// The offset east of UTC that is the whole of `text`, in microseconds.
#[inline]
fn zone(text: &[u8]) -> Option<i64> {
    if matches!(text, b"Z" | b"") {
        return Some(0);
    }
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, digits) = match text {
        b"Z" | b"z" | b"UTC" | b"GMT" => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [a, b] => (two_digits([a, b])?, 0),
        [a, b, c, d] | [a, b, b':', c, d] => (two_digits([a, b])?, two_digits([c, d])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

/// What the fast layout does not cover: other forms that jiff reads, and
/// epoch numbers as text.
#[cold]
fn slow(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok().filter(|t| (9..=64).contains(&t.len()))?;
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return text.parse().ok().map_or_else(|| from_float(text.parse().ok()?), from_number);
    }
    let instant = text.parse::<jiff::Timestamp>().or_else(|_| {
        text.parse::<jiff::civil::DateTime>()?.to_zoned(jiff::tz::TimeZone::UTC).map(|z| z.timestamp())
    });
    instant.ok().map(jiff::Timestamp::as_microsecond).filter(|micros| RANGE.contains(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<i64> {
        let mut reader = TimeReader::default();
        let first = reader.read(text.as_bytes());
        assert_eq!(reader.read(text.as_bytes()), first, "the same again: {text}");
        first
    }

    #[test]
    fn times_as_text() {
        let check = |text: &str, expect: &str| {
            let expect = expect.parse::<jiff::Timestamp>().expect("an instant").as_microsecond();
            assert_eq!(read(text), Some(expect), "{text}");
        };
        let noon = "2026-07-13T12:00:00Z";
        for text in [
            "2026-07-13T12:00:00Z",
            "2026-07-13T12:00Z",
            "2026-07-13 12:00:00",
            "2026-07-13T12:00:00",
            "2026-07-13T12:00:00.000000",
            "2026-07-13t12:00:00z",
            "2026-07-13T14:00:00+02:00",
            "2026-07-13T14:00:00+0200",
            "2026-07-13 14:00:00+02",
            "2026-07-13 12:00:00 UTC",
            "2026-07-13T00:00:00-12:00",
            "20260713T120000Z",
            "2026-07-13T12:00:00Z[UTC]",
            "2026-07-13T14:00:00+02:00[Europe/Berlin]",
            "1783944000",
            "1783944000000",
            "1783944000000000",
            "1783944000.0",
        ] {
            check(text, noon);
        }
        check("2026-07-13T12:00:00.5Z", "2026-07-13T12:00:00.5Z");
        check("2026-07-13 12:00:00.123456", "2026-07-13T12:00:00.123456Z");
        check("2026-07-13T12:00:00,123Z", "2026-07-13T12:00:00.123Z");
        check("2026-07-13T12:00:00.123456789Z", "2026-07-13T12:00:00.123456Z");
        check("2026-07-13", "2026-07-13T00:00:00Z");
        check("2026-12-31T23:59:60Z", "2026-12-31T23:59:59Z");
        check("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z");
        check("2026-01-01T00:30:00+01:00", "2025-12-31T23:30:00Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "soon",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-07-13T24:00:00Z",
            "2026-07-13T12:60:00Z",
            "2026-07-13T12:00:61Z",
            "2026-07-13T12:00:00.Z",
            "2026-07-13T12:00:00X",
            "2026-07-13T12:00:00+26:00",
            "2026-07-13T12:00:00+1:00",
            "2026/07/13T12:00:00Z",
            "0000-01-01T00:00:00Z",
            "12345678",
            "1.2.3.4.5",
            "99999999999999999999999",
            "2026-07-13T12:00:00Zé",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_new_minute_is_never_taken_for_the_last() {
        let mut reader = TimeReader::default();
        let a = reader.read(b"2026-07-13T12:00:01Z").expect("a time");
        assert_eq!(reader.read(b"2026-07-13T12:6x:01Z"), None);
        assert_eq!(reader.read(b"2026-07-13T12:01:01Z"), Some(a + 60_000_000));
        assert_eq!(reader.read(b"2026-07-13T12:00:01Z"), Some(a));
        let mut fresh = TimeReader::default();
        assert_eq!(fresh.read(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0:01Z"), None);
        assert_eq!(fresh.read(b"1970-01-01T00:00:01Z"), Some(1_000_000));
    }

    #[test]
    fn numbers_by_magnitude() {
        let second = 1_783_944_000_i64;
        for number in [second, second * 1_000, second * 1_000_000, second * 1_000_000_000] {
            assert_eq!(from_number(number), Some(second * 1_000_000), "{number}");
        }
        assert_eq!(from_number(0), Some(0));
        assert_eq!(from_number(-1), Some(-1_000_000));
        assert_eq!(from_number(i64::MIN).map(|_| ()), Some(()), "nanoseconds reach 1677");
        assert_eq!(from_number(-99_999_999_999), None, "before the year 1");
        assert_eq!(from_float(1_783_944_000.123), Some(1_783_944_000_123_000));
        assert_eq!(from_float(1_783_944_000_123.5), Some(1_783_944_000_123_500));
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert_eq!(from_float(number), None, "{number}");
        }
    }
}
