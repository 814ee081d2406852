//! Makes a failing run short: which of its operations does it take?
//!
//! First the end that it does not take, by bisection; then delta debugging (Zeller): leave out halves, then quarters, and so on, as long
//! as the rest still fails.

use alloc::vec::Vec;

/// A small part of `kept`, in its order, that still `fails`; `kept` itself is taken to. Calls `fails` at most `budget` times.
pub fn shrink(
    kept: Vec<u32>,
    mut budget: usize,
    mut fails: impl FnMut(&[u32]) -> bool,
) -> Vec<u32> {
    let mut kept = kept;
    let mut passes = 0;
    while kept.len() - passes > 1 && budget > 0 {
        budget -= 1;
        let middle = passes + (kept.len() - passes) / 2;
        if fails(&kept[..middle]) {
            kept.truncate(middle);
        } else {
            passes = middle;
        }
    }
    let mut parts = 2;
    while kept.len() > 1 {
        let size = kept.len().div_ceil(parts);
        let mut start = 0;
        let mut removed = false;
        while start < kept.len() {
            if budget == 0 {
                return kept;
            }
            budget -= 1;
            let end = (start + size).min(kept.len());
            let rest = [&kept[..start], &kept[end..]].concat();
            if fails(&rest) {
                kept = rest;
                removed = true;
            } else {
                start = end;
            }
        }
        if size == 1 {
            if !removed {
                break;
            }
        } else if !removed {
            parts = (parts * 2).min(kept.len());
        } else {
            parts = parts.clamp(2, kept.len().max(2));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_it_takes() {
        let needed = [3, 17, 204];
        let fails = |kept: &[u32]| needed.iter().all(|n| kept.contains(n));
        assert_eq!(shrink((0..1000).collect(), 1000, fails), needed);
    }

    #[test]
    fn keeps_to_its_budget() {
        let mut calls = 0;
        let kept = shrink((0..100).collect(), 5, |_| {
            calls += 1;
            false
        });
        assert_eq!((calls, kept.len()), (5, 100));
    }
}
