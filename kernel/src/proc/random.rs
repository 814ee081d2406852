//! Random bytes for programs (`getrandom`, AT_RANDOM): SplitMix64 from a seed, so that a run can be repeated.
//!
//! Good for hash seeds and stack canaries of a system whose runs shall repeat; *not* for secrets. The owner
//! holds it behind a lock.

/// The generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same bytes.
    #[must_use]
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        // SplitMix64's first output for seed 0.
        assert_eq!(Random::new(0).word(), 0xe220_a839_7b1d_cdaf);
        let (mut a, mut b) = ([0; 13], [0; 13]);
        Random::new(7).fill(&mut a);
        Random::new(7).fill(&mut b);
        assert_eq!(a, b);
        assert_ne!(a, [0; 13]);
    }
}
