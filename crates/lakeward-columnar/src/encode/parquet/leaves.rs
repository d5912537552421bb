//! From a column to its leaves with their definition levels.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field};

use super::values;

/// A column of plain values, at the root or inside structs.
pub(super) struct Leaf {
    /// Its values; those that are null or have a null above may be anything.
    pub(super) array: ArrayRef,
    /// See [`super::hybrid::Levels`].
    pub(super) levels: Vec<Option<BooleanBuffer>>,
    /// The rows that have a value, or `None` for all.
    pub(super) present: Option<BooleanBuffer>,
}

/// Whether `field` has only leaves that are encoded here.
pub(super) fn knows(field: &Field) -> bool {
    match field.data_type() {
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|f| knows(f)),
        other => values::knows(other),
    }
}

/// Adds the leaves of a column, in the order of the schema.
pub(super) fn collect(field: &Field, array: &ArrayRef, leaves: &mut Vec<Leaf>) {
    let root = Leaf { array: ArrayRef::clone(array), levels: Vec::new(), present: None };
    descend(field, root, leaves);
}

fn descend(field: &Field, above: Leaf, leaves: &mut Vec<Leaf>) {
    let Leaf { array, mut levels, mut present } = above;
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    if field.is_nullable() {
        let level = match (&present, nulls) {
            (_, None) => None,
            (None, Some(nulls)) => Some(nulls.inner().clone()),
            (Some(present), Some(nulls)) => Some(present & nulls.inner()),
        };
        if level.is_some() {
            present.clone_from(&level);
        }
        levels.push(level);
    }
    match field.data_type() {
        DataType::Struct(fields) => {
            for (child, column) in fields.iter().zip(array.as_struct().columns()) {
                let levels = levels.clone();
                descend(
                    child,
                    Leaf { array: ArrayRef::clone(column), levels, present: present.clone() },
                    leaves,
                );
            }
        }
        _ => leaves.push(Leaf { array, levels, present }),
    }
}
