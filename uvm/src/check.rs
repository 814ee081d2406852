//! `check`: looks at everything and says what contradicts itself.
//!
//! Owns nothing. Walks all pages, address spaces, amaps and page tables; time and memory grow with the machine's.
//! It takes the locks it needs one by one, so what it compares is only comparable while nothing else
//! runs: between two polls of a single CPU. Operations that await meanwhile may *own more* than the structures show: a frame being
//! filled, the wired pages and the entries of a mapping being torn down. That is counted ([`CheckReport::floating`]), and zero when nothing is
//! under way; owning *less* is an error at any time.

mod frames;
mod uareas;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use crate::Uvm;
use crate::addr::{Frame, PAGE_SHIFT, PAGE_SIZE, PageIndex, VirtAddr};
use crate::amap::{Amap, Runs};
use crate::anon::Anon;
use crate::map::entry::WIRED_ALL;
use crate::map::{MapEntry, VmSpace};
use crate::meter::Gauge;
use crate::object::{Behind, UvmObject};
use crate::page::freelist::AllocFor;
use crate::pmap::{Mapping, Pmap};
use crate::pool::{OutOfMemory, Ref};
use crate::prot::Prot;
use crate::swap::{SlotSet, SwapSlot};

/// Contradictions that are described; further ones are only counted.
const MAX_ERRORS: usize = 20;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Frames managed.
    pub frames: usize,
    /// Of those, free.
    pub free: usize,
    /// Holding objects of the kernel.
    pub kernel: usize,
    /// Pages of anons.
    pub anon: usize,
    /// Pages of objects.
    pub object: usize,
    /// Frames that nobody owns at the moment: being filled, or held after they lost their owner.
    pub in_transit: usize,
    /// Frames that lost their owner and that anons still borrow.
    pub borrowed: usize,
    /// Address spaces.
    pub spaces: usize,
    /// Map entries in them.
    pub entries: usize,
    /// Amaps that entries refer to.
    pub amaps: usize,
    /// Anons that amaps refer to.
    pub anons: usize,
    /// Translations of user addresses.
    pub mappings: usize,
    /// Pages in page tables of address spaces.
    pub tables: usize,
    /// References and pool objects beyond those that the structures account for.
    pub floating: usize,
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "all is well: {} frames ({} free, {} kernel, {} anonymous, {} of objects, {} borrowed, {} in transit), \
             {} address spaces, \
             {} entries, {} amaps, {} anons, {} mappings in {} page tables",
            self.frames,
            self.free,
            self.kernel,
            self.anon,
            self.object,
            self.borrowed,
            self.in_transit,
            self.spaces,
            self.entries,
            self.amaps,
            self.anons,
            self.mappings,
            self.tables
        )
    }
}

/// What is wrong.
#[derive(Clone, Debug)]
pub struct CheckError {
    /// Descriptions of the first contradictions.
    pub errors: Vec<String>,
    /// How many there are in all.
    pub count: usize,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} contradictions", self.count)?;
        for error in &self.errors {
            writeln!(f, "  {error}")?;
        }
        Ok(())
    }
}

/// What was seen of something counted: how many references, and how many there should be.
struct Seen<T> {
    references: u32,
    handle: T,
}

/// A range of an amap's slots, from the first to behind the last, that an entry shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shown(NonNull<Amap>, u64, u64);

struct Checker<'a> {
    uvm: &'a Uvm,
    report: CheckReport,
    errors: Vec<String>,
    count: usize,
    amaps: BTreeMap<NonNull<Amap>, Seen<Ref<Amap>>>,
    anons: BTreeMap<NonNull<Anon>, Seen<u32>>,
    objects: BTreeMap<NonNull<UvmObject>, Seen<u32>>,
    /// For each amap, the ranges of slots that entries show, and how many show each. (Many may: a list in one piece of memory could find none so long.)
    shown: BTreeMap<Shown, u32>,
    anon_pages: BTreeMap<Frame, NonNull<Anon>>,
    /// Frames that anons show and do not own, and how many do.
    borrowed: BTreeMap<Frame, usize>,
    /// Root tables of the pmaps that were walked.
    roots: BTreeSet<Frame>,
    /// How many had their tables put away.
    away: usize,
    /// For each page in the wired part of an entry, how many there are.
    wirings: BTreeMap<Frame, usize>,
    /// Swap slots that somebody has.
    slots: SlotSet,
    /// How many of these pages are not in memory.
    swap_only: usize,
}

impl Uvm {
    /// Whether [`Self::check`] would find the heap that it needs now, by an estimate from above. Where memory can run out,
    /// look here first: the check's lists cannot do without.
    #[must_use]
    pub fn has_memory_for_check(&self) -> bool {
        self.can_allocate(AllocFor::User, self.pages_for_check())
    }

