//! The statistics of a column chunk.
//!
//! Order and exceptions: `ColumnOrder` in
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>:
//! a NaN is never a bound, a zero that is the lower bound is written as -0.0,
//! the upper one as +0.0; text bounds may be cut if they are marked inexact.

use ::parquet::data_type::ByteArray;
use ::parquet::file::statistics::{Statistics, ValueStatistics};

/// The longest bound of a text column, in bytes.
const BOUND: usize = 64;

pub(super) fn of_int64(values: &[i64], nulls: u64) -> Statistics {
    let bounds = bounds(values);
    Statistics::int64(bounds.map(|b| b.0), bounds.map(|b| b.1), None, Some(nulls), false)
}

pub(super) fn of_int32(values: &[i32], nulls: u64) -> Statistics {
    let bounds = bounds(values);
    Statistics::int32(bounds.map(|b| b.0), bounds.map(|b| b.1), None, Some(nulls), false)
}

fn bounds<T: Copy + Ord>(values: &[T]) -> Option<(T, T)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(min, max), &v| (min.min(v), max.max(v))))
}

pub(super) fn of_float64(values: &[f64], nulls: u64) -> Statistics {
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut any = false;
    for &value in values {
        // A comparison with NaN is false.
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
        any |= !value.is_nan();
    }
    let min = if min == 0.0 { -0.0 } else { min };
    let max = if max == 0.0 { 0.0 } else { max };
    Statistics::double(any.then_some(min), any.then_some(max), None, Some(nulls), false)
}

pub(super) fn of_boolean(trues: usize, values: usize, nulls: u64) -> Statistics {
    let any = values > 0;
    Statistics::boolean(any.then_some(trues == values), any.then_some(trues > 0), None, Some(nulls), false)
}

/// Of text or binary values, compared as unsigned bytes.
pub(super) fn of_bytes<'a>(values: impl Iterator<Item = &'a [u8]>, utf8: bool, nulls: u64) -> Statistics {
    let mut bounds: Option<(&[u8], &[u8])> = None;
    for value in values {
        match &mut bounds {
            None => bounds = Some((value, value)),
            Some((min, max)) => {
                if value < *min {
                    *min = value;
                } else if value > *max {
                    *max = value;
                }
            }
        }
    }
    let lower = bounds.map(|(min, _)| &min[..cut(min, utf8)]);
    let upper = bounds.and_then(|(_, max)| {
        let end = cut(max, utf8);
        if end == max.len() { Some(max.to_vec()) } else { above(&max[..end], utf8) }
    });
    let statistics = ValueStatistics::new(
        lower.map(ByteArray::from),
        upper.map(ByteArray::from),
        None,
        Some(nulls),
        false,
    );
    let exact = |bound: Option<&[u8]>| bound.is_some_and(|b| b.len() <= BOUND);
    Statistics::ByteArray(
        statistics
            .with_min_is_exact(exact(bounds.map(|b| b.0)))
            .with_max_is_exact(exact(bounds.map(|b| b.1))),
    )
}

/// Where to cut a bound: in text, between two characters.
fn cut(bound: &[u8], utf8: bool) -> usize {
    if bound.len() <= BOUND {
        return bound.len();
    }
    let is_boundary = |at: &usize| !utf8 || bound[*at] & 0xc0 != 0x80;
    (1..=BOUND).rev().find(is_boundary).unwrap_or(BOUND)
}

/// The shortest text of `prefix`'s characters that is above everything that
/// starts with `prefix`; none, if all its characters are the last there is.
fn above(prefix: &[u8], utf8: bool) -> Option<Vec<u8>> {
    if !utf8 {
        let at = prefix.iter().rposition(|&b| b != 0xff)?;
        let mut bound = prefix[..=at].to_vec();
        bound[at] += 1;
        return Some(bound);
    }
    let text = std::str::from_utf8(prefix).ok()?;
    for (at, character) in text.char_indices().rev() {
        // Skips the surrogates, which are no characters.
        let next = (u32::from(character) + 1..=0xe000.max(u32::from(character) + 1)).find_map(char::from_u32);
        if let Some(next) = next {
            let mut bound = text[..at].to_owned();
            bound.push(next);
            return Some(bound.into_bytes());
        }
    }
    None
}
