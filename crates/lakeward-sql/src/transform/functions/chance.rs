//! `random()` and `uuid()`, which follow from the batch and the row.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, StringBuilder};
use arrow::datatypes::{DataType, UInt32Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use lakeward_model::BatchId;
use xxhash_rust::xxh3::xxh3_128;

/// `random(row, sub, call)` and `uuid(row, sub, call)`. A statement writes them
/// without arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::transform) struct Chance {
    batch: BatchId,
    is_uuid: bool,
    signature: Signature,
}

impl Chance {
    /// A number from 0 to below 1.
    pub(in crate::transform) fn random(batch: BatchId) -> Self {
        Self { batch, is_uuid: false, signature: Signature::any(3, Volatility::Immutable) }
    }

    /// A uuid in its usual spelling.
    pub(in crate::transform) fn uuid(batch: BatchId) -> Self {
        Self { is_uuid: true, ..Self::random(batch) }
    }

    /// 128 bits that belong to this row of the batch and this call.
    fn bits(&self, row: u32, sub: u64, call: i64) -> u128 {
        let mut text = [0; 36];
        text[..16].copy_from_slice(self.batch.0.as_bytes());
        text[16..20].copy_from_slice(&row.to_le_bytes());
        text[20..28].copy_from_slice(&sub.to_le_bytes());
        text[28..].copy_from_slice(&call.to_le_bytes());
        xxh3_128(&text)
    }
}

impl ScalarUDFImpl for Chance {
    fn name(&self) -> &str {
        if self.is_uuid { "uuid" } else { "random" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.is_uuid { DataType::Utf8 } else { DataType::Float64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [rows, subs, ColumnarValue::Scalar(ScalarValue::Int64(Some(call)))] = &args.args[..] else {
            return exec_err!("{} takes no arguments", self.name());
        };
        let (rows, subs) = (rows.to_array(args.number_rows)?, subs.to_array(args.number_rows)?);
        let (rows, subs) = (rows.as_primitive::<UInt32Type>(), subs.as_primitive::<UInt64Type>());
        let bits = rows.values().iter().zip(subs.values()).map(|(row, sub)| self.bits(*row, *sub, *call));
        Ok(ColumnarValue::Array(if self.is_uuid {
            let mut ids = StringBuilder::with_capacity(rows.len(), rows.len() * 36);
            for bits in bits {
                let id = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
                ids.append_value(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
            }
            Arc::new(ids.finish())
        } else {
            // The upper 53 bits: all that a float below 1 has.
            let numbers = bits.map(|bits| (bits >> 75) as u64 as f64 / (1_u64 << 53) as f64);
            Arc::new(Float64Array::from_iter_values(numbers))
        }))
    }
}
