//! Showing part of one address space in another, or moving it there.
//!
//! After uvm_map_extract. Owns nothing. An extraction holds the *source's* busy token, so that fork and other operations that await do
//! not come in between, and never two maps' locks: what the target gets is first collected in private, entry by entry, and then put in in
//! one go; what fails before that leaves at most entries clipped and amaps marked. A move between two maps first
//! reserves its place, then cannot fail any more. Within one map it is one change under its lock ([`super::mremap`]).

use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, VaRange, VirtAddr, round_page, trunc_page};
use crate::amap::{Amap, Copying};
use crate::fault::FaultError;
use crate::map::entry::{PageAligned, Role};
use crate::map::mremap::Relocation;
use crate::map::tree::{Node, Tree};
use crate::map::{
    Inherit, MapEntry, MapInner, MapRequest, Placement, USER_MAX, USER_MIN, VmError, VmSpace,
};
use crate::pool::PoolBox;
use crate::prot::Prot;

/// Pages that [`VmSpace::peek`] and [`VmSpace::poke`] look at at a time.
const WINDOW: usize = 16;

/// What becomes of a range that is extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extract {
    /// Both show the same memory: each sees what the other writes, to private memory as well.
    Share,
    /// The same, and the new mapping allows all that the old one may ever allow: for debuggers.
    ShareMaximum,
    /// The target gets a copy, made when either writes: as a child does that inherits a copy.
    Copy,
    /// It moves.
    Remove,
}

/// Entries on their way, at their source's addresses. None is mapped by anybody.
pub(super) type Parcel = Tree<MapEntry>;

impl VmSpace {
    /// Maps `range` of this space into another one, or the same, as `how` says; returns where it is there. The new mappings are
    /// not wired, except such as move. Awaits other modifiers of this space, and its turn between mappings.
    ///
    /// A target's thread that changes the very range in the midst of a move between spaces wins: what does not find its
    /// place any more is given up.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in the range; for the target [`VmError::Exists`], [`VmError::OutOfMemory`] (also:
    /// no room), [`VmError::Limit`] (also: more would be wired there than may be), and [`VmError::Invalid`] (also: the range is empty, or a move would overlap itself).
    /// What both spaces show is as before then.
    pub async fn extract(
        &self,
        range: VaRange,
        into: &Self,
        how: Extract,
        placement: Placement,
    ) -> Result<VirtAddr, VmError> {
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        if range.is_empty() {
            return Err(VmError::Invalid);
        }
        let _busy = self.map.busy.lock().await;
        self.map.read().covers(start, end, |_| Ok(()))?;
        let at = match how {
            Extract::Remove if ptr::eq(self, into) => {
                self.relocate(Relocation::whole(start, end, placement))
                    .await?
            }
            Extract::Remove => self.send(start, end, into, placement).await?,
            _ => {
                let parcel = self.collect(start, end, how).await?;
                into.deliver(parcel, placement).await?
            }
        };
        Ok(VirtAddr::new(at))
    }

    /// What another map gets of `start..end`, which is mapped, besides this one. The caller has the map busy.
    ///
    /// # Errors
    /// [`VmError::OutOfMemory`], [`VmError::Unmapped`] if part of it went away meanwhile.
    pub(super) async fn collect(
        &self,
        start: u64,
        end: u64,
        how: Extract,
    ) -> Result<Parcel, VmError> {
        let mut parcel = Parcel::new();
        let (mut at, mut copying) = (start, None);
        while at < end {
            let part = match how {
                Extract::Copy => self.copy_part(at, end, &mut copying),
                _ => self.share_part(at, end, how),
            };
            match part {
                Ok(Some(node)) => {
                    at = node.value().end;
                    parcel.insert(node);
                }
                // It has an amap of its own now, or a part of it has been copied.
                Ok(None) => {}
                Err(error) => {
                    self.bury_slowly(parcel).await;
                    return Err(error);
                }
            }
            self.uvm.executor().reschedule_if_asked().await;
        }
        Ok(parcel)
    }

