//! Our types and ClickHouse's: which column a new table gets, and how a value
//! of ours gets into a column that is there, without becoming another value.
//!
//! ClickHouse converts silently on insert: -3 becomes 18446744073709551613 in a
//! `UInt64`, 1.5 becomes 1 in an `Int32`, text that is no number becomes null
//! (seen with 26.9). So only what stays the same is left to it; every other
//! conversion is written out with a check that fails the insert.

use lakeward_model::{Column, ColumnType, Format};

use super::quote;

/// The type of a column of a table that is made for `ty`. Nothing is Nullable
/// around a tuple or an array: an absent one is empty.
pub(super) fn type_of(ty: &ColumnType) -> String {
    match ty {
        ColumnType::List(_) | ColumnType::Struct(_) => required(ty),
        _ => format!("Nullable({})", required(ty)),
    }
}

/// The same for a column that cannot be null, as a sorting key's.
pub(super) fn required(ty: &ColumnType) -> String {
    match ty {
        ColumnType::Bool => String::from("Bool"),
        ColumnType::Int64 => String::from("Int64"),
        ColumnType::Float64 => String::from("Float64"),
        ColumnType::Utf8 | ColumnType::Json | ColumnType::Binary => String::from("String"),
        // With a zone, so that no server shows it in its own.
        ColumnType::Timestamp | ColumnType::TimestampTz => String::from("DateTime64(6, 'UTC')"),
        ColumnType::Date => String::from("Date32"),
        ColumnType::Decimal(precision, scale) => format!("Decimal({precision}, {scale})"),
        ColumnType::List(item) => format!("Array({})", type_of(item)),
        ColumnType::Struct(fields) => format!("Tuple({})", structure(fields)),
    }
}

/// Names and types, as `input('…')` takes them.
pub(super) fn structure(columns: &[Column]) -> String {
    let column = |Column { name, ty }: &Column| format!("{} {}", quote::name(name), type_of(ty));
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// How values of one of our types get into a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// As they are: all of them fit, or ClickHouse says so.
    Exact,
    /// By this expression, which fails for a value that does not fit.
    Cast(String),
    /// Never. A type that would take them.
    No(String),
}

/// How values of `ours`, in a file of this format and called `value` in the
/// statement, get into a column of the type `theirs`.
pub(super) fn fit(value: &str, ours: &ColumnType, theirs: &str, format: Format) -> Fit {
    let target = Target::of(theirs);
    let how = Conversion { value, target: &target, is_text: format == Format::Ndjson };
    how.fit(ours).unwrap_or_else(|| Fit::No(type_of(ours)))
}

/// A type of a table's column.
struct Target<'a> {
    /// Without `Nullable`, `LowCardinality` and `SimpleAggregateFunction`.
    text: &'a str,
    /// `DateTime64` of `DateTime64(3, 'UTC')`.
    name: &'a str,
    arguments: Vec<&'a str>,
    is_nullable: bool,
}

impl<'a> Target<'a> {
    fn of(text: &'a str) -> Self {
        let (mut text, mut is_nullable) = (text.trim(), false);
        loop {
            let (name, arguments) = call(text);
            match (name, arguments.as_slice()) {
                ("Nullable", [inner]) => (text, is_nullable) = (inner, true),
                ("LowCardinality", [inner]) | ("SimpleAggregateFunction", [_, inner]) => text = inner,
                _ => return Self { text, name, arguments, is_nullable },
            }
        }
    }

    fn number(&self, at: usize) -> Option<u8> {
        self.arguments.get(at)?.parse().ok()
    }

    /// The type as a cast's, which takes null and leaves it to the column what
    /// that means.
    fn nullable(&self) -> String {
        quote::literal(&format!("Nullable({})", self.text))
    }
}

