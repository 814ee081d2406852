//! LWPs in line to come back into memory, the one of the highest priority first.
//!
//! A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986) through links in the LWPs' headers: there are as many places as LWPs, and nothing is allocated at a
//! moment at which memory is short. Entering costs O(1), taking the first O(log n) amortised.
//!
//! Synchronisation: whoever has `&mut` to the line has all links of those that stand in it.

use super::super::lwp::Lwp;
use super::Which;
use alloc::sync::Arc;

/// The links of an LWP in one line.
#[derive(Default)]
pub(super) struct Links {
    priority: i64,
    /// The first of those below.
    below: Option<Arc<Lwp>>,
    /// The next one below the same.
    beside: Option<Arc<Lwp>>,
}

/// A line. An LWP stands in it at most once.
pub(super) struct Line {
    /// Which of the LWPs' links are its own.
    which: Which,
    first: Option<Arc<Lwp>>,
}

impl Line {
    /// An empty one, the only one of its kind.
    pub(super) const fn new(which: Which) -> Line {
        Line { which, first: None }
    }

    /// Puts an LWP in. `priority`: the highest comes first.
    pub(super) fn push(&mut self, lwp: Arc<Lwp>, priority: i64) {
        self.with(&lwp, |links| {
            *links = Links {
                priority,
                below: None,
                beside: None,
            };
        });
        self.first = Some(match self.first.take() {
            Some(first) => self.meld(first, lwp),
            None => lwp,
        });
    }

    /// Takes the first out.
    pub(super) fn pop(&mut self) -> Option<Arc<Lwp>> {
        let first = self.first.take()?;
        let mut rest = self.with(&first, |links| links.below.take());
        // Those below it in pairs, from the left; then all pairs into one, from the right.
        let mut pairs: Option<Arc<Lwp>> = None;
        while let Some(one) = rest {
            rest = self.with(&one, |links| links.beside.take());
            let pair = match rest.take() {
                Some(other) => {
                    rest = self.with(&other, |links| links.beside.take());
                    self.meld(one, other)
                }
                None => one,
            };
            let before = pairs.replace(pair.clone());
            self.with(&pair, |links| links.beside = before);
        }
        while let Some(pair) = pairs {
            pairs = self.with(&pair, |links| links.beside.take());
            self.first = Some(match self.first.take() {
                Some(first) => self.meld(pair, first),
                None => pair,
            });
        }
        Some(first)
    }

    /// One heap of two. Neither has anything beside it.
    fn meld(&self, a: Arc<Lwp>, b: Arc<Lwp>) -> Arc<Lwp> {
        let [of_a, of_b] = [&a, &b].map(|lwp| self.with(lwp, |links| links.priority));
        let (upper, lower) = match of_a >= of_b {
            true => (a, b),
            false => (b, a),
        };
        let below = self.with(&upper, |links| links.below.take());
        self.with(&lower, |links| links.beside = below);
        self.with(&upper, |links| links.below = Some(lower));
        upper
    }

    /// One LWP's at a time: somebody may have both in the other line.
    fn with<T>(&self, lwp: &Lwp, f: impl FnOnce(&mut Links) -> T) -> T {
        f(&mut lwp.coming.links.lock()[self.which as usize])
    }
}