    /// The rest of the entry at `at`, up to `end`, to be shown by two entries; `None` if it has had to be given an amap of its own
    /// first.
    fn share_part(
        &self,
        at: u64,
        end: u64,
        how: Extract,
    ) -> Result<Option<PoolBox<Node<MapEntry>>>, VmError> {
        {
            let map = self.map.read();
            let entry = map.entry_at(at)?;
            if !entry.needs_copy {
                let end = end.min(entry.end);
                let mut node = self
                    .uvm
                    .upper
                    .entries
                    .alloc(&self.uvm, Node::new(entry.bare()))?;
                let (slot, pages) = (entry.slot_of(at), (end - at) >> PAGE_SHIFT);
                *node.value_mut() = MapEntry {
                    start: at,
                    end,
                    object: entry.object.clone(),
                    offset: entry.index_of(at),
                    amap: (entry.amap.as_ref())
                        .map(|amap| Amap::share(amap, &self.uvm, slot, pages)),
                    slot,
                    prot: match how {
                        Extract::ShareMaximum => entry.max_prot,
                        _ => entry.prot,
                    },
                    wired: 0,
                    wired_to: 0,
                    role: Role::Plain,
                    ..entry.bare()
                };
                return Ok(Some(node));
            }
        }
        self.own_amap(at)?;
        Ok(None)
    }

    /// The same for a copy; `None` if `copying` has it only in part. The entry is clipped, so that no more of it is write-protected
    /// than is copied.
    fn copy_part(
        &self,
        at: u64,
        end: u64,
        copying: &mut Option<Copying>,
    ) -> Result<Option<PoolBox<Node<MapEntry>>>, VmError> {
        let mut map = self.map.write();
        map.entry_at(at)?;
        map.clip_ends(&self.uvm, at, end)?;
        let entry = map.entry_at(at)?;
        let inherit = entry.copied();
        let mut node = self
            .uvm
            .upper
            .entries
            .alloc(&self.uvm, Node::new(entry.bare()))?;
        let Some(heir) = self.heir(&mut map, at, inherit, copying)? else {
            return Ok(None);
        };
        *node.value_mut() = MapEntry {
            role: Role::Plain,
            ..heir
        };
        Ok(Some(node))
    }

