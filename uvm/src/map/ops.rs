//! What is done to the entries of a map, under its write lock: find room, clip, remove, change. What makes one of two stands in
//! [`super::merge`].
//!
//! No synchronisation of its own, and nothing here touches translations: the callers do, before they unlock.

use crate::Uvm;
use crate::addr::PAGE_SIZE;
use crate::amap::Amap;
use crate::map::tree::{Node, Room, Side, Span, Tree};
use crate::map::{MapEntry, MapInner, Placement, USER_MAX, USER_MIN, VmError};
use crate::pool::{OutOfMemory, PoolBox};

impl MapInner {
    /// Where a mapping of `len` bytes goes. `top` bounds the free choice, `align` (a power of two) directs it.
    pub(crate) fn place(
        &self,
        placement: Placement,
        len: u64,
        align: u64,
        top: u64,
    ) -> Result<u64, VmError> {
        if !align.is_power_of_two() {
            return Err(VmError::Invalid);
        }
        let room = |high| Room {
            len,
            align: align.max(PAGE_SIZE as u64),
            low: USER_MIN,
            high,
        };
        let free = |start: u64| {
            let end = start.checked_add(len)?;
            let clear = self
                .tree
                .from(start)
                .is_none_or(|next| next.start.saturating_sub(next.margin()) >= end);
            (start >= USER_MIN && end <= USER_MAX && clear).then_some(start)
        };
        match placement {
            Placement::Anywhere(hint) => hint
                .and_then(|hint| free(hint.as_u64() & !(room(top).align - 1)))
                .or_else(|| self.tree.find_room(room(top), Side::High))
                .or_else(|| self.tree.find_room(room(USER_MAX), Side::Low))
                .ok_or(VmError::OutOfMemory),
            Placement::Fixed(at) | Placement::Exclusive(at) => {
                let start = at.as_u64();
                let end = start.checked_add(len).ok_or(VmError::Invalid)?;
                if !at.is_aligned(PAGE_SIZE as u64) || start < USER_MIN || end > USER_MAX {
                    return Err(VmError::Invalid);
                }
                if matches!(placement, Placement::Exclusive(_)) && self.tree.overlaps(start, end) {
                    return Err(VmError::Exists);
                }
                Ok(start)
            }
        }
    }

    /// Bytes mapped within `start..end`.
    pub(crate) fn covered(&self, start: u64, end: u64) -> u64 {
        let entries = self.tree.iter_from(start);
        entries
            .take_while(|entry| entry.start < end)
            .map(|entry| entry.end.min(end) - entry.start.max(start))
            .sum()
    }

    /// Makes an entry begin at `at`, if one covers it.
    pub(crate) fn clip(&mut self, uvm: &Uvm, at: u64) -> Result<(), OutOfMemory> {
        if let Some(entry) = self.tree.find(at).map(Node::value).filter(|e| e.start < at) {
            let node = uvm.upper.entries.alloc(uvm, Node::new(entry.bare()))?;
            self.clip_with(uvm, at, node);
        }
        Ok(())
    }

    /// The same, with memory that is there already: a node that holds anything.
    pub(crate) fn clip_with(&mut self, uvm: &Uvm, at: u64, mut node: PoolBox<Node<MapEntry>>) {
        let Some(entry) = self.tree.find(at).map(Node::value).filter(|e| e.start < at) else {
            return;
        };
        let start = entry.start;
        *node.value_mut() = MapEntry {
            start: at,
            object: entry.object.clone(),
            offset: entry.index_of(at),
            amap: entry.amap.as_ref().map(|amap| Amap::split(amap, uvm)),
            slot: entry.slot_of(at),
            ..entry.bare()
        };
        self.tree.modify(start, |entry| entry.end = at);
        self.tree.insert(node);
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
        self.clip_ends(uvm, start, end)?;
        self.take(start, end, out);
        Ok(())
    }

    /// Makes entries begin and end at `start` and at `end`, so that [`Self::take`] can follow.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub(crate) fn clip_ends(&mut self, uvm: &Uvm, start: u64, end: u64) -> Result<(), OutOfMemory> {
        self.clip(uvm, start)?;
        let result = self.clip(uvm, end);
        if result.is_err() {
            self.join(uvm, start.saturating_sub(1), start);
        }
        result
    }

    /// Moves the entries that begin within `start..end` to `out`. None reaches across an end.
    pub(crate) fn take(&mut self, start: u64, end: u64, out: &mut Tree<MapEntry>) {
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
        self.clip_ends(uvm, start, end)?;
        self.change_within(start, end, f);
        self.join(uvm, start.saturating_sub(1), end);
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
}
