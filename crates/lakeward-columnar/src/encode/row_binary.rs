//! Columns as ClickHouse's `RowBinaryWithNamesAndTypes`
//! (<https://clickhouse.com/docs/interfaces/formats/RowBinaryWithNamesAndTypes>):
//! a header with the columns' names and types, then each row's values one
//! behind the other, little-endian. Everything but arrays and tuples is
//! `Nullable`; where one of these is null it is empty, or all of it is null.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use bytes::Bytes;

use super::EncodeError;

/// The rows of `runs` as one file.
pub(super) fn encode(batch: &RecordBatch, runs: &[Range<usize>]) -> Result<Bytes, EncodeError> {
    let (schema, mut out) = (batch.schema_ref(), Vec::new());
    put_length(&mut out, schema.fields().len());
    for field in schema.fields() {
        put_bytes(&mut out, field.name().as_bytes());
    }
    for field in schema.fields() {
        put_bytes(&mut out, type_of(field.data_type())?.as_bytes());
    }
    let columns = batch.columns().iter().map(Values::new).collect::<Result<Vec<_>, _>>()?;
    for row in runs.iter().cloned().flatten() {
        for column in &columns {
            column.put(&mut out, Some(row));
        }
    }
    Ok(out.into())
}

/// ClickHouse's name of a type.
fn type_of(ty: &DataType) -> Result<String, EncodeError> {
    let nullable = |name: &str| Ok(format!("Nullable({name})"));
    match ty {
        DataType::Boolean => nullable("Bool"),
        DataType::Int64 => nullable("Int64"),
        DataType::Float64 => nullable("Float64"),
        DataType::Utf8 | DataType::Binary => nullable("String"),
        DataType::Timestamp(TimeUnit::Microsecond, _) => nullable("DateTime64(6, 'UTC')"),
        DataType::Date32 => nullable("Date32"),
        DataType::Decimal128(precision, scale) => nullable(&format!("Decimal({precision}, {scale})")),
        DataType::List(item) => Ok(format!("Array({})", type_of(item.data_type())?)),
        DataType::Struct(fields) => {
            let field = |field: &std::sync::Arc<Field>| {
                let name = field.name().replace('\\', "\\\\").replace('`', "\\`");
                Ok(format!("`{name}` {}", type_of(field.data_type())?))
            };
            Ok(format!(
                "Tuple({})",
                fields.iter().map(field).collect::<Result<Vec<_>, EncodeError>>()?.join(", ")
            ))
        }
        other => Err(EncodeError::Type(format!("row_binary has none for {other}"))),
    }
}

