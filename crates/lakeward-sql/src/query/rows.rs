//! Rows of an answer, for machines and for people.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder, make_encoder,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lakeward_columnar::encode;
use lakeward_columnar::shape::{CsvOptions, Output};

use super::QueryError;
use super::schema::is_json;

/// A column of an answer or of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds, for a person: `text`, `integer`, `list of text`.
    pub holds: String,
    /// Whether that is a number.
    pub is_number: bool,
}

/// Some rows of an answer.
#[derive(Debug, Clone)]
pub struct Rows(RecordBatch);

impl Column {
    pub(super) fn all(schema: &Schema) -> Vec<Self> {
        let column = |field: &FieldRef| Self {
            name: field.name().clone(),
            holds: holds(field),
            is_number: field.data_type().is_numeric(),
        };
        schema.fields().iter().map(column).collect()
    }
}

/// A type in words.
fn holds(field: &Field) -> String {
    if is_json(field) {
        return String::from("json");
    }
    match field.data_type() {
        DataType::Boolean => String::from("boolean"),
        ty if ty.is_integer() => String::from("integer"),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => String::from("float"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => String::from("text"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => String::from("bytes"),
        DataType::Date32 | DataType::Date64 => String::from("date"),
        DataType::Timestamp(_, _) => String::from("timestamp"),
        DataType::Struct(fields) => {
            let inner: Vec<String> =
                fields.iter().map(|field| format!("{}: {}", field.name(), holds(field))).collect();
            format!("{{{}}}", inner.join(", "))
        }
        DataType::List(item) | DataType::LargeList(item) => format!("list of {}", holds(item)),
        other => other.to_string().to_lowercase(),
    }
}

impl Rows {
    /// As columns of plain text types: what the writers know.
    pub(super) fn new(batch: &RecordBatch) -> Result<Self, QueryError> {
        let mut fields = Vec::with_capacity(batch.num_columns());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let to = match field.data_type() {
                DataType::Utf8View | DataType::LargeUtf8 => Some(DataType::Utf8),
                DataType::Dictionary(_, value) => Some(value.as_ref().clone()),
                DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                    Some(DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()))
                }
                _ => None,
            };
            columns.push(match &to {
                Some(to) if to != field.data_type() => cast(column, to).map_err(failed)?,
                _ => Arc::clone(column),
            });
            let ty = to.unwrap_or_else(|| field.data_type().clone());
            fields.push(Arc::new(Field::clone(field).with_data_type(ty).with_nullable(true)));
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = Arc::new(Schema::new(fields));
        RecordBatch::try_new_with_options(schema, columns, &options).map(Self).map_err(failed)
    }

    pub(super) fn batch(&self) -> &RecordBatch {
        &self.0
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.num_rows()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `rows` of them.
    #[must_use]
    pub fn first(&self, rows: usize) -> Self {
        Self(self.0.slice(0, rows.min(self.len())))
    }

    /// Appends one JSON object per row and line. A null is written as such;
    /// JSON that is kept as text becomes part of the object.
    ///
    /// # Errors
    /// A value has no JSON form.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<(), QueryError> {
        let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Inline));
        let mut writer = builder.build::<_, LineDelimited>(out);
        writer.write(&self.0).and_then(|()| writer.finish()).map_err(failed)
    }

    /// Appends one line of CSV per row, with the names first if `header`.
    /// Nested values are JSON text; a null is an empty field, an empty text `""`.
    ///
    /// # Errors
    /// A value has no text form.
    pub fn write_csv(&self, header: bool, out: &mut Vec<u8>) -> Result<(), QueryError> {
        let options = Output::Csv(CsvOptions { header, ..CsvOptions::default() });
        let whole = std::iter::once(0..self.len()).collect::<Vec<_>>();
        let file =
            encode::encode(&options, &self.0, &whole).map_err(|e| QueryError::Internal(e.to_string()))?;
        out.extend_from_slice(&file.body);
        Ok(())
    }

    /// The values as a person reads them, row by row; `None` is a null.
    ///
    /// # Errors
    /// A value has no text form.
    pub fn texts(&self) -> Result<Vec<Vec<Option<String>>>, QueryError> {
        let mut rows = vec![Vec::with_capacity(self.0.num_columns()); self.len()];
        for (field, column) in self.0.schema_ref().fields().iter().zip(self.0.columns()) {
            for (row, text) in rows.iter_mut().zip(column_texts(field, column)?) {
                row.push(text);
            }
        }
        Ok(rows)
    }
}

fn column_texts(field: &FieldRef, column: &ArrayRef) -> Result<Vec<Option<String>>, QueryError> {
    let rows = 0..column.len();
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Ok(texts.iter().map(|text| text.map(String::from)).collect());
    }
    if field.data_type().is_nested() {
        let options = EncoderOptions::default();
        let mut encoder = make_encoder(field, column.as_ref(), &options).map_err(failed)?;
        let text = |row| {
            (!encoder.is_null(row)).then(|| {
                let mut text = Vec::new();
                encoder.encode(row, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        };
        return Ok(rows.map(text).collect());
    }
    let options = FormatOptions::default();
    let values = ArrayFormatter::try_new(column.as_ref(), &options).map_err(failed)?;
    let text = |row| {
        let mut text = String::new();
        if column.is_valid(row) {
            values.value(row).write(&mut text).map_err(failed)?;
        }
        Ok(column.is_valid(row).then_some(text))
    };
    rows.map(text).collect()
}

fn failed(error: ArrowError) -> QueryError {
    QueryError::Internal(error.to_string())
}

/// Writes JSON text as it is, not as a string.
#[derive(Debug)]
struct Inline;

impl EncoderFactory for Inline {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !is_json(field) {
            return Ok(None);
        }
        let Some(texts) = array.as_string_opt::<i32>() else { return Ok(None) };
        Ok(Some(NullableEncoder::new(Box::new(Text(texts)), array.logical_nulls())))
    }
}

struct Text<'a>(&'a arrow::array::StringArray);

impl Encoder for Text<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let text = self.0.value(row);
        // A file of another writer may say JSON and hold something else.
        match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(json) if !json.get().contains('\n') => out.extend_from_slice(json.get().as_bytes()),
            _ => out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes()),
        }
    }
}
