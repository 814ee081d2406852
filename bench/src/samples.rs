//! Measured durations, kept one by one, and their statistics.
//!
//! Every sample is kept, so that a percentile is a value that was measured and two identical runs print identical tables.
//! Samples live in blocks of one page, because the kernel's heap gives no more at a time; nothing is allocated while a
//! sample is taken ([`Samples::with_capacity`] does that beforehand).

use alloc::{boxed::Box, vec::Vec};

/// Samples in a block: a page of them.
const BLOCK: usize = 512;

/// A set of durations, in nanoseconds (which are instructions when the machine counts them).
#[derive(Debug)]
pub struct Samples {
    blocks: Vec<Box<[u64; BLOCK]>>,
    len: usize,
}

/// No memory was left for the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl Samples {
    /// Room for `capacity` samples. Fails rather than running the kernel's heap dry.
    pub fn with_capacity(capacity: usize) -> Result<Self, NoRoom> {
        let count = capacity.div_ceil(BLOCK);
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(count).map_err(|_| NoRoom)?;
        for _ in 0..count {
            let mut block = Vec::new();
            block.try_reserve_exact(BLOCK).map_err(|_| NoRoom)?;
            block.resize(BLOCK, 0);
            let block: Box<[u64]> = block.into_boxed_slice();
            // The length is right by construction.
            blocks.push(block.try_into().map_err(|_| NoRoom)?);
        }
        Ok(Self { blocks, len: 0 })
    }

    /// No samples, and no room for any.
    pub const fn none() -> Self {
        Self {
            blocks: Vec::new(),
            len: 0,
        }
    }

    /// Adds a sample; one beyond the capacity is dropped.
    pub fn push(&mut self, value: u64) {
        if self.len < self.blocks.len() * BLOCK {
            self.set(self.len, value);
            self.len += 1;
        }
    }

    /// Samples taken so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no sample was taken.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sorts the samples and sums them up; `None` if there are none.
    pub fn summary(&mut self) -> Option<Summary> {
        self.sort();
        let last = self.len.checked_sub(1)?;
        // The nearest-rank percentile: a value that was measured.
        let rank = |percent: usize| self.get((self.len * percent).div_ceil(100).max(1) - 1);
        let sum: u128 = (0..self.len).map(|i| u128::from(self.get(i))).sum();
        Some(Summary {
            count: self.len,
            min: self.get(0),
            p50: rank(50),
            p90: rank(90),
            p99: rank(99),
            max: self.get(last),
            mean: u64::try_from(sum / self.len as u128).unwrap_or(u64::MAX),
        })
    }

    /// Counts the samples by powers of two: `(lower bound, count)` from the first bucket in use to the last.
    pub fn buckets(&self) -> Vec<(u64, usize)> {
        let bucket = |value: u64| 64 - value.leading_zeros() as usize;
        let mut counts = [0usize; 65];
        for i in 0..self.len {
            counts[bucket(self.get(i))] += 1;
        }
        let first = counts.iter().position(|&n| n > 0);
        let last = counts.iter().rposition(|&n| n > 0);
        match (first, last) {
            (Some(first), Some(last)) => (first..=last)
                .map(|i| (if i == 0 { 0 } else { 1 << (i - 1) }, counts[i]))
                .collect(),
            _ => Vec::new(),
        }
    }

    fn get(&self, i: usize) -> u64 {
        self.blocks[i / BLOCK][i % BLOCK]
    }

    fn set(&mut self, i: usize, value: u64) {
        self.blocks[i / BLOCK][i % BLOCK] = value;
    }

    /// Heap sort, because the samples are not one slice.
    fn sort(&mut self) {
        for start in (0..self.len / 2).rev() {
            self.sift(start, self.len);
        }
        for end in (1..self.len).rev() {
            self.swap(0, end);
            self.sift(0, end);
        }
    }

    fn sift(&mut self, mut root: usize, end: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= end {
                return;
            }
            if child + 1 < end && self.get(child) < self.get(child + 1) {
                child += 1;
            }
            if self.get(root) >= self.get(child) {
                return;
            }
            self.swap(root, child);
            root = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (x, y) = (self.get(a), self.get(b));
        self.set(a, y);
        self.set(b, x);
    }
}

/// What a table shows of a set of samples. Durations in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Samples taken.
    pub count: usize,
    /// The shortest.
    pub min: u64,
    /// Half of the samples are no longer than this.
    pub p50: u64,
    /// Nine in ten are no longer than this.
    pub p90: u64,
    /// 99 in 100 are no longer than this.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// The arithmetic mean, rounded down.
    pub mean: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn percentiles_are_measured_values() {
        let mut samples = Samples::with_capacity(1000).unwrap();
        // A permutation of 1..=1000.
        for i in 0..1000u64 {
            samples.push((i * 7919) % 1000 + 1);
        }
        let s = samples.summary().unwrap();
        assert_eq!(
            (s.count, s.min, s.p50, s.p90, s.p99, s.max, s.mean),
            (1000, 1, 500, 900, 990, 1000, 500)
        );
    }

    #[test]
    fn a_single_sample_and_none() {
        let mut samples = Samples::with_capacity(1).unwrap();
        assert_eq!(samples.summary(), None);
        assert!(samples.buckets().is_empty());
        samples.push(42);
        let s = samples.summary().unwrap();
        assert_eq!((s.min, s.p50, s.p99, s.max), (42, 42, 42, 42));
    }

    #[test]
    fn buckets_hold_their_lower_bound() {
        let mut samples = Samples::with_capacity(10).unwrap();
        for value in [0, 1, 4, 5, 7, 8] {
            samples.push(value);
        }
        assert_eq!(
            samples.buckets(),
            vec![(0, 1), (1, 1), (2, 0), (4, 3), (8, 1)]
        );
    }

    #[test]
    fn capacity_is_rounded_up_to_a_block_and_never_exceeded() {
        let mut samples = Samples::with_capacity(1).unwrap();
        for i in 0..BLOCK as u64 + 5 {
            samples.push(i);
        }
        assert_eq!(samples.len(), BLOCK);
    }
}
