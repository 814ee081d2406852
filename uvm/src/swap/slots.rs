//! Which slots of a device are free: a bitmap with summaries, so that runs of free slots are found without a walk over all of it.
//!
//! Owns the bits. A slot is a page of the device; slot 0 holds the signature and is never free. No synchronisation: the device's lock.
//!
//! Slots are given out in *runs*: a whole aligned cluster of [`CLUSTER`] slots if there is one, since clusters are what is written and
//! read at once, else what is left in between. The search goes round (next fit), so that clusters written one after the other lie
//! one after the other.
//!
//! What a slot held stays on the medium after the slot is free. A cluster that has been given out, in part at least, since its content was
//! last discarded is *written*; written and wholly free it is *stale*. Stale clusters can be taken out for a discard, some in a row at a
//! time. They count as free meanwhile, but no run is found there.

use alloc::vec::Vec;
use core::ops::Range;

use crate::io::IoError;
use crate::object::vnode::CLUSTER;
use crate::pool::OutOfMemory;

/// Bits in a word.
const WORD: usize = u64::BITS as usize;
/// Words in a chunk: 2 KiB, since a heap block has to fit into a page.
const CHUNK: usize = 256;

/// Clusters in a word.
const CLUSTERS: usize = WORD / CLUSTER;

const _: () = assert!(CLUSTER == 16, "clusters are quarters of a word");

/// An array of words in blocks of less than a page.
pub(super) struct Words(Vec<Vec<u64>>);

impl Words {
    /// `len` words of zero.
    pub(super) fn zeroes(len: usize) -> Result<Self, OutOfMemory> {
        let mut chunks = Vec::new();
        chunks
            .try_reserve_exact(len.div_ceil(CHUNK))
            .map_err(|_| OutOfMemory)?;
        for at in (0..len).step_by(CHUNK) {
            let size = CHUNK.min(len - at);
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(size).map_err(|_| OutOfMemory)?;
            chunk.resize(size, 0);
            chunks.push(chunk);
        }
        Ok(Self(chunks))
    }

    fn get(&self, word: usize) -> u64 {
        let chunk = self.0.get(word / CHUNK);
        chunk
            .and_then(|chunk| chunk.get(word % CHUNK))
            .copied()
            .unwrap_or(0)
    }

    fn set(&mut self, word: usize, value: u64) {
        let chunk = self.0.get_mut(word / CHUNK);
        if let Some(found) = chunk.and_then(|chunk| chunk.get_mut(word % CHUNK)) {
            *found = value;
        }
    }

    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// One bit for each of so many slots, all clear.
    pub(super) fn for_slots(slots: usize) -> Result<Self, OutOfMemory> {
        Self::zeroes(slots.div_ceil(WORD))
    }

    /// Sets a bit; whether it was clear.
    pub(super) fn mark(&mut self, bit: usize) -> bool {
        let clear = self.get(bit / WORD) >> (bit % WORD) & 1 == 0;
        self.put(bit, true);
        clear
    }

    fn has(&self, bit: usize) -> bool {
        self.get(bit / WORD) >> (bit % WORD) & 1 != 0
    }

    fn put(&mut self, bit: usize, on: bool) {
        let word = self.get(bit / WORD);
        let mask = 1 << (bit % WORD);
        self.set(bit / WORD, if on { word | mask } else { word & !mask });
    }

    /// The first bit set at `from` or later, and then from the start on.
    fn find_round(&self, from: usize) -> Option<usize> {
        let words = self.len();
        (0..=words).find_map(|i| {
            let at = (from / WORD + i) % words.max(1);
            let mask = match i {
                0 => u64::MAX << (from % WORD),
                _ if i == words => !(u64::MAX << (from % WORD)),
                _ => u64::MAX,
            };
            let found = self.get(at) & mask;
            (found != 0).then(|| at * WORD + found.trailing_zeros() as usize)
        })
    }
}

/// A map of the slots of one device.
pub(super) struct SlotMap {
    /// Bit by slot: it is free.
    free: Words,
    /// Bit by word of `free`: it has a whole free cluster.
    with_cluster: Words,
    /// Bit by word of `free`: it has a free slot.
    with_any: Words,
    /// Bit by slot: what it holds could not be read. Nothing is written there any more.
    doubted: Words,
    /// Bit by cluster: some of it has been given out since it was last discarded.
    written: Words,
    /// Bit by cluster: the same, and all of it is free.
    stale: Words,
    /// How many of those there are.
    stale_count: usize,
    /// The slots that are being discarded, whole clusters: counted as free, and not marked so.
    discarding: Range<usize>,
    /// The slot to begin the next search at.
    next: usize,
    slots: usize,
    count: usize,
}

