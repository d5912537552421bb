//! A pattern's text for an instant in a zone.

use std::fmt::Write as _;

use jiff::Zoned;
use jiff::civil::Weekday;

use super::{Field, Item, Pattern, Style};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const QUARTERS: [&str; 4] = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];

impl Pattern {
    /// Appends the text for `at`.
    pub fn format(&self, at: &Zoned, out: &mut String) {
        for item in &self.items {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::Field(field, style) => write_field(*field, *style, at, out),
            }
        }
    }
}

fn write_field(field: Field, style: Style, at: &Zoned, out: &mut String) {
    match field {
        Field::Era => {
            let era = if at.year() > 0 { ["AD", "Anno Domini", "A"] } else { ["BC", "Before Christ", "B"] };
            out.push_str(match style {
                Style::Full => era[1],
                Style::Narrow => era[2],
                _ => era[0],
            });
        }
        Field::AmPm => out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
        Field::Month => name_or_number(style, MONTHS[at.month() as usize - 1], i64::from(at.month()), out),
        Field::DayOfWeek | Field::LocalDayOfWeek => {
            let day = at.weekday().to_sunday_zero_offset();
            name_or_number(style, WEEKDAYS[day as usize], i64::from(day) + 1, out);
        }
        Field::Quarter => write_quarter(style, i64::from((at.month() + 2) / 3), out),
        Field::Fraction => {
            let Style::Number(digits) = style else { unreachable!("a fraction is a number") };
            let nanos = format!("{:09}", at.subsec_nanosecond());
            out.push_str(&nanos[..digits]);
        }
        Field::ZoneId => out.push_str(at.time_zone().iana_name().unwrap_or("Z")),
        Field::ZoneName => out.push_str(at.time_zone().to_offset_info(at.timestamp()).abbreviation()),
        Field::GmtOffset => write_gmt_offset(style, at.offset().seconds(), out),
        Field::Offset { zero } => write_offset(style, zero, at.offset().seconds(), out),
        _ => write_number(style, number(field, at), out),
    }
}

/// The value of a field that is shown as a number.
fn number(field: Field, at: &Zoned) -> i64 {
    let hour = i64::from(at.hour());
    let second_of_day = hour * 3600 + i64::from(at.minute()) * 60 + i64::from(at.second());
    let nano = i64::from(at.subsec_nanosecond());
    let year = i64::from(at.year());
    match field {
        Field::Year => year,
        Field::YearOfEra => {
            if year > 0 {
                year
            } else {
                1 - year
            }
        }
        Field::WeekBasedYear => week_of_year(at).0,
        Field::WeekOfYear => week_of_year(at).1,
        Field::WeekOfMonth => week(i64::from(at.day()), weekday(at)),
        Field::DayOfYear => i64::from(at.day_of_year()),
        Field::DayOfMonth => i64::from(at.day()),
        Field::ClockHour12 => (hour + 11) % 12 + 1,
        Field::Hour12 => hour % 12,
        Field::ClockHour24 => (hour + 23) % 24 + 1,
        Field::Hour24 => hour,
        Field::Minute => i64::from(at.minute()),
        Field::Second => i64::from(at.second()),
        Field::MilliOfDay => second_of_day * 1_000 + nano / 1_000_000,
        Field::NanoOfSecond => nano,
        Field::NanoOfDay => second_of_day * 1_000_000_000 + nano,
        _ => unreachable!("{field:?} is not shown as a plain number"),
    }
}

fn write_number(style: Style, value: i64, out: &mut String) {
    let written = match style {
        Style::TwoDigits => write!(out, "{:02}", value.rem_euclid(100)),
        Style::Number(width) if value < 0 => write!(out, "-{:0width$}", -value),
        Style::Number(width) => write!(out, "{value:0width$}"),
        _ => unreachable!("a number has a number's style"),
    };
    written.expect("writing to a string cannot fail");
}

fn name_or_number(style: Style, name: &str, value: i64, out: &mut String) {
    match style {
        Style::Short => out.push_str(&name[..3]),
        Style::Full => out.push_str(name),
        Style::Narrow => out.push_str(&name[..1]),
        _ => write_number(style, value, out),
    }
}

fn write_quarter(style: Style, quarter: i64, out: &mut String) {
    match style {
        Style::Full => out.push_str(QUARTERS[quarter as usize - 1]),
        Style::Short => {
            out.push('Q');
            write_number(Style::Number(1), quarter, out);
        }
        Style::Narrow => write_number(Style::Number(1), quarter, out),
        _ => write_number(style, quarter, out),
    }
}

/// 0 for Sunday.
fn weekday(at: &Zoned) -> i64 {
    i64::from(at.weekday().since(Weekday::Sunday))
}

/// The week that the `day`-th (from 1) day of a year or month lies in, if it
/// is a `weekday` (0 for Sunday): weeks start on Sunday, the first is the one
/// that holds day 1.
fn week(day: i64, weekday: i64) -> i64 {
    (day - 1 + 6 - weekday) / 7 + 1
}

/// Week-based year and week of it: the week of December 31st belongs to next
/// year unless that day is a Saturday.
fn week_of_year(at: &Zoned) -> (i64, i64) {
    let day = i64::from(at.day_of_year());
    let left_in_year = i64::from(at.days_in_year()) - day;
    let left_in_week = 6 - weekday(at);
    if left_in_year < left_in_week {
        return (i64::from(at.year()) + 1, 1);
    }
    (i64::from(at.year()), week(day, weekday(at)))
}

fn write_offset(style: Style, zero: &str, seconds: i32, out: &mut String) {
    let (hours, minutes, rest) =
        (seconds.unsigned_abs() / 3600, seconds.unsigned_abs() / 60 % 60, seconds.unsigned_abs() % 60);
    let (colon, with_seconds) = match style {
        Style::OffsetMinute { colon, seconds } => (colon, seconds),
        _ => (false, false),
    };
    let with_minutes = matches!(style, Style::OffsetMinute { .. }) || minutes > 0;
    // Java looks only at the parts that it shows to tell a zero offset.
    if hours == 0 && minutes == 0 && !(with_seconds && rest > 0) {
        out.push_str(zero);
        return;
    }
    let colon = if colon { ":" } else { "" };
    out.push(if seconds < 0 { '-' } else { '+' });
    let mut written = write!(out, "{hours:02}");
    if with_minutes {
        written = written.and(write!(out, "{colon}{minutes:02}"));
    }
    if with_seconds && rest > 0 {
        written = written.and(write!(out, "{colon}{rest:02}"));
    }
    written.expect("writing to a string cannot fail");
}

fn write_gmt_offset(style: Style, seconds: i32, out: &mut String) {
    out.push_str("GMT");
    if seconds == 0 {
        return;
    }
    let (hours, minutes, rest) =
        (seconds.unsigned_abs() / 3600, seconds.unsigned_abs() / 60 % 60, seconds.unsigned_abs() % 60);
    out.push(if seconds < 0 { '-' } else { '+' });
    let mut written =
        if style == Style::Full { write!(out, "{hours:02}:{minutes:02}") } else { write!(out, "{hours}") };
    if style != Style::Full && (minutes > 0 || rest > 0) {
        written = written.and(write!(out, ":{minutes:02}"));
    }
    if rest > 0 {
        written = written.and(write!(out, ":{rest:02}"));
    }
    written.expect("writing to a string cannot fail");
}
