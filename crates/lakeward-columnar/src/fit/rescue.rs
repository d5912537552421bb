//! What was rescued while fitting, and `_rescued` as it comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::encode::EncodeError;

/// Rescued values, and the lists that will be.
#[derive(Debug, Default)]
pub(super) struct Rescues {
    /// By row and path; several values may have one path.
    values: BTreeMap<u32, BTreeMap<String, Vec<Vec<u8>>>>,
    /// The rows in which something below the list at hand does not fit.
    spoilt: BTreeSet<u32>,
}

impl Rescues {
    /// Adds a value, as JSON text.
    pub(super) fn push(&mut self, row: usize, path: &str, json: Vec<u8>) {
        // A batch has fewer than 2^32 rows.
        let paths = self.values.entry(row as u32).or_default();
        paths.entry(path.to_owned()).or_default().push(json);
    }

    /// Marks rows of which the list at hand must be rescued.
    pub(super) fn spoil(&mut self, rows: impl Iterator<Item = u32>) {
        self.spoilt.extend(rows);
    }

    /// The rows that were marked, ascending.
    pub(super) fn take_spoilt(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.spoilt)
    }

    /// The rows with a value, ascending.
    pub(super) fn rows(&self) -> Vec<u32> {
        self.values.keys().copied().collect()
    }

    /// The column: what was there before with what was added, and how many
    /// paths that are in all.
    pub(super) fn merge(
        mut self,
        before: Option<&StringArray>,
        rows: usize,
    ) -> Result<(ArrayRef, u64), EncodeError> {
        let before = before.filter(|before| before.null_count() < rows);
        if self.values.is_empty() && before.is_none() {
            return Ok((Arc::new(StringArray::new_null(rows)), 0));
        }
        let mut column = StringBuilder::new();
        let mut count = 0;
        for row in 0..rows {
            let old = before.filter(|before| before.is_valid(row)).map(|before| before.value(row));
            let new = self.values.remove(&(row as u32)).unwrap_or_default();
            if old.is_none() && new.is_empty() {
                column.append_null();
                continue;
            }
            let (text, values) = object(old, new)?;
            count += values;
            column.append_value(text);
        }
        Ok((Arc::new(column.finish()), count))
    }
}

/// One row's object, and how many paths are in it.
fn object(old: Option<&str>, new: BTreeMap<String, Vec<Vec<u8>>>) -> Result<(String, u64), EncodeError> {
    let parsed = old.and_then(|old| serde_json::from_str::<BTreeMap<String, &RawValue>>(old).ok());
    let mut paths: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    match (parsed, old) {
        (Some(parsed), Some(old)) => {
            if new.is_empty() {
                return Ok((old.to_owned(), parsed.len() as u64));
            }
            for (path, value) in parsed {
                paths.entry(path).or_default().push(value.get().as_bytes().to_vec());
            }
        }
        // Text of somebody else's: kept as what it is.
        (None, Some(other)) => {
            let text = serde_json::to_vec(other).map_err(EncodeError::failed)?;
            paths.entry(crate::schema::RESCUED.to_owned()).or_default().push(text);
        }
        (_, None) => {}
    }
    for (path, values) in new {
        let known = paths.entry(path).or_default();
        // A list that was rescued of the record whole is here again, with gaps.
        let added = values.into_iter().filter(|new| !known.iter().any(|old| covers(old, new)));
        let added: Vec<_> = added.collect();
        known.extend(added);
    }
    let mut text = Vec::new();
    for (path, values) in &paths {
        text.push(if text.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut text, path).map_err(EncodeError::failed)?;
        text.push(b':');
        if let [one] = values.as_slice() {
            text.extend_from_slice(one);
            continue;
        }
        for (i, value) in values.iter().enumerate() {
            text.push(if i == 0 { b'[' } else { b',' });
            text.extend_from_slice(value);
        }
        text.push(b']');
    }
    text.push(b'}');
    Ok((String::from_utf8(text).map_err(EncodeError::failed)?, paths.len() as u64))
}

/// Whether the JSON text `new` says nothing that `old` does not.
fn covers(old: &[u8], new: &[u8]) -> bool {
    fn has(old: &Value, new: &Value) -> bool {
        match (old, new) {
            (_, Value::Null) => true,
            (Value::Array(old), Value::Array(new)) => {
                old.len() == new.len() && old.iter().zip(new).all(|(old, new)| has(old, new))
            }
            (Value::Object(old), Value::Object(new)) => {
                new.iter().all(|(name, new)| old.get(name).is_some_and(|old| has(old, new)))
            }
            (Value::Number(old), Value::Number(new)) => old == new || old.as_f64() == new.as_f64(),
            (old, new) => old == new,
        }
    }
    let value = |text| serde_json::from_slice::<Value>(text).ok();
    value(old).zip(value(new)).is_some_and(|(old, new)| has(&old, &new))
}
