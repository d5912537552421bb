//! JSON text into columns that have a type: the decoder reads it again, now
//! that the type is known. A batch of which a column holds only `[]` makes it
//! a `json` one; the table knows better.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use lakeward_model::Records;
use serde_json::value::RawValue;

use super::{Fitter, Placed, Scope};
use crate::decode::{DecodeOptions, Decoded, Decoder};
use crate::encode::EncodeError;
use crate::schema::{Column, ColumnType, RESCUED, TableSchema};
use crate::shape::Contract;

/// The column's name while it is decoded.
const NAME: &str = "v";

/// Whether the decoder takes JSON values into a column of `ty` as they are.
pub(super) fn reads_into(ty: &ColumnType) -> bool {
    use ColumnType as T;
    matches!(ty, T::Bool | T::Int64 | T::Float64 | T::Utf8 | T::Struct(_) | T::List(_))
}

impl Fitter {
    /// The values of the JSON texts in `array`, in a column that is `ty`.
    pub(super) fn read_json(
        &mut self,
        array: &ArrayRef,
        ty: &ColumnType,
        at: &Scope<'_>,
    ) -> Result<Placed, EncodeError> {
        let mut present = vec![false; array.len()];
        let texts = array.as_string::<i32>();
        let mut lost = Vec::new();
        for row in at.present(array) {
            // Text that is no JSON after all must not pass for fields beside it.
            present[row] = serde_json::from_str::<serde::de::IgnoredAny>(texts.value(row)).is_ok();
            if !present[row] {
                lost.push(row);
            }
        }
        let mut decoded = self.decode(array, ty, &present)?;
        if !decoded.rejected.is_empty() {
            for rejected in &decoded.rejected {
                present[rejected.record as usize] = false;
                lost.push(rejected.record as usize);
            }
            decoded = self.decode(array, ty, &present)?;
        }
        for row in lost {
            let text = serde_json::to_vec(texts.value(row)).map_err(EncodeError::failed)?;
            self.lose(row, &at.path, text, at);
        }
        self.discarded += decoded.discarded;
        let rescued = decoded.rows.column_by_name(RESCUED).map(|texts| texts.as_string::<i32>());
        for &row in &decoded.rescued_rows {
            let row = row as usize;
            let Some(text) = rescued.map(|rescued| rescued.value(row)) else { continue };
            let values: BTreeMap<String, &RawValue> =
                serde_json::from_str(text).map_err(EncodeError::failed)?;
            for (path, value) in values {
                let path = format!("{}{}", at.path, path.strip_prefix(NAME).unwrap_or_default());
                self.lose(row, &path, value.get().as_bytes().to_vec(), at);
            }
        }
        let columns = decoded.schema.columns;
        let column = columns.into_iter().next().expect("a column of the schema stays the first");
        self.leaves = self.leaves - ty.leaves() + column.ty.leaves();
        Ok((column.ty, ArrayRef::clone(decoded.rows.column(0))))
    }

    fn lose(&mut self, row: usize, path: &str, json: Vec<u8>, at: &Scope<'_>) {
        match at.owners {
            Some(owners) => self.rescues.spoil(std::iter::once(owners[row])),
            None => self.rescues.push(row, path, json),
        }
    }

    /// One record of each row; an empty one where nothing is present.
    fn decode(&self, array: &ArrayRef, ty: &ColumnType, present: &[bool]) -> Result<Decoded, EncodeError> {
        let schema = TableSchema { version: 0, columns: vec![Column { name: NAME.into(), ty: ty.clone() }] };
        let contract = match (self.closed, self.discards) {
            (false, _) => Contract::Evolve,
            (true, false) => Contract::Freeze,
            (true, true) => Contract::DiscardUnknown,
        };
        let column_limit = (self.column_limit + ty.leaves()).saturating_sub(self.leaves);
        let mut decoder =
            Decoder::new(&schema, DecodeOptions { column_limit, contract, ..DecodeOptions::default() });
        let texts = array.as_string::<i32>();
        let mut data = Vec::with_capacity(texts.value_data().len() + 8 * array.len());
        let mut ends = Vec::with_capacity(array.len());
        for (row, &is_present) in present.iter().enumerate() {
            if is_present {
                data.extend_from_slice(b"{\"v\":");
                data.extend_from_slice(texts.value(row).as_bytes());
                data.push(b'}');
            } else {
                data.extend_from_slice(b"{}");
            }
            ends.push(u32::try_from(data.len()).map_err(EncodeError::failed)?);
        }
        decoder.push_records(&Records::new(data.into(), ends)).map_err(EncodeError::failed)?;
        Ok(decoder.finish())
    }
}