    /// Puts a parcel where `placement` says. If that cannot be, it is given up.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub(super) async fn deliver(
        &self,
        mut parcel: Parcel,
        placement: Placement,
    ) -> Result<u64, VmError> {
        let mut dead = Tree::new();
        let at = self.place_parcel(&mut parcel, placement, &mut dead);
        self.bury_slowly(parcel).await;
        self.bury_slowly(dead).await;
        at
    }

    fn place_parcel(
        &self,
        parcel: &mut Parcel,
        placement: Placement,
        dead: &mut Tree<MapEntry>,
    ) -> Result<u64, VmError> {
        let (from, to) = extent(parcel);
        let len = to - from;
        let mut map = self.map.write();
        let start = map.place(placement, len, 1, self.top.load(Relaxed))?;
        let end = start + len;
        if map.size - map.covered(start, end) + len > self.limits.lock().address_space {
            return Err(VmError::Limit);
        }
        if map.tree.overlaps(start, end) {
            map.remove(&self.uvm, start, end, dead)?;
            let range = VaRange::new(VirtAddr::new(start), VirtAddr::new(end));
            self.pmap.remove(&self.uvm, range);
            self.pmap.update(&self.uvm);
        }
        map.insert_parcel(parcel, start.wrapping_sub(from));
        map.join(&self.uvm, start - 1, end);
        Ok(start)
    }

    /// Moves `start..end`, which is mapped, to another space.
    async fn send(
        &self,
        start: u64,
        end: u64,
        into: &Self,
        placement: Placement,
    ) -> Result<u64, VmError> {
        let (spare, wired) = {
            let map = self.map.read();
            let bare = map.entry_at(start)?.bare();
            let entries = &self.uvm.upper.entries;
            // What clipping may need.
            let spare = [
                entries.alloc(&self.uvm, Node::new(bare.bare()))?,
                entries.alloc(&self.uvm, Node::new(bare))?,
            ];
            (spare, map.wired_within(start, end))
        };
        let limit = into.limits().locked;
        if wired > 0 && into.locked().saturating_add(wired) > limit {
            return Err(VmError::Limit);
        }
        let place = into.reserve(end - start, placement)?;
        let mut parcel = Parcel::new();
        {
            let mut map = self.map.write();
            let [first, last] = spare;
            map.clip_with(&self.uvm, start, first);
            map.clip_with(&self.uvm, end, last);
            map.take(start, end, &mut parcel);
            let range = VaRange::new(VirtAddr::new(start), VirtAddr::new(end));
            self.pmap.remove(&self.uvm, range);
            self.pmap.update(&self.uvm);
        }
        into.arrive(&mut parcel, start, place, end - start);
        into.bury_slowly(parcel).await;
        let new = VirtAddr::new(place);
        into.show_wired(VaRange::new(new, new + (end - start)))
            .await;
        Ok(place)
    }

    /// Keeps a place free for what is on its way.
    pub(super) fn reserve(&self, len: u64, placement: Placement) -> Result<u64, VmError> {
        let mut request = MapRequest::anonymous(len as usize, Prot::empty()).at(placement);
        request.max_prot = Prot::empty();
        request.inherit = Inherit::None;
        Ok(self.map_as(request, |_| Role::Reserved)?.as_u64())
    }

    /// Puts a parcel that was sent from `from` into the place reserved for it. What has lost its place meanwhile is left in
    /// `parcel`.
    pub(super) fn arrive(&self, parcel: &mut Parcel, from: u64, place: u64, len: u64) {
        let mut map = self.map.write();
        let mut mine = Parcel::new();
        let mut reserved = Tree::new();
        let end = place + len;
        let mut at = place;
        while let Some(entry) = map.tree.from(at).filter(|entry| entry.start < end) {
            let start = entry.start;
            at = entry.end;
            if entry.role == Role::Reserved && start >= place && at <= end {
                map.take(start, at, &mut reserved);
            }
        }
        let moved = place.wrapping_sub(from);
        let mut at = 0;
        while let Some((start, end)) = parcel.from(at).map(|entry| (entry.start, entry.end)) {
            at = end;
            if covers(
                &reserved,
                start.wrapping_add(moved),
                end.wrapping_add(moved),
            ) && let Some(node) = parcel.remove(start)
            {
                mine.insert(node);
            }
        }
        map.insert_parcel(&mut mine, moved);
        map.join(&self.uvm, place - 1, end);
    }

    /// Reads bytes from `va` on as a debugger does: whatever the protection allows now, it may be read if the
    /// maximum protection allows it. Awaits as a fault does, and other modifiers.
    ///
    /// # Errors
    /// [`FaultError`]; `out` may be filled in part.
    pub async fn peek(&self, va: VirtAddr, out: &mut [u8]) -> Result<(), FaultError> {
        let window = Self::new(&self.uvm).map_err(as_fault)?;
        let mut done = 0;
        let mut result = Ok(());
        while done < out.len() && result.is_ok() {
            result = match self.open(va, done, out.len(), &window).await {
                Ok((at, n)) => {
                    let part = &mut out[done..done + n];
                    done += n;
                    window.read_bytes(at, part).await
                }
                Err(error) => Err(error),
            };
        }
        window.teardown().await;
        result
    }

    /// Writes bytes from `va` on as a debugger does: where the maximum protection allows writing. In a private mapping everybody who
    /// shares its memory sees them, but nobody else: a page of an object is copied first. Awaits as [`Self::peek`] does.
    ///
    /// # Errors
    /// [`FaultError`]; a part may be written.
    pub async fn poke(&self, va: VirtAddr, data: &[u8]) -> Result<(), FaultError> {
        let window = Self::new(&self.uvm).map_err(as_fault)?;
        let mut done = 0;
        let mut result = Ok(());
        while done < data.len() && result.is_ok() {
            result = match self.open(va, done, data.len(), &window).await {
                Ok((at, n)) => {
                    let part = &data[done..done + n];
                    done += n;
                    window.write_bytes(at, part).await
                }
                Err(error) => Err(error),
            };
        }
        window.teardown().await;
        result
    }

    /// Shows the next few pages of the `len` bytes at `va` in a space made for that: where they are from byte `done` on, and how many
    /// bytes there are.
    async fn open(
        &self,
        va: VirtAddr,
        done: usize,
        len: usize,
        window: &Self,
    ) -> Result<(VirtAddr, usize), FaultError> {
        let at = va.as_u64().checked_add(done as u64);
        let at = at
            .filter(|&at| at < USER_MAX)
            .ok_or(FaultError::NoMapping)?;
        let (start, within) = (trunc_page(at), at as usize % PAGE_SIZE);
        let n = (len - done).min(WINDOW * PAGE_SIZE - within);
        let end = round_page(at + n as u64).unwrap_or(USER_MAX).min(USER_MAX);
        let range = VaRange::new(VirtAddr::new(start), VirtAddr::new(end));
        let place = Placement::Fixed(VirtAddr::new(USER_MIN));
        let shown = self
            .extract(range, window, Extract::ShareMaximum, place)
            .await
            .map_err(as_fault)?;
        Ok((shown + within as u64, n))
    }
}

