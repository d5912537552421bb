//! The end: buffers become Arrow arrays, nodes become the schema.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Float64Array, Int64Array, ListArray, StringArray,
    StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::node::{NodeId, ROOT, Text, Values, last};
use super::{Decoded, Decoder};
use crate::schema::{Column, ColumnType, RESCUED, TableSchema, ToArrow, ToArrowType};

impl Decoder {
    /// Ends the batch.
    ///
    /// A batch with rows but without any column gets an empty `_rescued`, so
    /// that every format can count its rows.
    #[must_use]
    pub fn finish(mut self) -> Decoded {
        self.settle(ROOT);
        let rescued = self.rescues.len() as u64;
        let rescued_rows = self.rescues.rows();
        let rows = self.rows;
        let Some(ColumnType::Struct(mut columns)) = self.struct_type(ROOT) else {
            unreachable!("the root is a struct");
        };
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len() + 1);
        for (id, column) in self.typed_children(ROOT).into_iter().zip(&columns) {
            arrays.push(self.array(id, &column.ty, rows));
        }
        if rescued > 0 || self.schema.column(RESCUED).is_some() || (columns.is_empty() && rows > 0) {
            columns.push(Column { name: RESCUED.into(), ty: ColumnType::Json });
            arrays.push(std::mem::take(&mut self.rescues).into_array(rows));
        }
        let changed = columns != self.schema.columns;
        let schema = TableSchema { version: self.schema.version + u64::from(changed), columns };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(schema.to_arrow(), arrays, &options)
            .expect("arrays and schema come from the same nodes");
        Decoded {
            rows,
            row_records: self.row_records,
            rejected: self.rejected,
            empty: self.empty,
            schema,
            rescued,
            rescued_rows,
            discarded: self.discarded,
        }
    }

    /// Makes structs and lists in which nothing has a type `Json` columns.
    fn settle(&mut self, id: NodeId) {
        let children = match &self.tree.at(id).values {
            Values::Struct(members) => members.order.clone(),
            Values::List(items) => vec![items.item],
            _ => return,
        };
        for child in children {
            self.settle(child);
        }
        if id != ROOT && !self.is_typed(id) {
            // No longer than the `{}`, `[]` and nulls that they came from.
            let text = self.tree.to_json(id);
            self.replace_by_json(id, text);
        }
    }

    /// Whether a column comes of the node.
    fn is_typed(&self, id: NodeId) -> bool {
        let node = self.tree.at(id);
        match &node.values {
            Values::Unknown | Values::Skipped(_) => false,
            _ if node.pinned => true,
            Values::Struct(members) => members.order.iter().any(|&child| self.is_typed(child)),
            Values::List(items) => self.is_typed(items.item),
            _ => node.has_any(),
        }
    }

    fn typed_children(&self, id: NodeId) -> Vec<NodeId> {
        let Values::Struct(members) = &self.tree.at(id).values else { return Vec::new() };
        members.order.iter().copied().filter(|&child| self.is_typed(child)).collect()
    }

    fn struct_type(&self, id: NodeId) -> Option<ColumnType> {
        let column =
            |child| Some(Column { name: self.tree.at(child).name.clone().into(), ty: self.ty(child)? });
        self.typed_children(id).into_iter().map(column).collect::<Option<_>>().map(ColumnType::Struct)
    }

    /// The type of a typed node.
    pub(super) fn ty(&self, id: NodeId) -> Option<ColumnType> {
        Some(match &self.tree.at(id).values {
            Values::Unknown | Values::Skipped(_) => return None,
            Values::Bool(_) => ColumnType::Bool,
            Values::Int64(_) => ColumnType::Int64,
            Values::Float64(_) => ColumnType::Float64,
            Values::Utf8(_) => ColumnType::Utf8,
            Values::Json(_) => ColumnType::Json,
            Values::Special(values) => values.ty(),
            Values::Struct(_) => self.struct_type(id)?,
            Values::List(items) => ColumnType::List(Box::new(self.ty(items.item)?)),
        })
    }

    /// Takes the values of the typed node `id`, `rows` of them.
    fn array(&mut self, id: NodeId, ty: &ColumnType, rows: usize) -> ArrayRef {
        let node = self.tree.at_mut(id);
        node.fill(rows);
        let nulls = nulls(&std::mem::take(&mut node.gaps), rows);
        let children = self.typed_children(id);
        match std::mem::replace(&mut self.tree.at_mut(id).values, Values::Unknown) {
            Values::Unknown | Values::Skipped(_) => unreachable!("the node is typed"),
            Values::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Values::Int64(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::Float64(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Utf8(text) | Values::Json(text) => strings(text, nulls),
            Values::Special(values) => values.into_array(nulls),
            Values::Struct(_) => {
                let (ColumnType::Struct(columns), DataType::Struct(fields)) = (ty, ty.to_data_type()) else {
                    unreachable!("the type is the node's");
                };
                let pairs = children.into_iter().zip(columns);
                let arrays = pairs.map(|(child, column)| self.array(child, &column.ty, rows)).collect();
                Arc::new(StructArray::new(fields, arrays, nulls))
            }
            Values::List(items) => {
                let ColumnType::List(item) = ty else { unreachable!("the type is the node's") };
                let elements = self.array(items.item, item, last(&items.offsets));
                let field = Arc::new(item.to_field(Field::LIST_FIELD_DEFAULT_NAME));
                Arc::new(ListArray::new(field, offsets(items.offsets), elements, nulls))
            }
        }
    }
}

fn strings(text: Text, nulls: Option<NullBuffer>) -> ArrayRef {
    assert_eq!(last(&text.offsets), text.bytes.len(), "every string is closed");
    let (offsets, bytes) = (offsets(text.offsets), Buffer::from_vec(text.bytes));
    // SAFETY: the offsets ascend from 0 to the length of `bytes`, see
    // `offsets` and the assertion. Between two of them lies text: either what
    // stood between two quotes of a record, cut only at its ASCII escapes and
    // with whole characters in their place, or a whole JSON value of a record,
    // or what serde_json wrote. Records are valid UTF-8: `push_records` checks
    // each before it reads it, and takes back the rows of those that run into
    // their padding.
    Arc::new(unsafe { StringArray::new_unchecked(offsets, bytes, nulls) })
}

fn offsets(offsets: Vec<i32>) -> OffsetBuffer<i32> {
    assert_eq!(offsets.first(), Some(&0), "offsets start at 0");
    // SAFETY: they start at 0, and every one that is pushed is the length of
    // something that only grows (or shrinks to an offset, which then is the
    // last one).
    unsafe { OffsetBuffer::new_unchecked(offsets.into()) }
}

/// The validity of `rows` rows with these gaps.
fn nulls(gaps: &[(u32, u32)], rows: usize) -> Option<NullBuffer> {
    if gaps.is_empty() {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(rows);
    for &(start, end) in gaps {
        bits.append_n(start as usize - bits.len(), true);
        bits.append_n((end - start) as usize, false);
    }
    bits.append_n(rows - bits.len(), true);
    Some(NullBuffer::new(bits.finish()))
}
