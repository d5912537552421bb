//! The RLE and bit-packing hybrid, of dictionary indices and of definition
//! levels.
//!
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/#RLE>: a
//! run is either `varint(count << 1)` and the repeated value in as few whole
//! bytes as its width needs, or `varint(groups << 1 | 1)` and groups of eight
//! values, packed from the lowest bit up.

use std::ops::Range;

use arrow::buffer::BooleanBuffer;

use super::header::varint;

/// The bits that hold every value up to `max`.
pub(super) fn width_of(max: u32) -> u32 {
    u32::BITS - max.leading_zeros()
}

/// Appends one run of equal values.
fn repeat(out: &mut Vec<u8>, value: u32, width: u32, count: usize) {
    varint(out, (count as u64) << 1);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// Appends `indices` in `width` bits each.
pub(super) fn write_indices(out: &mut Vec<u8>, indices: &[u32], width: u32) {
    let mut literal = 0;
    let mut at = 0;
    while at < indices.len() {
        let run = run_length(&indices[at..]);
        // A repeated run must pay for the two headers it costs, and packed
        // runs before the last one must be whole groups.
        if run >= 16 || run == indices.len() - at {
            write_packed(out, &indices[literal..at], width);
            repeat(out, indices[at], width, run);
            at += run;
            literal = at;
        } else {
            at = (at + 8).min(indices.len());
        }
    }
    write_packed(out, &indices[literal..], width);
}

/// How many values at the start are equal; counted only if the first eight
/// are.
fn run_length(indices: &[u32]) -> usize {
    let first = indices[0];
    let Some(group) = indices.first_chunk::<8>() else {
        return if indices.iter().all(|&i| i == first) { indices.len() } else { 0 };
    };
    if group.iter().fold(0, |differs, i| differs | (i ^ first)) != 0 {
        return 0;
    }
    indices.iter().position(|&i| i != first).unwrap_or(indices.len())
}

fn write_packed(out: &mut Vec<u8>, indices: &[u32], width: u32) {
    if indices.is_empty() {
        return;
    }
    varint(out, ((indices.len().div_ceil(8) as u64) << 1) | 1);
    macro_rules! by_width {
        ($($w:literal)*) => {
            match width {
                $($w => pack_all::<$w>(out, indices),)*
                _ => unreachable!("a dictionary has at most 2^17 entries"),
            }
        };
    }
    by_width!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17);
}

fn pack_all<const WIDTH: usize>(out: &mut Vec<u8>, indices: &[u32]) {
    let (groups, tail) = indices.as_chunks::<8>();
    out.reserve((groups.len() + 1) * WIDTH);
    for group in groups {
        out.extend_from_slice(&pack::<WIDTH>(group));
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        out.extend_from_slice(&pack::<WIDTH>(&last));
    }
}

/// Eight values of `WIDTH` bits are `WIDTH` bytes.
fn pack<const WIDTH: usize>(group: &[u32; 8]) -> [u8; WIDTH] {
    let mut bytes = [0; WIDTH];
    if WIDTH <= 8 {
        let bits = group.iter().rev().fold(0_u64, |bits, &v| (bits << WIDTH) | u64::from(v));
        bytes.copy_from_slice(&bits.to_le_bytes()[..WIDTH]);
    } else {
        // Four values of at most 17 bits are 68 bits.
        let half =
            |values: &[u32]| values.iter().rev().fold(0_u128, |bits, &v| (bits << WIDTH) | u128::from(v));
        let low = half(&group[..4]);
        let high = half(&group[4..]);
        let mut all = [0; 32];
        all[..16].copy_from_slice(&(low | (high << (4 * WIDTH).min(127))).to_le_bytes());
        all[16..].copy_from_slice(&high.checked_shr(128 - 4 * WIDTH as u32).unwrap_or(0).to_le_bytes());
        bytes.copy_from_slice(&all[..WIDTH]);
    }
    bytes
}

/// Which rows reach each definition level: the `k`-th entry tells the rows
/// whose level is at least `k + 1`, `None` if it is the same rows as of the
/// entry before (of all rows, for the first). Each is a subset of the one
/// before.
pub(super) type Levels = [Option<BooleanBuffer>];

/// Appends the definition levels of `rows`, without their length.
pub(super) fn write_levels(out: &mut Vec<u8>, levels: &Levels, rows: Range<usize>) {
    let width = width_of(levels.len() as u32);
    let mut words: Vec<Vec<u64>> = Vec::with_capacity(levels.len());
    let mut always = 0;
    for level in levels {
        match level {
            Some(bits) => words.push(bits.slice(rows.start, rows.len()).bit_chunks().iter_padded().collect()),
            None => match words.last() {
                Some(same) => words.push(same.clone()),
                None => always += 1,
            },
        }
    }
    if words.is_empty() {
        return repeat(out, always, width, rows.len());
    }
    let mut runs = LevelRuns { out, width, level: 0, count: 0, packed: Vec::new() };
    for (index, at) in (0..rows.len()).step_by(64).enumerate() {
        let count = (rows.len() - at).min(64);
        runs.push(&words, index, count, always);
    }
    runs.end_repeat();
    runs.end_packed();
}

/// Runs of levels, 64 rows at a time.
struct LevelRuns<'a> {
    out: &'a mut Vec<u8>,
    width: u32,
    level: u32,
    count: usize,
    packed: Vec<u8>,
}

impl LevelRuns<'_> {
    fn push(&mut self, words: &[Vec<u64>], index: usize, count: usize, always: u32) {
        let full = u64::MAX >> (64 - count);
        let mut level = always;
        let mut uniform = true;
        for word in words {
            let word = word[index] & full;
            level += u32::from(word == full);
            uniform &= word == full || word == 0;
        }
        if uniform {
            self.end_packed();
            if level != self.level {
                self.end_repeat();
            }
            self.level = level;
            self.count += count;
            return;
        }
        self.end_repeat();
        let bytes = count.div_ceil(8);
        if self.width == 1 {
            self.packed.extend_from_slice(&(words[0][index] & full).to_le_bytes()[..bytes]);
            return;
        }
        for group in 0..bytes {
            let mut bits = 0_u64;
            for row in (group * 8..group * 8 + 8).rev() {
                let above: u64 = words.iter().map(|word| ((word[index] & full) >> row) & 1).sum();
                bits = (bits << self.width) | (above + u64::from(always));
            }
            // Eight levels of at most 8 bits: a nesting of 255.
            self.packed.extend_from_slice(&bits.to_le_bytes()[..self.width as usize]);
        }
    }

    fn end_repeat(&mut self) {
        if self.count > 0 {
            repeat(self.out, self.level, self.width, self.count);
            self.count = 0;
        }
    }

    fn end_packed(&mut self) {
        if !self.packed.is_empty() {
            let groups = self.packed.len() / self.width as usize;
            varint(self.out, ((groups as u64) << 1) | 1);
            self.out.append(&mut self.packed);
        }
    }
}
