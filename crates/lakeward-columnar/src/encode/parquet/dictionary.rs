//! Dictionaries: the distinct values of a column in the order of their first
//! appearance.
//!
//! The hash decides nothing but speed: it is fixed, so that no randomness can
//! reach a file, and a probe of more than [`PROBES`] slots, which only chosen
//! collisions reach, ends the dictionary instead of the service.

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

/// Open addressing with linear probing: an index and part of the hash in each
/// slot; zero is free.
struct Table {
    slots: Vec<u64>,
    used: usize,
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
    fn find(&self, hash: u64, mut same: impl FnMut(u32) -> bool) -> Result<Result<u32, usize>, TooMany> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..PROBES {
            let slot = self.slots[at];
            if slot == 0 {
                return Ok(Err(at));
            }
            let index = slot as u32 - 1;
            if slot >> 32 == hash >> 32 && same(index) {
                return Ok(Ok(index));
            }
            at = (at + 1) & mask;
        }
        Err(TooMany)
    }

    fn insert(&mut self, at: usize, hash: u64) -> u32 {
        let index = self.used as u32;
        self.slots[at] = (hash >> 32 << 32) | u64::from(index + 1);
        self.used += 1;
        index
    }

    /// Makes the table twice as large once it is half full. `hash_of` gives
    /// an entry's hash again.
    fn grow(&mut self, hash_of: impl Fn(u32) -> u64) {
        if self.used * 2 < self.slots.len() {
            return;
        }
        let mut slots = vec![0; self.slots.len() * 4];
        let mask = slots.len() - 1;
        for index in 0..self.used as u32 {
            let hash = hash_of(index);
            let mut at = hash as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = (hash >> 32 << 32) | u64::from(index + 1);
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

/// A dictionary of strings.
#[derive(Default)]
pub(super) struct TextDictionary {
    table: Table,
    entries: Vec<TextEntry>,
    page: Vec<u8>,
    last: u32,
}

/// What tells a string apart: its length with its first and last bytes, which
/// is all of it up to 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TextKey {
    first: u64,
    last: u64,
    length: usize,
}

struct TextEntry {
    key: TextKey,
    hash: u64,
    /// Where the string starts in the page.
    start: usize,
}

impl TextKey {
    #[inline]
    fn new(text: &[u8]) -> Self {
        let length = text.len();
        if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
            return Self { first: u64::from_le_bytes(*first), last: u64::from_le_bytes(*last), length };
        }
        if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            return Self { first: first.into(), last: last.into(), length };
        }
        let byte = |at: usize| text.get(at).map_or(0, |b| u64::from(*b));
        Self { first: byte(0) | (byte(1) << 8) | (byte(2) << 16), last: 0, length }
    }

    #[inline]
    fn hash(self, text: &[u8]) -> u64 {
        let mut state = fold(self.first ^ K0, self.last ^ K1 ^ (self.length as u64).wrapping_mul(K2));
        if self.length > 16 {
            let middle = &text[8..self.length - 8];
            let (pairs, tail) = middle.as_chunks::<16>();
            for pair in pairs {
                let (a, b) = pair.split_at(8);
                state = fold(word(a) ^ K1, word(b) ^ state);
            }
            if !tail.is_empty() {
                // What is left is among the last 8 or 16 bytes of the middle.
                let end = self.length - 8;
                let before = if tail.len() > 8 { word(&text[end - 16..end - 8]) } else { K2 };
                state = fold(word(&text[end - 8..end]) ^ K0, before ^ state);
            }
        }
        state
    }
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a word has eight bytes"))
}

impl TextDictionary {
    #[inline]
    fn is(&self, index: u32, key: TextKey, text: &[u8]) -> bool {
        let Some(entry) = self.entries.get(index as usize) else { return false };
        entry.key == key && (key.length <= 16 || self.page[entry.start..entry.start + key.length] == *text)
    }
}

impl Dictionary for TextDictionary {
    type Value<'a> = &'a [u8];

    #[inline]
    fn index_of(&mut self, text: &[u8]) -> Result<u32, TooMany> {
        let key = TextKey::new(text);
        if self.is(self.last, key, text) {
            return Ok(self.last);
        }
        let hash = key.hash(text);
        let index = match self.table.find(hash, |index| self.is(index, key, text))? {
            Ok(index) => index,
            Err(slot) => {
                if self.entries.len() == ENTRIES || self.page.len() + text.len() > BYTES {
                    return Err(TooMany);
                }
                self.page.extend_from_slice(&(text.len() as u32).to_le_bytes());
                self.entries.push(TextEntry { key, hash, start: self.page.len() });
                self.page.extend_from_slice(text);
                let index = self.table.insert(slot, hash);
                self.table.grow(|index| self.entries[index as usize].hash);
                index
            }
        };
        self.last = index;
        Ok(index)
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

#[inline]
fn hash_number(bits: u64) -> u64 {
    fold(bits ^ K0, K1)
}

impl<const WIDTH: usize> Dictionary for NumberDictionary<WIDTH> {
    type Value<'a> = u64;

    #[inline]
    fn index_of(&mut self, bits: u64) -> Result<u32, TooMany> {
        let hash = hash_number(bits);
        match self.table.find(hash, |index| self.values[index as usize] == bits)? {
            Ok(index) => Ok(index),
            Err(slot) => {
                if self.values.len() == ENTRIES {
                    return Err(TooMany);
                }
                self.values.push(bits);
                let index = self.table.insert(slot, hash);
                self.table.grow(|index| hash_number(self.values[index as usize]));
                Ok(index)
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
