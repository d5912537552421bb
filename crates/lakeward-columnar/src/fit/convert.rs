//! Columns to their stored types: whole ones where a type means the same,
//! value by value where not.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringBuilder,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Field, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::decode::exact::Exact;
use crate::decode::special::{self, Special};
use crate::encode::EncodeError;
use crate::encode::json::Value;
use crate::schema::{ColumnType, JSON_METADATA, ToArrowType};

const DAY: i64 = 86_400_000_000;

/// The same values in the one layout that is stored.
pub(super) fn plain(array: &ArrayRef) -> Result<ArrayRef, EncodeError> {
    use DataType as T;
    let target = match array.data_type() {
        T::Dictionary(_, value) => T::clone(value),
        T::RunEndEncoded(_, value) => value.data_type().clone(),
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            T::List(Arc::clone(item))
        }
        _ => return Ok(ArrayRef::clone(array)),
    };
    plain(&cast(array, &target)?)
}

/// Whether [`plain`] makes text of it.
pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Whether nothing but nulls can be in it.
pub(super) fn is_void(data_type: &DataType) -> bool {
    *data_type == DataType::Null
}

/// What a plain type other than a struct or a list is stored as.
pub(super) fn stored(data_type: &DataType, field: &Field) -> ColumnType {
    use DataType as T;
    match data_type {
        T::Boolean => ColumnType::Bool,
        T::Utf8 if is_json(field) => ColumnType::Json,
        T::Map(..) => ColumnType::Json,
        T::Binary => ColumnType::Binary,
        T::Date32 | T::Date64 => ColumnType::Date,
        T::Timestamp(_, None) => ColumnType::Timestamp,
        T::Timestamp(_, Some(_)) => ColumnType::TimestampTz,
        // Finer than is stored.
        T::Decimal128(_, 39..) | T::Decimal256(_, 39..) => ColumnType::Utf8,
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s) => {
            decimal(*p, *s)
        }
        other if other.is_integer() => ColumnType::Int64,
        other if other.is_floating() => ColumnType::Float64,
        _ => ColumnType::Utf8,
    }
}

/// Parquet has no negative scale, and no more than 38 digits.
fn decimal(precision: u8, scale: i8) -> ColumnType {
    let more = if scale < 0 { scale.unsigned_abs() } else { 0 };
    let scale = scale.max(0).unsigned_abs().min(38);
    ColumnType::Decimal(precision.saturating_add(more).min(38), scale)
}

pub(super) fn is_json(field: &Field) -> bool {
    field.metadata().get(JSON_METADATA).is_some_and(|value| value == "true")
}

/// The values as `ty`, which is no struct of structs and no list of lists:
/// null is what is null or does not fit. `present` says which rows count.
pub(super) fn to_type<I: Iterator<Item = usize>>(
    field: &Field,
    array: &ArrayRef,
    ty: &ColumnType,
    present: &dyn Fn() -> I,
) -> Result<ArrayRef, EncodeError> {
    if !array.data_type().is_nested() {
        let stored_as = stored(array.data_type(), field);
        let direct = match (&stored_as, ty) {
            (a, b) if a == b => Some(canonical(array, ty)?),
            (ColumnType::Int64, ColumnType::Float64) => Some(floats(&canonical(array, &stored_as)?)),
            (a, b) if is_time(a) && is_time(b) => Some(times(&canonical(array, &stored_as)?, b)),
            _ => None,
        };
        if let Some(array) = direct {
            return Ok(array);
        }
    }
    match ty {
        ColumnType::Struct(_) | ColumnType::List(_) => Ok(new_null_array(&ty.to_data_type(), array.len())),
        _ => by_value(field, array, ty, present()),
    }
}

fn is_time(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::Timestamp | ColumnType::TimestampTz | ColumnType::Date)
}

/// The values as the type that they are stored as; null is what it does not
/// hold.
fn canonical(array: &ArrayRef, ty: &ColumnType) -> Result<ArrayRef, EncodeError> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Timestamp(unit, _) => {
            let micros = match unit {
                TimeUnit::Second => scaled::<TimestampSecondType>(array, |v| v.checked_mul(1_000_000)),
                TimeUnit::Millisecond => scaled::<TimestampMillisecondType>(array, |v| v.checked_mul(1_000)),
                TimeUnit::Microsecond => scaled::<TimestampMicrosecondType>(array, Some),
                TimeUnit::Nanosecond => {
                    scaled::<TimestampNanosecondType>(array, |v| Some(v.div_euclid(1_000)))
                }
            };
            zoned(micros, ty)
        }
        T::Date64 => {
            let days = array.as_primitive::<Date64Type>();
            let days: Date32Array =
                days.unary_opt(|millis| i32::try_from(millis.div_euclid(DAY / 1_000)).ok());
            Arc::new(days)
        }
        T::Time32(_) | T::Time64(_) | T::Duration(_) | T::Interval(_) | T::Union(..) => texts(array)?,
        from if *from == ty.to_data_type() => ArrayRef::clone(array),
        // What overflows is null.
        _ => cast(array, &ty.to_data_type())?,
    })
}

fn scaled<T: ArrowPrimitiveType<Native = i64>>(
    array: &ArrayRef,
    micros: impl Fn(i64) -> Option<i64>,
) -> TimestampMicrosecondArray {
    array.as_primitive::<T>().unary_opt(micros)
}

