//! Fingerprints of values.
//!
//! A value has a kind and canonical bytes; its hash is that of the bytes,
//! seeded by the kind. The hashes of a row's values are then hashed together,
//! so that where one ends and the next starts cannot be mistaken. Inside a
//! nested value, kind and length stand before each value's bytes.

use std::fmt::Write;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::path::{Column, find};

/// What a value is. The numbers are part of every stored fingerprint: never
/// change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null = 0,
    Bool = 1,
    /// A number without a fraction: 16 bytes, little-endian, signed.
    Integer = 2,
    /// Any other float: the bits of the double.
    Float = 3,
    /// A decimal with a fraction: unscaled value without trailing zeros, scale.
    Decimal = 4,
    /// Text and binary: the bytes.
    Bytes = 5,
    /// Nanoseconds since 1970: 16 bytes.
    Instant = 6,
    /// Anything else, as Arrow displays it, behind its type.
    Shown = 7,
    List = 8,
    Struct = 9,
    /// A row's values together.
    Row = 10,
    /// A whole record.
    Record = 11,
}

impl Kind {
    /// Spreads the kinds over the seeds.
    pub(super) fn seed(self, seed: u64) -> u64 {
        seed.wrapping_add((self as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// The fingerprint of each row over `columns`; `None` where all are null.
pub(super) fn fingerprints(
    rows: &RecordBatch,
    columns: &[String],
    seed: u64,
) -> Result<Vec<Option<u128>>, ArrowError> {
    let mut folded = Folded {
        hashes: vec![0; rows.num_rows()],
        any: vec![false; rows.num_rows()],
        seed,
        row_seed: Kind::Row.seed(seed),
        null: xxh3_128_with_seed(&[], Kind::Null.seed(seed)),
    };
    for path in columns {
        match find(rows, path) {
            Some(column) => folded.add(&column)?,
            None => folded.fold(|_| None),
        }
    }
    Ok(folded.hashes.into_iter().zip(folded.any).map(|(hash, any)| any.then_some(hash)).collect())
}

/// The hash of each row over the columns so far.
struct Folded {
    hashes: Vec<u128>,
    /// Whether any value was not null.
    any: Vec<bool>,
    seed: u64,
    row_seed: u64,
    null: u128,
}

impl Folded {
    /// Adds a value to every row.
    #[inline]
    fn fold(&mut self, mut hash: impl FnMut(usize) -> Option<u128>) {
        let mut both = [0; 32];
        for (row, (folded, any)) in self.hashes.iter_mut().zip(&mut self.any).enumerate() {
            let value = hash(row);
            *any |= value.is_some();
            both[..16].copy_from_slice(&folded.to_le_bytes());
            both[16..].copy_from_slice(&value.unwrap_or(self.null).to_le_bytes());
            *folded = xxh3_128_with_seed(&both, self.row_seed);
        }
    }

    /// Adds a column: what most keys are directly, the rest by way of bytes.
    fn add(&mut self, column: &Column) -> Result<(), ArrowError> {
        let Column { values, nulls } = column;
        let valid = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let bytes_seed = Kind::Bytes.seed(self.seed);
        let text = |text: &[u8]| xxh3_128_with_seed(text, bytes_seed);
        match values.data_type() {
            DataType::Utf8 => {
                let texts = values.as_string::<i32>();
                self.fold(|row| valid(row).then(|| text(texts.value(row).as_bytes())));
            }
            DataType::LargeUtf8 => {
                let texts = values.as_string::<i64>();
                self.fold(|row| valid(row).then(|| text(texts.value(row).as_bytes())));
            }
            DataType::Utf8View => {
                let texts = values.as_string_view();
                self.fold(|row| valid(row).then(|| text(texts.value(row).as_bytes())));
            }
            DataType::Int64 => {
                let numbers = values.as_primitive::<Int64Type>().values();
                let seed = Kind::Integer.seed(self.seed);
                let hash = |number: i64| xxh3_128_with_seed(&i128::from(number).to_le_bytes(), seed);
                self.fold(|row| valid(row).then(|| hash(numbers[row])));
            }
            DataType::Dictionary(_, value) => {
                self.add(&Column { values: cast(values, value)?, nulls: nulls.clone() })?;
            }
            DataType::RunEndEncoded(_, value) => {
                self.add(&Column { values: cast(values, value.data_type())?, nulls: nulls.clone() })?;
            }
            _ => {
                let mut bytes = Vec::new();
                let mut failed = None;
                let seed = self.seed;
                self.fold(|row| {
                    bytes.clear();
                    match append(values, row, &mut bytes) {
                        _ if !valid(row) => None,
                        Ok(Kind::Null) => None,
                        Ok(kind) => Some(xxh3_128_with_seed(&bytes, kind.seed(seed))),
                        Err(error) => {
                            failed.get_or_insert(error);
                            None
                        }
                    }
                });
                return failed.map_or(Ok(()), Err);
            }
        }
        Ok(())
    }
}

/// Appends the canonical bytes of a value and answers its kind.
fn append(values: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<Kind, ArrowError> {
    use DataType as T;
    if values.is_null(row) {
        return Ok(Kind::Null);
    }
    let kind = match values.data_type() {
        T::Null => Kind::Null,
        T::Boolean => {
            out.push(u8::from(values.as_boolean().value(row)));
            Kind::Bool
        }
        T::Int8 => integer(native::<Int8Type>(values, row), out),
        T::Int16 => integer(native::<Int16Type>(values, row), out),
        T::Int32 => integer(native::<Int32Type>(values, row), out),
        T::Int64 => integer(native::<Int64Type>(values, row), out),
        T::UInt8 => integer(native::<UInt8Type>(values, row), out),
        T::UInt16 => integer(native::<UInt16Type>(values, row), out),
        T::UInt32 => integer(native::<UInt32Type>(values, row), out),
        T::UInt64 => integer(native::<UInt64Type>(values, row), out),
        T::Float16 => float(native::<Float16Type>(values, row).to_f64(), out),
        T::Float32 => float(f64::from(native::<Float32Type>(values, row)), out),
        T::Float64 => float(native::<Float64Type>(values, row), out),
        T::Decimal32(_, scale) => decimal(native::<Decimal32Type>(values, row).into(), *scale, out),
        T::Decimal64(_, scale) => decimal(native::<Decimal64Type>(values, row).into(), *scale, out),
        T::Decimal128(_, scale) => decimal(native::<Decimal128Type>(values, row), *scale, out),
        T::Utf8 => text(values.as_string::<i32>().value(row).as_bytes(), out),
        T::LargeUtf8 => text(values.as_string::<i64>().value(row).as_bytes(), out),
        T::Utf8View => text(values.as_string_view().value(row).as_bytes(), out),
        T::Binary => text(values.as_binary::<i32>().value(row), out),
        T::LargeBinary => text(values.as_binary::<i64>().value(row), out),
        T::BinaryView => text(values.as_binary_view().value(row), out),
        T::FixedSizeBinary(_) => text(values.as_fixed_size_binary().value(row), out),
        T::Date32 => instant(native::<Date32Type>(values, row), 86_400_000_000_000, out),
        T::Date64 => instant(native::<Date64Type>(values, row), 1_000_000, out),
        T::Timestamp(unit, _) => match unit {
            TimeUnit::Second => instant(native::<TimestampSecondType>(values, row), 1_000_000_000, out),
            TimeUnit::Millisecond => instant(native::<TimestampMillisecondType>(values, row), 1_000_000, out),
            TimeUnit::Microsecond => instant(native::<TimestampMicrosecondType>(values, row), 1_000, out),
            TimeUnit::Nanosecond => instant(native::<TimestampNanosecondType>(values, row), 1, out),
        },
        T::List(_) => list(&*values.as_list::<i32>().value(row), out)?,
        T::LargeList(_) => list(&*values.as_list::<i64>().value(row), out)?,
        T::FixedSizeList(..) => list(&*values.as_fixed_size_list().value(row), out)?,
        T::ListView(_) => list(&*values.as_list_view::<i32>().value(row), out)?,
        T::LargeListView(_) => list(&*values.as_list_view::<i64>().value(row), out)?,
        T::Map(..) => list(&values.as_map().value(row), out)?,
        T::Struct(fields) => {
            let of = values.as_struct();
            for (field, column) in fields.iter().zip(of.columns()) {
                if !column.is_null(row) {
                    within(out, |out| Ok(text(field.name().as_bytes(), out)))?;
                    within(out, |out| append(column, row, out))?;
                }
            }
            Kind::Struct
        }
        T::Dictionary(_, value) => return append(&cast(&values.slice(row, 1), value)?, 0, out),
        T::RunEndEncoded(_, value) => {
            return append(&cast(&values.slice(row, 1), value.data_type())?, 0, out);
        }
        other => {
            let options = FormatOptions::default();
            let mut shown = format!("{other} ");
            let formatter = ArrayFormatter::try_new(values, &options)?;
            write!(shown, "{}", formatter.value(row).try_to_string()?)
                .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            out.extend_from_slice(shown.as_bytes());
            Kind::Shown
        }
    };
    Ok(kind)
}

/// Appends a value inside another one: its kind and its length go before it.
fn within(
    out: &mut Vec<u8>,
    append: impl FnOnce(&mut Vec<u8>) -> Result<Kind, ArrowError>,
) -> Result<(), ArrowError> {
    let head = out.len();
    out.extend_from_slice(&[0; 9]);
    let kind = append(out)?;
    let length = (out.len() - head - 9) as u64;
    out[head] = kind as u8;
    out[head + 1..head + 9].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn list(items: &dyn Array, out: &mut Vec<u8>) -> Result<Kind, ArrowError> {
    for item in 0..items.len() {
        within(out, |out| append(items, item, out))?;
    }
    Ok(Kind::List)
}

fn native<T: ArrowPrimitiveType>(values: &dyn Array, row: usize) -> T::Native {
    values.as_primitive::<T>().value(row)
}

fn text(text: &[u8], out: &mut Vec<u8>) -> Kind {
    out.extend_from_slice(text);
    Kind::Bytes
}

fn integer(number: impl Into<i128>, out: &mut Vec<u8>) -> Kind {
    out.extend_from_slice(&number.into().to_le_bytes());
    Kind::Integer
}

fn float(number: f64, out: &mut Vec<u8>) -> Kind {
    // 2^127: below it, a float without a fraction is exactly an `i128`.
    const LIMIT: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if number.abs() < LIMIT && number.fract() == 0.0 {
        return integer(number as i128, out);
    }
    let canonical = if number.is_nan() { f64::NAN } else { number };
    out.extend_from_slice(&canonical.to_bits().to_le_bytes());
    Kind::Float
}

fn decimal(mut unscaled: i128, mut scale: i8, out: &mut Vec<u8>) -> Kind {
    while scale > 0 && unscaled % 10 == 0 {
        (unscaled, scale) = (unscaled / 10, scale - 1);
    }
    let factor = 10_i128.checked_pow(u32::from(scale.min(0).unsigned_abs()));
    if scale <= 0
        && let Some(whole) = factor.and_then(|factor| unscaled.checked_mul(factor))
    {
        return integer(whole, out);
    }
    out.extend_from_slice(&unscaled.to_le_bytes());
    out.push(scale.to_le_bytes()[0]);
    Kind::Decimal
}

fn instant(number: impl Into<i64>, nanos: i64, out: &mut Vec<u8>) -> Kind {
    let nanos = i128::from(number.into()) * i128::from(nanos);
    out.extend_from_slice(&nanos.to_le_bytes());
    Kind::Instant
}
