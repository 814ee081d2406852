//! Zipf's law: the page of rank `k` is touched in proportion to `1 / k`.

use crate::Random;

/// Pages by Zipf's law with exponent 1. Which page has which rank is a shuffle of the pages.
///
/// Ranks are drawn by rejection (Devroye), exactly and without logarithms: the ranks of one octave,
/// `2^j..2^(j + 1)`, are together about as likely as those of any other. So an octave is drawn uniformly,
/// then a rank `k` in it uniformly, which is kept with probability `2^j / k`: each rank comes in proportion
/// to `2^-j * 2^j / k`. Of all draws about 0.7 are kept; fewer if the last octave is mostly beyond the end.
#[derive(Debug)]
pub struct Zipf {
    pages: usize,
    octaves: u64,
    shuffle: Shuffle,
    random: Random,
}

impl Zipf {
    /// Over at least one page.
    pub fn new(pages: usize, mut random: Random) -> Zipf {
        assert_ne!(pages, 0);
        Zipf {
            pages,
            octaves: u64::from(pages.ilog2()) + 1,
            shuffle: Shuffle::new(pages, &mut random),
            random,
        }
    }

    /// The page of a rank, from 0 for the hottest.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn page(&self, rank: usize) -> usize {
        assert!(rank < self.pages);
        self.shuffle.of(rank)
    }
}

impl Iterator for Zipf {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        loop {
            // Ranks count from 1 here, as in the law.
            let first = 1 << self.random.below(self.octaves);
            let rank = first + self.random.below(first);
            if rank <= self.pages as u64 && self.random.below(rank) < first {
                return Some(self.shuffle.of(rank as usize - 1));
            }
        }
    }
}

/// A permutation of `0..len` without a table.
///
/// Multiplication by an odd number and xor with one's own upper half can both be undone modulo a power of two,
/// so they permute `0..2^bits`. Walking on until the number is below `len` makes a permutation of `0..len`
/// of it (cycle walking, Black and Rogaway).
#[derive(Debug)]
struct Shuffle {
    len: usize,
    mask: usize,
    /// Half the bits, rounded up.
    half: u32,
    factors: [usize; Shuffle::STEPS],
    summands: [usize; Shuffle::STEPS],
}

impl Shuffle {
    const STEPS: usize = 3;

    fn new(len: usize, random: &mut Random) -> Shuffle {
        let domain = len.next_power_of_two();
        // Fewer than 2^48 pages are all that an address space has.
        let mut draw = |_| random.below(1 << 48) as usize;
        Shuffle {
            len,
            mask: domain - 1,
            half: domain.ilog2().div_ceil(2),
            factors: std::array::from_fn(&mut draw).map(|factor| factor | 1),
            summands: std::array::from_fn(&mut draw),
        }
    }

    fn of(&self, mut index: usize) -> usize {
        loop {
            for (factor, summand) in self.factors.iter().zip(&self.summands) {
                index = index.wrapping_mul(*factor).wrapping_add(*summand) & self.mask;
                index ^= index >> self.half;
            }
            if index < self.len {
                return index;
            }
        }
    }
}
