//! Columns back to JSON text: one object per line.
//!
//! A null member is left out; a null element of a list is `null`. NaN and the
//! infinities, which JSON does not have, count as null. Types without a JSON
//! form of their own become text (`2024-01-31` for a date), binary becomes
//! base64.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{EncodeError, is_json};

/// How much text gathers before it is written on.
const CHUNK: usize = 64 * 1024;

/// Writes one object per row.
pub(super) fn write_lines(file: &mut impl Write, parts: &[RecordBatch]) -> Result<(), EncodeError> {
    let mut text = Vec::with_capacity(CHUNK + 4 * 1024);
    for part in parts {
        let members = members(part.schema_ref().fields(), part.columns())?;
        for row in 0..part.num_rows() {
            write_object(&mut text, &members, row)?;
            text.push(b'\n');
            if text.len() >= CHUNK {
                file.write_all(&text)?;
                text.clear();
            }
        }
    }
    file.write_all(&text)?;
    Ok(())
}

/// A column with the text that stands before each of its values.
struct Member<'a> {
    /// The escaped name with its colon: `"name":`.
    key: Vec<u8>,
    value: Value<'a>,
}

fn members<'a>(
    fields: &'a arrow::datatypes::Fields,
    columns: &'a [ArrayRef],
) -> Result<Vec<Member<'a>>, EncodeError> {
    let member = |(field, column): (&'a std::sync::Arc<Field>, &'a ArrayRef)| {
        let mut key = Vec::with_capacity(field.name().len() + 3);
        write_string(&mut key, field.name());
        key.push(b':');
        Ok(Member { key, value: Value::new(field, column)? })
    };
    fields.iter().zip(columns).map(member).collect()
}

