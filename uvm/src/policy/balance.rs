//! Which sort of memory gives way: anonymous memory, files or programs' text.
//!
//! Owns what each sort has cost lately in pages that came back soon after they went. A sort gives pages in proportion to how many
//! it has and against what its refaults cost; UVM's minima and maxima are rails on both sides: below its minimum a sort gives
//! nothing while there is another, and above its maximum it gives before the others do.
//!
//! The arithmetic is [`weights`], a plain function. Costs are atomics that fade: when they come to a quarter of pageable memory all are
//! halved, so that they tell of the last few moments. (Linux's `lru_note_cost` fades so.)

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Setting;
use crate::page::queues::Sort;

const SORTS: usize = Sort::ALL.len();
/// What every sort is taken to have cost at least: few refaults are chance.
const FLOOR: u64 = 16;

/// Least and most of pageable memory that a sort should have, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rails {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Sort {
    /// The settings of its rails.
    pub(crate) const fn rails(self) -> (Setting, Setting) {
        match self {
            Self::Anon => (Setting::Anonmin, Setting::Anonmax),
            Self::File => (Setting::Filemin, Setting::Filemax),
            Self::Exec => (Setting::Execmin, Setting::Execmax),
        }
    }
}

/// What refaults have cost lately, by sort, in reads.
pub(crate) struct Costs([AtomicU64; SORTS]);

impl Costs {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; SORTS])
    }

    /// A page of `sort` had to be read again soon after it went. `pageable`: pages on all queues.
    pub(crate) fn note(&self, sort: Sort, pageable: u64) {
        self.0[sort as usize].fetch_add(1, Relaxed);
        if self.get().iter().sum::<u64>() > (pageable / 4).max(FLOOR) {
            for cost in &self.0 {
                cost.store(cost.load(Relaxed) / 2, Relaxed);
            }
        }
    }

    /// As of now.
    pub(crate) fn get(&self) -> [u64; SORTS] {
        self.0.each_ref().map(|cost| cost.load(Relaxed))
    }
}

/// In which proportions the sorts should give pages. `sizes`: pages of each on the queues. All zero if there are none.
pub(crate) fn weights(
    sizes: [u64; SORTS],
    costs: [u64; SORTS],
    rails: [Rails; SORTS],
) -> [u64; SORTS] {
    let total = sizes.iter().sum::<u64>();
    let share = |percent: u64| total * percent / 100;
    let over: [bool; SORTS] = core::array::from_fn(|i| sizes[i] > share(rails[i].max));
    let gives = |i: usize| {
        let under = sizes[i] <= share(rails[i].min);
        let other_over = (0..SORTS).any(|other| other != i && over[other]);
        sizes[i] > 0 && !under && (over[i] || !other_over)
    };
    let cost = costs.iter().sum::<u64>() + FLOOR * SORTS as u64;
    let weight = |i: usize| (sizes[i] * cost / (costs[i] + FLOOR)).max(1);
    let weights: [u64; SORTS] = core::array::from_fn(|i| if gives(i) { weight(i) } else { 0 });
    if weights.iter().any(|&weight| weight > 0) {
        weights
    } else {
        // All are at their minimum: there is nothing else.
        sizes
    }
}

/// Deals turns out in proportion to weights: the largest remainder is next.
#[derive(Default)]
pub(crate) struct Turns([i64; SORTS]);

impl Turns {
    /// Whose turn it is, among those that are `left`; `None` when none of them has any weight.
    pub(crate) fn next(&mut self, weights: [u64; SORTS], left: [usize; SORTS]) -> Option<Sort> {
        let weight = |i: usize| if left[i] > 0 { weights[i] as i64 } else { 0 };
        let total: i64 = (0..SORTS).map(weight).sum();
        if total == 0 {
            return None;
        }
        for (i, credit) in self.0.iter_mut().enumerate() {
            *credit += weight(i);
        }
        let next = Sort::ALL
            .into_iter()
            .filter(|&sort| weight(sort as usize) > 0)
            .max_by_key(|&sort| self.0[sort as usize])?;
        self.0[next as usize] -= total;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAILS: [Rails; SORTS] = [
        Rails { min: 10, max: 80 },
        Rails { min: 10, max: 50 },
        Rails { min: 5, max: 30 },
    ];

    #[test]
    fn without_refaults_sizes_decide() {
        assert_eq!(weights([400, 400, 200], [0; 3], RAILS), [1200, 1200, 600]);
        assert_eq!(weights([0; 3], [0; 3], RAILS), [0; 3]);
    }

    #[test]
    fn who_is_missed_gives_less() {
        // Files stream by and are never missed; anonymous memory is.
        let [anon, file, _] = weights([500, 400, 0], [240, 0, 0], RAILS);
        assert!(file > 10 * anon, "{anon} {file}");
        // As much missed, as much given.
        let [anon, file, _] = weights([450, 450, 0], [100, 100, 0], RAILS);
        assert_eq!(anon, file);
    }

    #[test]
    fn minima_and_maxima_are_rails() {
        // Few file pages are left: they stay, whatever is missed.
        let [anon, file, exec] = weights([900, 60, 40], [1000, 0, 0], RAILS);
        assert!(anon > 0 && file == 0 && exec == 0);
        // Too many anonymous pages: they go first, though they are missed.
        let [anon, file, _] = weights([850, 150, 0], [1000, 0, 0], RAILS);
        assert!(anon > 0 && file == 0);
        // Two above their maximum, and one below its minimum, which nobody is spared for.
        let tight = [
            Rails { min: 60, max: 100 },
            Rails { min: 0, max: 10 },
            RAILS[2],
        ];
        let [anon, file, exec] = weights([500, 300, 200], [0; 3], tight);
        assert!(anon == 0 && file > 0 && exec == 0);
        // All at their minimum: all give.
        let high = [Rails { min: 95, max: 100 }; SORTS];
        assert_eq!(weights([30, 20, 10], [0; 3], high), [30, 20, 10]);
    }

    #[test]
    fn costs_fade() {
        let costs = Costs::new();
        (0..100).for_each(|_| costs.note(Sort::File, 1000));
        assert_eq!(costs.get(), [0, 100, 0]);
        (0..1000).for_each(|_| costs.note(Sort::Anon, 1000));
        let [anon, file, _] = costs.get();
        assert!(file < 5 && (100..=250).contains(&anon), "{anon} {file}");
    }

    #[test]
    fn turns_are_dealt_in_proportion() {
        let mut turns = Turns::default();
        let mut dealt = [0; SORTS];
        for _ in 0..700 {
            let sort = turns.next([1, 4, 2], [9; 3]).unwrap();
            dealt[sort as usize] += 1;
        }
        assert_eq!(dealt, [100, 400, 200]);
        assert_eq!(turns.next([0, 4, 0], [9, 0, 9]), None);
        assert_eq!(turns.next([0, 4, 1], [9, 0, 9]), Some(Sort::Exec));
    }
}
