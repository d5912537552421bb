//! The tree of columns that is being filled.
//!
//! Every node counts its own rows and fills nulls only when a value comes, so
//! that an absent key costs nothing. A row is a record's object at the top and
//! in structs, and an element below a list.

use std::collections::HashMap;

use super::fault::{Fault, What};
use super::input::{CHUNK, Input, specials};
use super::scan;
use super::special::Special;
use crate::dotted::{collide, join};
use crate::schema::ColumnType;

/// A node's place in [`Tree`].
pub(super) type NodeId = u32;

/// The root: the record's object itself.
pub(super) const ROOT: NodeId = 0;

/// All nodes; children refer to their parents and back by number.
#[derive(Debug)]
pub(super) struct Tree(pub(super) Vec<Node>);

/// A column, or a part of one.
#[derive(Debug)]
pub(super) struct Node {
    /// The key, unescaped. An element of a list has an empty one.
    pub(super) name: Box<str>,
    /// Itself for the root.
    pub(super) parent: NodeId,
    /// The schema has it: its type is fixed.
    pub(super) pinned: bool,
    /// It cannot become `Float64`: an integer came that no float equals, or
    /// its type is fixed.
    pub(super) rigid: bool,
    /// The user declared it: it takes what means the same.
    pub(super) declared: bool,
    /// It is a struct only because the user declared a field of it.
    pub(super) provisional: bool,
    /// The rows it has, including nulls. What is missing is null.
    pub(super) len: usize,
    /// The rows that are null: ascending, not overlapping, start and end.
    pub(super) gaps: Vec<(u32, u32)>,
    /// The values.
    pub(super) values: Values,
}

/// The values of a node.
#[derive(Debug)]
pub(super) enum Values {
    /// Nothing but nulls so far.
    Unknown,
    /// There is no such column.
    Skipped(Fate),
    Bool(Vec<bool>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Utf8(Text),
    Json(Text),
    Struct(Members),
    List(Items),
    /// A type that JSON does not have.
    Special(Box<Special>),
}

/// What becomes of the values of a field that is no column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody asked for them: they are left out.
    Unwanted,
    /// The contract leaves them out: they are counted.
    Discarded,
    /// They are rescued.
    Rescued,
}

/// A struct's fields.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// In order of first sight.
    pub(super) order: Vec<NodeId>,
    pub(super) by_name: HashMap<Box<[u8]>, NodeId>,
}

/// A list's elements.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) offsets: Vec<i32>,
    /// How many elements there are, with those of the list that is being read.
    pub(super) count: usize,
    pub(super) item: NodeId,
}

/// Strings, one behind the other.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) offsets: Vec<i32>,
    pub(super) bytes: Vec<u8>,
}

