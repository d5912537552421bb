//! From a column to its leaves with their definition levels.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field};

use super::values;
use crate::encode::runs;

/// A column of plain values, at the root or inside structs.
pub(super) struct Leaf<'a> {
    /// Its values, also of rows that are not in the file; those that are null
    /// or have a null above may be anything.
    pub(super) array: &'a ArrayRef,
    /// How many rows are in the file.
    pub(super) rows: usize,
    /// Of the rows in the file; see [`super::hybrid::Levels`].
    pub(super) levels: Vec<Option<BooleanBuffer>>,
    /// Which rows in the file have a value, or `None` for all.
    pub(super) present: Option<BooleanBuffer>,
}

/// Whether `field` has only leaves that are encoded here.
pub(super) fn knows(field: &Field) -> bool {
    match field.data_type() {
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|f| knows(f)),
        other => values::knows(other),
    }
}

/// Adds the leaves of a column, in the order of the schema. The file has the
/// rows of `runs`.
pub(super) fn collect<'a>(
    field: &Field,
    array: &'a ArrayRef,
    runs: &[Range<usize>],
    leaves: &mut Vec<Leaf<'a>>,
) {
    let root = Leaf { array, rows: runs::rows(runs), levels: Vec::new(), present: None };
    descend(field, root, runs, leaves);
}

fn descend<'a>(field: &Field, above: Leaf<'a>, runs: &[Range<usize>], leaves: &mut Vec<Leaf<'a>>) {
    let Leaf { array, rows, mut levels, mut present } = above;
    if field.is_nullable() {
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        let valid = nulls.map(|nulls| runs::bits(nulls.inner(), runs));
        let level = match (&present, valid.filter(|valid| valid.count_set_bits() < rows)) {
            (_, None) => None,
            (None, Some(valid)) => Some(valid),
            (Some(present), Some(valid)) => Some(present & &valid),
        };
        if level.is_some() {
            present.clone_from(&level);
        }
        levels.push(level);
    }
    match field.data_type() {
        DataType::Struct(fields) => {
            for (child, array) in fields.iter().zip(array.as_struct().columns()) {
                let (levels, present) = (levels.clone(), present.clone());
                descend(child, Leaf { array, rows, levels, present }, runs, leaves);
            }
        }
        _ => leaves.push(Leaf { array, rows, levels, present }),
    }
}
