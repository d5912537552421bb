//! Words and number formats that several kinds of events share.

use std::io::Write;

use crate::Random;

pub(crate) const NAMES: [&str; 24] = [
    "Ada", "Amélie", "Bruno", "Carla", "Chen", "Dana", "Elif", "Fatima", "Goran", "Hana", "Ivan", "Jörg",
    "Kofi", "Lena", "Mateo", "Nadia", "Oskar", "Priya", "Quentin", "Rosa", "Søren", "Tomás", "Uma", "Yuki",
];
pub(crate) const COUNTRIES: [&str; 8] =
    ["Germany", "United States", "Brazil", "India", "Türkiye", "France", "Japan", "Poland"];
pub(crate) const CITIES: [&str; 8] =
    ["Berlin", "Austin", "São Paulo", "Bengaluru", "Istanbul", "Lyon", "Osaka", "Kraków"];
pub(crate) const LANGUAGES: [&str; 6] = ["English", "Spanish", "German", "French", "Italian", "Turkish"];

/// How many users there are.
pub(crate) const USERS: u64 = 200_000;

/// Appends formatted text; a `Vec` never fails to be written.
pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec cannot fail");
}

/// Appends a time as `strftime` text in UTC.
pub(crate) fn put_time(out: &mut Vec<u8>, micros: i64, format: &str) {
    let time = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    put(out, format_args!("{}", time.strftime(format)));
}

/// A user's number: the few first ones come most often, and numbers that
/// follow each other in rank lie far apart.
pub(crate) fn user(random: &mut Random) -> u64 {
    random.zipf(USERS).wrapping_mul(7_368_787) % 900_001 + 100_000
}
