//! The operations of simulated programs that change mappings, each with the answer that must come.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use crate::addr::{PAGE_SIZE, VaRange, VirtAddr};
use crate::map::{Inherit, MapRequest, Placement, VmError};
use crate::prot::Prot;
use crate::sim::lwp::Lwp;
use crate::sim::model::ModelPage;
use crate::sim::op::{Mapping, Where};
use crate::sim::plan::MARGIN;
use crate::sim::process::{Doing, Turn};
use crate::sim::run::Mode;
use crate::sim::wiring::hard_to_wire;

/// Everything that programs map lies in here, in pages.
pub(super) const ALL: Range<u64> = 0..1 << 35;
pub(super) const PAGE: u64 = PAGE_SIZE as u64;

pub(super) fn range(pages: &Range<u64>) -> VaRange {
    let start = VirtAddr::new(pages.start * PAGE);
    VaRange::of_pages(start, (pages.end - pages.start) as usize)
}

impl Lwp {
    pub(super) async fn turn(&self, pages: Range<u64>, doing: Doing) -> Turn<'_> {
        let executor = &self.shared.world.executor;
        let pages = self.shared.plan.with_all_stacks(pages);
        self.process.turn(executor, pages, doing).await
    }

    /// What the model must know of a range: nothing is ever mapped far past the arena, or past where stacks are.
    pub(super) fn known(&self, pages: &Range<u64>) -> Range<u64> {
        let end = self.shared.plan.stacks.end;
        pages.start..pages.end.min(end.max(pages.start))
    }

    pub(super) async fn map(&self, mapping: Mapping) {
        let pages = mapping.pages.clone();
        // Where it goes depends on all that is there, and what is wired goes on changing things.
        let free_choice = matches!(mapping.place, Where::Hint | Where::Anywhere);
        let mut turn = match free_choice {
            true => self.turn(ALL, Doing::Changes).await,
            false => self.turn(pages.clone(), Doing::Maps).await,
        };
        if self.process.with(|m| m.wires_future) {
            drop(turn);
            turn = self.turn(ALL, Doing::Changes).await;
        }
        let count = pages.end - pages.start;
        let (request, mut made) = self.request(&mapping);
        let at = VirtAddr::new(pages.start * PAGE);
        let place = match mapping.place {
            Where::Fixed => Placement::Fixed(at),
            Where::Exclusive => Placement::Exclusive(at),
            Where::Hint => Placement::Anywhere(Some(at)),
            Where::Anywhere => Placement::Anywhere(None),
        };
        let (occupied, highest, size, settled, wires) = self.process.with(|m| {
            let highest = m.highest_hole(count, self.shared.plan.arena.end) - count;
            let replaced = match mapping.place {
                Where::Fixed => m.mapped(pages.clone()),
                _ => 0,
            };
            (
                m.any(pages.clone()),
                highest,
                m.len() - replaced,
                m.is_settled(),
                m.wires_future && !mapping.prot.is_empty() && self.shared.mode != Mode::Starved,
            )
        });
        let too_large = (size + count) * PAGE > self.shared.plan.limit;
        let wanted = match mapping.place {
            Where::Exclusive if occupied => Err(VmError::Exists),
            _ if too_large => Err(VmError::Limit),
            Where::Anywhere => Ok(highest),
            Where::Hint if occupied => Ok(highest),
            _ => Ok(pages.start),
        };
        let request = request.at(place);
        if let (true, Ok(start)) = (wires, wanted) {
            let placed = start..start + count;
            return self.map_wired(request, placed, made).await;
        }
        let result = self.process.space.map(request);
        let got = result.map(|va| va.as_u64() / PAGE);
        match got {
            Err(VmError::OutOfMemory) => return self.out_of_memory("map", VmError::OutOfMemory),
            // What is being removed may count or not.
            Ok(_) if wanted == Err(VmError::Limit) && !settled => {}
            Err(VmError::Limit) if !settled && self.shared.plan.limit != u64::MAX => {}
            got if got == wanted => {}
            got => self.fail(format_args!("{mapping:x?}: {got:x?}, expected {wanted:x?}")),
        }
        let Ok(start) = got else { return };
        let placed = start..start + count;
        self.process.with(|m| {
            for (page, new) in placed.clone().zip(made.drain(..)) {
                m.insert(page, new);
            }
        });
        self.keep_to_arena(placed).await;
        drop(turn);
    }

    /// Nothing is left outside the arena, where nobody would look at it.
    pub(super) async fn keep_to_arena(&self, placed: Range<u64>) {
        if placed.start < self.shared.plan.arena.start {
            self.unmap_now(placed).await;
        }
    }

    /// A mapping that is wired at once. The caller has its turn at everything.
    async fn map_wired(&self, request: MapRequest, placed: Range<u64>, made: Vec<ModelPage>) {
        let count = placed.end - placed.start;
        let errors = self.shared.swap_errors();
        let (over, hard) = self.process.with(|m| {
            m.begin(placed.clone());
            let replaced = m.within(placed.clone()).filter(|(_, page)| page.wired > 0);
            let locked = m.locked() - replaced.count() as u64;
            let over = (locked + count) * PAGE > self.shared.plan.locked;
            let hard = made.iter().any(hard_to_wire);
            // It is there at once, and stored to by others while it is being wired.
            for (page, new) in placed.clone().zip(made) {
                m.insert(page, new);
            }
            m.may_own(placed.clone());
            (over, hard)
        });
        let result = self.process.space.mmap(request).await;
        let hard = hard || self.shared.swap_errors() > errors;
        self.process.with(|m| {
            m.end(placed.clone());
            match result {
                Ok(_) => m.change(placed.clone(), ModelPage::wire),
                Err(_) => m.remove(placed.clone()),
            }
        });
        match result {
            Ok(va) if va.as_u64() == placed.start * PAGE && !over => {}
            Err(VmError::Limit) if over => return,
            Err(VmError::OutOfMemory) if hard && !over => return,
            result => self.fail(format_args!(
                "{placed:x?} wired: {result:?}; over the limit: {over}, hard: {hard}"
            )),
        }
        self.keep_to_arena(placed).await;
    }

    /// Waits for its turn and unmaps.
    pub(super) async fn unmap(&self, pages: Range<u64>) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        self.unmap_now(pages).await;
    }

    pub(super) async fn unmap_now(&self, pages: Range<u64>) {
        let known = self.known(&pages);
        self.process.with(|m| m.begin(known.clone()));
        let result = self.process.space.unmap(range(&pages)).await;
        self.process.with(|m| {
            m.end(known.clone());
            if result.is_ok() {
                m.remove(known);
            }
        });
        if let Err(error) = result {
            self.out_of_memory("unmap", error);
        }
    }

    /// Unmaps what the model knows nothing of; once there is memory to split a mapping, if need be. The caller has its turn at
    /// everything: should none come, since all others wait for their turns, everything goes, which needs none.
    pub(super) async fn unmap_unknown(&self, pages: Range<u64>) {
        let executor = &self.shared.world.executor;
        let mut patience = 100_u32;
        while let Err(error) = self.process.space.unmap(range(&pages)).await {
            self.out_of_memory("unmap", error);
            let Some(left) = patience.checked_sub(1) else {
                let plan = &self.shared.plan;
                return self
                    .unmap_now(plan.arena.start - MARGIN..plan.stacks.end)
                    .await;
            };
            patience = left;
            executor.sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn protect(&self, pages: Range<u64>, prot: Prot) {
        let turn = self.turn(pages.clone(), Doing::Changes).await;
        let known = self.known(&pages);
        // What allowed nothing is wired now, if the space wires what is mapped.
        let (mapped, allowed, wires) = self.process.with(|m| {
            m.begin(known.clone());
            let allowed = m.each(known.clone(), |page| page.max_prot.contains(prot));
            let wires = m.wires_future && !prot.is_empty();
            (m.all(pages.clone()), allowed, wires)
        });
        let hidden = |page: &ModelPage| wires && page.prot.is_empty() && page.wired == 0;
        let trouble = self.wire_trouble(known.clone(), hidden);
        let result = self.process.space.protect(range(&pages), prot).await;
        self.process.with(|m| m.end(known.clone()));
        match result {
            Err(VmError::Unmapped) if !mapped => {}
            Err(VmError::Protection) if !allowed => {}
            result if !(mapped && allowed) => self.fail(format_args!(
                "protect {pages:x?}: {result:?}; mapped: {mapped}, allowed: {allowed}"
            )),
            result => {
                if self.judge_wiring(("protect", &turn), known.clone(), hidden, &trouble, result) {
                    self.process
                        .with(|m| m.change(known, |page| page.prot = prot));
                }
            }
        }
    }

    /// What must come of a change that only needs all of a range mapped.
    pub(super) fn needs_mapped(
        &self,
        what: &str,
        pages: Range<u64>,
        result: Result<(), VmError>,
    ) -> bool {
        let mapped = self.process.with(|m| m.all(pages.clone()));
        match result {
            Ok(()) if mapped => return true,
            Err(VmError::Unmapped) if !mapped => {}
            Err(error) if mapped => self.out_of_memory(what, error),
            other => self.fail(format_args!(
                "{what} {pages:x?}: {other:?}, mapped: {mapped}"
            )),
        }
        false
    }

    pub(super) async fn inherit(&self, pages: Range<u64>, inherit: Inherit) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        let result = self.process.space.inherit(range(&pages), inherit).await;
        if self.needs_mapped("inherit", pages.clone(), result) {
            self.process.with(|m| {
                m.change(pages.clone(), |page| page.inherit = inherit);
                if inherit == Inherit::Share {
                    m.share(pages);
                }
            });
        }
    }

    /// The heap lies at the arena's start, and runs into whatever is mapped there.
    pub(super) async fn brk(&self, bytes: u64) {
        let _turn = self.turn(ALL, Doing::Changes).await;
        let (start, old) = self.process.with(|m| m.heap);
        let end = start + bytes;
        let (from, to) = (old.div_ceil(PAGE), end.div_ceil(PAGE));
        let fits = self.process.with(|m| {
            let added = to.saturating_sub(from);
            let more = (m.len() + added) * PAGE;
            let wires = !m.wires_future || (m.locked() + added) * PAGE <= self.shared.plan.locked;
            let room = !m.any(from..to.max(from)) && more <= self.shared.plan.limit && wires;
            (to <= from || room) && bytes <= self.shared.heap_limit()
        });
        let (removed, added) = (to.min(from)..from, from..to.max(from));
        let moved = removed.start..added.end;
        self.process.with(|m| {
            m.begin(moved.clone());
            if fits {
                // There at once, and stored to by others while it is being wired.
                for page in added.clone() {
                    m.insert(page, ModelPage::zeroes(Prot::RW));
                }
            }
        });
        let got = self.process.space.brk(VirtAddr::new(end)).await;
        let got = got.map_or(old, |end| end.as_u64());
        let wanted = if fits { end } else { old };
        self.process.with(|m| {
            m.end(moved);
            m.heap.1 = got;
            if got == end {
                m.remove(removed);
            }
            if fits && got != end {
                m.remove(added);
            } else if fits && m.wires_future {
                m.change(added, ModelPage::wire);
            }
        });
        if got == old && fits && end != old {
            return self.out_of_memory("brk", VmError::OutOfMemory);
        }
        if got != wanted {
            self.fail(format_args!("brk {end:#x}: {got:#x}, expected {wanted:#x}"));
        }
    }
}
