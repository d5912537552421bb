//! Columns of types that JSON does not have: times, days, decimals. A value
//! comes as its JSON text; what is read from it is exact, or it does not fit.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Date32Array, Decimal128Array, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;

use super::exact::Exact;
use crate::path::instant::{RANGE, TimeReader};
use crate::schema::ColumnType;

const DAY: i64 = 86_400_000_000;

/// The shortest epoch number as text: a shorter one may be a year or a day.
const EPOCH_TEXT: usize = 9;

/// A column of such a type.
#[derive(Debug)]
pub(crate) enum Special {
    Times {
        values: Vec<i64>,
        reader: TimeReader,
        utc: bool,
    },
    Days {
        values: Vec<i32>,
        reader: TimeReader,
    },
    Decimals {
        values: Vec<i128>,
        precision: u8,
        scale: u8,
    },
    /// JSON has no bytes: only nulls, so many.
    Bytes(usize),
}

impl Special {
    /// An empty column, if `ty` is such a type.
    pub(crate) fn new(ty: &ColumnType) -> Option<Self> {
        let times = |utc| Self::Times { values: Vec::new(), reader: TimeReader::default(), utc };
        Some(match ty {
            ColumnType::Timestamp => times(false),
            ColumnType::TimestampTz => times(true),
            ColumnType::Date => Self::Days { values: Vec::new(), reader: TimeReader::default() },
            ColumnType::Decimal(precision, scale) => {
                Self::Decimals { values: Vec::new(), precision: *precision, scale: *scale }
            }
            ColumnType::Binary => Self::Bytes(0),
            _ => return None,
        })
    }

    /// What it holds.
    pub(crate) fn ty(&self) -> ColumnType {
        match self {
            Self::Times { utc: false, .. } => ColumnType::Timestamp,
            Self::Times { utc: true, .. } => ColumnType::TimestampTz,
            Self::Days { .. } => ColumnType::Date,
            Self::Decimals { precision, scale, .. } => ColumnType::Decimal(*precision, *scale),
            Self::Bytes(_) => ColumnType::Binary,
        }
    }

    /// Appends a JSON value. Returns whether it fits; if not nothing is
    /// appended.
    pub(crate) fn push(&mut self, json: &[u8]) -> bool {
        match self {
            Self::Times { values, reader, .. } => time(reader, json).map(|micros| values.push(micros)),
            Self::Days { values, reader } => time(reader, json)
                .and_then(|micros| i32::try_from(micros.div_euclid(DAY)).ok())
                .map(|day| values.push(day)),
            Self::Decimals { values, precision, scale } => {
                decimal(json, *precision, *scale).map(|value| values.push(value))
            }
            Self::Bytes(_) => None,
        }
        .is_some()
    }

    /// Fills nulls up to `rows`.
    pub(crate) fn fill(&mut self, rows: usize) {
        match self {
            Self::Times { values, .. } => values.resize(rows, 0),
            Self::Days { values, .. } => values.resize(rows, 0),
            Self::Decimals { values, .. } => values.resize(rows, 0),
            Self::Bytes(known) => *known = rows,
        }
    }

