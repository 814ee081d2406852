//! The oracle: what every byte of every address space must be.
//!
//! A flat model, page by page, that knows nothing of entries, amaps or frames. Of each page it remembers a few bytes, at
//! [`SAMPLES`]; programs load and store only there. Pages that an operation under way may be changing are *unsettled*: what a
//! concurrent access sees of them is not judged.
//!
//! A page whose stores are counted tells a fork that took several polls whether its child may have either of two contents.
//!
//! A private view of a shared object (a child's, by inherit copy) has `mmap`'s MAP_PRIVATE semantics: what others store in the
//! object shows in it until its first own store to the page.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use crate::addr::PAGE_SIZE;
use crate::fault::FaultError;
use crate::map::Inherit;
use crate::map::grow::STACK_GAP;
use crate::prot::Prot;
pub use crate::sim::content::{Bytes, Content, Discarded, SAMPLES};

/// Pages that stay free below a stack.
const GAP: u64 = STACK_GAP / PAGE_SIZE as u64;

/// Whether a page can be read from its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// It needs none, or the disk is good.
    None,
    /// A read may fail.
    MayFail,
    /// It cannot.
    Bad,
}

/// One page of an address space.
#[derive(Clone)]
pub struct ModelPage {
    /// What is allowed.
    pub prot: Prot,
    /// The most that may be.
    pub max_prot: Prot,
    /// What a child gets.
    pub inherit: Inherit,
    /// What it holds.
    pub content: Content,
    /// What its disk is like, where it is not anonymous memory.
    pub risk: Risk,
    /// Whether it is a private mapping's.
    pub private: bool,
    /// How often it is wired.
    pub wired: u16,
    /// The page at which the stack ends that it belongs to.
    pub stack: Option<u64>,
}

impl ModelPage {
    /// An untouched page of private zeroes.
    #[must_use]
    pub const fn zeroes(prot: Prot) -> Self {
        Self {
            prot,
            max_prot: Prot::ALL,
            inherit: Inherit::Copy,
            content: Content::zeroes(),
            risk: Risk::None,
            private: true,
            wired: 0,
            stack: None,
        }
    }

    /// What a copy of it is, unwired. `sure`: nobody can have stored meanwhile.
    #[must_use]
    pub fn copied(&self, sure: bool) -> Self {
        let mut copy = Self {
            content: self.content.private(),
            private: self.private || !self.content.is_device(),
            wired: 0,
            ..self.clone()
        };
        if !sure {
            copy.content.forget();
        }
        copy
    }

    /// The same page, so many pages further up.
    #[must_use]
    pub fn moved(mut self, by: u64) -> Self {
        self.stack = self.stack.map(|top| top.wrapping_add(by));
        self
    }

    /// Whether reading it may fail: what is wired or anonymous is in memory.
    #[must_use]
    pub fn risk(&self) -> Risk {
        match self.content.is_anonymous() {
            _ if self.wired > 0 => Risk::None,
            (true, _) => Risk::None,
            (false, true) => self.risk.min(Risk::MayFail),
            (false, false) => self.risk,
        }
    }

    /// It is wired from now on, once more.
    pub fn wire(&mut self) {
        if self.wired == 0 {
            self.content.own();
        }
        self.wired = self.wired.saturating_add(1);
    }
}

/// What an access must come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeds; a load finds this byte, if that is known.
    Succeeds(Option<u8>),
    /// It fails so.
    Fails(FaultError),
    /// Whatever happens is right.
    Open,
}

/// What a fork that is under way must know.
#[derive(Clone, Default)]
struct Fork {
    /// Of each page, how often it had been changed.
    before: BTreeMap<u64, u32>,
    /// Pages mapped since.
    mapped: BTreeSet<u64>,
}

/// One address space.
#[derive(Clone, Default)]
pub struct Model {
    /// Where the heap begins and ends, in bytes.
    pub heap: (u64, u64),
    /// Whether what is mapped from now on is wired.
    pub wires_future: bool,
    /// Accesses under way that may let a stack grow.
    pub growing: u32,
    pages: BTreeMap<u64, ModelPage>,
    unsettled: BTreeMap<u64, u32>,
    fork: Option<Fork>,
}

