//! A schema for people: its columns as paths and types, and what changed.

use std::fmt;

use super::{Column, ColumnType, TableSchema};
use crate::dotted;

impl fmt::Display for ColumnType {
    /// The word by which a user declares the type; lists end in `[]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int64 => f.write_str("int64"),
            Self::Float64 => f.write_str("float64"),
            Self::Utf8 => f.write_str("string"),
            Self::Json => f.write_str("json"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::TimestampTz => f.write_str("timestamptz"),
            Self::Date => f.write_str("date"),
            Self::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            Self::Binary => f.write_str("binary"),
            Self::Struct(columns) => {
                f.write_str("struct(")?;
                for (i, Column { name, ty }) in columns.iter().enumerate() {
                    write!(f, "{}{} {ty}", if i == 0 { "" } else { ", " }, dotted::join("", name))?;
                }
                f.write_str(")")
            }
            Self::List(item) => write!(f, "{item}[]"),
        }
    }
}

/// A difference between two schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which column, as [`TableSchema::describe`] names it.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a column. Types are texts for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added {
        /// What it holds.
        ty: String,
    },
    /// It holds more than before, and what it held too.
    Widened {
        /// What it held.
        from: String,
        /// What it holds.
        to: String,
    },
    /// It holds something else: its declared type was changed.
    Changed {
        /// What it held.
        from: String,
        /// What it holds.
        to: String,
    },
    /// It is no longer there.
    Removed {
        /// What it held.
        ty: String,
    },
}

impl fmt::Display for Change {
    /// One line: `+ path type`, `~ path from → to` or `- path type`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            ChangeKind::Added { ty } => write!(f, "+ {path} {ty}"),
            ChangeKind::Widened { from, to } => write!(f, "~ {path} {from} → {to} (widened)"),
            ChangeKind::Changed { from, to } => write!(f, "~ {path} {from} → {to}"),
            ChangeKind::Removed { ty } => write!(f, "- {path} {ty}"),
        }
    }
}

impl TableSchema {
    /// Every leaf column with the text of its type, in the order of the files.
    /// Structs are taken apart into dotted paths; a list of structs has `[]`
    /// behind its name (`items[].price`).
    #[must_use]
    pub fn describe(&self) -> Vec<(String, String)> {
        let leaves = self.leaves();
        leaves.into_iter().map(|(path, ty)| (path, ty.to_string())).collect()
    }

    /// What changed from `old` to `new`: first what `new` has, in its order,
    /// then what it no longer has.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Vec<Change> {
        let (old, new) = (old.leaves(), new.leaves());
        let type_in = |leaves: &[(String, &ColumnType)], path: &str| {
            leaves.iter().find(|(known, _)| known == path).map(|(_, ty)| (*ty).clone())
        };
        let mut changes = Vec::new();
        for (path, ty) in &new {
            let kind = match type_in(&old, path) {
                None => ChangeKind::Added { ty: ty.to_string() },
                Some(from) if from == **ty => continue,
                Some(from) => {
                    let (was, to) = (from.to_string(), ty.to_string());
                    if widens(&from, ty) {
                        ChangeKind::Widened { from: was, to }
                    } else {
                        ChangeKind::Changed { from: was, to }
                    }
                }
            };
            changes.push(Change { path: path.clone(), kind });
        }
        for (path, ty) in &old {
            if type_in(&new, path).is_none() {
                changes.push(Change { path: path.clone(), kind: ChangeKind::Removed { ty: ty.to_string() } });
            }
        }
        changes
    }

    fn leaves(&self) -> Vec<(String, &ColumnType)> {
        let mut leaves = Vec::new();
        descend("", &self.columns, &mut leaves);
        leaves
    }
}

fn descend<'a>(parent: &str, columns: &'a [Column], leaves: &mut Vec<(String, &'a ColumnType)>) {
    for Column { name, ty } in columns {
        let mut path = dotted::join(parent, name);
        let mut item = ty;
        let mut brackets = String::new();
        while let ColumnType::List(inner) = item {
            item = inner;
            brackets.push_str("[]");
        }
        match item {
            ColumnType::Struct(inner) => {
                path.push_str(&brackets);
                descend(&path, inner, leaves);
            }
            _ => leaves.push((path, ty)),
        }
    }
}

fn widens(from: &ColumnType, to: &ColumnType) -> bool {
    match (from, to) {
        (ColumnType::Int64, ColumnType::Float64) => true,
        (ColumnType::List(from), ColumnType::List(to)) => widens(from, to),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn schema(columns: Value) -> TableSchema {
        TableSchema { version: 1, columns: serde_json::from_value(columns).unwrap() }
    }

    #[test]
    fn a_schema_is_described_leaf_by_leaf() {
        let schema = schema(json!([
            {"name": "id", "type": "utf8"},
            {"name": "a.b", "type": {"decimal": [18, 4]}},
            {"name": "ctx", "type": {"struct": [{"name": "tier", "type": "timestamptz"}, {"name": "tags", "type": {"list": "int64"}}]}},
            {"name": "items", "type": {"list": {"struct": [{"name": "price", "type": "float64"}]}}},
        ]));
        let expected = [
            ("id", "string"),
            ("\"a.b\"", "decimal(18,4)"),
            ("ctx.tier", "timestamptz"),
            ("ctx.tags", "int64[]"),
            ("items[].price", "float64"),
        ];
        assert_eq!(schema.describe(), expected.map(|(path, ty)| (path.to_owned(), ty.to_owned())));
        assert_eq!(schema.columns[2].ty.to_string(), "struct(tier timestamptz, tags int64[])");
    }

    #[test]
    fn what_changed_is_told_by_line() {
        let check = |old: Value, new: Value, lines: &[&str]| {
            let changes = TableSchema::diff(&schema(old), &schema(new));
            assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), lines);
        };
        check(json!([]), json!([{"name": "a", "type": "bool"}]), &["+ a bool"]);
        check(json!([{"name": "a", "type": "bool"}]), json!([]), &["- a bool"]);
        check(json!([{"name": "a", "type": "bool"}]), json!([{"name": "a", "type": "bool"}]), &[]);
        check(
            json!([{"name": "a", "type": "int64"}, {"name": "b", "type": "utf8"}, {"name": "l", "type": {"list": "int64"}}]),
            json!([{"name": "a", "type": "float64"}, {"name": "b", "type": "timestamp"}, {"name": "l", "type": {"list": "float64"}}]),
            &["~ a int64 → float64 (widened)", "~ b string → timestamp", "~ l int64[] → float64[] (widened)"],
        );
        check(
            json!([{"name": "s", "type": {"struct": [{"name": "a", "type": "bool"}]}}]),
            json!([{"name": "s", "type": {"struct": [{"name": "a", "type": "bool"}, {"name": "b", "type": "date"}]}}]),
            &["+ s.b date"],
        );
    }
}