impl MapInner {
    /// The entry that covers `at`.
    pub(super) fn entry_at(&self, at: u64) -> Result<&MapEntry, VmError> {
        self.tree.find(at).map(Node::value).ok_or(VmError::Unmapped)
    }

    /// Bytes within `start..end` that are wired.
    fn wired_within(&self, start: u64, end: u64) -> u64 {
        let entries = self.tree.iter_from(start);
        entries
            .take_while(|entry| entry.start < end)
            .filter(|entry| entry.wired > 0)
            .map(|entry| entry.end.min(end) - entry.start.max(start))
            .sum()
    }

    /// Puts what a parcel holds in, each entry `moved` bytes further up than it says. Nothing is there.
    pub(super) fn insert_parcel(&mut self, parcel: &mut Parcel, moved: u64) {
        while let Some(mut node) = parcel
            .from(0)
            .map(|entry| entry.start)
            .and_then(|start| parcel.remove(start))
        {
            let entry = node.value_mut();
            entry.start = entry.start.wrapping_add(moved);
            entry.end = entry.end.wrapping_add(moved);
            if let Role::Stack { top } = &mut entry.role {
                *top = PageAligned::new(top.address().wrapping_add(moved));
            }
            self.insert_node(node);
        }
    }
}

/// From the first address in a parcel to its last.
fn extent(parcel: &Parcel) -> (u64, u64) {
    let start = parcel.from(0).map_or(0, |entry| entry.start);
    let end = parcel.before(u64::MAX).map_or(start, |entry| entry.end);
    (start, end)
}

/// Whether the entries cover all of `start..end`.
fn covers(entries: &Tree<MapEntry>, start: u64, end: u64) -> bool {
    let mut at = start;
    while at < end {
        match entries.from(at).filter(|entry| entry.start <= at) {
            Some(entry) => at = entry.end,
            None => return false,
        }
    }
    true
}

/// What a debugger's access comes to.
fn as_fault(error: VmError) -> FaultError {
    match error {
        VmError::OutOfMemory | VmError::TooLarge | VmError::Limit => FaultError::OutOfMemory,
        VmError::Protection => FaultError::Protection,
        VmError::Fault(error) => error,
        VmError::Io => FaultError::Io,
        VmError::Exists | VmError::Invalid | VmError::Unmapped | VmError::Busy => {
            FaultError::NoMapping
        }
    }
}
