//! What a seed decides about a whole run: the machine, the arena, how often what happens.
//!
//! Runs differ on purpose. Some have one CPU, some four; some never unmap, some do little else; in some every address space fits in
//! a few pages, so that everything meets everything. What no single mixture would find, one of many does.

use crate::sim::op::KINDS;
use crate::sim::random::Random;
use crate::sim::swapping::SWAPS;
use crate::sim::weather::Weather;

/// First page of a range where two page tables meet in the middle.
const MIDDLE: u64 = 0x1_0200;
/// Pages by which a mapping may reach past where it was meant to begin.
pub const MARGIN: u64 = 16;

/// The parameters of a run. A pure function of the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What the run is about.
    pub weather: Weather,
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
        let weather = Weather::of(seed);
        let size = weather.arena(random.pick(&[24, 48, 96, 128]));
        let weights = KINDS.map(|(kind, weight, dispensable)| {
            let usual = match random.below(8) {
                0 if dispensable => 0,
                0..3 => weight,
                3..5 => (weight / 3).max(1),
                5..7 => weight,
                _ => weight * 4,
            };
            weather.weigh(kind, weight).unwrap_or(usual)
        });
        Self {
            seed,
            weather,
            cpus,
            tlb: random.pick(&[8, 16, 32, 64]),
            arena: MIDDLE - size / 2..MIDDLE + size / 2,
            stacks: MIDDLE + size / 2 + 288..MIDDLE + size / 2 + 288 + 320 + MARGIN,
            // Not as many as would reach the arena.
            stack: random.pick(&[6, 16, 24, 270]),
            hot: random.pick(&[4, 8, 16]),
            limit: match random.below(4) {
                0 if !weather.fills_memory() => size * 3 / 4 * crate::PAGE_SIZE as u64,
                _ => u64::MAX,
            },
            locked: random.pick(&[4, 24, 60, 60]) * crate::PAGE_SIZE as u64,
            check_every: 50 + random.below(351),
            audit_every: random.pick(&[1, 1, 2, 5]),
            asks: random.pick(&[0, 20, 50, 90]),
            rests: random.pick(&[10, 30, 60]),
            speculates: random.pick(&[0, 10, 40]),
            spare: match random.below(11) * random.below(11) {
                _ if weather.fills_memory() => 0,
                spare => spare as usize,
            },
            swaps: swaps(weather, &mut random),
            kills: random.percent(60) || weather == Weather::Hungry,
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

/// Pages and priority of each swap device.
///
/// The second is small in half of all runs: it is full all the time, a u-area may not fit on it alone, and what is forgotten when it is taken away is all
/// there was.
fn swaps(weather: Weather, random: &mut Random) -> [(u32, i16); SWAPS] {
    let first = random.pick(&[0, 120, 400, 2000]);
    let second = random.pick(&[0, 2, 2, 8, 60, 400]);
    let (first, second) = match weather {
        Weather::Hungry => (first.min(120), second.min(60)),
        Weather::Swapping => (first.clamp(120, 400), second),
        Weather::Mixed | Weather::Sharing => (first, second),
    };
    [(first, 0), (second, random.pick(&[-1, 0, 1]))]
}
