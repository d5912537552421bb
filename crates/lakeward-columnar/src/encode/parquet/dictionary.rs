//! Dictionaries: the distinct values of a column in the order of their first
//! appearance.
//!
//! The hash decides nothing but speed: it is fixed, so that no randomness can
//! reach a file, and a probe of more than [`PROBES`] slots, which only chosen
//! collisions reach, ends the dictionary instead of the service.

use std::ops::Range;

/// The most entries; also the widest index is 17 bits.
pub(super) const ENTRIES: usize = 1 << 17;
/// The most bytes of a dictionary page.
const BYTES: usize = 4 << 20;
/// The longest walk through the table.
const PROBES: usize = 128;

/// The dictionary grew too large, or the hash met too many collisions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Distinct values with their PLAIN-encoded page.
pub(super) trait Dictionary: Default {
    /// One value as the column holds it.
    type Value<'a>: Copy;
    /// The index of `value`, which is added if it is new.
    fn index_of(&mut self, value: Self::Value<'_>) -> Result<u32, TooMany>;
    /// How many values it has.
    fn len(&self) -> usize;
    /// The dictionary page.
    fn into_page(self) -> Vec<u8>;
    /// How many bytes the page has.
    fn bytes(&self) -> usize;
}

/// Open addressing with linear probing. A slot has the hash above, which also
/// gives its place, and the entry's index plus one below; zero is free.
struct Table {
    slots: Vec<u64>,
    used: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self { slots: vec![0; 64], used: 0 }
    }
}

impl Table {
    /// Finds the entry of `hash` for which `same` holds, or the slot where it
    /// belongs.
    #[inline]
    fn find(&self, hash: u32, same: impl Fn(u32) -> bool) -> Result<Result<u32, usize>, TooMany> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..PROBES {
            let slot = self.slots[at];
            if slot == 0 {
                return Ok(Err(at));
            }
            let index = slot as u32 - 1;
            if (slot >> 32) as u32 == hash && same(index) {
                return Ok(Ok(index));
            }
            at = (at + 1) & mask;
        }
        Err(TooMany)
    }

    /// Gives the free slot `at` to the next index.
    fn insert(&mut self, at: usize, hash: u32) -> u32 {
        let index = self.used;
        self.used += 1;
        self.slots[at] = (u64::from(hash) << 32) | u64::from(self.used);
        if self.used as usize * 2 > self.slots.len() {
            self.grow();
        }
        index
    }

    fn grow(&mut self) {
        let mut slots = vec![0; self.slots.len() * 4];
        let mask = slots.len() - 1;
        for &slot in self.slots.iter().filter(|slot| **slot != 0) {
            let mut at = (slot >> 32) as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = slot;
        }
        self.slots = slots;
    }
}

/// Multiplies to 128 bits and folds, as wyhash does.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ (wide >> 64) as u64
}

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd6e8_feb8_6659_fd93;
const K2: u64 = 0xa076_1d64_78bd_642f;

/// A string where it stands in its column.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    bytes: &'a [u8],
    /// It and what follows, if the column goes on for so long.
    window: Option<&'a [u8; 16]>,
}

impl<'a> Text<'a> {
    #[inline]
    pub(super) fn new(data: &'a [u8], range: Range<usize>) -> Self {
        let (start, bytes) = (range.start, &data[range]);
        Self { bytes, window: data[start..].first_chunk() }
    }
}

/// A dictionary of strings.
#[derive(Default)]
pub(super) struct TextDictionary {
    table: Table,
    entries: Vec<TextEntry>,
    page: Vec<u8>,
}

/// What tells a string apart: its length with its bytes up to 16, padded with
/// zeros, or its first and last eight if it is longer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TextKey {
    first: u64,
    last: u64,
    length: u32,
}

struct TextEntry {
    key: TextKey,
    /// Where the string starts in the page.
    start: u32,
}

/// The low bytes of a word, by their number.
const LOW_BYTES: [u64; 9] =
    [0, 0xff, 0xffff, 0xff_ffff, u32::MAX as u64, 0xff_ffff_ffff, 0xffff_ffff_ffff, u64::MAX >> 8, u64::MAX];