/// Bit by cluster of a word of `free`: all of it is.
const fn whole_clusters(free: u64) -> u64 {
    // What is left of each cluster is its lowest bit: set if all of its bits are.
    let mut all = free & free >> 1;
    all &= all >> 2;
    all &= all >> 4;
    all &= all >> 8;
    all & 1 | all >> 15 & 2 | all >> 30 & 4 | all >> 45 & 8
}

impl SlotMap {
    /// `slots` slots, all free but slot 0.
    pub(super) fn new(slots: usize) -> Result<Self, OutOfMemory> {
        let words = slots.div_ceil(WORD);
        let mut map = Self {
            free: Words::zeroes(words)?,
            with_cluster: Words::zeroes(words.div_ceil(WORD))?,
            with_any: Words::zeroes(words.div_ceil(WORD))?,
            doubted: Words::zeroes(words)?,
            written: Words::for_slots(words * CLUSTERS)?,
            stale: Words::for_slots(words * CLUSTERS)?,
            stale_count: 0,
            discarding: 0..0,
            next: 0,
            slots,
            count: 0,
        };
        for word in 0..words {
            let bits = (slots - word * WORD).min(WORD);
            map.free.set(word, u64::MAX >> (WORD - bits));
            map.count += bits;
            map.sum_up(word);
        }
        map.take(0);
        Ok(map)
    }

    /// All slots, that of the signature included.
    pub(super) const fn len(&self) -> usize {
        self.slots
    }

    /// Free slots, those that are being discarded among them.
    pub(super) fn free(&self) -> usize {
        self.count
    }

    /// The slots that are being discarded.
    pub(super) fn discarding(&self) -> Range<usize> {
        self.discarding.clone()
    }

    /// Clusters that could be discarded: all stale ones, unless even one would be too much of what is free.
    pub(super) fn discardable(&self) -> usize {
        match self.most_discarded() {
            0 => 0,
            _ => self.stale_count,
        }
    }

    /// Most clusters that may be out for a discard at once: a quarter of what is free, so that there are others for quite a while.
    fn most_discarded(&self) -> usize {
        self.count / 4 / CLUSTER
    }

    pub(super) fn is_free(&self, slot: usize) -> bool {
        slot < self.slots && self.free.get(slot / WORD) >> (slot % WORD) & 1 != 0
    }

    /// Notes that a slot in use could not be read.
    pub(super) fn doubt(&mut self, slot: usize) {
        self.doubted.put(slot, true);
    }

    fn sum_up(&mut self, word: usize) {
        let free = self.free.get(word);
        let whole = whole_clusters(free);
        self.with_cluster.put(word, whole != 0);
        self.with_any.put(word, free != 0);
        let (at, shift) = (word * CLUSTERS / WORD, word * CLUSTERS % WORD);
        let stale = whole & self.written.get(at) >> shift;
        let all = self.stale.get(at);
        let before = all >> shift & 0xf;
        if stale != before {
            self.stale.set(at, all ^ (before ^ stale) << shift);
            self.stale_count -= before.count_ones() as usize;
            self.stale_count += stale.count_ones() as usize;
        }
    }

    /// Takes one slot, if it is free.
    pub(super) fn take(&mut self, slot: usize) -> bool {
        let free = self.is_free(slot);
        if free {
            self.free.put(slot, false);
            self.count -= 1;
            self.sum_up(slot / WORD);
        }
        free
    }

    /// Gives some back: how many, and how many are not free then, because they could not be read. Words are summed up once for slots in a row.
    pub(super) fn give(&mut self, slots: impl IntoIterator<Item = usize>) -> (usize, usize) {
        let (mut given, mut bad, mut word, mut bits) = (0, 0, 0, 0_u64);
        for slot in slots {
            debug_assert!(
                slot != 0 && slot < self.slots && !self.is_free(slot),
                "slot {slot} is free already"
            );
            if slot / WORD != word {
                let (g, b) = self.give_bits(word, bits);
                (given, bad) = (given + g, bad + b);
                (word, bits) = (slot / WORD, 0);
            }
            debug_assert!(
                !self.discarding.contains(&slot),
                "slot {slot} is being discarded"
            );
            debug_assert!(bits >> (slot % WORD) & 1 == 0, "slot {slot} given twice");
            bits |= 1 << (slot % WORD);
        }
        let (g, b) = self.give_bits(word, bits);
        (given + g, bad + b)
    }

