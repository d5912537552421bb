//! Instants in records: text or number to microseconds since the epoch.

/// `0001-01-01T00:00:00Z` and `9999-12-30T22:00:00Z` (jiff's last instant that
/// has a year of four digits in every zone), in microseconds: what lies outside
/// is not a time.
pub(crate) const RANGE: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_207_200_000_000;

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

/// Reads times as text, fast when they come in order: remembers the last day
/// and minute that it read.
#[derive(Debug)]
pub struct TimeReader {
    /// `YYYY-MM-DD` of the last text that was read.
    day: [u8; 10],
    /// Microseconds since the epoch at its start, in UTC.
    day_start: i64,
    /// `YYYY-MM-DDTHH:MM` of the last text that was read.
    minute: [u8; 16],
    /// Microseconds since the epoch at its start, in UTC.
    minute_start: i64,
}

impl Default for TimeReader {
    fn default() -> Self {
        Self { day: *b"1970-01-01", day_start: 0, minute: *b"1970-01-01T00:00", minute_start: 0 }
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
            && *minute == self.minute
            && let Some(in_minute) = usual_rest(rest)
        {
            return Some(self.minute_start + in_minute);
        }
        self.read_any(text)
    }

    /// [`Self::read`] for another minute or an unusual layout.
    #[inline(never)]
    fn read_any(&mut self, text: &[u8]) -> Option<i64> {
        if let Some((minute, rest)) = text.split_first_chunk::<16>()
            && (*minute == self.minute || self.enter_minute(minute))
            && let Some(in_minute) = usual_rest(rest).or_else(|| seconds_and_zone(rest))
        {
            return Some(self.minute_start + in_minute);
        }
        slow(text)
    }

    /// Makes `minute` the remembered one. Returns whether it is one.
    #[inline]
    fn enter_minute(&mut self, minute: &[u8; 16]) -> bool {
        let Some((day, [separator, h1, h2, colon, m1, m2])) = minute.split_first_chunk::<10>() else {
            return false;
        };
        let (Some(hour), Some(min)) = (two_digits([*h1, *h2]), two_digits([*m1, *m2])) else { return false };
        if !matches!(separator, b'T' | b't' | b' ') || *colon != b':' || hour > 23 || min > 59 {
            return false;
        }
        if *day != self.day && !self.enter_day(day) {
            return false;
        }
        self.minute = *minute;
        self.minute_start = self.day_start + (hour * 60 + min) * 60_000_000;
        true
    }

    /// Makes `day` the remembered one. Returns whether it is one.
    #[cold]
    fn enter_day(&mut self, day: &[u8; 10]) -> bool {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *day else { return false };
        let (Some(century), Some(year), Some(month), Some(date)) =
            (two_digits([y1, y2]), two_digits([y3, y4]), two_digits([m1, m2]), two_digits([d1, d2]))
        else {
            return false;
        };
        let year = century * 100 + year;
        let Ok(date) = jiff::civil::Date::new(year as i16, month as i8, date as i8) else { return false };
        let days = jiff::civil::date(1970, 1, 1).until(date).map_or(0, |span| i64::from(span.get_days()));
        if year >= 1 {
            (self.day, self.day_start) = (*day, days * 86_400_000_000);
        }
        year >= 1
    }
}

/// [`seconds_and_zone`] for what most programs write: `:SS` with none, three or
/// six digits of a fraction, in UTC. `None` for everything else.
#[inline]
fn usual_rest(text: &[u8]) -> Option<i64> {
    let body = match text {
        [body @ .., b'Z'] | [body @ .., b'+', b'0', b'0', b':', b'0', b'0'] => body.len(),
        body => body.len(),
    };
    if body == 3 {
        let [b':', tens, ones, ..] = *text else { return None };
        return two_digits([tens, ones]).filter(|second| *second < 60).map(|second| second * 1_000_000);
    }
    // `:SS.` and four more as one number, `0SS0ffff`.
    const MARKS: u64 = 0xff00_00ff;
    let word = u64::from_le_bytes(*text.first_chunk()?);
    if word & MARKS != u64::from_le_bytes(*b":\0\0.\0\0\0\0") {
        return None;
    }
    let zero = u64::from(b'0');
    let word = word & !MARKS | zero | zero << 24;
    let (second, micros) = match body {
        7 => {
            let number = digits(word & (u64::MAX >> 8) | zero << 56)?;
            (number / 100_000, number % 100_000 * 100)
        }
        10 => {
            let number = digits(word)?;
            (number / 100_000, number % 100_000 * 100 + two_digits([text[8], text[9]])?)
        }
        _ => return None,
    };
    (second < 60).then_some(second * 1_000_000 + micros)
}

/// The value of eight ASCII digits, the first in the lowest byte, all at once:
/// checks that each is one, then adds up pairs, fours and eights.
#[inline]
fn digits(text: u64) -> Option<i64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    // Beyond `9`, adding 6 carries into the upper half of the byte.
    if text & HIGH != ZEROS || (text.wrapping_add(0x0606_0606_0606_0606)) & HIGH != ZEROS {
        return None;
    }
    let ones = text & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let eight = (fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xffff_ffff;
    i64::try_from(eight).ok()
}

/// The value of two ASCII digits.
#[inline]
fn two_digits(text: [u8; 2]) -> Option<i64> {
    let (tens, ones) = (text[0].wrapping_sub(b'0'), text[1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// `:SS`, a fraction and a zone, each optional, in microseconds. A leap second
/// counts as the second before it.
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
    fn eight_digits_at_once() {
        let check =
            |text: &[u8; 8], expect: Option<i64>| assert_eq!(digits(u64::from_le_bytes(*text)), expect);
        check(b"12345678", Some(12_345_678));
        check(b"00000000", Some(0));
        check(b"99999999", Some(99_999_999));
        for byte in 0..=255_u8 {
            for at in 0..8 {
                let mut text = *b"11111111";
                text[at] = byte;
                assert_eq!(
                    digits(u64::from_le_bytes(text)).is_some(),
                    byte.is_ascii_digit(),
                    "{byte} at {at}"
                );
            }
        }
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