impl Text {
    pub(super) fn new() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }

    /// Ends the string whose bytes have been appended.
    #[inline(always)]
    pub(super) fn close(&mut self) {
        // `Decoder::push` keeps the sum of all input below 2 GiB.
        self.offsets.push(self.bytes.len() as i32);
    }

    /// Appends the JSON string whose first byte after the quote is at `at`.
    /// Returns its end and whether a lone surrogate was replaced in it.
    ///
    /// Copies whole chunks, then cuts at the closing quote: that is one pass,
    /// and short strings need no loop.
    #[inline(always)]
    pub(super) fn append(&mut self, input: Input<'_>, at: usize) -> Result<(usize, bool), Fault> {
        let chunk = input.chunk(at)?;
        self.bytes.extend_from_slice(chunk);
        let found = specials(chunk);
        if found == 0 {
            return self.append_long(input, at + CHUNK);
        }
        let plain = found.trailing_zeros() as usize;
        self.bytes.truncate(self.bytes.len() - (CHUNK - plain));
        if chunk[plain] != b'"' {
            return self.append_escaped(input, at + plain);
        }
        self.close();
        Ok((at + plain + 1, false))
    }

    /// Goes on after the first chunk.
    #[inline]
    fn append_long(&mut self, input: Input<'_>, mut at: usize) -> Result<(usize, bool), Fault> {
        loop {
            let chunk = input.chunk(at)?;
            self.bytes.extend_from_slice(chunk);
            let found = specials(chunk);
            if found == 0 {
                at += CHUNK;
                continue;
            }
            let plain = found.trailing_zeros() as usize;
            self.bytes.truncate(self.bytes.len() - (CHUNK - plain));
            at += plain;
            if chunk[plain] != b'"' {
                return self.append_escaped(input, at);
            }
            self.close();
            return Ok((at + 1, false));
        }
    }

    /// Goes on at what is no plain byte.
    #[cold]
    fn append_escaped(&mut self, input: Input<'_>, mut at: usize) -> Result<(usize, bool), Fault> {
        let mut lone = false;
        loop {
            match input.byte(at) {
                b'"' => {
                    self.close();
                    return Ok((at + 1, lone));
                }
                b'\\' => {
                    let (end, replaced) = scan::unescape(input, at, &mut self.bytes)?;
                    lone |= replaced;
                    at = end;
                }
                0..=0x1f => return Err(Fault::new(What::Control, at)),
                _ => {
                    let chunk = input.chunk(at)?;
                    let plain = (specials(chunk).trailing_zeros() as usize).min(CHUNK);
                    self.bytes.extend_from_slice(&chunk[..plain]);
                    at += plain;
                }
            }
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes.truncate(last(&self.offsets));
    }

    /// The string of a row.
    pub(super) fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// The last offset; there always is one.
pub(super) fn last(offsets: &[i32]) -> usize {
    offsets.last().map_or(0, |&offset| offset as usize)
}

impl Node {
    pub(super) fn new(name: &str, parent: NodeId, pinned: bool, values: Values) -> Self {
        Self {
            name: name.into(),
            parent,
            pinned,
            rigid: false,
            declared: false,
            provisional: false,
            len: 0,
            gaps: Vec::new(),
            values,
        }
    }

    /// Fills nulls up to `row`.
    pub(super) fn fill(&mut self, row: usize) {
        if self.len >= row {
            return;
        }
        match &mut self.values {
            Values::Unknown | Values::Skipped(_) => return,
            Values::Bool(values) => values.resize(row, false),
            Values::Int64(values) => values.resize(row, 0),
            Values::Float64(values) => values.resize(row, 0.0),
            Values::Utf8(text) | Values::Json(text) => repeat_last(&mut text.offsets, row),
            Values::Special(values) => values.fill(row),
            Values::Struct(_) => {}
            Values::List(items) => repeat_last(&mut items.offsets, row),
        }
        // Both fit: rows are fewer than the input has bytes.
        self.gaps.push((self.len as u32, row as u32));
        self.len = row;
    }

    /// Whether the row holds a value.
    pub(super) fn has(&self, row: usize) -> bool {
        let before = self.gaps.partition_point(|&(_, end)| end as usize <= row);
        row < self.len && self.gaps.get(before).is_none_or(|&(start, _)| row < start as usize)
    }

    /// Whether any row holds a value.
    pub(super) fn has_any(&self) -> bool {
        self.valid_runs().next().is_some()
    }

    /// The runs of rows that hold values.
    pub(super) fn valid_runs(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = std::iter::once(0).chain(self.gaps.iter().map(|&(_, end)| end as usize));
        let ends = self.gaps.iter().map(|&(start, _)| start as usize).chain(std::iter::once(self.len));
        starts.zip(ends).map(|(start, end)| start..end).filter(|run| !run.is_empty())
    }

    fn memory(&self) -> usize {
        let values = match &self.values {
            Values::Unknown | Values::Skipped(_) => 0,
            Values::Bool(values) => values.capacity(),
            Values::Int64(values) => values.capacity() * 8,
            Values::Float64(values) => values.capacity() * 8,
            Values::Utf8(text) | Values::Json(text) => text.offsets.capacity() * 4 + text.bytes.capacity(),
            Values::Special(values) => values.memory(),
            Values::Struct(members) => members.by_name.capacity() * 32,
            Values::List(items) => items.offsets.capacity() * 4,
        };
        values + self.gaps.capacity() * 8 + self.name.len() + size_of::<Self>()
    }

    /// Makes room for `factor` times what there is.
    fn reserve(&mut self, factor: f64) {
        fn grow<T>(values: &mut Vec<T>, factor: f64) {
            let wanted = (values.len() as f64 * factor) as usize;
            values.reserve(wanted.saturating_sub(values.len()));
        }
        match &mut self.values {
            Values::Unknown | Values::Skipped(_) | Values::Struct(_) => {}
            Values::Bool(values) => grow(values, factor),
            Values::Int64(values) => grow(values, factor),
            Values::Float64(values) => grow(values, factor),
            Values::Utf8(text) | Values::Json(text) => {
                grow(&mut text.offsets, factor);
                grow(&mut text.bytes, factor);
            }
            Values::List(items) => grow(&mut items.offsets, factor),
            Values::Special(values) => values.reserve(((factor - 1.0) * values.len() as f64) as usize),
        }
    }
}

fn repeat_last(offsets: &mut Vec<i32>, row: usize) {
    offsets.resize(row + 1, last(offsets) as i32);
}

impl Tree {
    pub(super) fn new() -> Self {
        Self(vec![Node::new("", ROOT, true, Values::Struct(Members::default()))])
    }

    /// The node.
    #[inline(always)]
    pub(super) fn at(&self, id: NodeId) -> &Node {
        &self.0[id as usize]
    }

    /// The node.
    #[inline(always)]
    pub(super) fn at_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.0[id as usize]
    }

    /// Adds a node; a struct's field also under its name.
    pub(super) fn add(&mut self, parent: NodeId, name: &str, pinned: bool, values: Values) -> NodeId {
        let id = self.0.len() as NodeId;
        self.0.push(Node::new(name, parent, pinned, values));
        if let Values::Struct(members) = &mut self.at_mut(parent).values {
            members.order.push(id);
            members.by_name.insert(name.as_bytes().into(), id);
        }
        id
    }

    /// Adds a column of the schema.
    pub(super) fn add_pinned(&mut self, parent: NodeId, name: &str, ty: &ColumnType) -> NodeId {
        match ty {
            ColumnType::Struct(columns) => {
                let id = self.add(parent, name, true, Values::Struct(Members::default()));
                for column in columns {
                    self.add_pinned(id, &column.name, &column.ty);
                }
                id
            }
            ColumnType::List(item) => {
                let id = self.add(parent, name, true, Values::Unknown);
                let item = self.add_pinned(id, "", item);
                self.at_mut(id).values = Values::List(Items { offsets: vec![0], count: 0, item });
                id
            }
            scalar => {
                let values = Values::scalar(scalar).expect("all other types are scalar");
                self.add(parent, name, true, values)
            }
        }
    }

    /// Whether a column of the struct `id` has this name but for its case.
    pub(super) fn collides(&self, id: NodeId, name: &str) -> bool {
        let Values::Struct(members) = &self.at(id).values else { return false };
        members.order.iter().map(|&child| self.at(child)).any(|node| {
            !matches!(node.values, Values::Unknown | Values::Skipped(_))
                && *node.name != *name
                && collide(&node.name, name)
        })
    }

    /// How many leaf columns there are at and below `id`. A struct or a list
    /// in which nothing has a type yet may become one.
    pub(super) fn leaves(&self, id: NodeId) -> usize {
        match &self.at(id).values {
            Values::Unknown | Values::Skipped(_) => 0,
            Values::Struct(members) => {
                let sum: usize = members.order.iter().map(|&child| self.leaves(child)).sum();
                sum.max(usize::from(id != ROOT))
            }
            Values::List(items) => self.leaves(items.item).max(1),
            _ => 1,
        }
    }

    /// Takes back every row from `rows` on, and what belongs to no row yet.
    pub(super) fn truncate(&mut self, id: NodeId, rows: usize) {
        let node = self.at_mut(id);
        node.len = node.len.min(rows);
        while node.gaps.last().is_some_and(|&(start, _)| start as usize >= rows) {
            node.gaps.pop();
        }
        if let Some((_, end)) = node.gaps.last_mut() {
            *end = (*end).min(rows as u32);
        }
        match &mut node.values {
            Values::Unknown | Values::Skipped(_) => {}
            Values::Bool(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Utf8(text) | Values::Json(text) => text.truncate(rows),
            Values::Special(values) => values.truncate(rows),
            Values::Struct(members) => {
                for i in 0..members.order.len() {
                    let Values::Struct(members) = &self.at(id).values else { return };
                    self.truncate(members.order[i], rows);
                }
            }
            Values::List(items) => {
                items.offsets.truncate(rows + 1);
                items.count = last(&items.offsets);
                let (item, count) = (items.item, items.count);
                self.truncate(item, count);
            }
        }
    }

    /// Forgets the values at and below `id`, for a column that is replaced.
    pub(super) fn clear(&mut self, id: NodeId) {
        let children = match std::mem::replace(&mut self.at_mut(id).values, Values::Unknown) {
            Values::Struct(members) => members.order,
            Values::List(items) => vec![items.item],
            _ => Vec::new(),
        };
        for child in children {
            self.clear(child);
        }
    }

    /// The dotted path from the root. Elements of a list have the list's. A
    /// key that contains `.` or `"`, or is empty, stands in JSON quotes.
    pub(super) fn path(&self, id: NodeId) -> String {
        let node = self.at(id);
        if id == ROOT {
            return String::new();
        }
        let parent = self.path(node.parent);
        match &self.at(node.parent).values {
            Values::List(_) => parent,
            _ => join(&parent, &node.name),
        }
    }

    /// The bytes that all buffers occupy.
    pub(super) fn memory(&self) -> usize {
        self.0.iter().map(Node::memory).sum()
    }

    /// Makes room in every buffer for `factor` times what there is.
    pub(super) fn reserve(&mut self, factor: f64) {
        for node in &mut self.0 {
            node.reserve(factor);
        }
    }
}
