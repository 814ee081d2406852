//! The oracle: what every byte of every address space must be.
//!
//! A flat model, page by page, that knows nothing of entries, amaps or frames. Of each page it remembers a few bytes, at
//! [`SAMPLES`]; programs load and store only there. Pages that an operation under way may be changing are *unsettled*: what a
//! concurrent access sees of them is not judged.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use std::sync::Mutex;

use crate::addr::PAGE_SIZE;
use crate::map::Inherit;
use crate::prot::Prot;
use crate::sim::disk::SimFile;

/// Offsets in a page that are looked at: its ends, and both sides of a 1 KiB block's border.
pub const SAMPLES: [usize; 4] = [0, 1023, 1024, PAGE_SIZE - 1];

/// The sampled bytes of a page; `None` where the order of concurrent operations decides.
pub type Bytes = [Option<u8>; SAMPLES.len()];

/// A page's contents.
#[derive(Clone)]
pub enum Content {
    /// Seen by one address space.
    Private(Bytes),
    /// Seen by several.
    Shared(Arc<Mutex<Bytes>>),
}

impl Content {
    /// Private zeroes.
    #[must_use]
    pub const fn zeroes() -> Self {
        Self::Private([Some(0); SAMPLES.len()])
    }

    /// A private view of page `index` of a file.
    #[must_use]
    pub fn of_file(file: &SimFile, index: u64) -> Self {
        Self::Private(SAMPLES.map(|at| Some(file.byte(index * PAGE_SIZE as u64 + at as u64))))
    }

    /// Shared zeroes.
    #[must_use]
    pub fn shared() -> Self {
        Self::Shared(Arc::new(Mutex::new([Some(0); SAMPLES.len()])))
    }

    fn bytes(&self) -> Bytes {
        match self {
            Self::Private(bytes) => *bytes,
            Self::Shared(bytes) => *bytes.lock().expect("not poisoned"),
        }
    }

    fn set(&mut self, sample: usize, byte: Option<u8>) {
        match self {
            Self::Private(bytes) => bytes[sample] = byte,
            Self::Shared(bytes) => bytes.lock().expect("not poisoned")[sample] = byte,
        }
    }
}

/// One page of an address space.
#[derive(Clone)]
pub struct ModelPage {
    /// What is allowed.
    pub prot: Prot,
    /// What a child gets.
    pub inherit: Inherit,
    /// What it holds.
    pub content: Content,
    /// Whether reading it may fail: it comes from a file on a bad disk.
    pub from_file: bool,
}

/// What an access must come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeds; a load finds this byte, if that is known.
    Succeeds(Option<u8>),
    /// Nothing is mapped there.
    NoMapping,
    /// It is not allowed.
    Protection,
    /// Whatever happens is right.
    Open,
}

/// One address space.
#[derive(Clone, Default)]
pub struct Model {
    pages: BTreeMap<u64, ModelPage>,
    unsettled: BTreeMap<u64, u32>,
    /// Stores since a fork under way began: (page, sample).
    fork_log: Option<BTreeSet<(u64, usize)>>,
}

impl Model {
    /// What an access to `page` must come to.
    #[must_use]
    pub fn judge(&self, page: u64, sample: usize, needs: Prot) -> Verdict {
        if self.unsettled.contains_key(&page) {
            return Verdict::Open;
        }
        match self.pages.get(&page) {
            None => Verdict::NoMapping,
            Some(found) if !found.prot.contains(needs) => Verdict::Protection,
            Some(found) => Verdict::Succeeds(found.content.bytes()[sample]),
        }
    }

    /// Whether reading `page` may fail for a bad disk.
    #[must_use]
    pub fn may_fail(&self, page: u64) -> bool {
        self.pages.get(&page).is_some_and(|found| found.from_file)
    }

    /// A store has happened just now.
    pub fn store(&mut self, page: u64, sample: usize, byte: u8) {
        if let Some(log) = &mut self.fork_log {
            log.insert((page, sample));
        }
        if let Some(found) = self.pages.get_mut(&page) {
            found.content.set(sample, Some(byte));
        }
    }

    /// An operation on `pages` begins.
    pub fn begin(&mut self, pages: core::ops::Range<u64>) {
        for page in pages {
            *self.unsettled.entry(page).or_default() += 1;
        }
    }

    /// It has ended.
    pub fn end(&mut self, pages: core::ops::Range<u64>) {
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
    pub fn any(&self, pages: core::ops::Range<u64>) -> bool {
        self.pages.range(pages).next().is_some()
    }

    /// Whether all of `pages` are mapped.
    #[must_use]
    pub fn all(&self, pages: core::ops::Range<u64>) -> bool {
        let len = (pages.end - pages.start) as usize;
        self.pages.range(pages).count() == len
    }

    /// Maps a page.
    pub fn insert(&mut self, page: u64, new: ModelPage) {
        self.pages.insert(page, new);
    }

    /// Unmaps pages.
    pub fn remove(&mut self, pages: core::ops::Range<u64>) {
        for page in pages {
            self.pages.remove(&page);
        }
    }

    /// Changes mapped pages.
    pub fn change(&mut self, pages: core::ops::Range<u64>, mut f: impl FnMut(&mut ModelPage)) {
        for (_, page) in self.pages.range_mut(pages) {
            f(page);
        }
    }

    /// A fork begins.
    pub fn fork_begins(&mut self) {
        self.fork_log = Some(BTreeSet::new());
    }

    /// It has ended: the child. What was stored meanwhile may have come before or after.
    pub fn fork_ended(&mut self) -> Self {
        let log = self.fork_log.take().unwrap_or_default();
        let mut child = Self::default();
        for (&number, page) in &self.pages {
            let mut copy = page.clone();
            match page.inherit {
                Inherit::None => continue,
                Inherit::Share => {}
                Inherit::Zero => {
                    copy.content = Content::zeroes();
                    copy.from_file = false;
                }
                Inherit::Copy => {
                    let mut bytes = page.content.bytes();
                    for &(_, sample) in log.range((number, 0)..(number + 1, 0)) {
                        bytes[sample] = None;
                    }
                    copy.content = Content::Private(bytes);
                }
            }
            child.pages.insert(number, copy);
        }
        child
    }

    /// What was private becomes shared with the children to come.
    pub fn share(&mut self, pages: core::ops::Range<u64>) {
        self.change(pages, |page| {
            if let Content::Private(bytes) = page.content {
                page.content = Content::Shared(Arc::new(Mutex::new(bytes)));
            }
        });
    }
}
