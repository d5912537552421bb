//! Date patterns of Java's `java.time.format.DateTimeFormatter`, in the US
//! locale, for formatting only (source: the class's documentation, Java 17,
//! "Patterns for Formatting and Parsing").
//!
//! What may surprise, and is kept as Java has it: `Y` is the *week-based* year
//! (`YYYY` is next year's number in the last days of December), `w`, `W` and
//! `e` count weeks that start on Sunday with the first week holding January
//! 1st, `D` is the day of the year, and `h` counts 1 to 12.
//!
//! Where we differ from Java: the zone names of `z` are the IANA database's
//! abbreviations (Java knows `BRT`, the database says `-03`), and letters that
//! make no sense in a path are refused (`B`, `F`, `g`, `p`, `v`, `zzzz`).

mod format;
#[cfg(test)]
mod tests;

use lakeward_model::TimeStep;

/// In microseconds: every zone's offset is a multiple of it today.
pub(super) const QUARTER_HOUR: i64 = 900_000_000;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    items: Vec<Item>,
}

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// Text that stands for itself.
    Literal(String),
    /// A field in a style.
    Field(Field, Style),
}

/// What a field shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Era,
    Year,
    YearOfEra,
    WeekBasedYear,
    Quarter,
    Month,
    WeekOfYear,
    WeekOfMonth,
    DayOfYear,
    DayOfMonth,
    DayOfWeek,
    LocalDayOfWeek,
    AmPm,
    ClockHour12,
    Hour12,
    ClockHour24,
    Hour24,
    Minute,
    Second,
    Fraction,
    MilliOfDay,
    NanoOfSecond,
    NanoOfDay,
    ZoneId,
    ZoneName,
    /// `O`, and `ZZZZ`.
    GmtOffset,
    /// `X`, `x`, `Z`: the text for a zero offset.
    Offset {
        zero: &'static str,
    },
}

