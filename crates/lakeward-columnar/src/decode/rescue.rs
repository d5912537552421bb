//! `_rescued`: what found no place in the columns.

use std::sync::Arc;

use arrow::array::{ArrayBuilder, ArrayRef, StringArray, StringBuilder};

use super::Decoder;
use super::node::NodeId;

/// The rescued values, in order of row until the batch is finished.
#[derive(Debug, Default)]
pub(super) struct Rescues {
    values: Vec<Rescue>,
    bytes: usize,
}

#[derive(Debug)]
struct Rescue {
    row: usize,
    path: Box<str>,
    json: Box<[u8]>,
}

impl Rescues {
    fn push(&mut self, row: usize, path: String, json: &[u8]) {
        self.bytes += path.len() + json.len() + 8;
        self.values.push(Rescue { row, path: path.into(), json: json.into() });
    }

    /// Takes back what belongs to rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        while let Some(last) = self.values.pop_if(|last| last.row >= rows) {
            self.bytes -= last.path.len() + last.json.len() + 8;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The rows that have some, ascending. Must be asked while they are in
    /// order.
    pub(super) fn rows(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = Vec::new();
        for rescue in &self.values {
            // Rows are fewer than the input has bytes.
            let row = rescue.row as u32;
            if rows.last() != Some(&row) {
                rows.push(row);
            }
        }
        rows
    }

    /// How long their text is, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn memory(&self) -> usize {
        self.values.capacity() * size_of::<Rescue>() + self.bytes
    }

    /// The column, for that many rows.
    pub(super) fn into_array(mut self, rows: usize) -> ArrayRef {
        if self.values.is_empty() {
            return Arc::new(StringArray::new_null(rows));
        }
        self.values.sort_by(|a, b| (a.row, &a.path).cmp(&(b.row, &b.path)));
        let mut column = StringBuilder::with_capacity(rows, self.bytes);
        let mut text = Vec::new();
        for row in self.values.chunk_by(|a, b| a.row == b.row) {
            column.append_nulls(row[0].row - column.len());
            text.clear();
            for path in row.chunk_by(|a, b| a.path == b.path) {
                text.push(if text.is_empty() { b'{' } else { b',' });
                serde_json::to_writer(&mut text, &path[0].path).expect("a vector takes everything");
                text.push(b':');
                write_values(&mut text, path);
            }
            text.push(b'}');
            column.append_value(std::str::from_utf8(&text).expect("slices of valid records"));
        }
        column.append_nulls(rows - column.len());
        Arc::new(column.finish())
    }
}

/// One value as it is, several as a list.
fn write_values(text: &mut Vec<u8>, values: &[Rescue]) {
    if let [one] = values {
        return text.extend_from_slice(&one.json);
    }
    for (i, value) in values.iter().enumerate() {
        text.push(if i == 0 { b'[' } else { b',' });
        text.extend_from_slice(&value.json);
    }
    text.push(b']');
}

impl Decoder {
    /// Rescues `json`, the text of the field at `path` in the current row.
    pub(super) fn keep(&mut self, path: String, json: &[u8]) {
        if self.current.lists > 0 {
            self.current.spoilt = true;
        } else {
            self.rescues.push(self.rows, path, json);
        }
    }

    /// Rescues `json`, a value of the node `id` in the current row.
    #[cold]
    pub(super) fn keep_at(&mut self, id: NodeId, json: &[u8]) {
        if self.current.lists > 0 {
            self.current.spoilt = true;
        } else {
            self.rescues.push(self.rows, self.tree.path(id), json);
        }
    }
}