impl TextKey {
    /// Without a branch that depends on the length of a short string, which
    /// no processor can predict.
    #[inline]
    fn new(text: Text<'_>) -> Self {
        let length = text.bytes.len();
        if length > 16 {
            let (first, last) = (word(&text.bytes[..8]), word(&text.bytes[length - 8..]));
            return Self { first, last, length: length as u32 };
        }
        let mut padded = [0; 16];
        let window = text.window.unwrap_or_else(|| {
            padded[..length].copy_from_slice(text.bytes);
            &padded
        });
        let first = word(&window[..8]) & LOW_BYTES[length.min(8)];
        let last = word(&window[8..]) & LOW_BYTES[length.saturating_sub(8)];
        Self { first, last, length: length as u32 }
    }

    #[inline]
    fn hash(self, text: &[u8]) -> u32 {
        let mut state = fold(self.first ^ K0, self.last ^ K1 ^ u64::from(self.length).wrapping_mul(K2));
        if text.len() > 16 {
            let middle = &text[8..text.len() - 8];
            let (pairs, tail) = middle.as_chunks::<16>();
            for pair in pairs {
                let (a, b) = pair.split_at(8);
                state = fold(word(a) ^ K1, word(b) ^ state);
            }
            if !tail.is_empty() {
                // What is left is among the last 8 or 16 bytes of the middle.
                let end = text.len() - 8;
                let before = if tail.len() > 8 { word(&text[end - 16..end - 8]) } else { K2 };
                state = fold(word(&text[end - 8..end]) ^ K0, before ^ state);
            }
        }
        state as u32
    }
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a word has eight bytes"))
}

impl TextDictionary {
    #[inline]
    fn is(&self, index: u32, key: TextKey, text: &[u8]) -> bool {
        let entry = &self.entries[index as usize];
        let start = entry.start as usize;
        entry.key == key && (text.len() <= 16 || self.page[start..start + text.len()] == *text)
    }
}

impl Dictionary for TextDictionary {
    type Value<'a> = Text<'a>;

    #[inline]
    fn index_of(&mut self, text: Text<'_>) -> Result<u32, TooMany> {
        let key = TextKey::new(text);
        let text = text.bytes;
        let hash = key.hash(text);
        match self.table.find(hash, |index| self.is(index, key, text))? {
            Ok(index) => Ok(index),
            Err(slot) => {
                if self.entries.len() == ENTRIES || self.page.len() + text.len() > BYTES {
                    return Err(TooMany);
                }
                self.page.extend_from_slice(&(text.len() as u32).to_le_bytes());
                self.entries.push(TextEntry { key, start: self.page.len() as u32 });
                self.page.extend_from_slice(text);
                Ok(self.table.insert(slot, hash))
            }
        }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn into_page(self) -> Vec<u8> {
        self.page
    }

    fn bytes(&self) -> usize {
        self.page.len()
    }
}

/// A dictionary of numbers of `WIDTH` bytes, by their bits.
#[derive(Default)]
pub(super) struct NumberDictionary<const WIDTH: usize> {
    table: Table,
    values: Vec<u64>,
}

impl<const WIDTH: usize> Dictionary for NumberDictionary<WIDTH> {
    type Value<'a> = u64;

    #[inline]
    fn index_of(&mut self, bits: u64) -> Result<u32, TooMany> {
        let hash = fold(bits ^ K0, K1) as u32;
        match self.table.find(hash, |index| self.values[index as usize] == bits)? {
            Ok(index) => Ok(index),
            Err(slot) => {
                if self.values.len() == ENTRIES {
                    return Err(TooMany);
                }
                self.values.push(bits);
                Ok(self.table.insert(slot, hash))
            }
        }
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    fn into_page(self) -> Vec<u8> {
        self.values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(WIDTH)).collect()
    }

    fn bytes(&self) -> usize {
        self.values.len() * WIDTH
    }
}
