//! Changing the size or the place of a mapping.
//!
//! Owns nothing. A move within one space is one change under the map's write lock: no thread of the program finds the old mapping gone and
//! the new one not yet there. All that can fail comes before the first entry moves. Translations are not carried over; the next access
//! to each page enters it again.

use core::sync::atomic::Ordering::Relaxed;

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, VaRange, VirtAddr, round_page};
use crate::map::extract::{Extract, Parcel};
use crate::map::tree::{Node, Tree};
use crate::map::{MapEntry, MapInner, Placement, USER_MAX, USER_MIN, VmError, VmSpace};

/// Where a mapping may be after [`VmSpace::mremap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mremap {
    /// Where it is.
    InPlace,
    /// Elsewhere, if it cannot grow where it is.
    MayMove,
    /// Exactly here; what is there goes away.
    Fixed(VirtAddr),
}

/// A move within one map.
pub(super) struct Relocation {
    /// What moves is `start..end`, all of it mapped.
    start: u64,
    end: u64,
    /// Removed besides: `end..gone`.
    gone: u64,
    /// Length in its new place, where the last mapping goes on for what is beyond `end - start`.
    len: u64,
    placement: Placement,
}

/// What a mapping has become.
struct Resized {
    /// Where it begins.
    at: u64,
    /// What is new of it and how often it is to be wired, if the rest is.
    grown: Option<(VaRange, u16)>,
}

impl Relocation {
    /// A move of everything, as it is.
    pub(super) fn whole(start: u64, end: u64, placement: Placement) -> Self {
        Self {
            start,
            end,
            gone: end,
            len: end - start,
            placement,
        }
    }
}

impl VmSpace {
    /// Changes the length of the mapping at `old` from `old_len` to `new_len` bytes (both rounded up to pages), and its place
    /// as `how` says; returns where it is then. Its last mapping goes on in what is new, and nothing of the old is left. With an
    /// `old_len` of 0 the shared mapping at `old` stays, and a second one of the same memory is made; past the end of
    /// shared anonymous memory that begins with new zeroes.
    ///
    /// What was wired is wired in its new place, and what is new of it as well; for want of memory for that it is there all the same, and
    /// not wired, as on Linux. Awaits other modifiers, and what [`Self::mlock`] awaits.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] (EFAULT): nothing is mapped at `old`; or, unless it shrinks where it is, there is a hole before
    /// `old_len`, or another mapping; or it is a device's, which does not grow.
    /// [`VmError::Invalid`] (EINVAL): an address is unaligned or out of range, `new_len` is 0, old and new place overlap, or `old_len` is 0
    /// and the mapping private. [`VmError::Limit`] (EAGAIN): more memory would be locked than may be.
    /// [`VmError::OutOfMemory`] (ENOMEM): no memory; no room, above all for [`Mremap::InPlace`]; or the address space would be larger than
    /// its limit. What is mapped is as before then.
    pub async fn mremap(
        &self,
        old: VirtAddr,
        old_len: u64,
        new_len: u64,
        how: Mremap,
    ) -> Result<VirtAddr, VmError> {
        let start = old.as_u64();
        let (Some(old_len), Some(new_len)) = (round_page(old_len), round_page(new_len)) else {
            return Err(VmError::Invalid);
        };
        if !old.is_aligned(PAGE_SIZE as u64) || new_len == 0 {
            return Err(VmError::Invalid);
        }
        let end = start.checked_add(old_len).filter(|&end| end <= USER_MAX);
        let end = end.ok_or(VmError::Unmapped)?;
        if let Mremap::Fixed(at) = how {
            check_fixed(at, start..end, new_len)?;
        }
        if new_len > USER_MAX - USER_MIN {
            return Err(VmError::OutOfMemory);
        }
        let _busy = self.map.busy.lock().await;
        if old_len == 0 {
            return self.duplicate(start, new_len, how).await;
        }
        self.map.read().entry_at(start)?;
        if new_len <= old_len && !matches!(how, Mremap::Fixed(_)) {
            let tail = VaRange::new(old + new_len, VirtAddr::new(end));
            self.unmap_busy(tail).await?;
            return Ok(old);
        }
        let mut dead = Tree::new();
        let resized = self.resize(start, end, new_len, how, &mut dead);
        self.bury_slowly(dead).await;
        let Resized { at, grown } = resized?;
        if at != start {
            self.show_wired(VaRange::new(VirtAddr::new(at), VirtAddr::new(at + new_len)))
                .await;
        }
        if let Some((grown, times)) = grown {
            self.wire_more(grown, times).await;
        }
        Ok(VirtAddr::new(at))
    }

