//! The operations of simulated programs that change mappings, each with the answer that must come.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use crate::addr::{PAGE_SIZE, PageIndex, VaRange, VirtAddr};
use crate::map::{Advice, Inherit, MapRequest, Placement, USER_MAX, VmError};
use crate::prot::Prot;
use crate::sim::lwp::Lwp;
use crate::sim::model::{Content, Model, ModelPage, Risk};
use crate::sim::op::{Flaw, Mapping, Seen, Shows, Where};
use crate::sim::process::{Doing, Turn};

/// Address spaces alive at once, at most.
const MAX_SPACES: usize = 6;
/// Everything that programs map lies in here, in pages.
const ALL: Range<u64> = 0..1 << 35;
const PAGE: u64 = PAGE_SIZE as u64;

pub(super) fn range(pages: &Range<u64>) -> VaRange {
    let start = VirtAddr::new(pages.start * PAGE);
    VaRange::of_pages(start, (pages.end - pages.start) as usize)
}

impl Lwp {
    pub(super) async fn turn(&self, pages: Range<u64>, doing: Doing) -> Turn<'_> {
        let executor = &self.shared.world.executor;
        self.process.turn(executor, pages, doing).await
    }

    /// What the model must know of a range: nothing is ever mapped past the arena.
    pub(super) fn known(&self, pages: &Range<u64>) -> Range<u64> {
        pages.start..pages.end.min(self.shared.plan.arena.end.max(pages.start))
    }

    /// The request for a mapping, and the pages that it makes.
    fn request(&self, mapping: &Mapping) -> (MapRequest, Vec<ModelPage>) {
        let (pages, prot) = (&mapping.pages, mapping.prot);
        let count = pages.end - pages.start;
        let len = (count * PAGE) as usize;
        let (mut inherit, mut max_prot) = (Inherit::Copy, mapping.max_prot);
        let mut risks = alloc::vec![Risk::None; count as usize];
        let (mut request, contents): (_, Vec<Content>) = match mapping.shows {
            Shows::Private => (
                MapRequest::anonymous(len, prot),
                pages.clone().map(|_| Content::zeroes()).collect(),
            ),
            Shows::Shared => (
                MapRequest::anonymous(len, prot).shared(),
                pages.clone().map(|_| Content::shared()).collect(),
            ),
            Shows::File(file, first, seen) => {
                let file = &self.shared.files[file];
                let object = file.object.object().clone();
                let request = MapRequest::object(object, PageIndex(first), len, prot);
                risks = (first..first + count).map(|i| file.risk(i)).collect();
                let contents = (first..first + count).map(|i| file.content(i)).collect();
                match seen {
                    Seen::Alone => (request, contents),
                    Seen::ByAll => {
                        max_prot.remove(Prot::WRITE);
                        (request.shared(), contents)
                    }
                }
            }
            Shows::Object(object, first, seen) => {
                let (object, all) = &self.shared.objects[object];
                let request = MapRequest::object(object.clone(), PageIndex(first), len, prot);
                let content = |i: u64| all.get(i as usize).cloned().unwrap_or(Content::Beyond);
                let contents = (first..first + count).map(content);
                match seen {
                    Seen::Alone => (request, contents.map(|c| c.private()).collect()),
                    Seen::ByAll => (request.shared(), contents.collect()),
                }
            }
        };
        if request.inherit == Inherit::Share {
            inherit = Inherit::Share;
        }
        request.max_prot = mapping.max_prot;
        let made = contents
            .into_iter()
            .zip(risks)
            .map(|(content, risk)| ModelPage {
                prot,
                max_prot,
                inherit,
                content,
                risk,
            })
            .collect();
        (request, made)
    }

    pub(super) async fn map(&self, mapping: Mapping) {
        let pages = mapping.pages.clone();
        // Where it goes depends on all that is there.
        let free_choice = matches!(mapping.place, Where::Hint | Where::Anywhere);
        let _turn = match free_choice {
            true => self.turn(ALL, Doing::Changes).await,
            false => self.turn(pages.clone(), Doing::Maps).await,
        };
        let count = pages.end - pages.start;
        let (request, made) = self.request(&mapping);
        let at = VirtAddr::new(pages.start * PAGE);
        let place = match mapping.place {
            Where::Fixed => Placement::Fixed(at),
            Where::Exclusive => Placement::Exclusive(at),
            Where::Hint => Placement::Anywhere(Some(at)),
            Where::Anywhere => Placement::Anywhere(None),
        };
        let (occupied, highest, size, settled) = self.process.with(|m| {
            let highest = m.highest_hole(count, self.shared.plan.arena.end) - count;
            let replaced = match mapping.place {
                Where::Fixed => m.mapped(pages.clone()),
                _ => 0,
            };
            let size = m.len() - replaced;
            (m.any(pages.clone()), highest, size, m.is_settled())
        });
        let wanted = match mapping.place {
            Where::Exclusive if occupied => Err(VmError::Exists),
            _ if (size + count) * PAGE > self.shared.plan.limit => Err(VmError::Limit),
            Where::Anywhere => Ok(highest),
            Where::Hint if occupied => Ok(highest),
            _ => Ok(pages.start),
        };
        let result = self.process.space.map(request.at(place));
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
            for (page, new) in placed.clone().zip(made) {
                m.insert(page, new);
            }
        });
        if start < self.shared.plan.arena.start {
            self.unmap_now(placed).await;
        }
    }

    pub(super) fn map_badly(&self, flaw: Flaw, pages: Range<u64>) {
        let len = ((pages.end - pages.start) * PAGE) as usize;
        let at = VirtAddr::new(pages.start * PAGE);
        let good = MapRequest::anonymous(len, Prot::RW).at(Placement::Fixed(at));
        let fixed = |va| Placement::Fixed(VirtAddr::new(va));
        let file = &self.shared.files[0].object;
        let (request, wanted) = match flaw {
            Flaw::Empty => (MapRequest { len: 0, ..good }, VmError::Invalid),
            Flaw::TooLong => {
                let len = USER_MAX as usize + len;
                (MapRequest { len, ..good }, VmError::Invalid)
            }
            Flaw::Unaligned => (good.at(fixed(pages.start * PAGE + 8)), VmError::Invalid),
            Flaw::TooLow => (good.at(fixed(0xf000)), VmError::Invalid),
            Flaw::TooHigh => {
                let at = fixed(USER_MAX + PAGE - len as u64);
                (good.at(at), VmError::Invalid)
            }
            Flaw::TooMuch => {
                let max_prot = Prot::READ;
                (MapRequest { max_prot, ..good }, VmError::Protection)
            }
            Flaw::Offset => {
                let object = self.shared.objects[0].0.clone();
                let request = MapRequest::object(object, PageIndex(u64::MAX), len, Prot::READ);
                (request.at(Placement::Fixed(at)), VmError::Invalid)
            }
            Flaw::SharedFile => {
                let object = file.object().clone();
                let request = MapRequest::object(object, PageIndex(0), len, Prot::RW).shared();
                (request.at(Placement::Fixed(at)), VmError::Protection)
            }
        };
        let got = self.process.space.map(request);
        if got != Err(wanted) {
            self.fail(format_args!("{flaw:?}: {got:?}, expected {wanted:?}"));
        }
    }

    /// Waits for its turn and unmaps.
    pub(super) async fn unmap(&self, pages: Range<u64>) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        self.unmap_now(pages).await;
    }

    async fn unmap_now(&self, pages: Range<u64>) {
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

    pub(super) async fn protect(&self, pages: Range<u64>, prot: Prot) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        let known = self.known(&pages);
        let (mapped, allowed) = self.process.with(|m| {
            m.begin(known.clone());
            let allowed = m.each(known.clone(), |page| page.max_prot.contains(prot));
            (m.all(pages.clone()), allowed)
        });
        let result = self.process.space.protect(range(&pages), prot).await;
        self.process.with(|m| m.end(known));
        match result {
            Ok(()) if mapped && allowed => {
                self.process
                    .with(|m| m.change(pages, |page| page.prot = prot));
            }
            Err(VmError::Unmapped) if !mapped => {}
            Err(VmError::Protection) if !allowed => {}
            Err(error) if mapped && allowed => self.out_of_memory("protect", error),
            other => self.fail(format_args!(
                "protect {pages:x?}: {other:?}; mapped: {mapped}, allowed: {allowed}"
            )),
        }
    }

    /// What must come of a change that only needs all of a range mapped.
    fn needs_mapped(&self, what: &str, pages: Range<u64>, result: Result<(), VmError>) -> bool {
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

    pub(super) async fn advise(&self, pages: Range<u64>, advice: Advice) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        let result = self.process.space.advise(range(&pages), advice).await;
        self.needs_mapped("advise", pages, result);
    }

    /// The heap lies at the arena's start, and runs into whatever is mapped there.
    pub(super) async fn brk(&self, bytes: u64) {
        let _turn = self.turn(ALL, Doing::Changes).await;
        let (start, old) = self.process.with(|m| m.heap);
        let end = start + bytes;
        let (from, to) = (old.div_ceil(PAGE), end.div_ceil(PAGE));
        let (fits, settled) = self.process.with(|m| {
            let more = (m.len() + to.saturating_sub(from)) * PAGE;
            let room = to <= from || (!m.any(from..to) && more <= self.shared.plan.limit);
            (room && bytes <= self.shared.heap_limit(), m.is_settled())
        });
        let removed = to.min(from)..from;
        self.process.with(|m| m.begin(removed.clone()));
        let got = self.process.space.brk(VirtAddr::new(end)).await.as_u64();
        self.process.with(|m| m.end(removed.clone()));
        if got == old && end != old && fits {
            return self.out_of_memory("brk", VmError::OutOfMemory);
        }
        let wanted = if fits { end } else { old };
        if got != wanted && settled {
            self.fail(format_args!("brk {end:#x}: {got:#x}, expected {wanted:#x}"));
        }
        if got == old {
            return;
        }
        self.process.with(|m| {
            m.heap.1 = got;
            m.remove(removed);
            for page in from..to {
                m.insert(
                    page,
                    ModelPage {
                        prot: Prot::RW,
                        max_prot: Prot::ALL,
                        inherit: Inherit::Copy,
                        content: Content::zeroes(),
                        risk: Risk::None,
                    },
                );
            }
        });
    }

    pub(super) async fn fork(&self, programs: usize) {
        if self.shared.spaces.load(Relaxed) >= MAX_SPACES {
            return;
        }
        // Counted at once: others fork meanwhile.
        self.shared.spaces.fetch_add(1, Relaxed);
        let _turn = self.turn(ALL, Doing::Forks).await;
        self.process.with(Model::fork_begins);
        let result = self.process.space.fork().await;
        let (child, unsure) = self.process.with(Model::fork_ended);
        let space = match result {
            Ok(space) => space,
            Err(error) => {
                self.shared.spaces.fetch_sub(1, Relaxed);
                return self.out_of_memory("fork", error);
            }
        };
        for page in unsure {
            if let Err(error) = space.unmap(range(&(page..page + 1))).await {
                self.out_of_memory("unmap", error);
                space.teardown().await;
                self.shared.spaces.fetch_sub(1, Relaxed);
                return;
            }
        }
        self.shared.note(|o| o.forks += 1);
        self.shared.start(space, child, programs);
    }
}
