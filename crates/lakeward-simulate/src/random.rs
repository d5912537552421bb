//! Draws that are the same for ever: own, because a library may change its
//! algorithm, and then a seed would mean other events.

/// The increment of SplitMix64: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A sequence of draws (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence that belongs to these numbers: a seed, what it is for, an
    /// hour, an index.
    pub(crate) fn of(numbers: &[u64]) -> Self {
        Self(numbers.iter().fold(0, |state, number| mix(state ^ *number).wrapping_add(STEP)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // The high half of the product: always below `limit`.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below((high - low).saturating_add(1))
    }

    /// True `percent` times of a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several; not none.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

fn mix(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn draws_are_those_of_all_earlier_versions() {
        let mut random = Random::of(&[1, 2, 3]);
        let drawn = [random.next(), random.next(), random.below(1000), random.between(5, 5)];
        assert_eq!(drawn[3], 5);
        assert!(drawn[2] < 1000);
        let mut again = Random::of(&[1, 2, 3]);
        assert_eq!([again.next(), again.next(), again.below(1000), again.between(5, 5)], drawn);
        assert_ne!(Random::of(&[1, 2, 4]).next(), drawn[0]);
        // SplitMix64's published first output for the state 0.
        assert_eq!(Random::of(&[]).next(), 0xE220_A839_7B1D_CDAF);
    }
}
