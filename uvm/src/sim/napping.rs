//! What simulated programs keep in their u-areas while they sleep, and who puts those out.
//!
//! Owns a program's u-area, and what was stored there last. A program has no frames of the kernel's to lose: it stores bytes in its u-area, through the MMU of whatever CPU it is on,
//! before it sleeps, and finds them afterwards, wherever the u-area has been meanwhile. Where memory is short at its first sleep it sleeps without.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::time::Duration;
use std::sync::Mutex;

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::glue::swapout::{Candidate, Doing, Keeps};
use crate::km::HeapRoom;
use crate::pdaemon::lwps::{Looked, LwpSwapper, Need};
use crate::pmap::TablesStay;
use crate::sim::lwp::Lwp;
use crate::sim::random::Random;
use crate::sim::run::Mode;
use crate::sim::shared::Shared;
use crate::uarea::{ComesNot, Residence, UAREA_SIZE};

/// Bytes that are stored and looked at: some at both ends of both pages, and some in between.
const SPOTS: [usize; 9] = [
    0,
    1,
    1111,
    PAGE_SIZE - 1,
    PAGE_SIZE,
    PAGE_SIZE + 8,
    6000,
    UAREA_SIZE - 8,
    UAREA_SIZE - 1,
];

/// A program's u-area.
pub(super) struct Bed(Mutex<Inner>);

struct Inner {
    residence: Option<Arc<Residence>>,
    random: Random,
}

impl Bed {
    /// None yet.
    pub(super) const fn new(seed: u64) -> Self {
        Self(Mutex::new(Inner {
            residence: None,
            random: Random::new(seed),
        }))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().expect("not poisoned"))
    }
}

/// u-areas of those who sleep, or have slept, and since when, in nanoseconds.
#[derive(Default)]
pub(super) struct Beds(Mutex<Vec<(Weak<Residence>, u64)>>);

impl Beds {
    fn note(&self, residence: &Arc<Residence>, now: u64) {
        let mut beds = self.0.lock().expect("not poisoned");
        beds.retain(|(bed, _)| {
            bed.strong_count() > 0 && !core::ptr::eq(bed.as_ptr(), Arc::as_ptr(residence))
        });
        beds.push((Arc::downgrade(residence), now));
    }
}

/// Puts programs out for the pagedaemon. To it a microsecond is a second.
pub(super) struct Swapper(Weak<Shared>);

impl Swapper {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self(Arc::downgrade(shared)))
    }
}

impl LwpSwapper for Swapper {
    fn put_out_some(&self, need: Need) -> Looked {
        let Some(shared) = self.0.upgrade() else {
            return Looked {
                sent: 0,
                rest: false,
            };
        };
        let uvm = &shared.world.uvm;
        let now = shared.world.executor.now();
        let beds = shared.beds.0.lock().expect("not poisoned").clone();
        let mut choice = uvm.choose_lwps(need);
        let mut sent = 0;
        for (bed, since) in beds {
            let Some(residence) = bed.upgrade() else {
                continue;
            };
            let keeps = match residence.is_idle() {
                true => Keeps::empty(),
                false => Keeps::HELD,
            };
            let candidate = Candidate {
                doing: Doing::Sleeps(Duration::from_secs((now - since) / 1000)),
                keeps,
                cpu: None,
            };
            if let Some(residence) = choice.consider(&candidate, residence)
                && residence.send_out().is_ok()
            {
                choice.went();
                sent += 1;
            }
        }
        let last = choice.last_resort();
        sent += usize::from(last.is_some_and(|residence| residence.send_out().is_ok()));
        Looked { sent, rest: false }
    }
}

impl Lwp {
    /// Sleeps, as an LWP does at a swappable wait: its u-area may be put out.
    pub(super) async fn nap(&self, micros: u64) {
        let executor = &self.shared.world.executor;
        let Some(residence) = self.bed() else {
            return executor.sleep(Duration::from_micros(micros)).await;
        };
        let (seed, goes, long, last) = self.bed.with(|bed| {
            let random = &mut bed.random;
            let percent = [50, 25, 20].map(|n| random.percent(n));
            (random.draw(), percent[0], percent[1], percent[2])
        });
        self.make_bed(&residence, seed);
        residence.rest();
        self.shared.beds.note(&residence, executor.now());
        if goes {
            // Somebody else may have been faster, or there is no room.
            let _ = residence.send_out();
        }
        if last {
            self.put_tables_away().await;
        }
        let micros = if long { 30 * micros } else { micros };
        executor.sleep(Duration::from_micros(micros)).await;
        match residence.bring_in_for(&self.process.space).await {
            Ok(()) => self.look_at_bed(&residence, seed),
            Err(ComesNot::Io(_))
                if self.shared.mode == Mode::Faulty && self.lost_bed(&residence) =>
            {
                // What it had there is lost. An LWP would end.
                residence.free();
                self.bed.with(|bed| bed.residence = None);
            }
            Err(error) => self.fail(format_args!("a u-area does not come in: {error}")),
        }
    }

    /// As if all who run in the space were out. There may be others that are not.
    async fn put_tables_away(&self) {
        let space = &self.process.space;
        match space.put_tables_away().await {
            Ok(()) => self.shared.note(|o| o.without_tables += 1),
            Err(TablesStay::Wired | TablesStay::Loaded | TablesStay::InUse) => {}
        }
    }

    /// Its u-area, which it gets now if it has none, and there is memory.
    fn bed(&self) -> Option<Arc<Residence>> {
        let uvm = &self.shared.world.uvm;
        self.bed.with(|bed| {
            if bed.residence.is_none() {
                let (uarea, _) = uvm.uarea_alloc().ok()?;
                match Residence::new(uvm, uarea, 0, &HeapRoom::at_boot()) {
                    Ok(residence) => bed.residence = Some(residence),
                    Err(uarea) => uvm.uarea_free(uarea),
                }
            }
            bed.residence.clone()
        })
    }

    fn make_bed(&self, residence: &Residence, seed: u64) {
        let machine = &self.shared.world.machine;
        for (i, at) in SPOTS.into_iter().enumerate() {
            let va = VirtAddr::from_ptr(residence.base().as_ptr()) + at as u64;
            let byte = byte_of(seed, i);
            if let Err(fault) = machine.store_kernel(va, byte) {
                self.fail(format_args!("a u-area that is in memory: {fault:?}"));
            }
        }
    }

    fn look_at_bed(&self, residence: &Residence, seed: u64) {
        let machine = &self.shared.world.machine;
        for (i, at) in SPOTS.into_iter().enumerate() {
            let va = VirtAddr::from_ptr(residence.base().as_ptr()) + at as u64;
            let (found, byte) = (machine.load_kernel(va), byte_of(seed, i));
            if found != Ok(byte) {
                self.fail(format_args!(
                    "byte {at} of a u-area: {found:x?}, expected {byte:#x}"
                ));
            }
        }
    }

    /// Whether a page of a u-area that is out could not be read.
    fn lost_bed(&self, residence: &Residence) -> bool {
        let uvm = &self.shared.world.uvm;
        let slots = residence.slots().into_iter().flat_map(|(slots, _)| slots);
        slots
            .into_iter()
            .any(|slot| self.shared.swaps.iter().any(|swap| swap.lost(uvm, slot)))
    }
}

fn byte_of(seed: u64, spot: usize) -> u8 {
    (seed.rotate_left(7 * spot as u32) >> 3) as u8
}