fn zoned(micros: TimestampMicrosecondArray, ty: &ColumnType) -> ArrayRef {
    match ty {
        ColumnType::TimestampTz => Arc::new(micros.with_timezone("UTC")),
        _ => Arc::new(micros.with_timezone_opt::<Arc<str>>(None)),
    }
}

/// Integers as floats that equal them.
fn floats(array: &ArrayRef) -> ArrayRef {
    let floats: Float64Array = array.as_primitive::<Int64Type>().unary_opt(|value| {
        let float = value as f64;
        (float as i128 == i128::from(value)).then_some(float)
    });
    Arc::new(floats)
}

/// One kind of time as another.
fn times(array: &ArrayRef, ty: &ColumnType) -> ArrayRef {
    let micros: TimestampMicrosecondArray = match array.as_primitive_opt::<Date32Type>() {
        Some(days) => days.unary(|day| i64::from(day) * DAY),
        None => array.as_primitive::<TimestampMicrosecondType>().clone(),
    };
    if *ty != ColumnType::Date {
        return zoned(micros, ty);
    }
    let days: Date32Array =
        micros.unary_opt(|micros| if micros % DAY == 0 { i32::try_from(micros / DAY).ok() } else { None });
    Arc::new(days)
}

fn texts(array: &ArrayRef) -> Result<ArrayRef, EncodeError> {
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    let mut texts = StringBuilder::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
        } else {
            texts.append_value(formatter.value(row).try_to_string()?);
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// Appends the JSON text of a value that is not null.
pub(super) fn write(
    value: &Value<'_>,
    array: &ArrayRef,
    row: usize,
    json: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if value.is_null(row) && array.data_type().is_floating() {
        // JSON has no NaN and no infinities; `null` would lose them.
        let options = FormatOptions::new();
        let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
        let text = formatter.value(row).try_to_string()?;
        return serde_json::to_writer(json, &text).map_err(EncodeError::failed);
    }
    value.write(json, row)
}

/// Value by value, by way of its JSON text.
fn by_value(
    field: &Field,
    array: &ArrayRef,
    ty: &ColumnType,
    present: impl Iterator<Item = usize>,
) -> Result<ArrayRef, EncodeError> {
    let value = Value::new(field, array)?;
    let mut json = Vec::new();
    let rows = array.len();
    let mut bools: Vec<Option<bool>> = Vec::new();
    let mut ints: Vec<Option<i64>> = Vec::new();
    let mut floats: Vec<Option<f64>> = Vec::new();
    let mut texts = StringBuilder::new();
    let mut special = Special::new(ty);
    let mut valid = vec![false; rows];
    for row in present {
        json.clear();
        write(&value, array, row, &mut json)?;
        let is_string = json.first() == Some(&b'"');
        valid[row] = match ty {
            ColumnType::Bool => push(&mut bools, row, special::bool(&json).filter(|_| !is_string)),
            ColumnType::Int64 => push(&mut ints, row, special::int64(&json).filter(|_| !is_string)),
            ColumnType::Float64 => push(&mut floats, row, special::float64(&json).filter(|_| !is_string)),
            ColumnType::Json => push_text(&mut texts, row, std::str::from_utf8(&json).ok()),
            _ => special.as_mut().is_some_and(|special| {
                special.fill(row);
                is_same(ty, &json) && special.push(&json)
            }),
        };
    }
    Ok(match ty {
        ColumnType::Bool => {
            bools.resize(rows, None);
            Arc::new(BooleanArray::from(bools))
        }
        ColumnType::Int64 => {
            ints.resize(rows, None);
            Arc::new(Int64Array::from(ints))
        }
        ColumnType::Float64 => {
            floats.resize(rows, None);
            Arc::new(Float64Array::from(floats))
        }
        ColumnType::Json | ColumnType::Utf8 => {
            push_text(&mut texts, rows, None);
            Arc::new(texts.finish())
        }
        _ => match special {
            Some(mut special) => {
                special.fill(rows);
                special.into_array(Some(valid.into()))
            }
            None => new_null_array(&ty.to_data_type(), rows),
        },
    })
}

/// Puts a value into its row. Returns whether there is one.
fn push<T: Copy>(values: &mut Vec<Option<T>>, row: usize, value: Option<T>) -> bool {
    values.resize(row, None);
    values.push(value);
    value.is_some()
}

fn push_text(texts: &mut StringBuilder, row: usize, text: Option<&str>) -> bool {
    use arrow::array::ArrayBuilder;
    texts.append_nulls(row - texts.len());
    if let Some(text) = text {
        texts.append_value(text);
    }
    text.is_some()
}

/// Whether what comes of the value in a column of `ty` is still the same: no
/// number is taken for a time, no text for a number, and no time of day is
/// dropped.
fn is_same(ty: &ColumnType, json: &[u8]) -> bool {
    let text = special::text(json);
    match ty {
        ColumnType::Decimal(..) => text.is_none(),
        _ if text.as_ref().is_none_or(|text| Exact::parse(text.as_bytes()).is_some()) => false,
        ColumnType::Date => text.is_some_and(|text| text.len() == "2026-12-31".len()),
        _ => true,
    }
}
