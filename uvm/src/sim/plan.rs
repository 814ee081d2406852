//! What a seed decides about a whole run: the machine, the arena, how often what happens.
//!
//! Runs differ on purpose. Some have one CPU, some four; some never unmap, some do little else; in some every address space fits in
//! a few pages, so that everything meets everything. What no single mixture would find, one of many does.

use crate::sim::op::{KINDS, Kind};
use crate::sim::random::Random;
use crate::sim::swapping::SWAPS;

/// First page of a range where two page tables meet in the middle.
const MIDDLE: u64 = 0x1_0200;
/// Pages by which a mapping may reach past where it was meant to begin.
pub const MARGIN: u64 = 16;

/// The parameters of a run. A pure function of the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// CPUs, 1 to 4.
    pub cpus: usize,
    /// Translations that each caches.
    pub tlb: usize,
    /// Where programs map things, in pages.
    pub arena: core::ops::Range<u64>,
    /// Where there are stacks, and what lies in their way, in pages: too far from the arena for a gap to reach it. Of the last
    /// [`MARGIN`] none is asked for.
    pub stacks: core::ops::Range<u64>,
    /// Pages that a stack may have.
    pub stack: u64,
    /// Pages at the arena's start that half of all operations are about.
    pub hot: u64,
    /// Bytes that an address space may map.
    pub limit: u64,
    /// Bytes of it that may be wired.
    pub locked: u64,
    /// Operations between two checks of everything.
    pub check_every: u64,
    /// Polls between two looks at all TLBs.
    pub audit_every: u64,
    /// Polls in a hundred that are asked to give way.
    pub asks: u64,
    /// Operations in a hundred after which a program lets others run.
    pub rests: u64,
    /// Polls in a hundred after which a CPU caches a translation for no reason.
    pub speculates: u64,
    /// Frames beyond what is always needed, where memory is meant to be short.
    pub spare: usize,
    /// Pages of each swap device, and its priority; of 0 pages: there is none.
    pub swaps: [(u32, i16); SWAPS],
    /// Whether somebody is killed when memory and swap are full, where memory is meant to be short.
    pub kills: bool,
    /// How often each kind of operation is done, as parts of [`Self::total`].
    pub weights: [u64; KINDS.len()],
    /// Sum of the weights.
    pub total: u64,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // The first few draws of neighbouring seeds are as different as any.
        let cpus = 1 + random.below(4) as usize;
        // One run in four is about memory that several show: few pages, and again and again they are inherited, shared and copied.
        let sharing = seed % 4 == 1;
        // One in four has room for far more than there is memory, where that is meant to be short, and swap.
        let hungry = seed % 4 == 2;
        let most = |most: u32, pages| if hungry { most.min(pages) } else { pages };
        let size = match random.pick(&[24, 48, 96, 128]) {
            _ if sharing => 24,
            size if hungry => size.max(96),
            size => size,
        };
        let weights = KINDS.map(|(kind, weight, dispensable)| match random.below(8) {
            _ if sharing
                && matches!(
                    kind,
                    Kind::Inherit
                        | Kind::Extract
                        | Kind::Fork
                        | Kind::Bequeath
                        | Kind::Join
                        | Kind::Unshare
                        | Kind::Exit
                ) =>
            {
                weight * 5
            }
            _ if hungry && matches!(kind, Kind::Map | Kind::Fill | Kind::Fork) => weight * 2,
            _ if hungry && matches!(kind, Kind::Unmap | Kind::Discard | Kind::Exit) => weight / 3,
            0 if dispensable => 0,
            0..3 => weight,
            3..5 => (weight / 3).max(1),
            5..7 => weight,
            _ => weight * 4,
        });
        Self {
            seed,
            cpus,
            tlb: random.pick(&[8, 16, 32, 64]),
            arena: MIDDLE - size / 2..MIDDLE + size / 2,
            stacks: MIDDLE + size / 2 + 288..MIDDLE + size / 2 + 288 + 320 + MARGIN,
            // Not as many as would reach the arena.
            stack: random.pick(&[6, 16, 24, 270]),
            hot: random.pick(&[4, 8, 16]),
            limit: match random.below(4) {
                0 if !hungry => size * 3 / 4 * crate::PAGE_SIZE as u64,
                _ => u64::MAX,
            },
            locked: random.pick(&[4, 24, 60, 60]) * crate::PAGE_SIZE as u64,
            check_every: 50 + random.below(351),
            audit_every: random.pick(&[1, 1, 2, 5]),
            asks: random.pick(&[0, 20, 50, 90]),
            rests: random.pick(&[10, 30, 60]),
            speculates: random.pick(&[0, 10, 40]),
            spare: match random.below(11) * random.below(11) {
                _ if hungry => 0,
                spare => spare as usize,
            },
            // The other is small in half of all runs: it is full all the time, a u-area may not fit on it alone, and what is forgotten when it is
            // taken away is all there was.
            swaps: [
                (most(120, random.pick(&[0, 120, 400, 2000])), 0),
                (
                    most(60, random.pick(&[0, 2, 2, 8, 60, 400])),
                    random.pick(&[-1, 0, 1]),
                ),
            ],
            kills: random.percent(60) || hungry,
            total: weights.iter().sum(),
            weights,
        }
    }

    /// Whether there is any swap.
    #[must_use]
    pub fn has_swap(&self) -> bool {
        self.swaps.iter().any(|&(pages, _)| pages > 0)
    }

    /// Those pages, and all where stacks are if some of them lie there: how far a stack grows depends on everything there.
    #[must_use]
    pub fn with_all_stacks(&self, pages: core::ops::Range<u64>) -> core::ops::Range<u64> {
        let stacks = &self.stacks;
        match pages.start < stacks.end && stacks.start < pages.end {
            true => pages.start.min(stacks.start)..pages.end.max(stacks.end),
            false => pages,
        }
    }
}
