//! The rows of a batch that become a file, as runs.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, BooleanBufferBuilder, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, take, take_record_batch};
use arrow::error::ArrowError;
use arrow::util::bit_iterator::{BitIndexIterator, BitSliceIterator};

/// Below this many rows per run it is cheaper to gather rows one by one than
/// to slice and join.
const RUN_ROWS_MIN: usize = 64;

/// How many rows there are in `runs`.
pub(super) fn rows(runs: &[Range<usize>]) -> usize {
    runs.iter().map(Range::len).sum()
}

/// Cuts `runs` into groups of at most `rows` rows.
pub(super) fn cut(runs: &[Range<usize>], rows: usize) -> Vec<Vec<Range<usize>>> {
    let mut groups: Vec<Vec<Range<usize>>> = Vec::new();
    let mut room = 0;
    for run in runs {
        let mut at = run.start;
        while at < run.end {
            if room == 0 {
                groups.push(Vec::new());
                room = rows;
            }
            let end = run.end.min(at.saturating_add(room));
            groups.last_mut().expect("a group was just begun").push(at..end);
            room -= end - at;
            at = end;
        }
    }
    groups
}

/// The rows as batches: slices where the runs are long, a copy where they are
/// short.
pub(super) fn batches(batch: &RecordBatch, runs: &[Range<usize>]) -> Result<Vec<RecordBatch>, ArrowError> {
    if are_long(runs) {
        return Ok(runs.iter().map(|run| batch.slice(run.start, run.len())).collect());
    }
    Ok(vec![take_record_batch(batch, &indexes(runs))?])
}

/// The rows of one column.
pub(super) fn column(array: &ArrayRef, runs: &[Range<usize>]) -> Result<ArrayRef, ArrowError> {
    match runs {
        [run] => Ok(array.slice(run.start, run.len())),
        _ if are_long(runs) => {
            let slices: Vec<_> = runs.iter().map(|run| array.slice(run.start, run.len())).collect();
            concat(&slices.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())
        }
        _ => take(array, &indexes(runs), None),
    }
}

/// The rows of a bitmap.
pub(super) fn bits(bits: &BooleanBuffer, runs: &[Range<usize>]) -> BooleanBuffer {
    if let [run] = runs {
        return bits.slice(run.start, run.len());
    }
    let mut gathered = BooleanBufferBuilder::new(rows(runs));
    for run in runs {
        append_bits(&mut gathered, bits, run.clone());
    }
    gathered.finish()
}

/// Appends the bits of `range`.
#[inline]
pub(super) fn append_bits(to: &mut BooleanBufferBuilder, bits: &BooleanBuffer, range: Range<usize>) {
    if range.len() == 1 {
        to.append(bits.value(range.start));
    } else {
        to.append_packed_range(range.start + bits.offset()..range.end + bits.offset(), bits.values());
    }
}

/// Calls `take` with the ranges of those rows that are `present`, which has a
/// bit for each row of `runs`.
#[inline]
pub(super) fn present(
    runs: &[Range<usize>],
    present: Option<&BooleanBuffer>,
    mut take: impl FnMut(Range<usize>),
) {
    let Some(bits) = present else {
        return runs.iter().cloned().for_each(take);
    };
    // As `arrow::compute::filter` decides between the two.
    let is_dense = bits.count_set_bits() * 5 > bits.len() * 4;
    let mut at = bits.offset();
    for run in runs {
        if is_dense {
            for (from, to) in BitSliceIterator::new(bits.values(), at, run.len()) {
                take(run.start + from..run.start + to);
            }
        } else {
            for index in BitIndexIterator::new(bits.values(), at, run.len()) {
                take(run.start + index..run.start + index + 1);
            }
        }
        at += run.len();
    }
}

fn are_long(runs: &[Range<usize>]) -> bool {
    runs.len() <= 1 || rows(runs) / runs.len() >= RUN_ROWS_MIN
}

fn indexes(runs: &[Range<usize>]) -> UInt32Array {
    runs.iter().cloned().flatten().map(|row| row as u32).collect::<Vec<u32>>().into()
}
