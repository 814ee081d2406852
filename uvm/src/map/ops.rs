//! What is done to the entries of a map, under its write lock: find room, clip, insert, merge, remove, change.
//!
//! No synchronisation of its own, and nothing here touches translations: the callers in `glue` do, before they unlock.

use crate::Uvm;
use crate::addr::PAGE_SHIFT;
use crate::amap::Amap;
use crate::map::tree::{Node, Tree};
use crate::map::{MapEntry, MapInner, Placement, USER_MAX, USER_MIN, VmError};
use crate::pool::{OutOfMemory, PoolBox, Ref};

impl MapInner {
    /// Where a mapping of `len` bytes goes. `top` bounds the free choice.
    pub(crate) fn place(&self, placement: Placement, len: u64, top: u64) -> Result<u64, VmError> {
        let free = |start: u64| {
            let end = start.checked_add(len)?;
            (start >= USER_MIN && end <= USER_MAX && !self.tree.overlaps(start, end))
                .then_some(start)
        };
        match placement {
            Placement::Anywhere(hint) => hint
                .and_then(|hint| free(crate::addr::trunc_page(hint.as_u64())))
                .or_else(|| self.tree.highest_hole(len, USER_MIN, top))
                .or_else(|| self.tree.lowest_hole(len, USER_MIN, USER_MAX))
                .ok_or(VmError::OutOfMemory),
            Placement::Fixed(at) | Placement::Exclusive(at) => {
                let start = at.as_u64();
                let end = start.checked_add(len).ok_or(VmError::Invalid)?;
                if !at.is_aligned(crate::PAGE_SIZE as u64) || start < USER_MIN || end > USER_MAX {
                    return Err(VmError::Invalid);
                }
                if matches!(placement, Placement::Exclusive(_)) && self.tree.overlaps(start, end) {
                    return Err(VmError::Exists);
                }
                Ok(start)
            }
        }
    }

    /// Makes an entry begin at `at`, if one covers it.
    pub(crate) fn clip(&mut self, uvm: &Uvm, at: u64) -> Result<(), OutOfMemory> {
        let Some(entry) = self.tree.find(at).map(Node::value) else {
            return Ok(());
        };
        let start = entry.start;
        if start == at {
            return Ok(());
        }
        let upper = MapEntry {
            start: at,
            end: entry.end,
            object: entry.object.clone(),
            offset: entry.index_of(at),
            amap: None,
            slot: entry.slot_of(at),
            ..*entry
        };
        let mut upper = uvm.upper.entries.alloc(uvm, Node::new(upper))?;
        // Only now, when nothing can fail any more: the references that the two halves hold.
        upper.value_mut().amap = entry.amap.as_ref().map(|amap| Amap::split(amap, uvm));
        self.tree.modify(start, |entry| entry.end = at);
        self.tree.insert(upper);
        Ok(())
    }

    /// Puts an entry where nothing is; lets the one before it grow instead where they are alike.
    pub(crate) fn insert(&mut self, uvm: &Uvm, entry: MapEntry) -> Result<(), OutOfMemory> {
        let (start, end) = (entry.start, entry.end);
        let grows = entry.amap.is_none()
            && self.tree.before(start).is_some_and(|before| {
                before.continues_in_growth(&entry)
                    && before.amap.as_ref().is_none_or(|amap| {
                        Amap::try_extend(amap, before.slot, before.pages(), entry.pages())
                    })
            });
        if grows {
            let before = self.tree.before(start).map(|before| before.start);
            if let Some(before) = before {
                self.tree.modify(before, |before| before.end = end);
            }
        } else {
            let node = uvm.upper.entries.alloc(uvm, Node::new(entry))?;
            self.tree.insert(node);
        }
        self.size += end - start;
        Ok(())
    }

    /// Puts a node in as it is.
    pub(crate) fn insert_node(&mut self, node: PoolBox<Node<MapEntry>>) {
        self.size += node.value().end - node.value().start;
        self.locked += node.value().locked();
        self.tree.insert(node);
    }