    /// Grows `start..end` in place, or moves it.
    fn resize(
        &self,
        start: u64,
        end: u64,
        new_len: u64,
        how: Mremap,
        dead: &mut Tree<MapEntry>,
    ) -> Result<Resized, VmError> {
        let mut map = self.map.write();
        let kept = end.min(start + new_len);
        let last = map.last_of_one(start, kept)?;
        let more = new_len - (kept - start);
        let index = last.index_of(kept).0;
        index
            .checked_add(more >> PAGE_SHIFT)
            .ok_or(VmError::Invalid)?;
        let limits = self.limits();
        if more > 0 && last.is_device() {
            return Err(VmError::Unmapped);
        }
        let times = last.wired;
        let wires = times > 0 && more > 0;
        let resized = |at: u64| {
            let end = VirtAddr::new(at + new_len);
            let grown = wires.then(|| (VaRange::new(end - more, end), times));
            Resized { at, grown }
        };
        if wires && map.locked.saturating_add(more) > limits.locked {
            return Err(VmError::Limit);
        }
        let placement = match how {
            Mremap::Fixed(at) => Placement::Fixed(at),
            _ if map.can_grow(last, end, more) => {
                if map.size + more > limits.address_space {
                    return Err(VmError::OutOfMemory);
                }
                let continuation = last.continuation(more);
                map.insert(&self.uvm, continuation)?;
                map.adopt(&self.uvm, end);
                return Ok(resized(start));
            }
            Mremap::MayMove => Placement::Anywhere(None),
            Mremap::InPlace => return Err(VmError::OutOfMemory),
        };
        let what = Relocation {
            start,
            end: kept,
            gone: end,
            len: new_len,
            placement,
        };
        self.relocate_in(&mut map, &what, dead)
            .map(resized)
            .map_err(no_room)
    }

    /// Moves part of the map. The caller has it busy.
    ///
    /// # Errors
    /// As [`VmSpace::map`], and [`VmError::Invalid`] if old and new place overlap. Nothing has moved then.
    pub(super) async fn relocate(&self, what: Relocation) -> Result<u64, VmError> {
        let mut dead = Tree::new();
        let at = self.relocate_in(&mut self.map.write(), &what, &mut dead);
        self.bury_slowly(dead).await;
        let place = VirtAddr::new(at?);
        self.show_wired(VaRange::new(place, place + what.len)).await;
        at
    }

    fn relocate_in(
        &self,
        map: &mut MapInner,
        what: &Relocation,
        dead: &mut Tree<MapEntry>,
    ) -> Result<u64, VmError> {
        let uvm = &self.uvm;
        let &Relocation {
            start,
            end,
            gone,
            len,
            placement,
        } = what;
        map.covers(start, end, |_| Ok(()))?;
        let to = map.place(placement, len, 1, self.top.load(Relaxed))?;
        let to_end = to + len;
        if to < gone && start < to_end {
            return Err(VmError::Invalid);
        }
        let less = map.covered(start, gone) + map.covered(to, to_end);
        if map.size - less + len > self.limits.lock().address_space {
            return Err(VmError::Limit);
        }
        let clipped = map
            .clip_ends(uvm, start, end)
            .and_then(|()| map.clip(uvm, gone))
            .and_then(|()| map.clip_ends(uvm, to, to_end))
            .and_then(|()| {
                let more = len - (end - start);
                let last = map.tree.before(end).filter(|_| more > 0);
                let grown = last.map(|last| Node::new(last.continuation(more)));
                grown
                    .map(|node| uvm.upper.entries.alloc(uvm, node))
                    .transpose()
            });
        let grown = match clipped {
            Ok(grown) => grown,
            Err(error) => {
                map.join(uvm, start - 1, gone);
                map.join(uvm, to - 1, to_end);
                return Err(error.into());
            }
        };
        // From here on nothing fails.
        let mut parcel = Parcel::new();
        map.take(start, end, &mut parcel);
        map.take(end, gone, dead);
        map.take(to, to_end, dead);
        if let Some(node) = grown {
            parcel.insert(node);
        }
        for (from, to) in [(start, gone), (to, to_end)] {
            let range = VaRange::new(VirtAddr::new(from), VirtAddr::new(to));
            self.pmap.remove(uvm, range);
        }
        self.pmap.update(uvm);
        map.insert_parcel(&mut parcel, to.wrapping_sub(start));
        map.join(uvm, to - 1, to_end);
        map.adopt(uvm, to + (end - start));
        Ok(to)
    }