impl Model {
    /// What an access to `page` must come to.
    #[must_use]
    pub fn judge(&self, page: u64, sample: usize, needs: Prot) -> Verdict {
        if self.unsettled.contains_key(&page) {
            return Verdict::Open;
        }
        match self.pages.get(&page) {
            None => Verdict::Fails(FaultError::NoMapping),
            Some(found) if !found.prot.contains(needs) => Verdict::Fails(FaultError::Protection),
            Some(found) => match found.content {
                // What several show may be changing without this space having a part in it.
                _ if found.content.is_churning() => Verdict::Open,
                Content::Beyond => Verdict::Fails(FaultError::BeyondEnd),
                _ if found.risk() == Risk::Bad => Verdict::Fails(FaultError::Io),
                _ => Verdict::Succeeds(found.content.bytes()[sample]),
            },
        }
    }

    /// Whether reading `page` may fail for a bad disk.
    #[must_use]
    pub fn may_fail(&self, page: u64) -> bool {
        self.pages
            .get(&page)
            .is_some_and(|found| found.risk() > Risk::None)
    }

    /// What an access by the kernel for a program must come to: a device's memory is not copied.
    #[must_use]
    pub fn judge_copy(&self, page: u64, sample: usize, needs: Prot) -> Verdict {
        match self.judge(page, sample, needs) {
            Verdict::Succeeds(_) if self.get(page).is_some_and(|p| p.content.is_device()) => {
                Verdict::Fails(FaultError::Io)
            }
            verdict => verdict,
        }
    }

    /// The pages by which a stack grows when the unmapped `page` is touched, if one may at all that has at most `limit` pages.
    #[must_use]
    pub fn growth(&self, page: u64, limit: u64) -> Option<Range<u64>> {
        let (&start, stack) = self.pages.range(page..).next()?;
        let top = stack.stack?;
        let far = self
            .pages
            .range(..page)
            .next_back()
            .is_none_or(|(&below, found)| {
                page - (below + 1) >= GAP || found.prot.is_empty() || found.stack.is_some()
            });
        (far && top.wrapping_sub(page) <= limit).then_some(page..start)
    }

    /// A store has happened just now.
    pub fn store(&mut self, page: u64, sample: usize, byte: u8) {
        if let Some(found) = self.pages.get_mut(&page) {
            found.content.set(sample, byte);
        }
    }

    /// A store begins that may fail for want of memory *after* the page has become anonymous: which bytes of the object
    /// below it has then, nobody can tell.
    pub fn may_copy(&mut self, page: u64) {
        if let Some(found) = self.pages.get_mut(&page)
            && found.prot.contains(Prot::RW)
        {
            found.content.blur();
        }
    }

    /// Whether `page` is wired, and nothing under way may change that.
    #[must_use]
    pub fn is_wired(&self, page: u64) -> bool {
        !self.unsettled.contains_key(&page)
            && self.pages.get(&page).is_some_and(|found| found.wired > 0)
    }

    /// Pages wired.
    #[must_use]
    pub fn locked(&self) -> u64 {
        self.pages.values().filter(|page| page.wired > 0).count() as u64
    }

    /// From now on some of `pages` may be anonymous memory, with what the object below held at a time that nobody knows.
    pub fn may_own(&mut self, pages: Range<u64>) {
        self.change(pages, |page| page.content.blur());
    }

    /// What is mapped in a range.
    pub fn within(&self, pages: Range<u64>) -> impl Iterator<Item = (u64, &ModelPage)> {
        self.pages
            .range(pages)
            .map(|(&number, page)| (number, page))
    }

    /// The page there.
    #[must_use]
    pub fn get(&self, page: u64) -> Option<&ModelPage> {
        self.pages.get(&page)
    }

    /// An operation on `pages` begins.
    pub fn begin(&mut self, pages: Range<u64>) {
        for page in pages {
            *self.unsettled.entry(page).or_default() += 1;
        }
    }

    /// It has ended.
    pub fn end(&mut self, pages: Range<u64>) {
        for page in pages {
            if let Some(count) = self.unsettled.get_mut(&page) {
                *count -= 1;
                if *count == 0 {
                    self.unsettled.remove(&page);
                }
            }
        }
    }

    /// Whether any of `pages` is mapped.
    #[must_use]
    pub fn any(&self, pages: Range<u64>) -> bool {
        self.pages.range(pages).next().is_some()
    }

