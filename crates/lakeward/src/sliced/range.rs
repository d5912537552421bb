//! The range that a person or a scheduler means: days, hours, instants.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use lakeward_engine::Asked;

/// Dates from one instant to another.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FromToArguments {
    /// From this day or instant on: `2026-01-01`, `2026-01-01T06`,
    /// `20260101T06`, `2026-01-01T06:30:00+02:00`; UTC where no zone is given.
    #[arg(long, value_name = "WHEN", value_parser = parse)]
    from: Option<Moment>,
    /// Before this day or instant, which is not part of the range: `--from
    /// 2026-01-01 --to 2026-02-01` is January.
    #[arg(long, value_name = "WHEN", value_parser = parse)]
    to: Option<Moment>,
}

/// What slices' names say.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NameArguments {
    /// Only slices whose name says so, by the source's pattern:
    /// `section_id=145`; may be given several times.
    #[arg(long = "where", value_name = "PART=VALUE", value_parser = part)]
    captured: Vec<(String, String)>,
    /// Only slices whose name starts so.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
}

/// Dates as schedulers say them.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RangeArguments {
    #[command(flatten)]
    from_to: FromToArguments,
    /// One day, in UTC: `2026-03-01`.
    #[arg(long, value_name = "DAY", value_parser = day, conflicts_with_all = ["from", "to", "start", "end", "catch_up"])]
    date: Option<Date>,
    /// From this hour on, in UTC: `20260301T05` or `2026-03-01T05`; of a day
    /// its first hour, of an instant the hour that it lies in.
    #[arg(long, value_name = "HOUR", value_parser = parse, conflicts_with_all = ["from", "to", "catch_up"])]
    start: Option<Moment>,
    /// Up to this hour, which is part of the range, as in Amplitude's own API:
    /// `--start 20260301T00 --end 20260301T23` is a day; of a day its last hour.
    #[arg(long, value_name = "HOUR", value_parser = parse, conflicts_with_all = ["from", "to", "catch_up"])]
    end: Option<Moment>,
    /// The last so many days, in UTC, and today up to now.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3_660), conflicts_with_all = ["from", "to"])]
    catch_up: Option<u16>,
}

/// An instant, and how much of time the text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    at: Timestamp,
    length: Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Day,
    Hour,
    Instant,
}

impl Moment {
    /// Where the hour that it lies in, or whose first it is, starts.
    fn first_hour(self) -> Timestamp {
        let hour = self.at.as_second().div_euclid(3_600) * 3_600;
        Timestamp::from_second(hour).unwrap_or(self.at)
    }

    /// Where its last hour ends.
    fn end(self) -> Result<Timestamp, String> {
        let hours = if self.length == Length::Day { 24 } else { 1 };
        self.first_hour()
            .checked_add(hours.hours())
            .map_err(|_| String::from("this is too far in the future"))
    }
}

impl FromToArguments {
    /// Their names' conditions and these dates.
    pub(crate) fn wanted(&self, names: &NameArguments) -> Result<Asked, String> {
        let (from, to) = (self.from.map(|from| from.at), self.to.map(|to| to.at));
        wanted(from, to, names)
    }
}

impl RangeArguments {
    /// What is wanted at `now`.
    ///
    /// # Errors
    /// A range that ends before it begins, in words.
    pub(crate) fn wanted(&self, names: &NameArguments, now: Timestamp) -> Result<Asked, String> {
        if let Some(date) = self.date {
            let next = date.tomorrow().map_err(|_| String::from("this is too far in the future"))?;
            return wanted(Some(midnight(date)?), Some(midnight(next)?), names);
        }
        if let Some(days) = self.catch_up {
            let today = now.to_zoned(TimeZone::UTC).date();
            let first = today.checked_sub(i64::from(days).days()).map_err(|error| error.to_string())?;
            return wanted(Some(midnight(first)?), None, names);
        }
        if self.start.is_some() || self.end.is_some() {
            let end = self.end.map(Moment::end).transpose()?;
            return wanted(self.start.map(Moment::first_hour), end, names);
        }
        self.from_to.wanted(names)
    }
}

fn wanted(from: Option<Timestamp>, to: Option<Timestamp>, names: &NameArguments) -> Result<Asked, String> {
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(format!("the range ends at {to}, which is not behind its start, {from}"));
    }
    let mut captured = BTreeMap::new();
    for (part, value) in &names.captured {
        if let Some(other) = captured.insert(part.clone(), value.clone())
            && other != *value
        {
            return Err(format!(
                "no slice has {part}={other} and {part}={value} at once; run it once for each"
            ));
        }
    }
    let prefix = names.prefix.clone();
    let ours = |at: Timestamp| lakeward_model::Timestamp(at.as_microsecond());
    Ok(Asked { from: from.map(ours), to: to.map(ours), prefix, captured })
}

fn midnight(date: Date) -> Result<Timestamp, String> {
    utc(date.to_datetime(Time::midnight()))
}

fn utc(civil: DateTime) -> Result<Timestamp, String> {
    Ok(civil.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?.timestamp())
}

fn part(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((part, value)) if !part.is_empty() => Ok((part.to_string(), value.to_string())),
        _ => Err(format!("{text:?} is not of the form PART=VALUE, for instance section_id=145")),
    }
}

fn day(text: &str) -> Result<Date, String> {
    match parse(text) {
        // Airflow's `{{ ds }}`, and `{{ data_interval_start }}`, which is a midnight.
        Ok(moment) => Ok(moment.at.to_zoned(TimeZone::UTC).date()),
        Err(_) => Err(format!("{text:?} is no day such as 2026-03-01")),
    }
}