/// How a field shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A number, padded with zeros to this width.
    Number(usize),
    /// The last two digits.
    TwoDigits,
    /// `Jan`, `Mon`, `Q1`, `AD`.
    Short,
    /// `January`, `Monday`, `1st quarter`, `Anno Domini`.
    Full,
    /// `J`, `M`, `1`, `A`.
    Narrow,
    /// `+01`, minutes only if there are any.
    OffsetHour,
    /// `+0100` or `+01:00`, seconds only if wanted and there are any.
    OffsetMinute { colon: bool, seconds: bool },
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A letter that is no field.
    #[error("unknown pattern letter `{letter}`{}; text goes in single quotes", suggestion.map(|s| format!(": did you mean {s}?")).unwrap_or_default())]
    UnknownLetter {
        /// The letter.
        letter: char,
        /// What may have been meant.
        suggestion: Option<&'static str>,
    },
    /// A letter more or less often than it may be.
    #[error("`{letter}` cannot be repeated {count} times")]
    Count {
        /// The letter.
        letter: char,
        /// How often it is there.
        count: usize,
    },
    /// `'` without its end.
    #[error("a quoted text has no closing `'`")]
    OpenQuote,
    /// `]` without `[`.
    #[error("`]` has no `[` before it")]
    CloseBracket,
    /// `{`, `}` or `#` outside quotes.
    #[error("`{0}` is reserved: put it in single quotes")]
    Reserved(char),
    /// Nothing in it.
    #[error("the date pattern is empty")]
    Empty,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`PatternError`]; the template is at fault.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut items = Vec::new();
        let mut open = 0_usize;
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                'a'..='z' | 'A'..='Z' => {
                    let mut count = 1;
                    while rest.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    let (field, style) = field(c, count)?;
                    items.push(Item::Field(field, style));
                }
                '\'' => quoted(&mut rest, &mut items)?,
                // Every field has a value here, so an optional section is always shown.
                '[' => open += 1,
                ']' => open = open.checked_sub(1).ok_or(PatternError::CloseBracket)?,
                '{' | '}' | '#' => return Err(PatternError::Reserved(c)),
                other => literal(&mut items, other),
            }
        }
        if items.is_empty() { Err(PatternError::Empty) } else { Ok(Self { text: text.into(), items }) }
    }

    /// The default that Firehose appends: `yyyy/MM/dd/HH/`.
    #[must_use]
    pub fn firehose_default() -> Self {
        Self::parse("yyyy/MM/dd/HH/").expect("the pattern is valid")
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The units that it shows as numbers, each with its least digits; `None`
    /// if it shows anything else but literal text.
    pub(super) fn units(&self) -> Option<Vec<(TimeStep, usize)>> {
        let fields = self.items.iter().filter_map(|item| match item {
            Item::Literal(_) => None,
            Item::Field(field, style) => Some((*field, *style)),
        });
        fields
            .map(|(field, style)| {
                let Style::Number(digits) = style else { return None };
                Some(match field {
                    Field::Year | Field::YearOfEra if digits == 4 => (TimeStep::Year, digits),
                    Field::Month => (TimeStep::Month, digits),
                    Field::DayOfMonth => (TimeStep::Day, digits),
                    Field::Hour24 => (TimeStep::Hour, digits),
                    Field::Minute => (TimeStep::Minute, digits),
                    Field::Second => (TimeStep::Second, digits),
                    _ => return None,
                })
            })
            .collect()
    }

    /// The stretch of time, in microseconds, inside which only a change of the
    /// zone's offset can change the text, if stretches start at multiples of
    /// it and the offset is a multiple of it.
    pub(super) fn granularity(&self) -> i64 {
        let finest = |item: &Item| match item {
            Item::Field(Field::Fraction | Field::MilliOfDay | Field::NanoOfSecond | Field::NanoOfDay, _) => 1,
            Item::Field(Field::Second, _) => 1_000_000,
            Item::Field(Field::Minute, _) => 60_000_000,
            _ => QUARTER_HOUR,
        };
        self.items.iter().map(finest).min().unwrap_or(1)
    }

    /// The text with every field replaced by `x`: what a path check needs to
    /// know, since no field is ever empty, has a dot, or starts with a slash.
    pub(super) fn skeleton(&self) -> String {
        self.items
            .iter()
            .map(|item| if let Item::Literal(text) = item { text.as_str() } else { "x" })
            .collect()
    }

    /// An upper bound for the length of the text, in bytes.
    pub(super) fn max_len(&self) -> usize {
        let bound = |item: &Item| match item {
            Item::Literal(text) => text.len(),
            Item::Field(Field::ZoneId, _) => 40,
            Item::Field(field, Style::Number(width)) => (*width).max(match field {
                Field::NanoOfDay => 14,
                Field::MilliOfDay | Field::NanoOfSecond => 9,
                _ => 6,
            }),
            Item::Field(..) => 12,
        };
        self.items.iter().map(bound).sum()
    }
}

fn literal(items: &mut Vec<Item>, c: char) {
    if let Some(Item::Literal(text)) = items.last_mut() {
        text.push(c);
    } else {
        items.push(Item::Literal(c.into()));
    }
}

/// What follows an opening quote; `''` is a quote, inside and outside.
fn quoted(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    items: &mut Vec<Item>,
) -> Result<(), PatternError> {
    let mut empty = true;
    loop {
        match rest.next().ok_or(PatternError::OpenQuote)? {
            '\'' if rest.next_if_eq(&'\'').is_some() => literal(items, '\''),
            '\'' if empty => {
                literal(items, '\'');
                return Ok(());
            }
            '\'' => return Ok(()),
            other => literal(items, other),
        }
        empty = false;
    }
}

