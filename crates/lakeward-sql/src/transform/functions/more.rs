//! `to_timestamp`, `sha256_hex`, `to_json`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::functions::crypto::sha256;
use datafusion::functions::datetime::to_timestamp;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use lakeward_columnar::encode;
use lakeward_columnar::shape::{FileCompression, Output};

use super::access::json_field;

/// The functions.
pub(super) fn all() -> Vec<ScalarUDF> {
    vec![
        ScalarUDF::new_from_impl(ToTimestamp { inner: to_timestamp(&ConfigOptions::default()) }),
        ScalarUDF::new_from_impl(Sha256Hex { inner: sha256() }),
        ScalarUDF::new_from_impl(ToJson { signature: Signature::any(1, Volatility::Immutable) }),
    ]
}

/// DataFusion's `to_timestamp`, with floats rounded to microseconds (a float of
/// seconds has no nanoseconds) and refused beyond the range of the type, where
/// DataFusion gives the last instant of the range.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Nanosecond, None))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.first().map(ColumnarValue::data_type) {
            Some(DataType::Float64) => {}
            Some(DataType::Float16 | DataType::Float32) => {
                let floats = args.args[0].cast_to(&DataType::Float64, None)?;
                return from_floats(&floats.to_array(args.number_rows)?);
            }
            _ => return self.inner.invoke_with_args(args),
        }
        from_floats(&args.args[0].to_array(args.number_rows)?)
    }
}

fn from_floats(array: &ArrayRef) -> Result<ColumnarValue> {
    let seconds = array.as_primitive::<Float64Type>();
    let times: TimestampNanosecondArray = seconds.try_unary(|seconds| {
        let micros = (seconds * 1e6).round();
        if micros.is_finite() && micros.abs() < 9.2e15 {
            return Ok(micros as i64 * 1_000);
        }
        exec_err!(
            "{seconds:?} is no time in seconds since 1970; for milliseconds there is to_timestamp_millis"
        )
    })?;
    Ok(ColumnarValue::Array(Arc::new(times)))
}

/// `sha256_hex(text)`: the digest as 64 hexadecimal digits.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sha256Hex {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Sha256Hex {
    fn name(&self) -> &str {
        "sha256_hex"
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let rows = args.number_rows;
        let return_field = Arc::new(Field::new("sha256", DataType::Binary, true));
        let args = ScalarFunctionArgs { return_field, ..args };
        let digests = self.inner.invoke_with_args(args)?.cast_to(&DataType::Binary, None)?.to_array(rows)?;
        let mut texts = StringBuilder::with_capacity(rows, rows * 64);
        for digest in digests.as_binary::<i32>() {
            texts.append_option(digest.map(|digest| {
                let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
                digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect::<String>()
            }));
        }
        Ok(ColumnarValue::Array(Arc::new(texts.finish())))
    }
}

/// `to_json(value)`: JSON text, as NDJSON output has it. NULL stays NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToJson {
    signature: Signature,
}

impl ScalarUDFImpl for ToJson {
    fn name(&self) -> &str {
        "to_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(json_field("to_json")))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        let plain = super::super::plain::plain(&array)?;
        // One member per row, its name as short as can be: {"v":…}
        let field = Field::new("v", plain.data_type().clone(), true)
            .with_metadata(args.arg_fields[0].metadata().clone());
        let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![plain])?;
        let output = Output::Ndjson { compression: FileCompression::None };
        let whole = 0..rows.num_rows();
        let lines = encode::encode(&output, &rows, std::slice::from_ref(&whole))
            .map_err(|error| DataFusionError::Execution(error.to_string()))?;
        let text = std::str::from_utf8(&lines.body)
            .map_err(|error| DataFusionError::Execution(error.to_string()))?;
        let mut texts = StringBuilder::with_capacity(rows.num_rows(), text.len());
        for line in text.lines() {
            texts.append_option(line.strip_prefix("{\"v\":").and_then(|line| line.strip_suffix('}')));
        }
        Ok(ColumnarValue::Array(Arc::new(texts.finish())))
    }
}
