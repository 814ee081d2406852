//! The operations of simulated programs that show pages in a second place, move them, or write to them as a debugger does.
//!
//! Meanwhile no other program of the process accesses anything: whether it would find a page in its old or its new place nobody could
//! tell. Those of other processes go on.

use alloc::vec::Vec;
use core::ops::Range;

use crate::addr::VirtAddr;
use crate::fault::FaultError;
use crate::map::{Extract, Inherit, Mremap, Placement, VmError};
use crate::prot::Prot;
use crate::sim::lwp::Lwp;
use crate::sim::mapping::{ALL, PAGE, range};
use crate::sim::model::{Content, ModelPage, Risk};
use crate::sim::op::{Spot, Where, Whose};
use crate::sim::process::{Doing, Pair};
use crate::sim::run::Mode;

const fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Lwp {
    pub(super) async fn extract(
        &self,
        pages: Range<u64>,
        how: Extract,
        to: (u64, Where),
        whose: Whose,
    ) {
        let executor = &self.shared.world.executor;
        match whose {
            Whose::Own => {
                let there = to.0..to.0 + (pages.end - pages.start);
                if !overlap(&pages, &there) || how == Extract::Remove {
                    let pair = Pair::turn(executor, &self.process, None).await;
                    self.extract_into(&pair, pages, how, to).await;
                }
            }
            Whose::Other(choice) => {
                let Some((other, visitor)) = self.shared.visit(&self.process, choice) else {
                    return;
                };
                let pair = Pair::turn(executor, &self.process, Some(&other)).await;
                self.extract_into(&pair, pages, how, to).await;
                drop(pair);
                self.shared.leave(&other, &visitor).await;
            }
        }
    }

    async fn extract_into(
        &self,
        pair: &Pair<'_>,
        pages: Range<u64>,
        how: Extract,
        (at, place): (u64, Where),
    ) {
        let count = pages.end - pages.start;
        let there = at..at + count;
        let Pair { own, other, .. } = *pair;
        pair.quiet(&self.shared.world.executor).await;
        let (before, mapped, wired) = own.with(|m| {
            let changes = |(_, page): (u64, &ModelPage)| page.content.changes();
            let before: Vec<_> = m.within(pages.clone()).map(changes).collect();
            let wired = m.within(pages.clone()).filter(|(_, page)| page.wired > 0);
            (before, m.all(pages.clone()), wired.count() as u64)
        });
        let (replaced, size, locked) = other.with(|m| {
            let replaced = m.within(there.clone()).count() as u64;
            (replaced, m.len(), m.locked())
        });
        let occupied = replaced > 0;
        // What it replaces goes first; what moves within a space makes it no larger.
        let larger = (size + count - replaced) * PAGE;
        let moves = how == Extract::Remove;
        let stays = pair.is_one() && moves;
        let too_much_wired =
            moves && !stays && wired > 0 && (locked + wired) * PAGE > self.shared.plan.locked;
        let over = !stays && larger > self.shared.plan.limit || too_much_wired;
        let overlaps = pair.is_one() && overlap(&pages, &there);
        let placement = match place {
            Where::Fixed => Placement::Fixed(VirtAddr::new(at * PAGE)),
            _ => Placement::Exclusive(VirtAddr::new(at * PAGE)),
        };
        let result = own
            .space
            .extract(range(&pages), &other.space, how, placement)
            .await;
        let exists = occupied && place != Where::Fixed;
        let good = mapped && !exists && !over && !overlaps;
        match result {
            Ok(va) if good && va.as_u64() == at * PAGE => {
                let new: Vec<_> = own.with(|m| {
                    if moves {
                        let by = at.wrapping_sub(pages.start);
                        let taken = m.take(pages).into_iter();
                        return taken.map(|page| page.moved(by)).collect();
                    }
                    let show = |(from, changes)| {
                        let new = shown(m.get(from), how, changes)?;
                        if how != Extract::Copy {
                            let content = new.content.clone();
                            m.change(from..from + 1, |page| page.content = content.clone());
                        }
                        Some(new)
                    };
                    pages.zip(before).filter_map(show).collect()
                });
                other.with(|m| {
                    m.remove(there.clone());
                    for (page, new) in there.clone().zip(new) {
                        m.insert(page, new);
                    }
                });
            }
            Err(VmError::Unmapped) if !mapped => {}
            Err(VmError::Exists) if exists => {}
            Err(VmError::Limit) if over => {}
            Err(VmError::Invalid) if overlaps => {}
            Err(error) if good || self.shared.mode == Mode::Starved => {
                self.out_of_memory("extract", error);
            }
            result => self.fail(format_args!(
                "{how:?} {pages:x?} at {at:#x}: {result:x?}; mapped: {mapped}, occupied: {occupied}"
            )),
        }
        pair.noise();
    }

    /// What is new of it is unmapped at once: what it shows depends on mappings that the model does not know.
    pub(super) async fn mremap(&self, pages: Range<u64>, count: u64, how: Mremap) {
        let _turn = self.turn(ALL, Doing::Changes).await;
        let (process, space) = (&self.process, &self.process.space);
        process.quiet(&self.shared.world.executor).await;
        if pages.is_empty() {
            self.duplicate(pages.start, count, how).await;
            return process.noise();
        }
        let old = pages.end - pages.start;
        let grows = count > old;
        // What shrinks where it is need be there only at its start; else all that is left of it.
        let needed = match how {
            Mremap::InPlace | Mremap::MayMove if !grows => 1,
            _ => old.min(count),
        };
        let (mapped, wired, size, beyond) = process.with(|m| {
            let wired = !m.each(pages.clone(), |page| page.wired == 0);
            // A device does not grow.
            let last = m.get(pages.end - 1);
            let device = grows && last.is_some_and(|page| page.content.is_device());
            let mapped = m.all(pages.start..pages.start + needed) && !device;
            // It may be a device's.
            let beyond = last.is_some_and(|page| matches!(page.content, Content::Beyond));
            (mapped, wired, m.len(), beyond)
        });
        let more = count.saturating_sub(old);
        let over = (size + more) * PAGE > self.shared.plan.limit;
        let va = VirtAddr::new(pages.start * PAGE);
        let result = space.mremap(va, old * PAGE, count * PAGE, how).await;
        let fixed = match how {
            Mremap::Fixed(at) => Some(at.as_u64() / PAGE..at.as_u64() / PAGE + count),
            _ => None,
        };
        let overlaps = fixed.as_ref().is_some_and(|there| overlap(&pages, there));
        match result {
            Ok(va) if mapped && !overlaps => {
                let at = va.as_u64() / PAGE;
                let there = at..at + count;
                let right = match how {
                    Mremap::InPlace => at == pages.start,
                    Mremap::Fixed(wanted) => va == wanted,
                    Mremap::MayMove => at == pages.start || process.with(|m| !m.any(there.clone())),
                };
                if !right {
                    self.fail(format_args!("{pages:x?} of {count}, {how:?}: at {at:#x}"));
                }
                process.with(|m| {
                    if at == pages.start {
                        m.remove(there.end.min(pages.end)..pages.end);
                        return;
                    }
                    let first = pages.start;
                    let moved = m.take(pages.start..pages.start + needed);
                    m.remove(pages);
                    m.remove(there.clone());
                    let by = at.wrapping_sub(first);
                    for (page, new) in there.clone().zip(moved) {
                        m.insert(page, new.moved(by));
                    }
                });
                if grows {
                    self.unmap_unknown(at + old..at + count).await;
                }
                self.keep_to_arena(there).await;
            }
            // Pages that the model knows alike may belong to several mappings.
            Err(VmError::Unmapped) if !mapped || old > 1 || (grows && beyond) => {}
            Err(VmError::Invalid) if overlaps => {}
            Err(VmError::Limit) if grows && wired => {}
            Err(VmError::OutOfMemory) if grows && (over || how == Mremap::InPlace) => {}
            Err(error) if mapped || self.shared.mode == Mode::Starved => {
                self.out_of_memory("mremap", error);
            }
            result => self.fail(format_args!(
                "{pages:x?} of {count}, {how:?}: {result:x?}; mapped: {mapped}"
            )),
        }
        process.noise();
    }

    /// A second mapping of shared memory: only its first page is left, since the rest depends on mappings that the model does not know.
    async fn duplicate(&self, page: u64, count: u64, how: Mremap) {
        let (process, space) = (&self.process, &self.process.space);
        let (found, size, replaced) = process.with(|m| {
            let replaced = match how {
                Mremap::Fixed(at) => m.mapped(at.as_u64() / PAGE..at.as_u64() / PAGE + count),
                _ => 0,
            };
            (m.get(page).cloned(), m.len(), replaced)
        });
        let over = (size - replaced + count) * PAGE > self.shared.plan.limit;
        // As on Linux, even though the old place is empty; not so if it is where the new one begins.
        let overlaps = match how {
            Mremap::Fixed(at) => {
                (at.as_u64() / PAGE + 1..at.as_u64() / PAGE + count).contains(&page)
            }
            _ => false,
        };
        let wanted = match &found {
            _ if overlaps => Err(VmError::Invalid),
            None => Err(VmError::Unmapped),
            Some(page) if page.content.is_device() => Err(VmError::Unmapped),
            Some(page) if page.private => Err(VmError::Invalid),
            Some(_) if how == Mremap::InPlace || over => Err(VmError::OutOfMemory),
            Some(_) => Ok(()),
        };
        // It may be a device's.
        let beyond = found
            .as_ref()
            .is_some_and(|page| matches!(page.content, Content::Beyond));
        let va = VirtAddr::new(page * PAGE);
        let result = space.mremap(va, 0, count * PAGE, how).await;
        match (result, found) {
            (Ok(va), Some(found)) if wanted.is_ok() => {
                let at = va.as_u64() / PAGE;
                process.with(|m| {
                    let new = shown(Some(&found), Extract::Share, found.content.changes());
                    m.remove(at..at + count);
                    new.map(|new| m.insert(at, new))
                });
                if count > 1 {
                    self.unmap_unknown(at + 1..at + count).await;
                }
                self.keep_to_arena(at..at + 1).await;
            }
            (Err(error), _) if wanted == Err(error) => {}
            (Err(VmError::Unmapped), _) if beyond => {}
            (Err(error), _) if wanted.is_ok() => self.out_of_memory("mremap", error),
            (result, _) => self.fail(format_args!(
                "a second mapping of {page:#x}, {how:?}: {result:x?}, expected {wanted:?}"
            )),
        }
    }

    /// Of memory that others show, nobody could say when they see it: only private pages.
    pub(super) async fn poke(&self, spot: Spot, byte: u8) {
        let Spot { page, sample } = spot;
        let _turn = self.turn(ALL, Doing::Changes).await;
        let process = &self.process;
        process.quiet(&self.shared.world.executor).await;
        let found = process.with(|m| m.get(page).cloned());
        let wanted = match &found {
            None => Err(FaultError::NoMapping),
            Some(page) if !page.max_prot.contains(Prot::RW) => Err(FaultError::Protection),
            Some(page) if matches!(page.content, Content::Beyond) => Err(FaultError::BeyondEnd),
            Some(page) if page.risk() == Risk::Bad => Err(FaultError::Io),
            Some(page) if page.content.is_device() => Err(FaultError::Io),
            Some(_) => Ok(()),
        };
        let others = found.is_some_and(|page| {
            matches!(
                page.content,
                Content::Shared(_) | Content::Object(_) | Content::File(_)
            )
        });
        if !others {
            process.with(|m| m.may_own(page..page + 1));
            let va = VirtAddr::new(spot.va());
            let mut got = [0];
            let mut result = process.space.poke(va, &[byte]).await;
            if result.is_ok() {
                process.with(|m| m.store(page, sample, byte));
                result = process.space.peek(va, &mut got).await;
            }
            match result {
                Ok(()) if wanted.is_ok() && got == [byte] => {}
                Err(error) if wanted == Err(error) => {}
                Err(FaultError::Io) if self.may_fail(page) => {}
                Err(FaultError::Killed) if process.is_killed() => {}
                Err(FaultError::OutOfMemory) if self.shared.mode == Mode::Starved => {}
                result => self.fail(format_args!(
                    "poke {page:#x}: {result:?} and {got:x?}, expected {wanted:?}"
                )),
            }
        }
        process.noise();
    }
}

/// What a page is where it is shown a second time. `changes` were counted when that began.
fn shown(page: Option<&ModelPage>, how: Extract, changes: u32) -> Option<ModelPage> {
    let mut page = page?.clone();
    page.wired = 0;
    page.stack = None;
    match how {
        Extract::ShareMaximum => page.prot = page.max_prot,
        // Others who share it may have stored meanwhile.
        Extract::Copy => page = page.copied(page.content.changes() == changes),
        Extract::Share | Extract::Remove => {}
    }
    if how != Extract::Copy || page.inherit == Inherit::Share {
        page.content = page.content.shareable();
    }
    Some(page)
}