    /// Moves all entries within `start..end` to `out`, clipped.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing was removed.
    pub(crate) fn remove(
        &mut self,
        uvm: &Uvm,
        start: u64,
        end: u64,
        out: &mut Tree<MapEntry>,
    ) -> Result<(), OutOfMemory> {
        self.clip(uvm, start)?;
        self.clip(uvm, end)?;
        while let Some(at) = self
            .tree
            .from(start)
            .map(|e| e.start)
            .filter(|&at| at < end)
        {
            let Some(node) = self.tree.remove(at) else {
                break;
            };
            self.size -= node.value().end - node.value().start;
            self.locked -= node.value().locked();
            out.insert(node);
        }
        Ok(())
    }

    /// Whether all of `start..end` is mapped, and every entry in it passes `test`.
    pub(crate) fn covers(
        &self,
        start: u64,
        end: u64,
        test: impl Fn(&MapEntry) -> Result<(), VmError>,
    ) -> Result<(), VmError> {
        let mut at = start;
        while at < end {
            let entry = self
                .tree
                .from(at)
                .filter(|e| e.start <= at)
                .ok_or(VmError::Unmapped)?;
            test(entry)?;
            at = entry.end;
        }
        Ok(())
    }

    /// Changes every entry within `start..end`, clipped at its ends; joins what became alike.
    pub(crate) fn change(
        &mut self,
        uvm: &Uvm,
        start: u64,
        end: u64,
        f: impl FnMut(&mut MapEntry),
    ) -> Result<(), OutOfMemory> {
        self.clip(uvm, start)?;
        self.clip(uvm, end)?;
        self.change_within(start, end, f);
        self.join(start.saturating_sub(1), end);
        Ok(())
    }

    /// Changes every entry that lies wholly within `start..end`. Cannot fail, and joins nothing.
    pub(crate) fn change_within(&mut self, start: u64, end: u64, mut f: impl FnMut(&mut MapEntry)) {
        let mut at = start;
        while let Some((from, to)) = self
            .tree
            .from(at)
            .map(|e| (e.start, e.end))
            .filter(|&(from, _)| from < end)
        {
            if from >= start && to <= end {
                self.tree.modify(from, &mut f);
            }
            at = to;
        }
    }

    /// Joins entries that continue each other, from the one at `start` to the one after `end`.
    pub(crate) fn join(&mut self, start: u64, end: u64) {
        let mut at = start;
        while let Some(entry) = self.tree.from(at) {
            if entry.start > end {
                break;
            }
            let (from, to) = (entry.start, entry.end);
            match self.tree.from(to) {
                Some(next) if entry.continues_in(next) && entry.amap_continues_in(next) => {
                    let next = next.start;
                    if let Some(mut node) = self.tree.remove(next) {
                        let joined = node.value().end;
                        // Two references become one; what the slots count stays.
                        if let Some(amap) = node.value_mut().amap.take() {
                            Amap::join(amap);
                        }
                        self.tree.modify(from, |entry| entry.end = joined);
                    }
                }
                _ => at = to,
            }
        }
    }
}

impl MapEntry {
    /// Whether `next`, which has no amap yet, can become part of this entry.
    fn continues_in_growth(&self, next: &Self) -> bool {
        // An entry whose amap is its own may grow over untouched memory, although that still "needs copy".
        let alike = Self {
            object: next.object.clone(),
            amap: None,
            needs_copy: if self.object.is_none() && self.amap.is_some() && !self.needs_copy {
                false
            } else {
                next.needs_copy
            },
            ..*next
        };
        self.continues_in(&alike) && (self.amap.is_none() || self.object.is_none())
    }

    /// Whether the amap of `next` continues this one's.
    fn amap_continues_in(&self, next: &Self) -> bool {
        match (&self.amap, &next.amap) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                Ref::ptr_eq(a, b)
                    && self.slot + ((self.end - self.start) >> PAGE_SHIFT) == next.slot
            }
            _ => false,
        }
    }
}