/// A day, an hour or an instant; UTC where no zone is given.
fn parse(text: &str) -> Result<Moment, String> {
    let wrong = || {
        format!(
            "{text:?} is neither a day (2026-03-01), an hour (2026-03-01T05, 20260301T05) nor an instant (2026-03-01T05:30:00Z)"
        )
    };
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'T' | b'Z' | b' '));
    if plain && (digits == 8 || digits == 10) {
        let text = text.strip_suffix('Z').unwrap_or(text);
        let (date, hour) = match text.split_once(['T', ' ']) {
            Some((date, hour)) => (date, Some(hour)),
            None => (text, None),
        };
        let date = match date.len() {
            8 if digits_only(date) => {
                let (year, rest) = date.split_at(4);
                let (month, day) = rest.split_at(2);
                format!("{year}-{month}-{day}")
            }
            _ => date.to_string(),
        };
        let date: Date = date.parse().map_err(|_| wrong())?;
        let (hour, length) = match hour {
            None => (0, Length::Day),
            Some(hour) if hour.len() == 2 && digits_only(hour) => {
                (hour.parse().map_err(|_| wrong())?, Length::Hour)
            }
            Some(_) => return Err(wrong()),
        };
        let time = Time::new(hour, 0, 0, 0).map_err(|_| wrong())?;
        return Ok(Moment { at: utc(date.to_datetime(time))?, length });
    }
    let instant = text.parse::<Timestamp>().ok();
    let civil = || utc(text.parse::<DateTime>().ok()?).ok();
    let at = instant.or_else(civil).ok_or_else(wrong)?;
    Ok(Moment { at, length: Length::Instant })
}

fn digits_only(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn range(arguments: &[&str]) -> Result<(String, String), String> {
        let command = RangeArguments::augment_args(clap::Command::new("pull").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let range = RangeArguments::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let now = "2026-03-05T10:30:00Z".parse().unwrap();
        let wanted = range.wanted(&NameArguments::default(), now)?;
        let text = |at: Option<lakeward_model::Timestamp>| {
            at.map(|at| at.to_string().replace(":00Z", "")).unwrap_or_default()
        };
        Ok((text(wanted.from), text(wanted.to)))
    }

    #[test]
    fn ranges_are_what_people_and_schedulers_mean() {
        let check = |arguments: &[&str], from: &str, to: &str| {
            assert_eq!(range(arguments), Ok((from.to_string(), to.to_string())), "{arguments:?}");
        };
        check(&[], "", "");
        check(&["--date", "2026-03-01"], "2026-03-01T00:00", "2026-03-02T00:00");
        check(&["--date", "20260301"], "2026-03-01T00:00", "2026-03-02T00:00");
        check(&["--date", "2026-03-01T00:00:00+00:00"], "2026-03-01T00:00", "2026-03-02T00:00");
        // The end is inclusive, as in Amplitude's API.
        check(&["--start", "20260301T00", "--end", "20260301T23"], "2026-03-01T00:00", "2026-03-02T00:00");
        check(
            &["--start", "2026-03-01T05", "--end", "2026-03-01T05"],
            "2026-03-01T05:00",
            "2026-03-01T06:00",
        );
        check(&["--start", "2026-03-01", "--end", "2026-03-02"], "2026-03-01T00:00", "2026-03-03T00:00");
        check(
            &["--start", "2026-03-01T05:59:59Z", "--end", "2026-03-01T07:00:00+01:00"],
            "2026-03-01T05:00",
            "2026-03-01T07:00",
        );
        check(&["--end", "2026-03-01T05"], "", "2026-03-01T06:00");
        // Behind `--to` nothing is meant.
        check(&["--from", "2026-01-01", "--to", "2026-02-01"], "2026-01-01T00:00", "2026-02-01T00:00");
        check(
            &["--from", "2026-01-01 06", "--to", "2026-01-01T08:30"],
            "2026-01-01T06:00",
            "2026-01-01T08:30",
        );
        check(&["--catch-up", "3"], "2026-03-02T00:00", "");
    }

    #[test]
    fn what_makes_no_range_is_said() {
        let check = |arguments: &[&str], words: &str| {
            let said = range(arguments).expect_err("it is wrong");
            assert!(said.contains(words), "{arguments:?}: {said}");
        };
        check(&["--date", "yesterday"], "2026-03-01");
        check(&["--date", "2026-02-30"], "2026-03-01");
        check(&["--start", "2026-03-01T24"], "neither a day");
        check(&["--from", "2026-03-01T5"], "neither a day");
        check(&["--from", "2026-03-02", "--to", "2026-03-01"], "not behind its start");
        check(&["--from", "2026-03-02", "--to", "2026-03-02"], "not behind its start");
        check(&["--date", "2026-03-01", "--from", "2026-03-01"], "cannot be used with");
        check(&["--start", "2026-03-01", "--catch-up", "1"], "cannot be used with");
        check(&["--catch-up", "0"], "0");
    }

    #[test]
    fn parts_are_named_once() {
        let names = |parts: &[(&str, &str)]| NameArguments {
            captured: parts.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect(),
            prefix: String::new(),
        };
        let none = FromToArguments::default();
        let wanted = none.wanted(&names(&[("section_id", "145"), ("category", "video")])).unwrap();
        assert_eq!(wanted.captured.len(), 2);
        assert!(none.wanted(&names(&[("a", "1"), ("a", "2")])).is_err());
        assert_eq!(part("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(part("a").is_err() && part("=a").is_err());
    }
}