/// A type's name and its arguments, cut at the commas outside parentheses and
/// quotes.
fn call(text: &str) -> (&str, Vec<&str>) {
    let Some((name, rest)) = text.split_once('(') else { return (text, Vec::new()) };
    let Some(inside) = rest.strip_suffix(')') else { return (text, Vec::new()) };
    let (mut arguments, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_u32, None, false);
    for (at, c) in inside.char_indices() {
        match (quoted, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(quote), c) if c == quote => quoted = None,
            (Some(_), _) => {}
            (None, '\'' | '`') => quoted = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                arguments.push(inside[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    arguments.push(inside[start..].trim());
    (name.trim(), arguments)
}

/// The fields of a tuple with names; `None` if it has none.
pub(super) fn fields(theirs: &str) -> Option<Vec<(String, String)>> {
    let target = Target::of(theirs);
    if target.name != "Tuple" {
        return None;
    }
    target.arguments.iter().map(|argument| named(argument)).collect()
}

/// The name and the type of a tuple's field.
fn named(field: &str) -> Option<(String, String)> {
    let Some(quoted) = field.strip_prefix('`') else {
        let (name, ty) = field.split_once(' ')?;
        return Some((name.into(), ty.trim().into()));
    };
    let (mut name, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            c if escaped => {
                name.push(match c {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '0' => '\0',
                    c => c,
                });
                escaped = false;
            }
            '\\' => escaped = true,
            '`' => return Some((name, quoted[at + 1..].trim().into())),
            c => name.push(c),
        }
    }
    None
}

struct Conversion<'a> {
    value: &'a str,
    target: &'a Target<'a>,
    /// Whether the file is text, of which ClickHouse parses each value as the
    /// column's type.
    is_text: bool,
}

impl Conversion<'_> {
    fn fit(&self, ours: &ColumnType) -> Option<Fit> {
        let (value, target) = (self.value, self.target);
        let plain = || Some(Fit::Cast(format!("CAST({value}, {})", target.nullable())));
        let is_integer = target.name.starts_with("Int") || target.name.starts_with("UInt");
        let is_float = target.name.starts_with("Float");
        if target.name == "String" {
            return self.as_text(ours);
        }
        match ours {
            ColumnType::Bool => match target.name {
                "Bool" => Some(Fit::Exact),
                _ if is_integer => plain(),
                _ => None,
            },
            ColumnType::Int64 => match target.name {
                "Int64" | "Int128" | "Int256" => Some(Fit::Exact),
                _ if is_integer || is_float => self.if_same(),
                "Decimal" => plain(),
                _ => None,
            },
            ColumnType::Float64 => match target.name {
                "Float64" => Some(Fit::Exact),
                // Who has such a column wants what it holds.
                "Float32" | "Decimal" => plain(),
                _ if is_integer => self.if_same(),
                _ => None,
            },
            ColumnType::Utf8 => self.of_text(is_integer || is_float),
            ColumnType::Json => self.of_json(value),
            ColumnType::Binary => self.of_fixed(),
            ColumnType::Timestamp | ColumnType::TimestampTz => self.of_time(*ours == ColumnType::TimestampTz),
            ColumnType::Date => match target.name {
                "Date32" => Some(Fit::Exact),
                "Date" => self.if_in_range("toDate", "toDate32('1970-01-01')", "toDate32('2149-06-07')"),
                "DateTime64" => plain(),
                "DateTime" => {
                    self.if_in_range("toDateTime", "toDate32('1970-01-01')", "toDate32('2106-02-07')")
                }
                _ => None,
            },
            ColumnType::Decimal(precision, scale) => self.of_decimal(*precision, *scale),
            ColumnType::List(item) => self.of_list(item),
            ColumnType::Struct(ours) => self.of_struct(ours),
        }
    }

    /// Anything is text, if only as JSON.
    fn as_text(&self, ours: &ColumnType) -> Option<Fit> {
        let value = self.value;
        Some(match ours {
            ColumnType::Utf8 | ColumnType::Json | ColumnType::Binary => Fit::Exact,
            // In text files it is taken as it stands there.
            ColumnType::List(_) | ColumnType::Struct(_) if self.is_text => Fit::Exact,
            ColumnType::List(_) | ColumnType::Struct(_) => Fit::Cast(format!("toJSONString({value})")),
            _ => Fit::Cast(format!("toString({value})")),
        })
    }

    /// An expression, with an error if the value is there and `wrong`.
    fn unless(&self, wrong: &str, converted: &str) -> Fit {
        let value = self.value;
        let message = quote::literal(&format!("column {value}: a value does not fit {}", self.target.text));
        Fit::Cast(format!("if(throwIf(isNotNull({value}) AND ({wrong}), {message}) = 0, {converted}, NULL)"))
    }

    /// By a function that gives null for what does not fit.
    fn or_null(&self, converted: &str) -> Option<Fit> {
        Some(self.unless(&format!("isNull({converted})"), converted))
    }

    /// Numbers that stay the same number.
    fn if_same(&self) -> Option<Fit> {
        self.or_null(&format!("accurateCastOrNull({}, {})", self.value, quote::literal(self.target.text)))
    }

    /// By a function that wraps around outside of `from..to`.
    fn if_in_range(&self, function: &str, from: &str, to: &str) -> Option<Fit> {
        let value = self.value;
        let wrong = format!("{value} < {from} OR {value} >= {to}");
        Some(self.unless(&wrong, &format!("{function}({value})")))
    }

    fn of_text(&self, is_number: bool) -> Option<Fit> {
        let (value, target) = (self.value, self.target);
        let time = format!("parseDateTime64BestEffortOrNull({value}, 6, 'UTC')");
        let date = format!("toDate32OrNull({value})");
        match target.name {
            "UUID" | "IPv4" | "IPv6" | "Bool" | "Decimal" => self.if_same(),
            _ if is_number => self.if_same(),
            "Enum8" | "Enum16" => Some(Fit::Cast(format!("CAST({value}, {})", target.nullable()))),
            "DateTime64" => {
                let scale = target.number(0)?;
                self.or_null(&format!("parseDateTime64BestEffortOrNull({value}, {scale}, 'UTC')"))
            }
            "DateTime" => {
                let wrong = format!("isNull({time}) OR {}", outside(&time));
                Some(self.unless(&wrong, &format!("toDateTime({time})")))
            }
            "Date32" => self.or_null(&date),
            "Date" => {
                let wrong = format!(
                    "isNull({date}) OR {date} < toDate32('1970-01-01') OR {date} >= toDate32('2149-06-07')"
                );
                Some(self.unless(&wrong, &format!("toDate({date})")))
            }
            "JSON" => self.of_json(value),
            _ => self.of_fixed(),
        }
    }

    fn of_fixed(&self) -> Option<Fit> {
        let (value, target) = (self.value, self.target);
        let length = target.number(0).filter(|_| target.name == "FixedString")?;
        let converted = format!("CAST({value}, {})", target.nullable());
        Some(self.unless(&format!("length({value}) > {length}"), &converted))
    }

    /// `text` is an expression that gives JSON text.
    fn of_json(&self, text: &str) -> Option<Fit> {
        let target = self.target;
        match target.name {
            "JSON" if target.is_nullable => Some(Fit::Cast(format!("CAST({text}, {})", target.nullable()))),
            "JSON" => {
                let ty = quote::literal(target.text);
                Some(Fit::Cast(format!("CAST(ifNull({text}, '{{}}'), {ty})")))
            }
            _ => None,
        }
    }

    fn of_time(&self, has_zone: bool) -> Option<Fit> {
        let (value, target) = (self.value, self.target);
        match target.name {
            "DateTime64" => {
                let is_utc = target.arguments.get(1) == Some(&"'UTC'");
                // Text without a zone would be read as the column's, and ticks
                // of nanoseconds overflow.
                if target.number(0)? > 8 || (self.is_text && !has_zone && !is_utc) {
                    return Some(Fit::Cast(format!("CAST({value}, {})", target.nullable())));
                }
                Some(Fit::Exact)
            }
            "DateTime" => Some(self.unless(&outside(value), &format!("toDateTime({value})"))),
            _ => None,
        }
    }

    fn of_decimal(&self, precision: u8, scale: u8) -> Option<Fit> {
        let (value, target) = (self.value, self.target);
        let converted = format!("CAST({value}, {})", target.nullable());
        match target.name {
            "Decimal" => {
                let (theirs, digits) = (target.number(0)?, target.number(1)?);
                let is_wider =
                    digits >= scale && theirs.saturating_sub(digits) >= precision.saturating_sub(scale);
                if is_wider {
                    return Some(Fit::Exact);
                }
                Some(self.unless(&format!("{converted} != {value}"), &converted))
            }
            "Float32" | "Float64" => Some(Fit::Cast(converted)),
            _ => None,
        }
    }

    fn of_list(&self, item: &ColumnType) -> Option<Fit> {
        let target = self.target;
        let inner = target.arguments.first().filter(|_| target.name == "Array")?;
        let element = Target::of(inner);
        let of_item = Conversion { value: self.value, target: &element, is_text: self.is_text }.fit(item)?;
        let takes_null = element.is_nullable || matches!(item, ColumnType::List(_) | ColumnType::Struct(_));
        match of_item {
            Fit::Exact if takes_null => Some(Fit::Exact),
            // It fails for an element that is null or does not fit; text that
            // is no number it makes null.
            Fit::Exact => self.accurate(),
            Fit::Cast(_) if is_number(item) => self.accurate(),
            _ => None,
        }
    }

    fn of_struct(&self, ours: &[Column]) -> Option<Fit> {
        if self.target.name == "JSON" {
            let text = format!("toJSONString({})", self.value);
            return if self.is_text { Some(Fit::Exact) } else { self.of_json(&text) };
        }
        let theirs = fields(self.target.text)?;
        let mut is_exact = true;
        for column in ours {
            let (_, ty) = theirs.iter().find(|(name, _)| *name == column.name)?;
            let field = Target::of(ty);
            match (Conversion { value: self.value, target: &field, is_text: self.is_text }).fit(&column.ty)? {
                Fit::Exact => {}
                Fit::Cast(_) if is_number(&column.ty) => is_exact = false,
                _ => return None,
            }
        }
        if is_exact { Some(Fit::Exact) } else { self.accurate() }
    }

    fn accurate(&self) -> Option<Fit> {
        Some(Fit::Cast(format!("accurateCast({}, {})", self.value, quote::literal(self.target.text))))
    }
}

fn is_number(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::Int64 | ColumnType::Float64)
}

/// Whether a time is none of `DateTime`'s 32 bits of seconds.
fn outside(time: &str) -> String {
    let at = |text: &str| format!("toDateTime64('{text}', 6, 'UTC')");
    format!("{time} < {} OR {time} >= {}", at("1970-01-01 00:00:00"), at("2106-02-07 06:28:16"))
}

#[cfg(test)]
#[path = "types/tests.rs"]
mod tests;