    /// Takes back what is behind `rows`.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match self {
            Self::Times { values, .. } => values.truncate(rows),
            Self::Days { values, .. } => values.truncate(rows),
            Self::Decimals { values, .. } => values.truncate(rows),
            Self::Bytes(known) => *known = rows.min(*known),
        }
    }

    /// Makes room for so many rows more.
    pub(crate) fn reserve(&mut self, more: usize) {
        match self {
            Self::Times { values, .. } => values.reserve(more),
            Self::Days { values, .. } => values.reserve(more),
            Self::Decimals { values, .. } => values.reserve(more),
            Self::Bytes(_) => {}
        }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Times { values, .. } => values.len(),
            Self::Days { values, .. } => values.len(),
            Self::Decimals { values, .. } => values.len(),
            Self::Bytes(known) => *known,
        }
    }

    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Times { values, .. } => values.capacity() * 8,
                Self::Days { values, .. } => values.capacity() * 4,
                Self::Decimals { values, .. } => values.capacity() * 16,
                Self::Bytes(_) => 0,
            }
    }

    /// The column.
    pub(crate) fn into_array(self, nulls: Option<NullBuffer>) -> ArrayRef {
        match self {
            Self::Times { values, utc, .. } => {
                let times = TimestampMicrosecondArray::new(values.into(), nulls);
                Arc::new(if utc { times.with_timezone("UTC") } else { times })
            }
            Self::Days { values, .. } => Arc::new(Date32Array::new(values.into(), nulls)),
            Self::Decimals { values, precision, scale } => {
                let decimals = Decimal128Array::new(values.into(), nulls);
                let decimals = decimals.with_precision_and_scale(precision, scale.cast_signed());
                Arc::new(decimals.expect("a declared precision and scale are valid"))
            }
            Self::Bytes(rows) => Arc::new(BinaryArray::new_null(rows)),
        }
    }
}

/// The text of a JSON string; `None` for another value, and for one with a
/// lone surrogate.
pub(crate) fn text(json: &[u8]) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(json).ok().map(Cow::Owned)
}

/// The instant that a JSON value means, in microseconds; see
/// [`crate::shape::ColumnMode::Timestamp`].
fn time(reader: &mut TimeReader, json: &[u8]) -> Option<i64> {
    let Some(text) = text(json) else { return epoch(Exact::parse(json)?) };
    let text = text.as_bytes();
    if text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'))
        && let Some(number) = Exact::parse(text)
    {
        let digits = text.iter().filter(|b| b.is_ascii_digit()).count();
        return if digits >= EPOCH_TEXT { epoch(number) } else { None };
    }
    if text.iter().all(|b| b.is_ascii_digit() || *b == b'.') {
        // Leading zeros: no number.
        return None;
    }
    reader.read(text)
}

fn epoch(number: Exact) -> Option<i64> {
    let micros = match number.floor(0)?.unsigned_abs() {
        0..1_000_000_000_000 => number.floor(6)?,
        1_000_000_000_000..1_000_000_000_000_000 => number.floor(3)?,
        1_000_000_000_000_000..1_000_000_000_000_000_000 => number.floor(0)?,
        _ => number.floor(-3)?,
    };
    i64::try_from(micros).ok().filter(|micros| RANGE.contains(micros))
}

fn decimal(json: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let number = match text(json) {
        Some(text) => Exact::parse(text.as_bytes())?,
        None => Exact::parse(json)?,
    };
    let value = number.scaled(i32::from(scale))?;
    (value.unsigned_abs() < 10u128.pow(u32::from(precision))).then_some(value)
}

/// An integer: a number without a fraction that is not 0, or the text of an
/// integer as JSON has it.
pub(crate) fn int64(json: &[u8]) -> Option<i64> {
    let value = match text(json) {
        Some(text) => {
            let is_plain = !text.contains(['.', 'e', 'E']) && text != "-0";
            Exact::parse(text.as_bytes()).filter(|_| is_plain)?
        }
        None => Exact::parse(json)?,
    };
    i64::try_from(value.scaled(0)?).ok()
}

/// A float: the number, or the one in a string. An integer must equal it.
pub(crate) fn float64(json: &[u8]) -> Option<f64> {
    let text = text(json);
    let number = text.as_ref().map_or(json, |text| text.as_bytes());
    let digits = Exact::parse(number)?;
    let value: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let is_integer = !number.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
    let is_kept = if is_integer {
        digits.scaled(0).is_some_and(|exact| value as i128 == exact)
    } else {
        value.is_finite() && (value != 0.0 || digits.scaled(0) == Some(0))
    };
    is_kept.then_some(value)
}

/// True or false, also as text.
pub(crate) fn bool(json: &[u8]) -> Option<bool> {
    match json {
        b"true" | b"\"true\"" => Some(true),
        b"false" | b"\"false\"" => Some(false),
        _ => None,
    }
}
