//! Columns that the user declared: they are there before the first value, and
//! take what means the same.

use super::Decoder;
use super::fault::Fault;
use super::input::Input;
use super::node::{Items, Members, NodeId, ROOT, Values};
use super::{scan, special};
use crate::dotted;
use crate::schema::ColumnType;
use crate::shape::ColumnMode;

impl Decoder {
    /// Makes the tree what the options say: declared columns and chosen ones.
    pub(super) fn apply_options(&mut self) {
        let declared = std::mem::take(&mut self.options.columns);
        for (path, mode) in &declared {
            if let Some(names) = dotted::split(path) {
                self.declare(&names, *mode);
            }
        }
        for id in 1..self.tree.0.len() as NodeId {
            let node = self.tree.at(id);
            if node.parent == ROOT && !self.is_wanted(&node.name) {
                self.tree.clear(id);
                self.tree.at_mut(id).values = Values::Skipped(super::node::Fate::Unwanted);
            }
            let node = self.tree.at_mut(id);
            // What is closed does not widen either.
            node.rigid |= self.closed || node.declared;
        }
        self.leaves = self.tree.leaves(ROOT);
    }

    /// Adds a column with the structs around it, or gives one that the schema
    /// has its declared type. Nothing comes of it below a column that is no
    /// struct, or beside one whose name differs only in case.
    fn declare(&mut self, names: &[String], mode: ColumnMode) {
        if !names.first().is_some_and(|name| self.is_wanted(name)) {
            return;
        }
        let mut id = ROOT;
        for (depth, name) in names.iter().enumerate() {
            while let Values::List(items) = &self.tree.at(id).values {
                id = items.item;
            }
            let Values::Struct(members) = &self.tree.at(id).values else { return };
            let known = members.by_name.get(name.as_bytes()).copied();
            let is_leaf = depth + 1 == names.len();
            id = match known {
                Some(child) => child,
                None if self.tree.collides(id, name) => return,
                None if is_leaf => self.tree.add_pinned(id, name, &mode.column_type()),
                None => {
                    let child = self.tree.add(id, name, true, Values::Struct(Members::default()));
                    self.tree.at_mut(child).provisional = true;
                    child
                }
            };
        }
        let ty = mode.column_type();
        if self.ty(id).as_ref() != Some(&ty) {
            self.tree.clear(id);
            let Some(values) = Values::scalar(&ty) else { return };
            self.tree.at_mut(id).values = values;
        }
        self.tree.at_mut(id).declared = mode != ColumnMode::Json;
    }

    /// Takes a value of another type than the declared column's that means the
    /// same. `None` if it does not fit.
    #[cold]
    pub(super) fn convert(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<Option<usize>, Fault> {
        let end = scan::value(input, at, depth)?;
        let json = input.slice(at, end);
        let node = self.tree.at_mut(id);
        let taken = match &mut node.values {
            Values::Bool(values) => special::bool(json).map(|value| values.push(value)),
            Values::Int64(values) => special::int64(json).map(|value| values.push(value)),
            Values::Float64(values) => special::float64(json).map(|value| values.push(value)),
            Values::Utf8(text) if !matches!(json.first(), Some(b'{' | b'[' | b'"')) => {
                text.bytes.extend_from_slice(json);
                text.close();
                Some(())
            }
            _ => None,
        };
        Ok(taken.map(|()| {
            node.len = row + 1;
            end
        }))
    }

    /// Makes the struct `id` a list of such structs: it is there only because
    /// fields of it are declared, and an array came first.
    #[cold]
    pub(super) fn make_list(&mut self, id: NodeId) {
        let Values::Struct(members) = std::mem::replace(&mut self.tree.at_mut(id).values, Values::Unknown)
        else {
            unreachable!("only a struct is provisional");
        };
        let item = self.tree.add(id, "", true, Values::Unknown);
        for &child in &members.order {
            self.tree.at_mut(child).parent = item;
        }
        self.tree.at_mut(item).values = Values::Struct(members);
        // Its rows are elements now, and there is none yet.
        self.tree.truncate(item, 0);
        let node = self.tree.at_mut(id);
        node.provisional = false;
        node.values = Values::List(Items { offsets: vec![0; node.len + 1], count: 0, item });
    }
}

impl Values {
    /// No values yet of a type that is neither a struct nor a list.
    pub(super) fn scalar(ty: &ColumnType) -> Option<Self> {
        use super::node::Text;
        Some(match ty {
            ColumnType::Bool => Self::Bool(Vec::new()),
            ColumnType::Int64 => Self::Int64(Vec::new()),
            ColumnType::Float64 => Self::Float64(Vec::new()),
            ColumnType::Utf8 => Self::Utf8(Text::new()),
            ColumnType::Json => Self::Json(Text::new()),
            ColumnType::Struct(_) | ColumnType::List(_) => return None,
            other => Self::Special(Box::new(special::Special::new(other)?)),
        })
    }
}