    /// Awaits that there is the memory that [`Self::check`] needs, as long as it can be had by paging out. The caller holds nothing.
    ///
    /// # Errors
    /// [`OutOfMemory`] if it cannot.
    pub async fn wait_for_memory_for_check(&self) -> Result<(), OutOfMemory> {
        // What is free is not kept for who waits, and meanwhile there may be more to list.
        const PATIENCE: u32 = 8;
        for _ in 0..PATIENCE {
            if self.has_memory_for_check() {
                return Ok(());
            }
            self.wait_for_room(self.pages_for_check()).await?;
        }
        Err(OutOfMemory)
    }

    fn pages_for_check(&self) -> usize {
        // A tree's node holds up to eleven entries, and is at least half full.
        const PER_ENTRY: usize = 128;
        const PER_MAPPING: usize = 2 * size_of::<(VirtAddr, Mapping)>();
        let upper = &self.upper;
        let counted = upper.entries.in_use() + 2 * upper.amaps.in_use() + 2 * upper.anons.in_use();
        let meter = self.meter();
        let resident = meter.gauge(Gauge::Anonpages) + meter.gauge(Gauge::Filepages);
        let wired = meter.gauge(Gauge::Wired);
        let bytes = counted * PER_ENTRY + (resident + wired) as usize * PER_MAPPING;
        // A bit for each swap slot.
        let bytes = bytes + meter.gauge(Gauge::Swpages) as usize / 8;
        bytes / PAGE_SIZE + 16
    }

    /// Verifies every invariant (see the module's docs). Never waits; takes time and heap in proportion to memory.
    ///
    /// # Errors
    /// [`CheckError`] describes what contradicts itself: always a bug, but where there is no memory for it.
    pub fn check(&self) -> Result<CheckReport, CheckError> {
        let slots = SlotSet::new(self).map_err(|error| CheckError {
            errors: alloc::vec![format!("nothing was checked: {error}")],
            count: 1,
        })?;
        let mut checker = Checker {
            uvm: self,
            report: CheckReport::default(),
            errors: Vec::new(),
            count: 0,
            amaps: BTreeMap::new(),
            anons: BTreeMap::new(),
            objects: BTreeMap::new(),
            shown: BTreeMap::new(),
            anon_pages: BTreeMap::new(),
            borrowed: BTreeMap::new(),
            roots: BTreeSet::new(),
            away: 0,
            wirings: BTreeMap::new(),
            slots,
            swap_only: 0,
        };
        let mut spaces = 0;
        self.for_each_space(|space| {
            spaces += 1;
            checker.space(space);
        });
        checker.amaps();
        checker.references();
        self.for_each_space(|space| checker.translations(space));
        self.for_each_space(|space| checker.tables(space.pmap()));
        // A CPU keeps what it had loaded last beyond the end of the space.
        self.for_each_loaded(|pmap| checker.tables(pmap));
        checker.all_tables();
        checker.pages();
        checker.queues();
        checker.uareas();
        checker.swap();
        checker.report.spaces = spaces;
        let Checker {
            report,
            errors,
            count,
            ..
        } = checker;
        if count == 0 {
            Ok(report)
        } else {
            Err(CheckError { errors, count })
        }
    }
}

