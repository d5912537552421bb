//! Column values back to JSON text, for columns that turn out to be `Json`.

use super::node::{NodeId, Text, Tree, Values};
use super::{Decoder, INPUT_MAX};

impl Tree {
    /// Appends the value in `row` of the node `id` to `out`.
    pub(super) fn render(&self, id: NodeId, row: usize, out: &mut Vec<u8>) {
        let node = self.at(id);
        if !node.has(row) {
            return out.extend_from_slice(b"null");
        }
        match &node.values {
            Values::Unknown | Values::Skipped(_) => out.extend_from_slice(b"null"),
            Values::Bool(values) => write(out, &values[row]),
            Values::Int64(values) => write(out, &values[row]),
            Values::Float64(values) => write_float(out, values[row]),
            Values::Utf8(text) => write(out, &String::from_utf8_lossy(text.get(row))),
            Values::Json(text) => out.extend_from_slice(text.get(row)),
            Values::Special(_) => unreachable!("only columns that nobody fixed become JSON"),
            Values::Struct(members) => {
                out.push(b'{');
                let start = out.len();
                for &child in members.order.iter().filter(|&&child| self.at(child).has(row)) {
                    if out.len() > start {
                        out.push(b',');
                    }
                    write(out, &self.at(child).name);
                    out.push(b':');
                    self.render(child, row, out);
                }
                out.push(b'}');
            }
            Values::List(items) => {
                out.push(b'[');
                let elements = items.offsets[row] as usize..items.offsets[row + 1] as usize;
                for element in elements.clone() {
                    if element > elements.start {
                        out.push(b',');
                    }
                    self.render(items.item, element, out);
                }
                out.push(b']');
            }
        }
    }

    /// The whole node as JSON texts.
    pub(super) fn to_json(&self, id: NodeId) -> Text {
        let node = self.at(id);
        let mut text = Text::new();
        for row in 0..node.len {
            if node.has(row) {
                self.render(id, row, &mut text.bytes);
            }
            text.close();
        }
        text
    }
}

fn write(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("a vector takes everything, and no float here is infinite");
}

/// Writes a float so that an integer that became one has its digits again: the
/// shortest text of a large float is another integer, if read exactly.
fn write_float(out: &mut Vec<u8>, value: f64) {
    if (9_007_199_254_740_992.0..1e40).contains(&value.abs()) {
        out.extend_from_slice(format!("{value:.0}").as_bytes());
    } else {
        write(out, &value);
    }
}

impl Decoder {
    /// Makes the node `id` a `Json` one with the same values. If their text
    /// would be too long it keeps its type for good, and this is `false`.
    pub(super) fn turn_into_json(&mut self, id: NodeId) -> bool {
        let text = self.tree.to_json(id);
        let taken = self.taken + text.bytes.len() as u64;
        if taken > INPUT_MAX {
            self.tree.at_mut(id).pinned = true;
            return false;
        }
        // The text may be longer than what it came from.
        self.taken = taken;
        self.replace_by_json(id, text);
        true
    }

    /// Makes the node `id` a `Json` one with these values.
    pub(super) fn replace_by_json(&mut self, id: NodeId, text: Text) {
        self.leaves = self.leaves + 1 - self.tree.leaves(id);
        self.tree.clear(id);
        self.tree.at_mut(id).values = Values::Json(text);
    }
}