/// Java's `DateTimeFormatterBuilder.parseField`, for the letters we know.
fn field(letter: char, count: usize) -> Result<(Field, Style), PatternError> {
    use Style::{Full, Narrow, Number, Short, TwoDigits};
    let bad = Err(PatternError::Count { letter, count });
    let text = |field| match count {
        1..=3 => Ok((field, Short)),
        4 => Ok((field, Full)),
        5 => Ok((field, Narrow)),
        _ => bad.clone(),
    };
    let number_or_text = |field| if count <= 2 { Ok((field, Number(count))) } else { text(field) };
    let number = |field, most| if count <= most { Ok((field, Number(count))) } else { bad.clone() };
    let year = |field| if count == 2 { Ok((field, TwoDigits)) } else { number(field, 19) };
    match letter {
        'G' => text(Field::Era),
        'u' => year(Field::Year),
        'y' => year(Field::YearOfEra),
        'Y' => year(Field::WeekBasedYear),
        'Q' | 'q' => number_or_text(Field::Quarter),
        'M' | 'L' => number_or_text(Field::Month),
        'w' => number(Field::WeekOfYear, 2),
        'W' => number(Field::WeekOfMonth, 1),
        'D' => number(Field::DayOfYear, 3),
        'd' => number(Field::DayOfMonth, 2),
        'E' => text(Field::DayOfWeek),
        'e' => number_or_text(Field::LocalDayOfWeek),
        'c' if count == 2 => bad,
        'c' => number_or_text(Field::LocalDayOfWeek),
        'a' if count == 1 => Ok((Field::AmPm, Short)),
        'h' => number(Field::ClockHour12, 2),
        'K' => number(Field::Hour12, 2),
        'k' => number(Field::ClockHour24, 2),
        'H' => number(Field::Hour24, 2),
        'm' => number(Field::Minute, 2),
        's' => number(Field::Second, 2),
        'S' => number(Field::Fraction, 9),
        'A' => number(Field::MilliOfDay, 19),
        'n' => number(Field::NanoOfSecond, 19),
        'N' => number(Field::NanoOfDay, 19),
        'V' if count == 2 => Ok((Field::ZoneId, Full)),
        'z' if count <= 3 => Ok((Field::ZoneName, Short)),
        'O' if count == 1 => Ok((Field::GmtOffset, Short)),
        'O' if count == 4 => Ok((Field::GmtOffset, Full)),
        'Z' if count == 4 => Ok((Field::GmtOffset, Full)),
        'X' | 'x' | 'Z' => offset(letter, count),
        'a' | 'V' | 'z' | 'O' => bad,
        _ => Err(PatternError::UnknownLetter { letter, suggestion: suggestion(letter) }),
    }
}

/// `X` says `Z` for a zero offset, `x` and `Z` say zeros.
fn offset(letter: char, count: usize) -> Result<(Field, Style), PatternError> {
    let minute = |colon, seconds| Style::OffsetMinute { colon, seconds };
    let (zero, style) = match (letter, count) {
        ('Z', 1..=3) => ("+0000", minute(false, false)),
        ('Z', 5) => ("Z", minute(true, true)),
        ('x', 1) => ("+00", Style::OffsetHour),
        ('x', 2) => ("+0000", minute(false, false)),
        ('x', 3) => ("+00:00", minute(true, false)),
        ('x', 4) => ("+0000", minute(false, true)),
        ('x', 5) => ("+00:00", minute(true, true)),
        ('X', 1) => ("Z", Style::OffsetHour),
        ('X', 2 | 4) => ("Z", minute(false, count == 4)),
        ('X', 3 | 5) => ("Z", minute(true, count == 5)),
        _ => return Err(PatternError::Count { letter, count }),
    };
    Ok((Field::Offset { zero }, style))
}

fn suggestion(letter: char) -> Option<&'static str> {
    Some(match letter {
        'T' => "'T'",
        'g' | 'F' => "`D` (day of the year) or `W` (week of the month)",
        'i' | 'I' | 'R' | 'b' => "`H` (hour) or `M` (month)",
        'v' => "`VV` (zone id) or `z`",
        'B' | 'P' | 'p' => "`a` (AM/PM)",
        'C' | 'U' | 'r' => "`y` (year)",
        'j' | 'J' => "`D` (day of the year)",
        'f' => "`S` (fraction of a second)",
        _ => return None,
    })
}
