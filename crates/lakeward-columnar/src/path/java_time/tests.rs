use super::{Pattern, PatternError};
use crate::path::time_zone;

fn format(instant: &str, zone: &str, pattern: &str) -> String {
    let at =
        instant.parse::<jiff::Timestamp>().expect("an instant").to_zoned(time_zone(zone).expect("a zone"));
    let mut out = String::new();
    Pattern::parse(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}")).format(&at, &mut out);
    out
}

/// The expected texts were printed by Java 17 itself: see `Expected.java`.
#[test]
fn every_pattern_prints_what_java_prints() {
    let rows: Vec<Vec<&str>> =
        include_str!("expected.tsv").lines().map(|l| l.split('\t').collect()).collect();
    assert!(rows.len() > 180, "the table is there");
    for row in rows {
        let [instant, zone, pattern, expected] = row[..] else { panic!("four columns: {row:?}") };
        assert_eq!(format(instant, zone, pattern), expected, "{instant} in {zone} by {pattern}");
    }
}

#[test]
fn skeleton_and_bound_cover_every_printed_text() {
    for row in include_str!("expected.tsv").lines() {
        let mut cells = row.split('\t').skip(2);
        let (Some(pattern), Some(text)) = (cells.next(), cells.next()) else { panic!("four columns: {row}") };
        let pattern = Pattern::parse(pattern).expect("valid");
        assert!(text.len() <= pattern.max_len(), "{row}");
        assert!(pattern.skeleton().matches('/').count() <= text.matches('/').count(), "{row}");
    }
}

#[test]
fn bad_patterns_say_which_letter_and_what_to_write() {
    let check = |text: &str, expect: PatternError| assert_eq!(Pattern::parse(text), Err(expect), "{text}");
    let unknown = |letter, suggestion| PatternError::UnknownLetter { letter, suggestion };
    check("yyyyTHH", unknown('T', Some("'T'")));
    check("YYYY-jj", unknown('j', Some("`D` (day of the year)")));
    check("t", unknown('t', None));
    for (text, letter, count) in [
        ("HHH", 'H', 3),
        ("DDDD", 'D', 4),
        ("SSSSSSSSSS", 'S', 10),
        ("V", 'V', 1),
        ("zzzz", 'z', 4),
        ("OO", 'O', 2),
        ("XXXXXX", 'X', 6),
        ("MMMMMM", 'M', 6),
        ("aa", 'a', 2),
        ("cc", 'c', 2),
        ("yyyyyyyyyyyyyyyyyyyy", 'y', 20),
    ] {
        check(text, PatternError::Count { letter, count });
    }
    check("'yyyy", PatternError::OpenQuote);
    check("'''", PatternError::OpenQuote);
    check("HH]", PatternError::CloseBracket);
    check("HH#", PatternError::Reserved('#'));
    check("", PatternError::Empty);
    assert_eq!(
        unknown('T', Some("'T'")).to_string(),
        "unknown pattern letter `T`: did you mean 'T'?; text goes in single quotes"
    );
}

#[test]
fn quotes_as_in_java() {
    let check =
        |pattern: &str, expect: &str| assert_eq!(format("2026-07-13T14:05:09Z", "UTC", pattern), expect);
    check("''", "'");
    check("''''", "'");
    check("'T'HH'T'", "T14T");
    check("[HH", "14");
    check("'[d]'", "[d]");
}

#[test]
fn years_before_christ_are_numbers_too() {
    assert_eq!(format("-000001-06-01T00:00:00Z", "UTC", "y yyyy yy u uuuu G"), "2 0002 02 -1 -0001 BC");
}
