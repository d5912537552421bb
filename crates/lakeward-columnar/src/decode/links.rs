//! The prediction: which bytes come after which field.
//!
//! Every place in an object (its start, and the end of each known field)
//! remembers the exact bytes that came next, the last [`WAYS`] different ones: separator,
//! whitespace, key, colon, and as much of the value as says what it is. A hit
//! is one wide comparison. A pattern is only ever a copy of bytes that the
//! general path has accepted at the same place, so a hit is valid JSON.

use super::input::{CHUNK, Input, equal};
use super::node::NodeId;

/// How many different patterns a place remembers: streams often hold a few
/// kinds of events by turns, and each of them goes on in its own way.
const WAYS: usize = 4;

/// The longest pattern.
const PATTERN: usize = 2 * CHUNK;

/// What follows a pattern's last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lead {
    /// The pattern is the object's end.
    End,
    /// The pattern includes the value, which is null.
    Null,
    /// The pattern includes a string's opening quote.
    Quote,
    /// The pattern includes an object's opening brace.
    Brace,
    /// A number, most likely.
    Number,
    /// Another value.
    Value,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pattern: [[u8; CHUNK]; 2],
    masks: [u32; 2],
    /// How long the pattern is.
    pub(super) len: u32,
    /// The field.
    pub(super) child: NodeId,
    pub(super) lead: Lead,
}

impl Link {
    /// Matches nothing: 0xff is no part of UTF-8, and only that is read.
    const NONE: Self =
        Self { pattern: [[0xff; CHUNK]; 2], masks: [u32::MAX, 0], len: 0, child: 0, lead: Lead::End };

    #[inline(always)]
    fn matches(&self, input: Input<'_>, at: usize, chunk: &[u8; CHUNK]) -> bool {
        equal(chunk, &self.pattern[0]) & self.masks[0] == self.masks[0]
            && (self.masks[1] == 0 || self.matches_second(input, at))
    }

    #[inline(always)]
    fn matches_second(&self, input: Input<'_>, at: usize) -> bool {
        input
            .chunk(at + CHUNK)
            .is_ok_and(|chunk| equal(chunk, &self.pattern[1]) & self.masks[1] == self.masks[1])
    }
}

/// A place in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    /// Behind a field without a column: nothing is predicted there.
    pub(super) const NOWHERE: Self = Self(u32::MAX);

    /// Behind the opening brace of the object `id`.
    #[inline(always)]
    pub(super) fn start(id: NodeId) -> Self {
        Self(2 * id)
    }

    /// Behind the field `id`.
    #[inline(always)]
    pub(super) fn after(id: NodeId) -> Self {
        Self(2 * id + 1)
    }
}

/// What is predicted at every place.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<[Link; WAYS]>);

impl Links {
    /// The prediction for `place` that matches what is at `at`, where `chunk`
    /// is.
    #[inline(always)]
    pub(super) fn find(
        &self,
        place: Place,
        input: Input<'_>,
        at: usize,
        chunk: &[u8; CHUNK],
    ) -> Option<&Link> {
        self.0.get(place.0 as usize)?.iter().find(|link| link.matches(input, at, chunk))
    }

    /// Remembers that `pattern` came at `place`.
    pub(super) fn learn(&mut self, place: Place, pattern: &[u8], child: NodeId, lead: Lead) {
        if place == Place::NOWHERE || pattern.is_empty() || pattern.len() > PATTERN {
            return;
        }
        let index = place.0 as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, [Link::NONE; WAYS]);
        }
        let mut bytes = [[0; CHUNK]; 2];
        bytes.as_flattened_mut()[..pattern.len()].copy_from_slice(pattern);
        let mask = u64::MAX >> (PATTERN - pattern.len());
        let masks = [mask as u32, (mask >> CHUNK) as u32];
        let link = Link { pattern: bytes, masks, len: pattern.len() as u32, child, lead };
        let links = &mut self.0[index];
        links.rotate_right(1);
        links[0] = link;
    }

    /// The bytes they occupy.
    pub(super) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<[Link; WAYS]>()
    }
}
