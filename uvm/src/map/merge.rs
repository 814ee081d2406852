//! Making one entry of two that continue each other.
//!
//! Owns nothing; all under the map's write lock. Two entries are one if they agree in all attributes, show what continues in the object, and
//! have at most one amap between them: the same one, or that of one side, which then grows over the other, never written, side.

use crate::Uvm;
use crate::addr::PAGE_SHIFT;
use crate::amap::Amap;
use crate::map::tree::Node;
use crate::map::{MapEntry, MapInner};
use crate::pool::{OutOfMemory, Ref};

/// How two neighbours are one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Union {
    /// Neither has an amap.
    Bare,
    /// Both show the same one.
    Same,
    /// The first one's covers both.
    First,
    /// The second one's covers both.
    Second,
}

/// Whether `first` and `next`, right behind it, are one; an amap that has to grow for that has grown then.
fn unite(uvm: &Uvm, first: &MapEntry, next: &MapEntry) -> Option<Union> {
    if !first.continues_in(next) {
        return None;
    }
    let (union, can) = match (&first.amap, &next.amap) {
        (None, None) => (Union::Bare, first.needs_copy == next.needs_copy),
        (Some(a), Some(b)) => {
            let same = Ref::ptr_eq(a, b) && first.slot + first.pages() == next.slot;
            (Union::Same, same && first.needs_copy == next.needs_copy)
        }
        // Whether the amap is the entry's own yet ("needs copy") does not matter: the other side has nothing in it.
        (Some(amap), None) => {
            let slots = first.slot..first.slot + first.pages();
            let can = next.is_untouched() && Amap::extend(amap, uvm, slots, next.pages());
            (Union::First, can)
        }
        (None, Some(amap)) => {
            let slots = next.slot..next.slot + next.pages();
            let can = first.is_untouched() && Amap::extend_down(amap, uvm, slots, first.pages());
            (Union::Second, can)
        }
    };
    can.then_some(union)
}

impl MapInner {
    /// Puts an entry without an amap where nothing is; lets a neighbour grow instead where they are alike, and joins both
    /// neighbours where it bridges them.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub(crate) fn insert(&mut self, uvm: &Uvm, entry: MapEntry) -> Result<(), OutOfMemory> {
        debug_assert!(entry.amap.is_none());
        let (start, end, offset) = (entry.start, entry.end, entry.offset);
        let before = self
            .tree
            .before(start)
            .filter(|before| unite(uvm, before, &entry).is_some())
            .map(|before| before.start);
        if let Some(before) = before {
            self.tree.modify(before, |before| before.end = end);
        } else if self
            .tree
            .from(end)
            .is_some_and(|after| unite(uvm, &entry, after).is_some())
        {
            self.tree.modify(end, |after| {
                after.start = start;
                after.offset = offset;
                if after.amap.is_some() {
                    after.slot -= (end - start) >> PAGE_SHIFT;
                }
            });
        } else {
            let node = uvm.upper.entries.alloc(uvm, Node::new(entry))?;
            self.tree.insert(node);
        }
        self.size += end - start;
        self.join(uvm, start.saturating_sub(1), end);
        Ok(())
    }

    /// Lets the untouched entry at `start`, if there is one, by which a wired one has grown, show that one's amap: so they become one as
    /// soon as it is wired as well.
    pub(crate) fn adopt(&mut self, uvm: &Uvm, start: u64) {
        let entry = self.tree.find(start).map(Node::value);
        let Some(entry) = entry.filter(|entry| entry.is_untouched()) else {
            return;
        };
        let (start, pages) = (entry.start, entry.pages());
        // As if it were wired like `other`.
        let alike = |other: &MapEntry| MapEntry {
            object: entry.object.clone(),
            wired: other.wired,
            wired_to: other.wired_to,
            ..entry.bare()
        };
        let before = self.tree.before(start).filter(|e| e.wired > 0);
        let after = self.tree.from(entry.end).filter(|e| e.wired > 0);
        let found = if let Some(before) = before
            && unite(uvm, before, &alike(before)) == Some(Union::First)
        {
            Some((before, before.slot + before.pages()))
        } else if let Some(after) = after
            && unite(uvm, &alike(after), after) == Some(Union::Second)
        {
            Some((after, after.slot - pages))
        } else {
            None
        };
        let Some((other, slot)) = found else {
            return;
        };
        let amap = other.amap.as_ref().map(|amap| Amap::split(amap, uvm));
        let needs_copy = other.needs_copy;
        self.tree.modify(start, |entry| {
            entry.amap = amap;
            entry.slot = slot;
            entry.needs_copy = needs_copy;
        });
    }

    /// Joins entries that continue each other, from the one at `start`, or the next, to the one that begins at `end`.
    pub(crate) fn join(&mut self, uvm: &Uvm, start: u64, end: u64) {
        let mut at = start;
        while let Some(entry) = self.tree.from(at).filter(|entry| entry.start <= end) {
            let (from, to) = (entry.start, entry.end);
            let next = self.tree.from(to);
            let Some(union) = next.and_then(|next| unite(uvm, entry, next)) else {
                at = to;
                continue;
            };
            let Some(mut node) = self.tree.remove(to) else {
                return;
            };
            let next = node.value_mut();
            let amap = next.amap.take();
            let left = self.tree.modify(from, |entry| {
                let pages = entry.pages();
                entry.end = next.end;
                if union == Union::Second {
                    entry.slot = next.slot - pages;
                    entry.needs_copy = next.needs_copy;
                    entry.amap = amap;
                    return None;
                }
                amap
            });
            if let Some(amap) = left.flatten() {
                // Two references become one; what the slots count stays.
                Amap::join(amap);
            }
        }
    }
}