/// A column whose values can be written as JSON.
pub(crate) struct Value<'a> {
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Timestamp {
        values: &'a [i64],
        unit: TimeUnit,
        zoned: bool,
    },
    Date(&'a [i32]),
    Text(&'a StringArray),
    /// JSON text that goes out as it is.
    Json(&'a StringArray),
    Binary(&'a BinaryArray),
    Struct(Vec<Member<'a>>),
    List(Box<Value<'a>>, Ranges<'a>),
    Map(ArrayFormatter<'a>, Box<Value<'a>>, Ranges<'a>),
    /// Arrow's text of another kind of number.
    Number(ArrayFormatter<'a>),
    /// Arrow's text of anything else, as a string.
    Other(ArrayFormatter<'a>),
}

/// Which elements belong to a row.
enum Ranges<'a> {
    Small(&'a [i32]),
    Large(&'a [i64]),
    Fixed(usize),
}

impl Ranges<'_> {
    fn of(&self, row: usize) -> std::ops::Range<usize> {
        match self {
            Self::Small(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Large(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Fixed(size) => row * size..(row + 1) * size,
        }
    }
}

const FORMAT: FormatOptions<'static> = FormatOptions::new();

impl<'a> Value<'a> {
    pub(crate) fn new(field: &'a Field, column: &'a ArrayRef) -> Result<Self, EncodeError> {
        Ok(Self { nulls: column.logical_nulls(), kind: Kind::new(field, column)? })
    }

    /// Whether JSON has no value for this row.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return true;
        }
        match &self.kind {
            Kind::Null => true,
            Kind::Float32(values) => !values[row].is_finite(),
            Kind::Float64(values) => !values[row].is_finite(),
            _ => false,
        }
    }

    /// Appends the value of one row.
    pub(crate) fn write(&self, text: &mut Vec<u8>, row: usize) -> Result<(), EncodeError> {
        if self.is_null(row) {
            text.extend_from_slice(b"null");
            return Ok(());
        }
        match &self.kind {
            Kind::Null => {}
            Kind::Boolean(values) => {
                text.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
            }
            Kind::Int64(values) => text.extend_from_slice(itoa::Buffer::new().format(values[row]).as_bytes()),
            Kind::Float32(values) => {
                text.extend_from_slice(ryu::Buffer::new().format_finite(values[row]).as_bytes());
            }
            Kind::Float64(values) => {
                text.extend_from_slice(ryu::Buffer::new().format_finite(values[row]).as_bytes());
            }
            Kind::Timestamp { values, unit, zoned } => write_timestamp(text, values[row], *unit, *zoned),
            Kind::Date(values) => write_date(text, values[row]),
            Kind::Text(values) => write_string(text, values.value(row)),
            Kind::Json(values) => write_json(text, values.value(row)),
            Kind::Binary(values) => {
                write_string(text, &base64_simd::STANDARD.encode_to_string(values.value(row)));
            }
            Kind::Struct(members) => write_object(text, members, row)?,
            Kind::List(items, ranges) => write_list(text, items, ranges.of(row))?,
            Kind::Map(keys, values, ranges) => write_map(text, keys, values, ranges.of(row))?,
            Kind::Number(values) => write!(text, "{}", values.value(row))?,
            Kind::Other(values) => write_string(text, &values.value(row).try_to_string()?),
        }
        Ok(())
    }
}

impl<'a> Kind<'a> {
    fn new(field: &'a Field, column: &'a ArrayRef) -> Result<Self, EncodeError> {
        let items = |item, values| Value::new(item, values).map(Box::new);
        Ok(match column.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(column.as_boolean()),
            DataType::Int64 => Self::Int64(column.as_primitive::<Int64Type>().values()),
            DataType::Float32 => Self::Float32(column.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Self::Float64(column.as_primitive::<Float64Type>().values()),
            DataType::Timestamp(unit, zone) => {
                let values = match unit {
                    TimeUnit::Second => column.as_primitive::<TimestampSecondType>().values(),
                    TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().values(),
                    TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().values(),
                    TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().values(),
                };
                Self::Timestamp { values, unit: *unit, zoned: zone.is_some() }
            }
            DataType::Date32 => Self::Date(column.as_primitive::<Date32Type>().values()),
            DataType::Utf8 if is_json(field) => Self::Json(column.as_string()),
            DataType::Utf8 => Self::Text(column.as_string()),
            DataType::Binary => Self::Binary(column.as_binary()),
            DataType::Struct(fields) => Self::Struct(members(fields, column.as_struct().columns())?),
            DataType::List(item) => {
                let list = column.as_list::<i32>();
                Self::List(items(item, list.values())?, Ranges::Small(list.value_offsets()))
            }
            DataType::LargeList(item) => {
                let list = column.as_list::<i64>();
                Self::List(items(item, list.values())?, Ranges::Large(list.value_offsets()))
            }
            DataType::FixedSizeList(item, size) => {
                let list = column.as_fixed_size_list();
                Self::List(items(item, list.values())?, Ranges::Fixed(*size as usize))
            }
            DataType::Map(entries, _) => {
                let map = column.as_map();
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err(EncodeError::Type(format!("{}: a map without entries", field.name())));
                };
                let keys = ArrayFormatter::try_new(map.keys().as_ref(), &FORMAT)?;
                Self::Map(keys, items(&pair[1], map.values())?, Ranges::Small(map.value_offsets()))
            }
            other if other.is_numeric() => Self::Number(ArrayFormatter::try_new(column.as_ref(), &FORMAT)?),
            _ => Self::Other(ArrayFormatter::try_new(column.as_ref(), &FORMAT)?),
        })
    }
}

fn write_object(text: &mut Vec<u8>, members: &[Member<'_>], row: usize) -> Result<(), EncodeError> {
    text.push(b'{');
    let mut first = true;
    for member in members {
        if member.value.is_null(row) {
            continue;
        }
        if !first {
            text.push(b',');
        }
        first = false;
        text.extend_from_slice(&member.key);
        member.value.write(text, row)?;
    }
    text.push(b'}');
    Ok(())
}

fn write_list(
    text: &mut Vec<u8>,
    items: &Value<'_>,
    range: std::ops::Range<usize>,
) -> Result<(), EncodeError> {
    text.push(b'[');
    for item in range.clone() {
        if item > range.start {
            text.push(b',');
        }
        items.write(text, item)?;
    }
    text.push(b']');
    Ok(())
}

fn write_map(
    text: &mut Vec<u8>,
    keys: &ArrayFormatter<'_>,
    values: &Value<'_>,
    range: std::ops::Range<usize>,
) -> Result<(), EncodeError> {
    text.push(b'{');
    for entry in range.clone() {
        if entry > range.start {
            text.push(b',');
        }
        write_string(text, &keys.value(entry).try_to_string()?);
        text.push(b':');
        values.write(text, entry)?;
    }
    text.push(b'}');
    Ok(())
}

/// RFC 3339 in UTC: `2024-01-15T14:30:00.123456Z`, without the `Z` if there is
/// no zone; years that RFC 3339 cannot write go out as the number.
fn write_timestamp(text: &mut Vec<u8>, value: i64, unit: TimeUnit, zoned: bool) {
    let instant = match unit {
        TimeUnit::Second => jiff::Timestamp::from_second(value),
        TimeUnit::Millisecond => jiff::Timestamp::from_millisecond(value),
        TimeUnit::Microsecond => jiff::Timestamp::from_microsecond(value),
        TimeUnit::Nanosecond => jiff::Timestamp::from_nanosecond(i128::from(value)),
    };
    match instant {
        Ok(instant) if zoned => text.extend_from_slice(format!("\"{instant}\"").as_bytes()),
        Ok(instant) => {
            let local = jiff::tz::TimeZone::UTC.to_datetime(instant);
            text.extend_from_slice(format!("\"{local}\"").as_bytes());
        }
        Err(_) => text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
    }
}

/// `2024-01-15`; a day beyond the calendar goes out as its number.
fn write_date(text: &mut Vec<u8>, days: i32) {
    match jiff::Span::new().try_days(days).and_then(|span| jiff::civil::date(1970, 1, 1).checked_add(span)) {
        Ok(date) => text.extend_from_slice(format!("\"{date}\"").as_bytes()),
        Err(_) => text.extend_from_slice(itoa::Buffer::new().format(days).as_bytes()),
    }
}

/// JSON text as it is, but on one line. Text that is not JSON after all goes
/// out as a string, so that the line stays valid.
fn write_json(text: &mut Vec<u8>, json: &str) {
    if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        return write_string(text, json);
    }
    let start = text.len();
    text.extend_from_slice(json.as_bytes());
    // Valid JSON holds a line break only between its tokens.
    for byte in &mut text[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// What each byte becomes inside a string: itself (0), `\` and a letter, or
/// `\u00XX` (`u`).
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// A string with what RFC 8259, section 7 wants escaped.
pub(super) fn write_string(text: &mut Vec<u8>, string: &str) {
    let bytes = string.as_bytes();
    text.push(b'"');
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[byte as usize];
        if escape == 0 {
            continue;
        }
        text.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        if escape == b'u' {
            let digit = |nibble: u8| b"0123456789abcdef"[nibble as usize];
            text.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
        } else {
            text.extend_from_slice(&[b'\\', escape]);
        }
    }
    text.extend_from_slice(&bytes[copied..]);
    text.push(b'"');
}
