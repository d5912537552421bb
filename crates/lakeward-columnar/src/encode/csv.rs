//! Columns as delimited text: RFC 4180, with lines that end in a line feed
//! alone, which every reader takes.
//!
//! A null is the configured text, unquoted; a value that looks the same is
//! quoted, and so is an empty string. Nested values are JSON text.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, SchemaRef};

use super::{EncodeError, json};
use crate::shape::{CsvOptions, CsvQuote};

const CHUNK: usize = 64 * 1024;

/// The rules by which fields are quoted.
struct Dialect<'a> {
    delimiter: u8,
    quote: CsvQuote,
    null: &'a [u8],
}

/// Writes the header, if asked for, and one line per row.
pub(super) fn write_table(
    file: &mut impl Write,
    options: &CsvOptions,
    schema: &SchemaRef,
    parts: &[RecordBatch],
) -> Result<(), EncodeError> {
    let dialect = Dialect::new(options)?;
    let mut text = Vec::with_capacity(CHUNK + 4 * 1024);
    if options.header {
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                text.push(dialect.delimiter);
            }
            dialect.write_field(&mut text, field.name().as_bytes());
        }
        text.push(b'\n');
    }
    for part in parts {
        let columns = schema.fields().iter().zip(part.columns());
        let columns = columns.map(|(f, c)| Column::new(f, c)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..part.num_rows() {
            dialect.write_row(&mut text, &columns, row)?;
            if text.len() >= CHUNK {
                file.write_all(&text)?;
                text.clear();
            }
        }
    }
    file.write_all(&text)?;
    Ok(())
}

/// A column and how its values become fields.
enum Column<'a> {
    /// The field is the string itself.
    Text(&'a StringArray),
    /// NaN and the infinities have a text of their own here.
    Float(&'a arrow::array::Float64Array),
    /// The field is the value's JSON text, without the quotes of a string.
    Json(json::Value<'a>),
}

impl<'a> Column<'a> {
    fn new(field: &'a Field, column: &'a ArrayRef) -> Result<Self, EncodeError> {
        Ok(match column.data_type() {
            DataType::Utf8 => Self::Text(column.as_string()),
            DataType::Float64 => Self::Float(column.as_primitive::<Float64Type>()),
            _ => Self::Json(json::Value::new(field, column)?),
        })
    }
}

impl<'a> Dialect<'a> {
    fn new(options: &'a CsvOptions) -> Result<Self, EncodeError> {
        let delimiter = u8::try_from(options.delimiter)
            .ok()
            .filter(|d| d.is_ascii() && !matches!(d, b'"' | b'\r' | b'\n'))
            .ok_or_else(|| EncodeError::Option {
                option: "delimiter",
                reason: format!(
                    "{:?} is not one ASCII character other than a quote or a line end",
                    options.delimiter
                ),
            })?;
        let dialect = Self { delimiter, quote: CsvQuote::Minimal, null: b"" };
        let null = options.null.as_bytes();
        if null.iter().any(|&byte| dialect.is_special(byte)) {
            let reason = String::from("it has a delimiter, a quote or a line end in it");
            return Err(EncodeError::Option { option: "null", reason });
        }
        Ok(Self { delimiter, quote: options.quote, null })
    }

    fn is_special(&self, byte: u8) -> bool {
        byte == self.delimiter || matches!(byte, b'"' | b'\r' | b'\n')
    }

    fn write_row(&self, text: &mut Vec<u8>, columns: &[Column<'_>], row: usize) -> Result<(), EncodeError> {
        let start = text.len();
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                text.push(self.delimiter);
            }
            self.write_value(text, column, row)?;
        }
        if text.len() == start && !columns.is_empty() {
            // Readers skip an empty line, and a row must not get lost. Where
            // null and the empty string must stay two things, null has a text.
            text.extend_from_slice(b"\"\"");
        }
        text.push(b'\n');
        Ok(())
    }

    fn write_value(&self, text: &mut Vec<u8>, column: &Column<'_>, row: usize) -> Result<(), EncodeError> {
        match column {
            Column::Text(values) if values.is_null(row) => text.extend_from_slice(self.null),
            Column::Text(values) => self.write_field(text, values.value(row).as_bytes()),
            Column::Float(values) if values.is_null(row) => text.extend_from_slice(self.null),
            Column::Float(values) => {
                self.write_field(text, ryu::Buffer::new().format(values.value(row)).as_bytes());
            }
            Column::Json(values) if values.is_null(row) => text.extend_from_slice(self.null),
            Column::Json(values) => {
                let mut json = Vec::new();
                values.write(&mut json, row)?;
                match json.as_slice() {
                    [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => self.write_field(text, inner),
                    [b'"', ..] => {
                        let string: String = serde_json::from_slice(&json).map_err(EncodeError::failed)?;
                        self.write_field(text, string.as_bytes());
                    }
                    other => self.write_field(text, other),
                }
            }
        }
        Ok(())
    }

    /// One field that is not null.
    fn write_field(&self, text: &mut Vec<u8>, value: &[u8]) {
        let must_quote = self.quote == CsvQuote::All
            || value.is_empty()
            || value == self.null
            // Alone on a line, PostgreSQL before 18 takes it for the end.
            || value == b"\\."
            // Some readers trim unquoted fields.
            || value.first().is_some_and(|b| *b == b' ' || *b == b'\t')
            || value.last().is_some_and(|b| *b == b' ' || *b == b'\t')
            || value.iter().any(|&byte| self.is_special(byte));
        if !must_quote {
            text.extend_from_slice(value);
            return;
        }
        text.push(b'"');
        let mut rest = value;
        while let Some(quote) = memchr::memchr(b'"', rest) {
            text.extend_from_slice(&rest[..=quote]);
            text.push(b'"');
            rest = &rest[quote + 1..];
        }
        text.extend_from_slice(rest);
        text.push(b'"');
    }
}
