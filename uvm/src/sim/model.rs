//! The oracle: what every byte of every address space must be.
//!
//! A flat model, page by page, that knows nothing of entries, amaps or frames. Of each page it remembers a few bytes, at
//! [`SAMPLES`]; programs load and store only there. Pages that an operation under way may be changing are *unsettled*: what a
//! concurrent access sees of them is not judged.
//!
//! A private view of a shared object (a child's, by inherit copy) has `mmap`'s MAP_PRIVATE semantics: what others store in the
//! object shows in it until its first own store to the page.

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

/// A page of an object that several address spaces map.
type ObjectPage = Arc<Mutex<Bytes>>;

/// What is seen through anonymous memory.
#[derive(Clone)]
pub enum View {
    /// Bytes of its own.
    Own(Bytes),
    /// The object's below, until the first store.
    Of(ObjectPage),
}

/// A page's contents.
#[derive(Clone)]
pub enum Content {
    /// Seen by one address space.
    Private(View),
    /// Seen by several, by inheritance.
    Shared(Arc<Mutex<View>>),
    /// An object's page itself.
    Object(ObjectPage),
}

impl View {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Own(bytes) => *bytes,
            Self::Of(page) => *page.lock().expect("not poisoned"),
        }
    }

    fn set(&mut self, sample: usize, byte: Option<u8>) {
        let mut bytes = self.bytes();
        bytes[sample] = byte;
        *self = Self::Own(bytes);
    }

    fn blur(&mut self) {
        if matches!(self, Self::Of(_)) {
            *self = Self::Own([None; SAMPLES.len()]);
        }
    }
}

impl Content {
    /// Private zeroes.
    #[must_use]
    pub const fn zeroes() -> Self {
        Self::Private(View::Own([Some(0); SAMPLES.len()]))
    }

    /// A private view of page `index` of a file.
    #[must_use]
    pub fn of_file(file: &SimFile, index: u64) -> Self {
        let byte = |at| Some(file.byte(index * PAGE_SIZE as u64 + at));
        Self::Private(View::Own(SAMPLES.map(|at| byte(at as u64))))
    }

    /// Shared zeroes.
    #[must_use]
    pub fn shared() -> Self {
        Self::Shared(Arc::new(Mutex::new(View::Own([Some(0); SAMPLES.len()]))))
    }

    /// A new object's page: zeroes.
    #[must_use]
    pub fn object() -> Self {
        Self::Object(Arc::new(Mutex::new([Some(0); SAMPLES.len()])))
    }

    /// What a child has that inherits a copy.
    fn copy(&self) -> View {
        match self {
            Self::Private(view) => view.clone(),
            Self::Shared(view) => view.lock().expect("not poisoned").clone(),
            Self::Object(page) => View::Of(page.clone()),
        }
    }

    fn bytes(&self) -> Bytes {
        match self {
            Self::Private(view) => view.bytes(),
            Self::Shared(view) => view.lock().expect("not poisoned").bytes(),
            Self::Object(page) => *page.lock().expect("not poisoned"),
        }
    }

    fn set(&mut self, sample: usize, byte: Option<u8>) {
        match self {
            Self::Private(view) => view.set(sample, byte),
            Self::Shared(view) => view.lock().expect("not poisoned").set(sample, byte),
            Self::Object(page) => page.lock().expect("not poisoned")[sample] = byte,
        }
    }

    fn blur(&mut self) {
        match self {
            Self::Private(view) => view.blur(),
            Self::Shared(view) => view.lock().expect("not poisoned").blur(),
            Self::Object(_) => {}
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
    /// Pages stored to since a fork under way began.
    fork_log: Option<BTreeSet<u64>>,
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
            log.insert(page);
        }
        if let Some(found) = self.pages.get_mut(&page) {
            found.content.set(sample, Some(byte));
            // It is anonymous from now on.
            found.from_file = false;
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
            let stored = log.contains(&number);
            let mut copy = page.clone();
            match page.inherit {
                Inherit::None => continue,
                Inherit::Share => {}
                Inherit::Zero => {
                    copy.content = Content::zeroes();
                    copy.from_file = false;
                }
                Inherit::Copy => {
                    copy.content = Content::Private(match page.content.copy() {
                        View::Own(_) if stored => View::Own([None; SAMPLES.len()]),
                        view => view,
                    });
                    copy.from_file |= stored;
                }
            }
            child.pages.insert(number, copy);
        }
        child
    }

    /// What was private becomes shared with the children to come.
    pub fn share(&mut self, pages: core::ops::Range<u64>) {
        self.change(pages, |page| {
            if let Content::Private(view) = &page.content {
                page.content = Content::Shared(Arc::new(Mutex::new(view.clone())));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(inherit: Inherit, content: Content) -> Model {
        let mut model = Model::default();
        let page = ModelPage {
            prot: Prot::RW,
            inherit,
            content,
            from_file: false,
        };
        model.insert(1, page);
        model
    }

    fn fork(model: &mut Model) -> Model {
        model.fork_begins();
        model.fork_ended()
    }

    fn sees(model: &Model) -> Verdict {
        model.judge(1, 0, Prot::READ)
    }

    #[test]
    fn a_private_copy_of_an_object_follows_it_until_the_first_store() {
        let mut parent = mapped(Inherit::Copy, Content::object());
        let mut child = fork(&mut parent);
        let mut grandchild = fork(&mut child);
        parent.store(1, 0, 7);
        assert_eq!(sees(&child), Verdict::Succeeds(Some(7)));
        child.store(1, 1, 8);
        parent.store(1, 0, 9);
        assert_eq!(sees(&child), Verdict::Succeeds(Some(7)));
        assert_eq!(sees(&grandchild), Verdict::Succeeds(Some(9)));
        // After a store that may have failed half-way both are right.
        grandchild.may_copy(1);
        assert_eq!(sees(&grandchild), Verdict::Succeeds(None));
    }

    #[test]
    fn a_private_copy_of_anonymous_memory_is_a_snapshot() {
        let mut parent = mapped(Inherit::Copy, Content::shared());
        let child = fork(&mut parent);
        parent.store(1, 0, 7);
        assert_eq!(sees(&child), Verdict::Succeeds(Some(0)));
    }

    #[test]
    fn what_was_stored_is_not_read_from_the_file() {
        let mut model = mapped(Inherit::Copy, Content::zeroes());
        model.change(1..2, |page| page.from_file = true);
        assert!(model.may_fail(1));
        model.store(1, 0, 7);
        assert!(!model.may_fail(1));
    }
}
