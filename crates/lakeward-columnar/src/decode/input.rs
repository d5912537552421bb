//! One record's bytes, with padding behind them so that they can be read in
//! wide chunks without asking at every byte where the end is.

use super::fault::{Fault, What};

/// How many readable bytes lie behind a record's end.
pub(super) const PADDING: usize = 64;

/// How many bytes a chunk has.
pub(super) const CHUNK: usize = 32;

/// A record. What lies behind `end` is padding: the next record's bytes or
/// zeros. Parsing may run into it; a document that ends there is truncated.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    /// With the padding. Nothing else, so that it is passed in registers.
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// `padded` is the record and [`PADDING`] bytes more.
    pub(super) fn new(padded: &'a [u8]) -> Self {
        assert!(padded.len() >= PADDING, "a record comes with its padding");
        Self { bytes: padded }
    }

    /// Where the record ends.
    #[inline(always)]
    pub(super) fn end(self) -> usize {
        self.bytes.len() - PADDING
    }

    /// The byte at `at`, 0 (which no JSON token contains) behind the padding.
    #[inline(always)]
    pub(super) fn byte(self, at: usize) -> u8 {
        if at < self.bytes.len() { self.bytes[at] } else { 0 }
    }

    /// The chunk at `at`; exists wherever `at` is inside the record.
    #[inline(always)]
    pub(super) fn chunk(self, at: usize) -> Result<&'a [u8; CHUNK], Fault> {
        match self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
            Some(chunk) => Ok(chunk),
            None => Err(Fault::new(What::Truncated, self.end())),
        }
    }

    /// Eight bytes at `at`, the first in the lowest; 0 behind the padding.
    #[inline(always)]
    pub(super) fn word(self, at: usize) -> u64 {
        match self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => 0,
        }
    }

    /// The bytes from `from` to `to`, as far as they exist.
    #[inline(always)]
    pub(super) fn slice(self, from: usize, to: usize) -> &'a [u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// The first position at or after `at` that is no JSON whitespace.
    #[inline(always)]
    pub(super) fn skip_space(self, mut at: usize) -> usize {
        while matches!(self.byte(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }
}

/// A bit per byte of `chunk` that ends the plain part of a JSON string: a
/// quote, a backslash or a control character. The first byte has the lowest.
#[inline(always)]
pub(super) fn specials(chunk: &[u8; CHUNK]) -> u32 {
    wide::specials(chunk)
}

/// A bit per byte in which the two are equal.
#[inline(always)]
pub(super) fn equal(a: &[u8; CHUNK], b: &[u8; CHUNK]) -> u32 {
    wide::equal(a, b)
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };

    use super::CHUNK;

    // SAFETY of all that follows: SSE2 is part of every x86_64, so that its
    // intrinsics may be called. Only loads access memory.

    #[inline(always)]
    fn halves(chunk: &[u8; CHUNK]) -> [__m128i; 2] {
        let start = chunk.as_ptr();
        // SAFETY: both loads are unaligned loads of 16 bytes, at 0 and at 16,
        // inside the 32 bytes that are borrowed.
        unsafe { [_mm_loadu_si128(start.cast()), _mm_loadu_si128(start.add(16).cast())] }
    }

    #[inline(always)]
    fn bits([low, high]: [__m128i; 2]) -> u32 {
        // SAFETY: SSE2, see above.
        unsafe { (_mm_movemask_epi8(low) as u32) | (_mm_movemask_epi8(high) as u32) << 16 }
    }

    #[inline(always)]
    fn special(half: __m128i) -> __m128i {
        // SAFETY: SSE2, see above.
        unsafe {
            let quote = _mm_cmpeq_epi8(half, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(half, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(half, _mm_set1_epi8(0x1f)), half);
            _mm_or_si128(_mm_or_si128(quote, backslash), control)
        }
    }

    #[inline(always)]
    pub(super) fn specials(chunk: &[u8; CHUNK]) -> u32 {
        let [low, high] = halves(chunk);
        bits([special(low), special(high)])
    }

    #[inline(always)]
    pub(super) fn equal(a: &[u8; CHUNK], b: &[u8; CHUNK]) -> u32 {
        let [a, b] = [halves(a), halves(b)];
        // SAFETY: SSE2, see above.
        bits(unsafe { [_mm_cmpeq_epi8(a[0], b[0]), _mm_cmpeq_epi8(a[1], b[1])] })
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod wide {
    pub(super) use super::portable::{equal, specials};
}

/// The same without intrinsics; also what the tests compare with.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::CHUNK;

    #[inline(always)]
    fn bits(hit: impl Fn(usize) -> bool) -> u32 {
        (0..CHUNK).fold(0, |bits, i| bits | u32::from(hit(i)) << i)
    }

    pub(super) fn specials(chunk: &[u8; CHUNK]) -> u32 {
        bits(|i| matches!(chunk[i], b'"' | b'\\' | 0..=0x1f))
    }

    pub(super) fn equal(a: &[u8; CHUNK], b: &[u8; CHUNK]) -> u32 {
        bits(|i| a[i] == b[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_alike_by_both_ways() {
        for byte in 0..=255u8 {
            for place in 0..CHUNK {
                let mut chunk = [b'x'; CHUNK];
                chunk[place] = byte;
                assert_eq!(specials(&chunk), portable::specials(&chunk), "{byte} at {place}");
                let other = [byte; CHUNK];
                assert_eq!(equal(&chunk, &other), portable::equal(&chunk, &other), "{byte} at {place}");
            }
        }
    }
}
