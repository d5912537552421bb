//! Objects: predicted fields, and the general way for all others.

use std::borrow::Cow;

use super::Decoder;
use super::fault::{Fault, What};
use super::input::Input;
use super::links::{Lead, Place};
use super::node::{Fate, NodeId, ROOT, Text, Values};
use super::scan;
use crate::dotted::{collide, join};
use crate::schema::RESCUED;
use crate::shape::Contract;

/// The longest dotted path that becomes a column, in bytes.
const PATH_MAX: usize = 1_024;

/// What the general way found.
enum Step {
    /// The object ended here.
    End(usize),
    /// A field ended here; what comes next is predicted by this place.
    Field(usize, Place),
}

impl Decoder {
    /// Reads the object whose first byte after the brace is at `at` into `row`
    /// of the struct `id`; what is in it may nest `depth` deep.
    pub(super) fn object(
        &mut self,
        input: Input<'_>,
        mut at: usize,
        id: NodeId,
        row: usize,
        depth: usize,
    ) -> Result<usize, Fault> {
        let mut place = Place::start(id);
        loop {
            let chunk = input.chunk(at)?;
            let Some(link) = self.links.find(place, input, at, chunk) else {
                match self.field(input, at, id, place, row, depth)? {
                    Step::End(end) => return Ok(end),
                    Step::Field(end, next) => (at, place) = (end, next),
                }
                continue;
            };
            let child = link.child;
            at += link.len as usize;
            match link.lead {
                Lead::End => return Ok(at),
                Lead::Null => {}
                Lead::Quote => at = self.string(input, at, child, row, depth)?,
                Lead::Brace => at = self.nested(input, at, child, row, depth)?,
                Lead::Number => at = self.number(input, at, child, row, depth)?,
                // The pattern may have come without the space that is here.
                Lead::Value => at = self.value(input, input.skip_space(at), child, row, depth)?,
            }
            place = Place::after(child);
        }
    }

    /// Reads what comes at `at`, whatever it is, and learns from it.
    #[cold]
    fn field(
        &mut self,
        input: Input<'_>,
        start: usize,
        id: NodeId,
        place: Place,
        row: usize,
        depth: usize,
    ) -> Result<Step, Fault> {
        let at = input.skip_space(start);
        let key_at = match input.byte(at) {
            b'}' => {
                self.links.learn(place, input.slice(start, at + 1), id, Lead::End);
                return Ok(Step::End(at + 1));
            }
            _ if place == Place::start(id) => at,
            b',' => input.skip_space(at + 1),
            _ => return Err(Fault::new(What::ExpectedCommaOrBrace, at)),
        };
        if input.byte(key_at) != b'"' {
            return Err(Fault::new(What::ExpectedKey, key_at));
        }
        let (key, key_end) = key(input, key_at + 1)?;
        let value_at = scan::colon(input, key_end)?;
        let Some(child) = self.child(input, id, &key)? else {
            return self.stray(input, value_at, id, &key, depth).map(|end| Step::Field(end, Place::NOWHERE));
        };
        let (lead, lead_end) = match input.byte(value_at) {
            b'n' if input.slice(value_at, value_at + 4) == b"null" => (Lead::Null, value_at + 4),
            b'"' => (Lead::Quote, value_at + 1),
            b'{' => (Lead::Brace, value_at + 1),
            b'-' | b'0'..=b'9' => (Lead::Number, value_at),
            _ => (Lead::Value, value_at),
        };
        self.links.learn(place, input.slice(start, lead_end), child, lead);
        let end = self.value(input, value_at, child, row, depth)?;
        Ok(Step::Field(end, Place::after(child)))
    }

    /// The node of the field `key` of the struct `id`; a new one if there may
    /// be one.
    fn child(&mut self, input: Input<'_>, id: NodeId, key: &Key<'_>) -> Result<Option<NodeId>, Fault> {
        let Values::Struct(members) = &self.tree.at(id).values else {
            unreachable!("only structs are read as objects");
        };
        if key.escaped {
            return Ok(None);
        }
        if let Some(&child) = members.by_name.get(&*key.name) {
            return Ok(Some(child));
        }
        if (id == ROOT && collide(&key.text(), RESCUED))
            || key.name.len() > PATH_MAX
            || self.tree.0.len() >= self.nodes_max
        {
            return Ok(None);
        }
        self.check_record(input)?;
        let name = key.text();
        let path = join(&self.tree.path(id), &name);
        if path.len() > PATH_MAX {
            return Ok(None);
        }
        let values = if id == ROOT && !self.is_wanted(&name) {
            Values::Skipped(Fate::Unwanted)
        } else if self.closed {
            let discards = self.options.contract == Contract::DiscardUnknown;
            Values::Skipped(if discards { Fate::Discarded } else { Fate::Rescued })
        } else {
            Values::Unknown
        };
        Ok(Some(self.tree.add(id, &name, false, values)))
    }

    /// Reads a value that has no column.
    fn stray(
        &mut self,
        input: Input<'_>,
        at: usize,
        id: NodeId,
        key: &Key<'_>,
        depth: usize,
    ) -> Result<usize, Fault> {
        let end = scan::value(input, at, depth)?;
        let name = key.text();
        if input.byte(at) != b'n' && (id != ROOT || self.is_wanted(&name)) {
            if self.closed && self.options.contract == Contract::DiscardUnknown {
                self.discarded += 1;
            } else {
                let path = join(&self.tree.path(id), &name);
                self.keep(path, input.slice(at, end));
            }
        }
        Ok(end)
    }
}

/// An object's key.
struct Key<'a> {
    /// Unescaped, unless `escaped`.
    name: Cow<'a, [u8]>,
    /// It has a lone surrogate, and stands here as it was spelt.
    escaped: bool,
}

impl Key<'_> {
    /// The key as text. It is UTF-8 wherever the record is not truncated.
    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }
}

/// Reads the key whose first byte after the quote is at `start`.
fn key(input: Input<'_>, start: usize) -> Result<(Key<'_>, usize), Fault> {
    let end = scan::string(input, start)?;
    let raw = input.slice(start, end - 1);
    if memchr::memchr(b'\\', raw).is_none() {
        return Ok((Key { name: Cow::Borrowed(raw), escaped: false }, end));
    }
    let mut text = Text::new();
    let (_, lone) = text.append(input, start)?;
    let name = if lone { Cow::Borrowed(raw) } else { Cow::Owned(text.bytes) };
    Ok((Key { name, escaped: lone }, end))
}