    /// The same of those of a word.
    fn give_bits(&mut self, word: usize, bits: u64) -> (usize, usize) {
        if bits == 0 {
            return (0, 0);
        }
        let good = bits & !self.doubted.get(word);
        self.free.set(word, self.free.get(word) | good);
        self.sum_up(word);
        let given = good.count_ones() as usize;
        self.count += given;
        (given, bits.count_ones() as usize - given)
    }

    /// Takes up to `want` slots (at most [`CLUSTER`]) in a row: its first and how many. `None`: none is free.
    pub(super) fn take_run(&mut self, want: usize) -> Option<(usize, usize)> {
        let want = want.clamp(1, CLUSTER);
        let (start, len) = self.find_cluster(want).or_else(|| self.find_any(want))?;
        // All in one word: clusters are parts of one, and so is what is left in between.
        let (word, run) = (start / WORD, u64::MAX >> (WORD - len) << (start % WORD));
        self.free.set(word, self.free.get(word) & !run);
        self.count -= len;
        for cluster in start / CLUSTER..(start + len).div_ceil(CLUSTER) {
            self.written.put(cluster, true);
        }
        self.sum_up(word);
        self.next = (start + len) % self.slots;
        Some((start, len))
    }

    /// Takes stale clusters in a row, of at most `most` slots, out for a discard: the slots. `None`: there is nothing to discard, that would
    /// be too much, or something is being discarded.
    pub(super) fn begin_discard(&mut self, most: usize) -> Option<Range<usize>> {
        let most = self.most_discarded().min(most / CLUSTER);
        if most == 0 || !self.discarding.is_empty() {
            return None;
        }
        let first = self.stale.find_round(0)?;
        let mut end = first;
        while end < first + most && self.stale.has(end) {
            let (word, shift) = (end / CLUSTERS, end % CLUSTERS * CLUSTER);
            self.free
                .set(word, self.free.get(word) & !(0xffff << shift));
            self.sum_up(word);
            end += 1;
        }
        self.discarding = first * CLUSTER..end * CLUSTER;
        Some(self.discarding())
    }

    /// The discard has ended: its slots can be found again. How many it has discarded; none, if it failed, and so they stay written.
    pub(super) fn end_discard(&mut self, result: Result<(), IoError>) -> usize {
        let slots = core::mem::take(&mut self.discarding);
        for cluster in slots.start / CLUSTER..slots.end / CLUSTER {
            let (word, shift) = (cluster / CLUSTERS, cluster % CLUSTERS * CLUSTER);
            self.written.put(cluster, result.is_err());
            self.free.set(word, self.free.get(word) | 0xffff << shift);
            self.sum_up(word);
        }
        if result.is_ok() { slots.len() } else { 0 }
    }

    /// The first whole cluster that is free, or what goes on where the last run ended.
    fn find_cluster(&self, want: usize) -> Option<(usize, usize)> {
        // The rest of the cluster that the last run began, if all of that is free.
        let rest = self.next.next_multiple_of(CLUSTER) - self.next;
        if rest >= want && (self.next..self.next + want).all(|slot| self.is_free(slot)) {
            return Some((self.next, want));
        }
        let clusters = |word: usize, from: usize| {
            let free = self.free.get(word);
            (from..CLUSTERS).find(|i| free >> (i * CLUSTER) & 0xffff == 0xffff)
        };
        let word = self.next / WORD;
        let here = clusters(word, self.next % WORD / CLUSTER).map(|i| (word, i));
        let (word, i) = here.or_else(|| {
            let word = self.with_cluster.find_round(word + 1)?;
            clusters(word, 0).map(|i| (word, i))
        })?;
        Some((word * WORD + i * CLUSTER, want))
    }