impl Checker<'_> {
    fn error(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(what());
        }
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.error(what);
        }
    }

    /// `actual` is what is counted, `seen` what was found: more than found floats, less is an error.
    fn compare(&mut self, actual: usize, seen: usize, what: impl FnOnce() -> String) {
        if actual < seen {
            self.error(|| format!("{}: counted {actual}, found {seen}", what()));
        } else {
            self.report.floating += actual - seen;
        }
    }

    /// The entries of a map, and what they refer to.
    fn space(&mut self, space: &Arc<VmSpace>) {
        let map = space.map.read();
        let (mut end, mut size, mut entries, mut locked) = (0, 0, 0, 0);
        for entry in map.tree.iter() {
            let range = entry.range();
            self.expect(entry.start >= end && entry.end > entry.start, || {
                format!("entry {range:?} overlaps the one before")
            });
            end = entry.end;
            size += entry.end - entry.start;
            locked += entry.locked();
            entries += 1;
            self.wired_part(entry);
            self.expect(entry.max_prot.contains(entry.prot), || {
                format!("entry {range:?} allows more than its maximum")
            });
            self.expect(
                entry.needs_copy || entry.amap.is_some() || entry.object.is_some(),
                || format!("entry {range:?} shows nothing and will never get an amap"),
            );
            if let Some(amap) = &entry.amap {
                let at = Ref::as_ptr(amap);
                let seen = self.amaps.entry(at).or_insert_with(|| Seen {
                    references: 0,
                    handle: amap.clone(),
                });
                seen.references += 1;
                let slots = Shown(at, entry.slot, entry.slot + entry.pages());
                *self.shown.entry(slots).or_default() += 1;
            }
            if let Some(object) = &entry.object {
                let count = Ref::count(object);
                let seen = self.objects.entry(Ref::as_ptr(object)).or_insert(Seen {
                    references: 0,
                    handle: count,
                });
                seen.references += 1;
                if seen.references == 1 && object.is_anonymous() {
                    let pages = object.lock();
                    for (index, slot) in pages.slots_from(PageIndex(0)) {
                        let frame = pages.frames.get(index.0).copied();
                        self.slot(Some(slot), frame);
                    }
                }
            }
        }
        let (len, counted) = (map.tree.len(), map.size);
        self.expect(len == entries, || {
            format!("map of {len} entries has {entries}")
        });
        self.expect(counted == size, || {
            format!("map of {counted} bytes has {size}")
        });
        let counted = map.locked;
        self.expect(counted == locked, || {
            format!("map of {counted} locked bytes has {locked}")
        });
        self.report.entries += entries;
    }

    /// The pages that an entry has wired.
    fn wired_part(&mut self, entry: &MapEntry) {
        let range = entry.range();
        let (wired, to) = (entry.wired, entry.wired_to);
        self.expect((wired > 0) == (to == WIRED_ALL), || {
            format!("entry {range:?} is wired {wired} times, up to {to:#x}")
        });
        let end = entry.wired_end();
        let mut found = 0;
        entry.each_page(entry.start, end, |_, frame| {
            found += 1;
            *self.wirings.entry(frame).or_default() += 1;
        });
        let pages = (end - entry.start) >> PAGE_SHIFT;
        let device = entry.object.as_ref().is_some_and(|o| o.is_device());
        self.expect(found == pages || device, || {
            format!("entry {range:?} has {pages} pages wired, of which {found} are there")
        });
    }

    /// The slots of each amap: who shows them, and the anons in them.
    fn amaps(&mut self) {
        let shown = core::mem::take(&mut self.shown);
        let mut next = shown.first_key_value();
        while let Some((&Shown(at, ..), _)) = next {
            let ranges = || shown.range(Shown(at, 0, 0)..=Shown(at, u64::MAX, u64::MAX));
            next = ranges().next_back().and_then(|(last, _)| {
                let behind = (Bound::Excluded(*last), Bound::Unbounded);
                shown.range(behind).next()
            });
            let Some(seen) = self.amaps.get(&at) else {
                continue;
            };
            // An entry that is being removed may still show what no entry in a map does. One reference is ours.
            let floats = Ref::count(&seen.handle) - 1 > seen.references;
            let amap = seen.handle.clone();
            let inner = amap.lock();
            let slots = &inner.slots;
            for (&Shown(_, from, to), _) in ranges() {
                self.expect(from >= slots.start && to <= slots.end, || {
                    format!("entry shows slots {from}..{to} of {slots:?}")
                });
            }
            for (slot, anon) in inner.anons.iter_from(0) {
                let covering: u32 = ranges()
                    .filter(|(Shown(_, from, to), _)| (*from..*to).contains(&slot))
                    .map(|(_, entries)| entries)
                    .sum();
                if let Some(counted) = inner.runs.count_at(slot) {
                    self.compare(counted as usize, covering as usize, || {
                        format!("entries that show slot {slot}")
                    });
                }
                self.expect(
                    covering > 0 || floats || matches!(inner.runs, Runs::Lost),
                    || format!("slot {slot} has an anon that no entry shows"),
                );
                let count = Ref::count(anon);
                let at = Ref::as_ptr(anon);
                let seen = self.anons.entry(at).or_insert(Seen {
                    references: 0,
                    handle: count,
                });
                seen.references += 1;
                let first = seen.references == 1;
                let (frame, slot) = {
                    let inner = anon.lock();
                    (inner.frame, inner.slot)
                };
                if first {
                    self.slot(slot, frame);
                }
                let Some(frame) = frame else {
                    self.expect(slot.is_some(), || {
                        "an anon has neither frame nor slot".into()
                    });
                    continue;
                };
                if Anon::owns(anon, self.uvm, frame) {
                    self.anon_pages.insert(frame, at);
                    let wired = self.uvm.page(frame).wire_count();
                    self.expect(wired == 0 || count == 1, || {
                        format!("an anon wired {wired} times has {count} references")
                    });
                } else if first {
                    *self.borrowed.entry(frame).or_insert(0) += 1;
                }
            }
        }
        self.shown = shown;
    }

    /// A page of anonymous memory, or of a u-area, that has, or has not, a swap slot: nobody else has that one.
    fn slot(&mut self, slot: Option<SwapSlot>, frame: Option<Frame>) {
        let Some(slot) = slot else { return };
        let new = self.slots.insert(slot);
        self.expect(new, || format!("{slot:?} is two pages', or on no device"));
        self.expect(self.uvm.swap().holds(slot), || {
            format!("{slot:?} is a page's, and free or being discarded")
        });
        self.swap_only += usize::from(frame.is_none());
    }

    /// Slots in use, as the devices and the gauges have it, against those that somebody has.
    fn swap(&mut self) {
        let meter = self.uvm.meter();
        let gauge = |gauge| meter.gauge(gauge) as usize;
        let (mut pages, mut used) = (0, 0);
        for device in self.uvm.swap_devices() {
            (pages, used) = (pages + device.pages, used + device.used);
        }
        self.compare(gauge(Gauge::Swpages), pages, || "pages of swap".into());
        self.compare(
            self.uvm.swap().counted_room(),
            self.uvm.swap().room(),
            || "free pages of swap".into(),
        );
        let free = self.uvm.swap().free_slots();
        self.compare(used + free, pages, || {
            "pages of swap in use, free, or being discarded".into()
        });
        self.compare(gauge(Gauge::Swpginuse), used, || {
            "pages of swap in use".into()
        });
        // Objects that nobody maps have some, too.
        let (found, only) = (self.slots.len(), self.swap_only);
        self.expect(found <= used, || format!("{found} slots in use of {used}"));
        let counted = gauge(Gauge::Swpgonly);
        self.expect(only <= counted && counted <= used, || {
            format!("{counted} pages on swap only, found {only}, {used} in use")
        });
    }

    /// Reference counts, and how many of each kind the pools have given out.
    fn references(&mut self) {
        let uvm = self.uvm;
        // Taken out while they are walked: a list of them could be larger than a page, and so than what the heap has for sure.
        let amaps = core::mem::take(&mut self.amaps);
        for seen in amaps.values() {
            let count = Ref::count(&seen.handle) - 1;
            self.compare(count as usize, seen.references as usize, || {
                "references to an amap".into()
            });
        }
        self.amaps = amaps;
        let anons = core::mem::take(&mut self.anons);
        // What is on its way to or from swap is referred to by its transfer.
        let quiet = !uvm.is_paging();
        for seen in anons.values() {
            let (count, seen) = (seen.handle as usize, seen.references as usize);
            if quiet || count < seen {
                self.compare(count, seen, || "references to an anon".into());
            }
        }
        self.anons = anons;
        // Files hold their objects as well: only fewer references than entries is wrong.
        let objects = core::mem::take(&mut self.objects);
        for seen in objects.values() {
            let (count, seen) = (seen.handle, seen.references);
            self.expect(count >= seen, || {
                format!("object with {count} references has {seen} entries")
            });
        }
        self.objects = objects;
        (self.report.amaps, self.report.anons) = (self.amaps.len(), self.anons.len());
        let (amaps, anons, entries) = (self.report.amaps, self.report.anons, self.report.entries);
        self.compare(uvm.upper.amaps.in_use(), amaps, || {
            "amaps in their pool".into()
        });
        let pooled = uvm.upper.anons.in_use();
        if quiet || pooled < anons {
            self.compare(pooled, anons, || "anons in their pool".into());
        }
        self.compare(uvm.upper.entries.in_use(), entries, || {
            "entries in their pool".into()
        });
    }

    /// Page tables against maps and reverse maps.
    fn translations(&mut self, space: &Arc<VmSpace>) {
        if space.is_dying() {
            // Its entries go before its translations do.
            self.report.floating += space.resident_pages();
            return;
        }
        // A tree, because its nodes stay small.
        let mut all: BTreeMap<VirtAddr, Mapping> = BTreeMap::new();
        space.pmap().for_each(self.uvm, |va, mapping| {
            all.insert(va, mapping);
        });
        let resident = space.resident_pages();
        self.expect(resident == all.len(), || {
            format!("pmap counts {resident} pages and maps {}", all.len())
        });
        let wired = all.values().filter(|mapping| mapping.wired).count();
        let counted = space.pmap().stats().wired;
        self.expect(counted == wired, || {
            format!("pmap counts {counted} wired pages and maps {wired}")
        });
        self.report.mappings += all.len();
        let root = space.pmap().root();
        let map = space.map.read();
        for (va, mapping) in all {
            let Some(entry) = map.tree.find(va.as_u64()).map(|node| node.value()) else {
                self.error(|| format!("{va:?} is mapped without an entry"));
                continue;
            };
            let frame = mapping.frame;
            if self.uvm.pages().get(frame).is_none() {
                self.shows_device(entry, va, frame);
                continue;
            }
            let mut listed = 0;
            self.uvm.for_each_mapping(frame, |r, v| {
                listed += usize::from(Some(r) == root && v == va)
            });
            self.expect(listed == 1, || {
                format!("{va:?} stands {listed} times in the reverse map of {frame:?}")
            });
            self.expect(entry.prot.contains(mapping.prot), || {
                format!(
                    "{va:?} allows {:?}, its entry {:?}",
                    mapping.prot, entry.prot
                )
            });
            let wired = va.as_u64() < entry.wired_to;
            self.expect(wired == mapping.wired, || {
                format!(
                    "{va:?} is mapped wired: {}; is wired: {wired}",
                    mapping.wired
                )
            });
            self.shows(entry, va, &mapping);
        }
    }

    /// A translation of what is no page shows a device's memory, as the entry says.
    fn shows_device(&mut self, entry: &MapEntry, va: VirtAddr, frame: Frame) {
        let index = entry.index_of(va.as_u64());
        let there = entry.object.as_ref().and_then(|object| {
            let within = index.0 < object.pages() && !entry.copy_on_write;
            match object.behind() {
                Behind::Device(first) if within => Some(first.offset(index.0 as u32)),
                _ => None,
            }
        });
        self.expect(there == Some(frame), || {
            format!("{va:?} shows {frame:?}, which is no page; its device has {there:?}")
        });
    }

    /// The page tables of a pmap: their number, and how many entries each says that it has.
    fn tables(&mut self, pmap: &Ref<Pmap>) {
        match pmap.root() {
            Some(root) if self.roots.insert(root) => {}
            Some(_) => return,
            None => self.away += 1,
        }
        let found = pmap.count_tables(self.uvm, |frame, counted, has| {
            self.error(|| format!("table {frame:?} counts {counted} entries and has {has}"));
        });
        let counted = pmap.stats().tables;
        self.expect(counted == found, || {
            format!("pmap counts {counted} tables and has {found}")
        });
        self.report.tables += found;
    }

    /// All page tables are accounted for, and no flush is put off.
    fn all_tables(&mut self) {
        let uvm = self.uvm;
        let (counted, found) = (
            uvm.meter().gauge(Gauge::PmapTables) as usize,
            self.report.tables,
        );
        if uvm.pmap_pool.in_use() > self.roots.len() + self.away {
            // Somebody holds a pmap without its space.
            self.compare(counted, found, || "page tables".into());
        } else {
            self.expect(counted == found, || {
                format!("{counted} page tables are counted, {found} found")
            });
        }
        let deferred = uvm.flushes_pending.load(Relaxed);
        self.expect(deferred == 0, || {
            format!("{deferred} address spaces have flushes put off")
        });
    }

    /// A translation shows what the entry says, and can write only to what is its own.
    fn shows(&mut self, entry: &MapEntry, va: VirtAddr, mapping: &Mapping) {
        let writable = mapping.prot.contains(Prot::WRITE);
        self.expect(!writable || !self.uvm.page(mapping.frame).is_lent(), || {
            format!("{va:?} can write to {:?}, which is on loan", mapping.frame)
        });
        let slot = entry.slot_of(va.as_u64());
        if let Some(amap) = &entry.amap {
            let inner = amap.lock();
            if let Some(anon) = inner.anons.get(slot) {
                let (frame, count) = (anon.lock().frame, Ref::count(anon));
                self.expect(frame == Some(mapping.frame), || {
                    format!("{va:?} shows {:?}, its anon has {frame:?}", mapping.frame)
                });
                self.expect(!writable || (count == 1 && !entry.needs_copy), || {
                    format!("{va:?} can write to an anon that {count} share")
                });
                return;
            }
        }
        let frame = entry.object.as_ref().and_then(|object| {
            object
                .lock()
                .frames
                .get(entry.index_of(va.as_u64()).0)
                .copied()
        });
        self.expect(frame == Some(mapping.frame), || {
            format!("{va:?} shows {:?}, its object has {frame:?}", mapping.frame)
        });
        self.expect(!writable || !entry.copy_on_write, || {
            format!("{va:?} can write to an object that it must copy")
        });
    }
}

#[cfg(test)]
mod tests;
