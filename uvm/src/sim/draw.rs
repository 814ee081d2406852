//! Draws operations: each from the plan and its own number alone.
//!
//! Ranges lie close together and often begin where others end, so that operations meet.

use core::ops::Range;

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::map::{Advice, Extract, Inherit, MlockAll, Mremap, Sync};
use crate::prot::{Access, Prot};
use crate::sim::model::SAMPLES;
use crate::sim::op::{
    FILES, Flaw, Gives, KINDS, Kind, Mapping, OBJECT_PAGES, OBJECTS, Op, Seen, Shows, Spot, Then,
    Where, Whose,
};
use crate::sim::plan::{MARGIN, Plan};
use crate::sim::random::Random;
use crate::sim::swapping::SWAPS;

impl Op {
    /// Operation `index` of a run, and what comes after it.
    #[must_use]
    pub fn draw(plan: &Plan, index: u32) -> (Self, Then) {
        let seed = plan.seed ^ (u64::from(index) + 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut random = Random::new(seed);
        let place = match random.percent(15) {
            true => Place::Stacks,
            false => Place::Arena,
        };
        let mut draw = Draw {
            plan,
            random,
            place,
        };
        let then = match draw.random.below(100) {
            n if n >= plan.rests => Then::GoOn,
            n if n % 8 == 0 => Then::Sleep(1 + draw.random.below(300)),
            _ => Then::Yield,
        };
        (draw.op(), then)
    }
}

struct Draw<'a> {
    plan: &'a Plan,
    random: Random,
    /// Where the operation is.
    place: Place,
}

/// Where an operation is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Arena,
    Stacks,
}

