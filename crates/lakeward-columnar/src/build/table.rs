//! What is different about files that are loaded into a table.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use lakeward_model::{BATCH_COLUMN, BatchId, ROW_COLUMN};

use crate::path::Partition;
use crate::schema::{Column, ColumnType, TableSchema};

/// The rows with the columns by which a table knows them again.
pub(super) fn with_row_ids(rows: &RecordBatch, batch: BatchId) -> Result<RecordBatch, ArrowError> {
    let mut fields: Vec<Arc<Field>> = rows.schema_ref().fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    let id = batch.to_string();
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&id, rows.num_rows())));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0_i64..).take(rows.num_rows())));
    for (name, ty, column) in [(BATCH_COLUMN, DataType::Utf8, ids), (ROW_COLUMN, DataType::Int64, numbers)] {
        // What a record calls so would be mistaken for ours.
        if let Some(at) = fields.iter().position(|field| field.name() == name) {
            fields.remove(at);
            columns.remove(at);
        }
        fields.push(Arc::new(Field::new(name, ty, true)));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(Fields::from(fields))), columns)
}

/// The columns of rows as files have them.
pub(super) fn columns(known: &TableSchema, rows: &RecordBatch) -> Vec<Column> {
    let column = |field: &Arc<Field>| {
        let name = field.name().clone();
        let ty = match name.as_str() {
            BATCH_COLUMN => Some(ColumnType::Utf8),
            ROW_COLUMN => Some(ColumnType::Int64),
            name => known.column(name).map(|column| column.ty.clone()),
        };
        Some(Column { name, ty: ty? })
    };
    rows.schema_ref().fields().iter().filter_map(column).collect()
}

/// Takes files apart that have more rows than they may.
pub(super) fn cut(parts: Vec<Partition>, rows_per_file: Option<NonZeroU64>) -> Vec<Partition> {
    let Some(most) = rows_per_file.map(|most| usize::try_from(most.get()).unwrap_or(usize::MAX)) else {
        return parts;
    };
    let cut = |part: Partition| {
        let mut files: Vec<Vec<Range<usize>>> = Vec::new();
        let mut room = 0;
        for mut run in part.rows {
            while !run.is_empty() {
                if room == 0 {
                    files.push(Vec::new());
                    room = most;
                }
                let take = run.len().min(room);
                files.last_mut().expect("one was made").push(run.start..run.start + take);
                (run.start, room) = (run.start + take, room - take);
            }
        }
        let (prefix, oldest, exact) = (part.prefix, part.oldest, part.exact);
        files.into_iter().map(move |rows| Partition { prefix: prefix.clone(), rows, oldest, exact })
    };
    parts.into_iter().flat_map(cut).collect()
}

#[cfg(test)]
mod tests {
    use lakeward_model::Timestamp;

    use super::*;

    #[test]
    fn files_have_no_more_rows_than_they_may() {
        let one = |run: Range<usize>| std::iter::once(run).collect::<Vec<_>>();
        let check = |rows: Vec<Range<usize>>, most: u64, expect: &[Vec<Range<usize>>]| {
            let part = Partition { prefix: "a/".into(), rows, oldest: Timestamp(5), exact: true };
            let files = cut(vec![part], NonZeroU64::new(most));
            assert_eq!(files.iter().map(|file| file.rows.clone()).collect::<Vec<_>>(), expect);
            assert!(files.iter().all(|file| file.prefix == "a/" && file.exact));
        };
        check(one(0..5), 0, &[one(0..5)]);
        check(one(0..5), 5, &[one(0..5)]);
        check(one(0..5), 2, &[one(0..2), one(2..4), one(4..5)]);
        check(vec![0..3, 7..9, 9..12], 4, &[vec![0..3, 7..8], vec![8..9, 9..12]]);
    }
}