    /// Some free slots, in a row, of the next word that has any.
    fn find_any(&self, want: usize) -> Option<(usize, usize)> {
        let word = self.with_any.find_round(self.next / WORD)?;
        let free = self.free.get(word);
        let (mut at, mut best) = (0, (0, 0));
        while at < WORD {
            let start = at + (free >> at).trailing_zeros() as usize;
            if start >= WORD {
                break;
            }
            let len = (free >> start).trailing_ones() as usize;
            if len > best.1 {
                best = (start, len);
            }
            at = start + len;
        }
        Some((word * WORD + best.0, best.1.min(want)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::sim::random::Random;

    #[test]
    fn runs_are_whole_clusters_as_long_as_there_are_any() {
        let mut map = SlotMap::new(200).unwrap();
        assert_eq!(map.free(), 199);
        // Slot 0 spoils the first cluster.
        assert_eq!(map.take_run(16), Some((16, 16)));
        assert_eq!(map.take_run(4), Some((32, 4)));
        assert_eq!(map.take_run(4), Some((36, 4)));
        assert_eq!(map.take_run(16), Some((48, 16)));
        let mut runs = 0;
        while let Some((start, len)) = map.take_run(16) {
            assert!(start > 0 && start + len <= 200 && len <= 16);
            runs += 1;
        }
        assert_eq!((map.free(), runs), (0, 8 + 3));
        map.give([100]);
        assert_eq!(map.take_run(16), Some((100, 1)));
        assert_eq!(map.take_run(1), None);
    }

    #[test]
    fn no_slot_is_given_twice_and_none_is_lost() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let slots = 20 + random.below(1_000) as usize;
            let mut map = SlotMap::new(slots).unwrap();
            let mut taken = BTreeSet::new();
            for _ in 0..2_000 {
                if random.percent(60) {
                    let want = 1 + random.below(16) as usize;
                    let run = map.take_run(want);
                    assert_eq!(run.is_none(), taken.len() == slots - 1);
                    let (start, len) = run.unwrap_or((0, 0));
                    assert!(len <= want);
                    assert!((start..start + len).all(|slot| slot != 0 && taken.insert(slot)));
                } else {
                    for _ in 0..random.below(20) {
                        let at = random.below(slots as u64) as usize;
                        if let Some(&slot) = taken.range(at..).next() {
                            taken.remove(&slot);
                            map.give([slot]);
                        }
                    }
                }
                assert_eq!(map.free(), slots - 1 - taken.len());
            }
        }
    }

    #[test]
    fn whole_clusters_are_found_in_a_word() {
        for (free, whole) in [
            (0, 0),
            (u64::MAX, 0xf),
            (0xffff, 1),
            (0xffff << 48, 8),
            (0xffff << 1, 0),
            (0xffff_0000_ffff_0000, 0b1010),
            (!(1 << 20), 0b1101),
        ] {
            assert_eq!(whole_clusters(free), whole, "{free:#x}");
        }
    }

    #[test]
    fn what_is_discarded_was_written_is_free_and_is_not_found() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let slots = 20 + random.below(1_000) as usize;
            let mut map = SlotMap::new(slots).unwrap();
            let (mut taken, mut written, mut away) = (BTreeSet::new(), BTreeSet::new(), 0..0);
            for _ in 0..2_000 {
                match random.below(10) {
                    0..4 => {
                        let run = map.take_run(1 + random.below(16) as usize);
                        let room = slots - 1 - taken.len() - away.len();
                        assert_eq!(run.is_none(), room == 0);
                        let (start, len) = run.unwrap_or((0, 0));
                        for slot in start..start + len {
                            assert!(taken.insert(slot) && !away.contains(&slot));
                            written.insert(slot / CLUSTER);
                        }
                    }
                    4..8 => {
                        let at = random.below(slots as u64) as usize;
                        let some: Vec<_> = taken.range(at..).take(30).copied().collect();
                        some.iter().for_each(|slot| assert!(taken.remove(slot)));
                        map.give(some);
                    }
                    8 => {
                        let found = map.begin_discard(16 + random.below(100) as usize);
                        if let Some(slots) = found {
                            assert!(away.is_empty() && slots.len() <= 116);
                            assert!(slots.len() * 4 <= map.free());
                            assert!(slots.clone().all(|slot| !taken.contains(&slot)));
                            let mut clusters = slots.start / CLUSTER..slots.end / CLUSTER;
                            assert!(clusters.all(|cluster| written.contains(&cluster)));
                            away = slots;
                        }
                    }
                    _ => {
                        let fails = random.percent(30);
                        let result = if fails { Err(IoError::Device) } else { Ok(()) };
                        let len = if fails { 0 } else { away.len() };
                        assert_eq!(map.end_discard(result), len);
                        if !fails {
                            written.retain(|cluster| !away.contains(&(cluster * CLUSTER)));
                        }
                        away = 0..0;
                    }
                }
                assert_eq!(map.free(), slots - 1 - taken.len());
                let stale = written.iter().filter(|&&cluster| {
                    let slots = cluster * CLUSTER..(cluster + 1) * CLUSTER;
                    let is_free = |slot| slot != 0 && !taken.contains(&slot);
                    let whole = slots.end <= map.len() && slots.clone().all(is_free);
                    whole && !away.contains(&slots.start)
                });
                assert_eq!(map.stale_count, stale.count());
            }
        }
    }

    #[test]
    fn a_run_is_found_far_away() {
        let mut map = SlotMap::new(200_000).unwrap();
        while map.take_run(16).is_some() {}
        for slot in 160_000..160_016 {
            map.give([slot]);
        }
        assert_eq!(map.take_run(16), Some((160_000, 16)));
    }
}
