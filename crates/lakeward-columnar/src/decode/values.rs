//! Values: straight into a column if they fit, else by the rules in
//! [`super`].

use super::Decoder;
use super::fault::{Fault, What};
use super::input::Input;
use super::node::{Fate, Items, Members, NodeId, ROOT, Text, Values};
use super::number::{self, Number};
use super::{scan, special};

impl Decoder {
    /// Reads the string whose first byte after the quote is at `at`.
    #[inline(always)]
    pub(super) fn string(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<usize, Fault> {
        let node = self.tree.at_mut(id);
        if node.len < row {
            node.fill(row);
        }
        if let Values::Utf8(text) = &mut node.values
            && node.len == row
        {
            let (end, lone) = text.append(input, at)?;
            node.len = row + 1;
            if lone {
                self.keep_at(id, input.slice(at - 1, end));
            }
            return Ok(end);
        }
        self.value(input, at - 1, id, row, depth)
    }

    /// Reads the number at `at`, where one is expected.
    #[inline(always)]
    pub(super) fn number(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<usize, Fault> {
        let node = self.tree.at_mut(id);
        if node.len == row {
            match &mut node.values {
                Values::Int64(values) => {
                    if let Some((value, end)) = number::short_int(input, at) {
                        values.push(value);
                        node.len = row + 1;
                        return Ok(end);
                    }
                }
                Values::Float64(values) => {
                    if let Some((value, end)) = number::short_float(input, at) {
                        values.push(value);
                        node.len = row + 1;
                        return Ok(end);
                    }
                }
                _ => {}
            }
        }
        self.value(input, input.skip_space(at), id, row, depth)
    }

    /// Reads the object whose first byte after the brace is at `at`.
    #[inline(always)]
    pub(super) fn nested(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<usize, Fault> {
        let node = self.tree.at_mut(id);
        if node.len > row || !matches!(node.values, Values::Struct(_)) {
            return self.value(input, at - 1, id, row, depth);
        }
        let inner = depth.checked_sub(1).ok_or(Fault::new(What::Depth, at - 1))?;
        node.fill(row);
        node.len = row + 1;
        self.object(input, at, id, row, inner)
    }

    /// Reads the value at `at`, which may nest `depth` deep, into `row` of the
    /// node `id`.
    pub(super) fn value(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<usize, Fault> {
        let first = input.byte(at);
        if first == b'n' {
            return scan::literal(input, at, b"null");
        }
        let node = self.tree.at_mut(id);
        if node.len > row {
            return self.rescue_value(input, at, id, depth);
        }
        if node.len < row {
            node.fill(row);
        }
        let end = match (&mut node.values, first) {
            (Values::Int64(values), b'-' | b'0'..=b'9') => match number::parse(input, at)? {
                (Number::Int(value), end) => {
                    values.push(value);
                    end
                }
                (other, end) => return self.float_in_int64(input, (at, end), id, row, other),
            },
            (Values::Float64(values), b'-' | b'0'..=b'9') => {
                let (number, end) = number::parse(input, at)?;
                match float(number, first) {
                    Some(value) => values.push(value),
                    None => {
                        self.keep_at(id, input.slice(at, end));
                        return Ok(end);
                    }
                }
                end
            }
            (Values::Bool(values), b't' | b'f') => {
                let (value, end) = scan::bool(input, at)?;
                values.push(value);
                end
            }
            (Values::Json(text), _) => {
                let end = scan::value(input, at, depth)?;
                text.bytes.extend_from_slice(input.slice(at, end));
                text.close();
                end
            }
            (Values::Utf8(_), b'"') => return self.string(input, at + 1, id, row, depth),
            (Values::Struct(_), b'{') => return self.nested(input, at + 1, id, row, depth),
            (Values::List(_), b'[') => return self.list(input, at, id, row, depth),
            (Values::Special(values), _) => {
                let end = scan::value(input, at, depth)?;
                if !values.push(input.slice(at, end)) {
                    self.keep_at(id, input.slice(at, end));
                    return Ok(end);
                }
                end
            }
            (Values::Skipped(fate), _) => {
                return match *fate {
                    Fate::Unwanted => scan::value(input, at, depth),
                    Fate::Discarded => {
                        self.discarded += 1;
                        scan::value(input, at, depth)
                    }
                    Fate::Rescued => self.rescue_value(input, at, id, depth),
                };
            }
            (Values::Unknown, _) => return self.adopt(input, at, id, row, depth),
            _ => return self.misfit(input, at, id, row, depth),
        };
        node.len = row + 1;
        Ok(end)
    }

    /// Reads the array at `at`.
    fn list(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<usize, Fault> {
        let inner = depth.checked_sub(1).ok_or(Fault::new(What::Depth, at))?;
        if self.current.lists == 0 {
            self.current.spoilt = false;
        }
        self.current.lists += 1;
        let end = scan::elements(input, at, |at| {
            let Values::List(items) = &mut self.tree.at_mut(id).values else {
                unreachable!("a list that is being read stays one");
            };
            let (item, element) = (items.item, items.count);
            items.count += 1;
            self.value(input, at, item, element, inner)
        })?;
        let node = self.tree.at_mut(id);
        if let Values::List(items) = &mut node.values {
            items.offsets.push(items.count as i32);
        }
        node.len = row + 1;
        self.current.lists -= 1;
        if self.current.lists == 0 && self.current.spoilt {
            self.keep_at(id, input.slice(at, end));
        }
        Ok(end)
    }

    /// Gives a node its type by its first value.
    #[cold]
    fn adopt(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<usize, Fault> {
        if self.leaves >= self.options.column_limit && self.is_one_more(id) {
            return self.rescue_value(input, at, id, depth);
        }
        self.check_record(input)?;
        let node = self.tree.at(id);
        if self.tree.collides(node.parent, &node.name) {
            self.tree.at_mut(id).values = Values::Skipped(Fate::Rescued);
            return self.rescue_value(input, at, id, depth);
        }
        let values = match input.byte(at) {
            b'"' => Values::Utf8(Text::new()),
            b't' | b'f' => Values::Bool(Vec::new()),
            b'{' => Values::Struct(Members::default()),
            b'[' => {
                let item = self.tree.add(id, "", false, Values::Unknown);
                Values::List(Items { offsets: vec![0], count: 0, item })
            }
            b'-' | b'0'..=b'9' => match number::parse(input, at)?.0 {
                Number::Int(_) => Values::Int64(Vec::new()),
                Number::Float(_) => Values::Float64(Vec::new()),
                Number::Inexact => return self.rescue_value(input, at, id, depth),
            },
            _ => return Err(Fault::new(What::ExpectedValue, at)),
        };
        self.leaves += usize::from(self.is_one_more(id));
        self.tree.at_mut(id).values = values;
        self.value(input, at, id, row, depth)
    }

    /// Whether a type for the node means one more leaf column. The first typed
    /// field of a struct, or item of a list, takes the place of its parent,
    /// which would have been a `Json` column without it.
    fn is_one_more(&self, id: NodeId) -> bool {
        let parent = self.tree.at(id).parent;
        match &self.tree.at(parent).values {
            Values::Struct(members) => {
                parent == ROOT || members.order.iter().any(|&child| self.tree.leaves(child) > 0)
            }
            _ => false,
        }
    }

    /// Takes a value of another type than the column's.
    #[cold]
    fn misfit(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<usize, Fault> {
        let node = self.tree.at(id);
        if node.declared
            && let Some(end) = self.convert(input, at, id, row, depth)?
        {
            return Ok(end);
        }
        self.check_record(input)?;
        let node = self.tree.at(id);
        if node.provisional && input.byte(at) == b'[' && !node.has_any() {
            self.make_list(id);
            return self.value(input, at, id, row, depth);
        }
        if node.pinned || !self.turn_into_json(id) {
            return self.rescue_value(input, at, id, depth);
        }
        self.value(input, at, id, row, depth)
    }

    /// Takes a number that is no `i64` in an `Int64` column.
    #[cold]
    fn float_in_int64(
        &mut self,
        input: Input<'_>,
        (at, end): (usize, usize),
        id: NodeId,
        row: usize,
        number: Number,
    ) -> Result<usize, Fault> {
        let node = self.tree.at_mut(id);
        if node.declared
            && let Values::Int64(values) = &mut node.values
            && let Some(value) = special::int64(input.slice(at, end))
        {
            values.push(value);
            node.len = row + 1;
            return Ok(end);
        }
        self.check_record(input)?;
        let node = self.tree.at_mut(id);
        if let (Number::Float(value), Values::Int64(ints), false) = (number, &node.values, node.rigid) {
            let floats: Option<Vec<f64>> = ints.iter().map(|&int| number::exact(int)).collect();
            node.rigid = floats.is_none();
            if let Some(mut floats) = floats {
                floats.push(value);
                node.values = Values::Float64(floats);
                node.len = row + 1;
                return Ok(end);
            }
        }
        self.keep_at(id, input.slice(at, end));
        Ok(end)
    }

    /// Rescues the value at `at`, which found no place in the node `id`.
    #[cold]
    fn rescue_value(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        depth: usize,
    ) -> Result<usize, Fault> {
        let end = scan::value(input, at, depth)?;
        self.keep_at(id, input.slice(at, end));
        Ok(end)
    }
}

/// The number as a float, if one equals it. `first` is its first byte, which
/// tells -0 from 0.
#[inline(always)]
fn float(number: Number, first: u8) -> Option<f64> {
    match number {
        Number::Float(value) => Some(value),
        Number::Int(0) if first == b'-' => Some(-0.0),
        Number::Int(value) => number::exact(value),
        Number::Inexact => None,
    }
}
