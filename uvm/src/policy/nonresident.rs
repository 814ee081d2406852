//! The pages that were evicted lately: how the pagedaemon learns that it evicts too soon.
//!
//! # What this owns
//! For about as many evictions as there are frames, which page went and when. "When" is counted in evictions: a page that comes back
//! after *n* others went would have stayed, had memory been *n* pages larger. That distance tells a page that belongs to a working set
//! from one that comes by once in a long round.
//!
//! An anon outlives its frame, and has room for that itself ([`Went`]). What is here is of pages of objects, of which nothing is left in memory.
//!
//! # Where the idea is from
//! CLOCK-Pro's non-resident pages and their place in NetBSD's `uvm_pdpolicy_clockpro.c` (fixed hash buckets, so that remembering costs no
//! allocation), and the refault distance of Linux's `mm/workingset.c`.
//!
//! # How it synchronises
//! Sets of 15 entries, 64 bytes each with a note of which is the youngest; an entry is one atomic word, and a new one takes the place
//! of the oldest. Two who evict or return at once may overwrite one another's entry: the page then counts as never seen, nothing worse.
//! All memory is allocated when the pagedaemon starts; without it nothing is remembered.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use conquer_once::spin::OnceCell;

use crate::Uvm;
use crate::addr::PageIndex;
use crate::object::UvmObject;
use crate::pool::{OutOfMemory, Ref};
use crate::swap::SwapSlot;

/// Entries in a set.
const WAYS: usize = 15;
/// Sets in a chunk, which fills a heap block, and chunks in a row: no block is larger than a page.
const CHUNK: usize = 63;
const ROW: usize = 128;
/// Stamps in a frame's worth of memory: how finely distances are told apart.
const GRAIN: usize = 1024;

/// A page, as it is known while it is not in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(u64);

impl Key {
    /// Of a page of a file. By the object's physical address, which a simulation repeats.
    pub(crate) fn file(uvm: &Uvm, object: &Ref<UvmObject>, index: PageIndex) -> Self {
        let object = uvm.phys().addr_of(Ref::as_ptr(object).as_ptr().cast());
        Self::of(object.as_u64(), index.0)
    }

    /// Of an anonymous object's page: its place on swap. (No object has such an address.)
    pub(crate) fn slot(slot: SwapSlot) -> Self {
        Self::of(1, slot.number().into())
    }

    /// Multiply and fold, twice: nobody picks keys to collide.
    const fn of(a: u64, b: u64) -> Self {
        const fn fold(word: u64, by: u64) -> u64 {
            let product = word as u128 * by as u128;
            (product ^ (product >> 64)) as u64
        }
        let first = fold(a, 0x9e37_79b9_7f4a_7c15);
        Self(fold(first ^ b, 0xd6e8_feb8_6659_fd93))
    }
}

/// When a page went, in evictions since boot: what an anon remembers while it is on swap only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Went(u32);

impl Went {
    /// It is not known.
    pub(crate) const UNKNOWN: Self = Self(0);
}

/// The entries of some pages, a ring, and which of them is the youngest.
struct Set {
    last: AtomicU32,
    entries: [AtomicU32; WAYS],
}

impl Set {
    const fn new() -> Self {
        Self {
            last: AtomicU32::new(0),
            entries: [const { AtomicU32::new(0) }; WAYS],
        }
    }

    /// Takes the place of the oldest entry.
    fn push(&self, word: u32) {
        let last = self.last.load(Relaxed) as usize;
        let next = if last + 1 < WAYS { last + 1 } else { 0 };
        self.last.store(next as u32, Relaxed);
        self.entries[next].store(word, Relaxed);
    }

    /// Takes out the youngest entry of this fingerprint: older ones are of another page, or of one whose place on swap has been used again.
    fn take(&self, fingerprint: u16) -> Option<u16> {
        let ours = |word: u32| (word >> 16) as u16 == fingerprint;
        let (young, old) = self
            .entries
            .split_at_checked(self.last.load(Relaxed) as usize + 1)?;
        let mut from_youngest = young.iter().rev().chain(old.iter().rev());
        let found = from_youngest.find(|entry| ours(entry.load(Relaxed)))?;
        let word = found.swap(0, Relaxed);
        ours(word).then_some(word as u16)
    }
}

/// An entry: a fingerprint, never 0, and a stamp. 0 is an empty one.
const fn pack(fingerprint: u16, stamp: u16) -> u32 {
    (fingerprint as u32) << 16 | stamp as u32
}

/// The sets, in rows of chunks.
struct Table {
    rows: Vec<Vec<Vec<Set>>>,
    chunks: u32,
}

impl Table {
    /// The set that a page's entry is in, and the entry's fingerprint.
    fn set(&self, key: Key) -> Option<(&Set, u16)> {
        // The upper parts of the product of a part of the key and the number of places: cheaper than a remainder, and as even.
        let chunk = (u64::from(key.0 as u32) * u64::from(self.chunks)) >> 32;
        let set = (u64::from((key.0 >> 32) as u16) * CHUNK as u64) >> 16;
        let row = self.rows.get(chunk as usize / ROW)?;
        let set = row.get(chunk as usize % ROW)?.get(set as usize)?;
        Some((set, (key.0 >> 48) as u16 | 1))
    }
}