impl Draw<'_> {
    fn op(&mut self) -> Op {
        match self.kind() {
            Kind::Access => {
                let access = match self.random.below(16) {
                    0..8 => Access::Read,
                    8..15 => Access::Write,
                    _ => Access::Exec,
                };
                Op::Access(access, self.spot(), self.random.draw() as u8)
            }
            Kind::Copy => {
                let (at, len) = (self.spot(), 1 + self.random.below(4 * PAGE_SIZE as u64));
                match self.random.percent(50) {
                    true => Op::ReadBytes(at, len as usize),
                    false => Op::WriteBytes(at, len as usize, self.random.draw() as u8),
                }
            }
            Kind::Fill => Op::Fill(self.pages(40), self.random.draw() as u8),
            Kind::Scan => Op::Scan(self.pages(40)),
            Kind::Map => Op::Map(self.mapping()),
            Kind::MapBadly => {
                let flaw = self.random.pick(&[
                    Flaw::Empty,
                    Flaw::TooLong,
                    Flaw::Unaligned,
                    Flaw::TooLow,
                    Flaw::TooHigh,
                    Flaw::TooMuch,
                    Flaw::Offset,
                    Flaw::SharedFile,
                    Flaw::PrivateDevice,
                    Flaw::SharedStack,
                ]);
                Op::MapBadly(flaw, self.pages(16))
            }
            Kind::Unmap => Op::Unmap(self.range(16)),
            Kind::Protect => {
                let rw = Prot::RW;
                let rx = Prot::READ.union(Prot::EXEC);
                let prots = [Prot::empty(), Prot::READ, rw, rw, rx, Prot::ALL];
                Op::Protect(self.range(12), self.random.pick(&prots))
            }
            Kind::Inherit => {
                let inherit = self.random.pick(&[
                    Inherit::Share,
                    Inherit::Copy,
                    Inherit::None,
                    Inherit::Zero,
                ]);
                Op::Inherit(self.range(12), inherit)
            }
            Kind::Advise => {
                let advice =
                    self.random
                        .pick(&[Advice::Normal, Advice::Random, Advice::Sequential]);
                Op::Advise(self.range(30), advice)
            }
            Kind::WillNeed => Op::WillNeed(self.range(16)),
            Kind::Discard => {
                let gives = self.random.pick(&[Gives::Up, Gives::Up, Gives::Free]);
                Op::Discard(self.range(12), gives)
            }
            Kind::Sync => {
                let how = Sync::from_bits_truncate(self.random.below(4) as u8);
                Op::Sync(self.range(16), how)
            }
            Kind::Loan => Op::Loan(self.pages(4), self.random.below(500)),
            Kind::LoanTo => Op::LoanTo(self.pages(4), self.page(), self.whose()),
            Kind::Extract => {
                let how = self.random.pick(&[
                    Extract::Share,
                    Extract::ShareMaximum,
                    Extract::Copy,
                    Extract::Copy,
                    Extract::Remove,
                    Extract::Remove,
                ]);
                let place = self.random.pick(&[Where::Fixed, Where::Exclusive]);
                Op::Extract(self.pages(8), how, self.page(), place, self.whose())
            }
            Kind::Mremap => {
                let how = match self.random.below(4) {
                    0 => Mremap::InPlace,
                    // It would land in the arena.
                    1 if self.place == Place::Arena => Mremap::MayMove,
                    _ => Mremap::Fixed(VirtAddr::new(self.page() * PAGE_SIZE as u64)),
                };
                let mut pages = self.pages(6);
                if self.random.percent(15) {
                    pages.end = pages.start;
                }
                Op::Mremap(pages, 1 + self.random.below(8), how)
            }
            Kind::Poke => Op::Poke(self.spot(), self.random.draw() as u8),
            Kind::Brk => Op::Brk(self.random.below(12 * PAGE_SIZE as u64)),
            Kind::Mlock => Op::Mlock(self.range(10)),
            Kind::Munlock => Op::Munlock(self.range(16)),
            Kind::MlockAll => match self.random.below(5) {
                0 => Op::MlockAll(MlockAll::CURRENT),
                1 => Op::MlockAll(MlockAll::FUTURE),
                2 => Op::MlockAll(MlockAll::all()),
                3 => Op::MlockAll(MlockAll::empty()),
                _ => Op::MunlockAll,
            },
            Kind::Mincore => Op::Mincore(self.pages(16)),
            Kind::Fork => Op::Fork(1 + self.random.below(2) as usize),
            Kind::Bequeath => Op::Bequeath(self.pages(4), self.random.draw() as u8),
            Kind::Join => Op::Join(self.random.draw()),
            Kind::Unshare => Op::Unshare,
            Kind::Swapoff => {
                let which = self.random.below(SWAPS as u64) as usize;
                Op::Swapoff(which, self.random.draw())
            }
            Kind::Swapon => {
                let which = self.random.below(SWAPS as u64) as usize;
                Op::Swapon(which, self.random.pick(&[-1, 0, 1]))
            }
            Kind::Exit => Op::Exit,
        }
    }

    fn kind(&mut self) -> Kind {
        let mut at = self.random.below(self.plan.total);
        for ((kind, ..), weight) in KINDS.iter().zip(self.plan.weights) {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        Kind::Access
    }

    fn page(&mut self) -> u64 {
        if self.place == Place::Stacks {
            // At the top most of the time, now and then where a gap ends.
            let Range { start, end } = self.plan.stacks;
            return match self.random.below(8) {
                0 => start + self.random.below(32),
                1 => start + self.random.below(end - MARGIN - start),
                _ => end - MARGIN - 1 - self.random.below(24),
            };
        }
        let arena = &self.plan.arena;
        let hot = arena.start + (arena.end - arena.start - self.plan.hot) / 2;
        match self.random.percent(50) {
            true => hot + self.random.below(self.plan.hot),
            false => arena.start + self.random.below(arena.end - arena.start),
        }
    }

    fn whose(&mut self) -> Whose {
        match self.random.percent(40) {
            true => Whose::Other(self.random.draw()),
            false => Whose::Own,
        }
    }

    fn spot(&mut self) -> Spot {
        Spot {
            page: self.page(),
            sample: self.random.below(SAMPLES.len() as u64) as usize,
        }
    }

    /// The end of where the operation is.
    fn end(&self) -> u64 {
        match self.place {
            Place::Arena => self.plan.arena.end,
            Place::Stacks => self.plan.stacks.end - MARGIN,
        }
    }

    /// Some pages of where it is, at least one. Often one range begins where another ends.
    fn pages(&mut self, most: u64) -> Range<u64> {
        let start = self.page();
        if self.random.percent(40) {
            let start = start / 4 * 4;
            let count = 4 * (1 + self.random.below((most / 4).max(1)));
            let lowest = match self.place {
                Place::Arena => self.plan.arena.start,
                Place::Stacks => self.plan.stacks.start,
            };
            return start.max(lowest)..(start + count).min(self.end());
        }
        start..(start + 1 + self.random.below(most)).min(self.end())
    }

    /// The same, now and then none, or far more than there is.
    fn range(&mut self, most: u64) -> Range<u64> {
        let pages = self.pages(most);
        match self.random.below(100) {
            0 => pages.start..pages.start,
            1 => pages.start..pages.start + 0x10_0000,
            2 => self.plan.arena.clone(),
            _ => pages,
        }
    }

    fn mapping(&mut self) -> Mapping {
        let pages = self.pages(16);
        let prot = self.random.pick(&[
            Prot::RW,
            Prot::RW,
            Prot::RW,
            Prot::READ,
            Prot::ALL,
            Prot::empty(),
        ]);
        let inherit = match self.random.below(16) {
            0..4 => Some(Inherit::Share),
            4 => Some(Inherit::Zero),
            5 => Some(Inherit::Copy),
            _ => None,
        };
        let max_prot = match self.random.below(6) {
            0 => prot | Prot::READ,
            _ => Prot::ALL,
        };
        let seen = match self.random.below(3) {
            0 => Seen::Alone,
            _ => Seen::ByAll,
        };
        // Now and then past the object's end.
        let most = OBJECT_PAGES.saturating_sub(pages.end - pages.start);
        let offset = match self.random.below(12) {
            0 => self.random.below(OBJECT_PAGES),
            _ => self.random.below(most + 1),
        };
        let shows = match self.random.below(22) {
            0..14 if self.place == Place::Stacks => Shows::Stack,
            0..8 => Shows::Private,
            8..10 => Shows::Shared,
            10..15 => {
                let file = self.random.below(FILES as u64) as usize;
                match seen {
                    // It is not to be written.
                    Seen::ByAll if prot.contains(Prot::WRITE) => {
                        Shows::File(file, offset, Seen::Alone)
                    }
                    _ => Shows::File(file, offset, seen),
                }
            }
            15..19 => Shows::Object(self.random.below(OBJECTS as u64) as usize, offset, seen),
            19..21 => Shows::Written(offset, seen),
            _ => Shows::Device(offset),
        };
        let place = match self.random.below(16) {
            0..9 => Where::Fixed,
            // What lies where stacks are stays there.
            _ if self.place == Place::Stacks => Where::Exclusive,
            9..13 => Where::Exclusive,
            13 => Where::Anywhere,
            _ => Where::Hint,
        };
        Mapping {
            pages,
            place,
            shows,
            prot,
            max_prot,
            inherit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_a_function_of_its_number() {
        let plan = Plan::of(7);
        let all: Vec<_> = (0..500).map(|i| Op::draw(&plan, i)).collect();
        assert_eq!(Op::draw(&plan, 321), all[321]);
        let loads = all.iter().filter(|(op, _)| matches!(op, Op::Access(..)));
        assert!((50..495).contains(&loads.count()));
    }

    use alloc::vec::Vec;
}