/// A column's values.
struct Values<'a> {
    nulls: Option<&'a NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Bool(&'a BooleanArray),
    Int64(&'a [i64]),
    Float64(&'a [f64]),
    Int32(&'a [i32]),
    /// With the bytes of each value.
    Decimal(&'a [i128], usize),
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    List(Box<Values<'a>>, &'a [i32]),
    Struct(Vec<Values<'a>>),
}

impl<'a> Values<'a> {
    fn new(column: &'a ArrayRef) -> Result<Self, EncodeError> {
        let kind = match column.data_type() {
            DataType::Boolean => Kind::Bool(column.as_boolean()),
            DataType::Int64 => Kind::Int64(column.as_primitive::<Int64Type>().values()),
            DataType::Float64 => Kind::Float64(column.as_primitive::<Float64Type>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Kind::Int64(column.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::Date32 => Kind::Int32(column.as_primitive::<Date32Type>().values()),
            DataType::Decimal128(precision, _) => {
                let width = match precision {
                    ..=9 => 4,
                    10..=18 => 8,
                    _ => 16,
                };
                Kind::Decimal(column.as_primitive::<Decimal128Type>().values(), width)
            }
            DataType::Utf8 => Kind::Text(column.as_string()),
            DataType::Binary => Kind::Binary(column.as_binary()),
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                Kind::List(Box::new(Self::new(list.values())?), list.value_offsets())
            }
            DataType::Struct(_) => {
                let columns = column.as_struct().columns().iter();
                Kind::Struct(columns.map(Values::new).collect::<Result<_, _>>()?)
            }
            other => return Err(EncodeError::Type(format!("row_binary has none for {other}"))),
        };
        Ok(Self { nulls: column.nulls(), kind })
    }

    /// Appends a value; `None` is one that is null because what it is in is.
    fn put(&self, out: &mut Vec<u8>, row: Option<usize>) {
        let row = row.filter(|row| self.nulls.is_none_or(|nulls| nulls.is_valid(*row)));
        match (&self.kind, row) {
            (Kind::List(values, offsets), Some(row)) => {
                let items = offsets[row] as usize..offsets[row + 1] as usize;
                put_length(out, items.len());
                items.for_each(|item| values.put(out, Some(item)));
            }
            (Kind::List(..), None) => out.push(0),
            (Kind::Struct(fields), row) => fields.iter().for_each(|field| field.put(out, row)),
            (_, None) => out.push(1),
            (kind, Some(row)) => {
                out.push(0);
                match kind {
                    Kind::Bool(values) => out.push(u8::from(values.value(row))),
                    Kind::Int64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
                    Kind::Float64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
                    Kind::Int32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
                    Kind::Decimal(values, width) => {
                        // The digits fit by the type's precision.
                        out.extend_from_slice(&values[row].to_le_bytes()[..*width]);
                    }
                    Kind::Text(values) => put_bytes(out, values.value(row).as_bytes()),
                    Kind::Binary(values) => put_bytes(out, values.value(row)),
                    Kind::List(..) | Kind::Struct(_) => {}
                }
            }
        }
    }
}

/// A length as LEB128.
fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// The file with nothing but these of its rows; `None` if it is none of ours, or
/// has fewer.
pub(crate) fn rows(file: &Bytes, rows: Range<u64>) -> Option<Bytes> {
    let mut reader = Reader { file, at: 0 };
    let columns = reader.length()?;
    for _ in 0..columns {
        reader.text()?;
    }
    let mut types = Vec::new();
    for _ in 0..columns {
        types.push(Skipped::parse(&mut reader.text()?)?);
    }
    let header = reader.at;
    let mut skip = |count: u64| {
        for _ in 0..count {
            types.iter().try_for_each(|ty| ty.skip(&mut reader))?;
        }
        Some(reader.at)
    };
    let start = skip(rows.start)?;
    let end = skip(rows.end.checked_sub(rows.start)?)?;
    Some([&file[..header], &file[start..end]].concat().into())
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.file.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn length(&mut self) -> Option<usize> {
        let mut length = 0_usize;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            length |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

/// What has to be known of a type to get past its values.
enum Skipped {
    /// Nullable, of so many bytes.
    Fixed(usize),
    /// Nullable text.
    Text,
    Array(Box<Skipped>),
    Tuple(Vec<Skipped>),
}

impl Skipped {
    /// Reads one of the types that [`type_of`] writes, and leaves what follows.
    fn parse(text: &mut &str) -> Option<Self> {
        fn eat(text: &mut &str, start: &str) -> Option<()> {
            *text = text.strip_prefix(start)?;
            Some(())
        }
        if eat(text, "Array(").is_some() {
            let item = Self::parse(text)?;
            eat(text, ")")?;
            return Some(Self::Array(Box::new(item)));
        }
        if eat(text, "Tuple(").is_some() {
            let mut fields = Vec::new();
            loop {
                eat(text, "`")?;
                let mut escaped = false;
                let end = text.find(|c| {
                    let is_end = c == '`' && !escaped;
                    escaped = c == '\\' && !escaped;
                    is_end
                })?;
                *text = text.get(end + 1..)?;
                eat(text, " ")?;
                fields.push(Self::parse(text)?);
                if eat(text, ", ").is_none() {
                    eat(text, ")")?;
                    return Some(Self::Tuple(fields));
                }
            }
        }
        eat(text, "Nullable(")?;
        let kinds = [
            ("Bool)", Self::Fixed(1)),
            ("Int64)", Self::Fixed(8)),
            ("Float64)", Self::Fixed(8)),
            ("Date32)", Self::Fixed(4)),
            ("DateTime64(6, 'UTC'))", Self::Fixed(8)),
            ("String)", Self::Text),
        ];
        for (name, kind) in kinds {
            if eat(text, name).is_some() {
                return Some(kind);
            }
        }
        eat(text, "Decimal(")?;
        let end = text.find("))")?;
        let precision: u8 = text.get(..end)?.split(',').next()?.parse().ok()?;
        *text = text.get(end + 2..)?;
        Some(Self::Fixed(match precision {
            ..=9 => 4,
            10..=18 => 8,
            _ => 16,
        }))
    }

    fn skip(&self, reader: &mut Reader<'_>) -> Option<()> {
        match self {
            Self::Array(item) => {
                for _ in 0..reader.length()? {
                    item.skip(reader)?;
                }
            }
            Self::Tuple(fields) => fields.iter().try_for_each(|field| field.skip(reader))?,
            Self::Fixed(_) | Self::Text if reader.take(1)? == [1] => {}
            Self::Fixed(length) => drop(reader.take(*length)?),
            Self::Text => {
                let length = reader.length()?;
                reader.take(length)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int64Array, ListArray, StructArray, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let numbers: ArrayRef =
            Arc::new(Int64Array::from_iter((0..rows as i64).map(|n| (n % 3 > 0).then_some(-n))));
        let texts: ArrayRef = Arc::new(StringArray::from_iter(
            (0..rows).map(|n| (n % 4 > 0).then(|| "x".repeat(n * 37 % 300))),
        ));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..rows as i64).map(|n| (n % 5 > 0).then(|| (0..n % 4).map(|m| (m > 0).then_some(m)))),
        ));
        let times = TimestampMicrosecondArray::from_iter((0..rows as i64).map(Some)).with_timezone("UTC");
        let prices = Decimal128Array::from_iter((0..rows as i128).map(Some))
            .with_precision_and_scale(12, 2)
            .expect("a decimal");
        let object: ArrayRef = Arc::new(StructArray::from(vec![
            (Arc::new(Field::new("a `b`, \\", DataType::Utf8, true)), Arc::clone(&texts)),
            (Arc::new(Field::new("l", lists.data_type().clone(), true)), Arc::clone(&lists)),
        ]));
        let columns: [(&str, ArrayRef); 6] = [
            ("n", numbers),
            ("t", texts),
            ("l", lists),
            ("o", object),
            ("at", Arc::new(times)),
            ("p", Arc::new(prices)),
        ];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }

    #[test]
    fn bytes_are_as_documented() {
        let one: ArrayRef = Arc::new(Int64Array::from(vec![Some(258), None]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![None, Some("ä")]));
        let batch = RecordBatch::try_from_iter([("n", one), ("t", text)]).expect("a batch");
        let mut expect = vec![2, 1, b'n', 1, b't', 15];
        expect.extend_from_slice(b"Nullable(Int64)");
        expect.push(16);
        expect.extend_from_slice(b"Nullable(String)");
        expect.extend_from_slice(&[0, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 0xc3, 0xa4]);
        assert_eq!(encode(&batch, &[0..1, 1..2]).expect("it encodes"), expect);
    }

    proptest! {
        #[test]
        fn a_part_is_what_encoding_only_these_rows_gives(count in 1_usize..60, from in 0_usize..60, to in 0_usize..60) {
            let (from, to) = (from.min(count), to.min(count));
            prop_assume!(from <= to);
            let batch = batch(count);
            let of = |run: Range<usize>| encode(&batch, std::slice::from_ref(&run)).expect("it encodes");
            let (whole, part) = (of(0..count), of(from..to));
            prop_assert_eq!(rows(&whole, from as u64..to as u64), Some(part));
            prop_assert_eq!(rows(&whole, 0..count as u64 + 1), None);
        }

        #[test]
        fn other_bytes_are_no_file(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = rows(&Bytes::from(bytes), 0..3);
        }
    }
}
