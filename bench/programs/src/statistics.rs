//! What many samples come to.

/// A summary of samples, exact: nothing is put into classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many there are.
    pub count: usize,
    /// The least.
    pub min: u64,
    /// Half are at most this.
    pub p50: u64,
    /// Nine in ten are.
    pub p90: u64,
    /// 99 in a hundred are.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
    /// Their sum; the mean is this by `count`.
    pub sum: u64,
}

impl Summary {
    /// Of these samples, which are sorted by it; `None` if there are none.
    pub fn of(samples: &mut [u64]) -> Option<Summary> {
        samples.sort_unstable();
        let last = samples.len().checked_sub(1)?;
        let at = |percent: usize| samples[last * percent / 100];
        Some(Summary {
            count: samples.len(),
            min: at(0),
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
            sum: samples.iter().sum(),
        })
    }

    /// The mean in hundredths, rounded to the nearest.
    pub fn mean_in_hundredths(&self) -> u64 {
        let count = self.count as u64;
        (self.sum * 100 + count / 2) / count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut samples: Vec<u64> = (1..=101).rev().collect();
        let summary = Summary::of(&mut samples).unwrap();
        let all = [
            summary.min,
            summary.p50,
            summary.p90,
            summary.p99,
            summary.max,
        ];
        assert_eq!(all, [1, 51, 91, 100, 101]);
        assert_eq!(summary.mean_in_hundredths(), 5100);
    }

    #[test]
    fn means_are_rounded() {
        let mean = |samples: &mut [u64]| Summary::of(samples).unwrap().mean_in_hundredths();
        assert_eq!(mean(&mut [1, 1, 2]), 133);
        assert_eq!(mean(&mut [1, 2, 2]), 167);
    }

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(Summary::of(&mut []), None);
    }
}