/// See the module's docs.
pub(crate) struct Nonresident {
    table: OnceCell<Table>,
    /// Evictions since boot, and how many of them share a stamp.
    evictions: AtomicU64,
    unit: u64,
}

impl Nonresident {
    pub(crate) fn new(managed: usize) -> Self {
        Self {
            table: OnceCell::uninit(),
            evictions: AtomicU64::new(0),
            unit: managed.div_ceil(GRAIN).max(1) as u64,
        }
    }

    /// Allocates the memory for `entries` pages, once.
    ///
    /// # Errors
    /// [`OutOfMemory`]: it goes on without.
    pub(crate) fn allocate(&self, entries: usize) -> Result<(), OutOfMemory> {
        let chunks = entries.div_ceil(CHUNK * WAYS).max(1);
        let mut rows = Vec::new();
        reserve(&mut rows, chunks.div_ceil(ROW))?;
        for at in (0..chunks).step_by(ROW) {
            let mut row = Vec::new();
            reserve(&mut row, ROW.min(chunks - at))?;
            for _ in at..chunks.min(at + ROW) {
                let mut chunk = Vec::new();
                reserve(&mut chunk, CHUNK)?;
                chunk.resize_with(CHUNK, Set::new);
                row.push(chunk);
            }
            rows.push(row);
        }
        let chunks = chunks as u32;
        self.table.init_once(|| Table { rows, chunks });
        Ok(())
    }

    fn stamp(&self) -> u16 {
        (self.evictions.load(Relaxed) / self.unit) as u16
    }

    /// So many pages are evicted: when that was, for those of anons.
    pub(crate) fn count(&self, pages: usize) -> Went {
        let before = self.evictions.fetch_add(pages as u64, Relaxed);
        Went(((before + pages as u64) as u32).max(1))
    }

    /// An anon's page comes back: how many evictions ago it went, if that is known.
    pub(crate) fn since(&self, went: Went) -> Option<u64> {
        let now = self.evictions.load(Relaxed) as u32;
        (went.0 != 0).then(|| u64::from(now.wrapping_sub(went.0)))
    }

    /// A page that is not an anon's has been evicted, and counted.
    pub(crate) fn note(&self, key: Key) {
        if let Some((set, fingerprint)) = self.table.get().and_then(|table| table.set(key)) {
            set.push(pack(fingerprint, self.stamp()));
        }
    }

    /// Such a page comes back: how many evictions ago it went, if that is known. It is forgotten.
    pub(crate) fn take(&self, key: Key) -> Option<u64> {
        let (set, fingerprint) = self.table.get()?.set(key)?;
        let then = set.take(fingerprint)?;
        Some(u64::from(self.stamp().wrapping_sub(then)) * self.unit)
    }
}

fn reserve<T>(vec: &mut Vec<T>, len: usize) -> Result<(), OutOfMemory> {
    vec.try_reserve_exact(len).map_err(|_| OutOfMemory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key::of(8, n)
    }

    #[test]
    fn distance_is_counted_in_evictions() {
        let pages = Nonresident::new(1000);
        let note = |n| {
            pages.count(1);
            pages.note(key(n));
        };
        note(0);
        assert_eq!(
            pages.take(key(0)),
            None,
            "nothing is remembered without memory"
        );
        pages.allocate(1000).unwrap();
        note(1);
        (100..150).for_each(note);
        assert_eq!(pages.take(key(1)), Some(50));
        assert_eq!(pages.take(key(1)), None, "forgotten");
        assert_eq!(pages.take(key(149)), Some(0));
        assert_eq!(pages.take(key(99)), None);
    }

    #[test]
    fn a_page_evicted_again_went_the_second_time() {
        let pages = Nonresident::new(1000);
        pages.allocate(1000).unwrap();
        let note = |n| {
            pages.count(1);
            pages.note(key(n));
        };
        note(1);
        (100..120).for_each(note);
        note(1);
        (200..203).for_each(note);
        assert_eq!(pages.take(key(1)), Some(3));
    }

    #[test]
    fn an_anon_knows_for_long_when_it_went() {
        let pages = Nonresident::new(1000);
        assert_eq!(pages.since(Went::UNKNOWN), None);
        let went = pages.count(16);
        assert_eq!(pages.since(went), Some(0));
        for _ in 0..100 {
            pages.count(1 << 20);
        }
        assert_eq!(pages.since(went), Some(100 << 20));
        // What the counter would call unknown is not.
        let pages = Nonresident::new(1000);
        pages.count((1 << 32) - 1);
        let went = pages.count(1);
        assert!(pages.since(went).is_some());
    }

    #[test]
    fn of_as_many_as_there_are_entries_nearly_all_are_remembered_and_of_older_ones_few() {
        const N: u64 = 20_000;
        let pages = Nonresident::new(N as usize);
        pages.allocate(N as usize).unwrap();
        (0..3 * N).for_each(|n| {
            pages.count(1);
            pages.note(key(n));
        });
        let known =
            |from: u64, to: u64| (from..to).filter(|&n| pages.take(key(n)).is_some()).count();
        let late = known(5 * N / 2, 3 * N);
        assert!(late as u64 > N / 2 * 98 / 100, "{late}");
        let old = known(0, N);
        assert!((old as u64) < N / 10, "{old}");
    }
}