    /// Makes a second mapping of the shared memory at `start`.
    async fn duplicate(&self, start: u64, len: u64, how: Mremap) -> Result<VirtAddr, VmError> {
        let placement = match how {
            Mremap::InPlace => None,
            Mremap::MayMove => Some(Placement::Anywhere(None)),
            Mremap::Fixed(at) => Some(Placement::Fixed(at)),
        };
        let end = {
            let map = self.map.read();
            let entry = map.entry_at(start)?;
            let index = entry.index_of(start).0;
            if entry.is_device() {
                return Err(VmError::Unmapped);
            }
            if entry.copy_on_write || index.checked_add(len >> PAGE_SHIFT).is_none() {
                return Err(VmError::Invalid);
            }
            entry.end.min(start.saturating_add(len))
        };
        let placement = placement.ok_or(VmError::OutOfMemory)?;
        let mut parcel = self.collect(start, end, Extract::Share).await?;
        let more = len - (end - start);
        let last = parcel.before(end).filter(|_| more > 0);
        let grown = last.map(|last| Node::new(last.continuation(more)));
        if let Some(node) = grown {
            match self.uvm.upper.entries.alloc(&self.uvm, node) {
                Ok(node) => parcel.insert(node),
                Err(error) => {
                    self.bury_slowly(parcel).await;
                    return Err(error.into());
                }
            }
        }
        let at = self.deliver(parcel, placement).await;
        at.map(VirtAddr::new).map_err(no_room)
    }
}

impl MapInner {
    /// The last entry of `start..end`, if all of it is what a program takes for one mapping.
    fn last_of_one(&self, start: u64, end: u64) -> Result<&MapEntry, VmError> {
        let mut entry = self.entry_at(start)?;
        while entry.end < end {
            let next = self.entry_at(entry.end)?;
            if !entry.continues_in(next) {
                return Err(VmError::Unmapped);
            }
            entry = next;
        }
        Ok(entry)
    }

    /// Whether `last` can grow by `more` bytes from `end` on.
    fn can_grow(&self, last: &MapEntry, end: u64, more: u64) -> bool {
        last.end == end
            && end
                .checked_add(more)
                .is_some_and(|to| to <= USER_MAX && !self.tree.overlaps(end, to))
    }
}

/// Whether `len` bytes may go to `at`, for all that does not depend on what is mapped.
fn check_fixed(at: VirtAddr, old: core::ops::Range<u64>, len: u64) -> Result<(), VmError> {
    let start = at.as_u64();
    let end = start.checked_add(len).filter(|&end| end <= USER_MAX);
    match end {
        Some(end)
            if at.is_aligned(PAGE_SIZE as u64)
                && start >= USER_MIN
                && (end <= old.start || start >= old.end) =>
        {
            Ok(())
        }
        _ => Err(VmError::Invalid),
    }
}

/// The limit of the address space is no error of its own here: [`VmError::Limit`] is that of locked memory.
fn no_room(error: VmError) -> VmError {
    match error {
        VmError::Limit => VmError::OutOfMemory,
        error => error,
    }
}
