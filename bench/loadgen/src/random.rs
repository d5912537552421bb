//! A small deterministic generator of random numbers: the same seed gives the
//! same events on every machine.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014). Plenty for test data, never for anything secret.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x6c61_6b65_7761_7264)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..limit`; `limit` is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether an event of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of `choices`, all equally likely.
    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A rank in `0..count` with about Zipf's distribution (exponent 1): rank
    /// 0 comes most often. A few users make most of the events, as in life.
    pub fn zipf(&mut self, count: u64) -> u64 {
        let rank = (count as f64).powf(self.unit()) as u64;
        rank.saturating_sub(1).min(count - 1)
    }

    /// Appends a random uuid of version 4 as text.
    pub fn uuid(&mut self, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let high = (self.bits() & !0xf000) | 0x4000;
        let low = (self.bits() & !(0xc0 << 56)) | (0x80 << 56);
        let both = (u128::from(high) << 64) | u128::from(low);
        for digit in 0..32 {
            if matches!(digit, 8 | 12 | 16 | 20) {
                out.push(b'-');
            }
            out.push(HEX[(both >> (124 - 4 * digit)) as usize & 15]);
        }
    }
}
