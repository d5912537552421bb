//! Tests of the encoders against independent decoders.

mod parquet;
mod text;
mod whole_file;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

/// A batch of named columns that all may be null.
fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap()
}

/// All rows of a batch in runs of `rows`.
fn runs(batch: &RecordBatch, rows: usize) -> Vec<Range<usize>> {
    (0..batch.num_rows()).step_by(rows).map(|at| at..batch.num_rows().min(at.saturating_add(rows))).collect()
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(arrow::array::StringArray::from(values.to_vec()))
}