    /// How many of `pages` are mapped.
    #[must_use]
    pub fn mapped(&self, pages: Range<u64>) -> u64 {
        self.pages.range(pages).count() as u64
    }

    /// Whether all of `pages` are mapped.
    #[must_use]
    pub fn all(&self, pages: Range<u64>) -> bool {
        let len = (pages.end - pages.start) as usize;
        self.pages.range(pages).count() == len
    }

    /// Where the highest hole of so many pages ends below `top`.
    #[must_use]
    pub fn highest_hole(&self, count: u64, top: u64) -> u64 {
        let mut end = top;
        while let Some((&page, _)) = self.pages.range(end - count..end).next_back() {
            end = page;
        }
        end
    }

    /// Whether an operation may be changing something.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty() && self.growing == 0
    }

    /// The same of one page.
    #[must_use]
    pub fn is_settled_at(&self, page: u64) -> bool {
        !self.unsettled.contains_key(&page)
    }

    /// Whether a mapped page is surely in memory, and whether it cannot be. `swap`: anonymous memory may have been written out.
    #[must_use]
    pub fn residency(&self, page: u64, swap: bool) -> (bool, bool) {
        let Some(found) = self.pages.get(&page) else {
            return (false, false);
        };
        let (anonymous, _) = found.content.is_anonymous();
        let never = matches!(found.content, Content::Beyond) || found.risk() == Risk::Bad;
        (found.wired > 0 || (anonymous && !swap), never)
    }

    /// Pages mapped.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Whether all of `pages` that are mapped pass `test`.
    #[must_use]
    pub fn each(&self, pages: Range<u64>, mut test: impl FnMut(&ModelPage) -> bool) -> bool {
        self.pages.range(pages).all(|(_, page)| test(page))
    }

    /// Maps a page.
    pub fn insert(&mut self, page: u64, new: ModelPage) {
        if let Some(fork) = &mut self.fork {
            fork.mapped.insert(page);
        }
        self.pages.insert(page, new);
    }

    /// Takes the pages of a range out.
    pub fn take(&mut self, pages: Range<u64>) -> Vec<ModelPage> {
        pages.filter_map(|page| self.pages.remove(&page)).collect()
    }

    /// Unmaps pages.
    pub fn remove(&mut self, pages: Range<u64>) {
        for page in pages {
            self.pages.remove(&page);
        }
    }

    /// Changes mapped pages.
    pub fn change(&mut self, pages: Range<u64>, mut f: impl FnMut(&mut ModelPage)) {
        for (_, page) in self.pages.range_mut(pages) {
            f(page);
        }
    }

    /// A fork begins.
    pub fn fork_begins(&mut self) {
        let of = |(&number, page): (&u64, &ModelPage)| (number, page.content.changes());
        self.fork = Some(Fork {
            before: self.pages.iter().map(of).collect(),
            mapped: BTreeSet::new(),
        });
    }

    /// It has ended: the child, but for the pages that were mapped meanwhile: those may be there or not, and are returned too. What
    /// was stored meanwhile may have come before or after.
    pub fn fork_ended(&mut self) -> (Self, Vec<u64>) {
        let fork = self.fork.take().unwrap_or_default();
        let mut child = Self {
            heap: self.heap,
            ..Self::default()
        };
        for (&number, page) in &self.pages {
            let Some(&changes) = fork.before.get(&number) else {
                continue;
            };
            if fork.mapped.contains(&number) {
                continue;
            }
            let inherited = match page.inherit {
                Inherit::None => continue,
                Inherit::Share => ModelPage {
                    wired: 0,
                    ..page.clone()
                },
                Inherit::Zero => ModelPage {
                    max_prot: page.max_prot,
                    inherit: page.inherit,
                    stack: page.stack,
                    ..ModelPage::zeroes(page.prot)
                },
                Inherit::Copy => page.copied(page.content.changes() == changes),
            };
            child.pages.insert(number, inherited);
        }
        (child, fork.mapped.into_iter().collect())
    }

    /// What was private becomes shared with the children to come.
    pub fn share(&mut self, pages: Range<u64>) {
        self.change(pages, |page| {
            page.content = page.content.clone().shareable();
        });
    }
}

#[cfg(test)]
mod tests;
