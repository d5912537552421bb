//! Times as names of objects have them.

use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use lakeward_model::Timestamp;

/// What a group of digits means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// Digits behind the second's point.
    Fraction,
    /// `Z`, `+01:00`, `-0530`.
    Offset,
    /// Seconds since 1970.
    Epoch,
}

/// How a time is written: a regular expression with a group for each field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) expression: String,
    pub(super) fields: Vec<Field>,
}

impl Layout {
    /// ISO 8601, also with dashes in the place of colons, or without either: a
    /// date, perhaps with a time, perhaps with an offset.
    pub(super) fn iso() -> Self {
        let expression = r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})(?:[T ]([0-9]{2})(?:[-:]?([0-9]{2})(?:[-:]?([0-9]{2})(?:[.,]([0-9]{1,9}))?)?)?([Zz]|[+-][0-9]{2}[-:]?[0-9]{2})?)?";
        use Field::{Day, Fraction, Hour, Minute, Month, Offset, Second, Year};
        Self {
            expression: expression.into(),
            fields: vec![Year, Month, Day, Hour, Minute, Second, Fraction, Offset],
        }
    }

    /// One field alone, as `{year}` is.
    pub(super) fn single(field: Field) -> Self {
        let expression = if field == Field::Year { "([0-9]{4})" } else { "([0-9]{1,2})" };
        Self { expression: expression.into(), fields: vec![field] }
    }

    /// `%Y-%m-%d` or `yyyy-MM-dd`; the text of an error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let layout = if text.contains('%') { Self::strftime(text) } else { Self::java(text) }?;
        let has = |field| layout.fields.contains(&field);
        if !has(Field::Year) && !has(Field::Epoch) {
            return Err(format!("the time {text:?} has no year"));
        }
        if (1..layout.fields.len()).any(|at| layout.fields[..at].contains(&layout.fields[at])) {
            return Err(format!("the time {text:?} has something twice"));
        }
        Ok(layout)
    }

    fn strftime(text: &str) -> Result<Self, String> {
        let mut layout = Self { expression: String::new(), fields: Vec::new() };
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                layout.literal(c);
                continue;
            }
            match rest.next() {
                Some('Y') => layout.field(Field::Year, "4"),
                Some('m') => layout.field(Field::Month, "2"),
                Some('d') => layout.field(Field::Day, "2"),
                Some('H') => layout.field(Field::Hour, "2"),
                Some('M') => layout.field(Field::Minute, "2"),
                Some('S') => layout.field(Field::Second, "2"),
                Some('f') => layout.field(Field::Fraction, "1,9"),
                Some('s') => layout.field(Field::Epoch, "1,11"),
                Some('F') => {
                    layout.field(Field::Year, "4");
                    layout.literal('-');
                    layout.field(Field::Month, "2");
                    layout.literal('-');
                    layout.field(Field::Day, "2");
                }
                Some('%') => layout.literal('%'),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("`%{other}` is not known; %Y %m %d %H %M %S %f %s %F are"));
                }
            }
        }
        Ok(layout)
    }

    fn java(text: &str) -> Result<Self, String> {
        let mut layout = Self { expression: String::new(), fields: Vec::new() };
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if c == '\'' {
                // Two quotes are one; else all to the next one is text.
                let mut any = false;
                for c in rest.by_ref().take_while(|c| *c != '\'') {
                    any = true;
                    layout.literal(c);
                }
                if !any {
                    layout.literal('\'');
                }
                continue;
            }
            if !c.is_ascii_alphabetic() {
                layout.literal(c);
                continue;
            }
            let mut length = 1;
            while rest.next_if_eq(&c).is_some() {
                length += 1;
            }
            let (field, digits) = match (c, length) {
                ('y' | 'u', 4) => (Field::Year, "4"),
                ('M', 2) => (Field::Month, "2"),
                ('d', 2) => (Field::Day, "2"),
                ('H', 2) => (Field::Hour, "2"),
                ('m', 2) => (Field::Minute, "2"),
                ('s', 2) => (Field::Second, "2"),
                ('M', 1) => (Field::Month, "1,2"),
                ('d', 1) => (Field::Day, "1,2"),
                ('H', 1) => (Field::Hour, "1,2"),
                ('S', 1..=9) => (Field::Fraction, "1,9"),
                _ => {
                    let letters = String::from(c).repeat(length);
                    return Err(format!(
                        "`{letters}` is not known; yyyy MM dd HH mm ss SSS are, and text in 'quotes'"
                    ));
                }
            };
            layout.field(field, digits);
        }
        Ok(layout)
    }

    fn field(&mut self, field: Field, digits: &str) {
        self.expression.push_str(&format!("([0-9]{{{digits}}})"));
        self.fields.push(field);
    }

    fn literal(&mut self, c: char) {
        self.expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

/// The instant that these fields say; `None` if there is no such day or hour.
pub(super) fn instant<'a>(fields: impl Iterator<Item = (Field, &'a str)>) -> Option<Timestamp> {
    let (mut year, mut month, mut day) = (None, 1_i8, 1_i8);
    let (mut hour, mut minute, mut second, mut nanos) = (0_i8, 0_i8, 0_i8, 0_i32);
    let mut offset = 0_i64;
    for (field, text) in fields {
        match field {
            Field::Year => year = Some(text.parse::<i16>().ok()?),
            Field::Month => month = text.parse().ok()?,
            Field::Day => day = text.parse().ok()?,
            Field::Hour => hour = text.parse().ok()?,
            Field::Minute => minute = text.parse().ok()?,
            Field::Second => second = text.parse().ok()?,
            Field::Fraction => nanos = format!("{text:0<9}").parse().ok()?,
            Field::Offset => offset = offset_seconds(text)?,
            Field::Epoch => {
                let seconds = text.parse::<i64>().ok()?;
                return jiff::Timestamp::from_second(seconds).ok().map(|at| Timestamp(at.as_microsecond()));
            }
        }
    }
    let date = Date::new(year?, month, day).ok()?;
    let time = Time::new(hour, minute, second, nanos).ok()?;
    let at = Offset::UTC.to_timestamp(date.to_datetime(time)).ok()?;
    Some(Timestamp(at.as_microsecond().checked_sub(offset.checked_mul(1_000_000)?)?))
}

/// `Z`, `+0100`, `-05:30`, in seconds east of UTC.
fn offset_seconds(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return Some(0),
    };
    let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    Some(sign * (hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60))
}
