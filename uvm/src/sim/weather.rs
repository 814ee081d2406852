//! What a run is about: situations that any mixture of operations meets now and then only, some runs meet again and again.
//!
//! Which one it is the seed decides, in turn, so that any few seeds in a row have them all. A mode says what the machine is like, the weather what programs
//! do there: only where memory is short are hungry programs killed, only where pages are evicted are they swapped.

use crate::sim::op::Kind;

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing more than anything else.
    Mixed,
    /// Memory that several show: few pages, and again and again they are inherited, shared and copied.
    Sharing,
    /// Programs want far more than there is memory, where that is meant to be short, and swap; and they give little back.
    Hungry,
    /// Ranges that are filled go out, and come in together, there is swap for all of it, and it goes and comes. Where disks are bad that is worst.
    Swapping,
}

impl Weather {
    /// That of a seed.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        match seed % 4 {
            0 => Self::Mixed,
            1 => Self::Sharing,
            2 => Self::Hungry,
            _ => Self::Swapping,
        }
    }

    /// How often a kind of operation is done instead of `weight`, if this is about it.
    #[must_use]
    pub const fn weigh(self, kind: Kind, weight: u64) -> Option<u64> {
        match (self, kind) {
            (
                Self::Sharing,
                Kind::Inherit
                | Kind::Extract
                | Kind::Fork
                | Kind::Bequeath
                | Kind::Join
                | Kind::Unshare
                | Kind::Exit,
            ) => Some(weight * 5),
            (Self::Sharing | Self::Swapping, Kind::Mlock) => Some(weight * 4),
            (Self::Hungry | Self::Swapping, Kind::Map | Kind::Fill) => Some(weight * 2),
            (Self::Hungry, Kind::Fork) => Some(weight * 2),
            (Self::Hungry, Kind::Unmap | Kind::Discard | Kind::Exit) => Some(weight / 3),
            (Self::Swapping, Kind::Scan) => Some(weight * 4),
            (Self::Swapping, Kind::Swapoff | Kind::Swapon) => Some(weight),
            _ => None,
        }
    }

    /// Pages of an arena, of which there would be `pages`.
    #[must_use]
    pub const fn arena(self, pages: u64) -> u64 {
        match self {
            Self::Sharing => 24,
            Self::Hungry | Self::Swapping if pages < 96 => 96,
            _ => pages,
        }
    }

    /// Whether programs are to have more than memory, where that is meant to be short.
    #[must_use]
    pub const fn fills_memory(self) -> bool {
        matches!(self, Self::Hungry | Self::Swapping)
    }
}
