//! When memory and swap are full and nothing else helps: who dies, by what its death gives back.
//!
//! Owns who is dying. Not how: that is the [`Killer`]'s, who knows processes. The victim waits for memory no longer from then on
//! ([`VmSpace::doom`]), so that it gets to its end, and everybody else goes on waiting for what that frees.

use alloc::sync::{Arc, Weak};
use core::fmt;
use core::time::Duration;

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::lock::{LEAF, SpinLock};
use crate::map::{MapEntry, VmSpace};
use crate::meter::{Counter, Gauge};
use crate::pool::Ref;

/// How long a victim gets until another one is looked for.
const GRACE: Duration = Duration::from_secs(2);
/// Spaces that nobody can be killed for, of which so many are passed over.
const REFUSALS: usize = 8;
/// Between two looks whether it is gone.
const PAUSE: Duration = Duration::from_millis(1);

/// What the end of an address space gives back, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gain {
    /// Frames.
    pub resident: usize,
    /// Swap slots.
    pub swapped: usize,
}

impl Gain {
    /// Both together.
    #[must_use]
    pub const fn total(self) -> usize {
        self.resident + self.swapped
    }
}

/// Where all memory is when somebody is to die for lack of it: what tells afterwards whether that was right.
#[derive(Clone, Copy, Debug)]
pub struct Shortage {
    free: usize,
    wanted: usize,
    waiters: usize,
    active: usize,
    inactive: usize,
    paging: u64,
    pools: usize,
    tables: u64,
    wired: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames free, up to {} wanted by each of {}; {} active pages, {} inactive, {} being written; {} frames of pools and heap, \
             {} page tables, {} wired",
            self.free,
            self.wanted,
            self.waiters,
            self.active,
            self.inactive,
            self.paging,
            self.pools,
            self.tables,
            self.wired
        )
    }
}

/// Who can end a process.
pub trait Killer: Send + Sync + 'static {
    /// Kills whoever has `space`, says so to the user, and does not wait for it. `false`: nobody can be killed for it. Called with no
    /// lock held.
    fn kill(&self, space: &Arc<VmSpace>, gain: Gain) -> bool;
}

/// Who may kill, and whose end is awaited.
pub(crate) struct Victims {
    killer: SpinLock<Option<Arc<dyn Killer>>, LEAF>,
    /// The last one, and when it was chosen, in nanoseconds.
    last: SpinLock<Option<(Weak<VmSpace>, u64)>, LEAF>,
}

impl Victims {
    pub(crate) const fn new() -> Self {
        Self {
            killer: SpinLock::new(None),
            last: SpinLock::new(None),
        }
    }
}

impl Uvm {
    /// How memory is used now, and how much is waited for.
    #[must_use]
    pub fn shortage(&self) -> Shortage {
        let queues = self.queue_counts_by_sort();
        let meter = self.meter();
        Shortage {
            free: self.free_frames(),
            wanted: self.most_wanted(),
            waiters: self.free_waiters(),
            active: queues.iter().map(|sort| sort.active).sum(),
            inactive: queues.iter().map(|sort| sort.inactive).sum(),
            paging: meter.gauge(Gauge::Paging),
            pools: self.slab_pages(),
            tables: meter.gauge(Gauge::PmapTables),
            wired: meter.gauge(Gauge::Wired),
        }
    }

    /// Has `killer` asked when memory runs out for good. Until then whoever asks for memory is told that there is none.
    pub fn set_killer(&self, killer: Arc<dyn Killer>) {
        *self.upper.victims.killer.lock() = Some(killer);
    }

    /// Nothing can be freed any more: awaits the end of the last victim, or has another one killed. `false`: there is nobody to kill.
    pub(super) async fn kill_somebody(&self) -> bool {
        let victims = &self.upper.victims;
        let Some(killer) = victims.killer.lock().clone() else {
            return false;
        };
        let last = victims.last.lock().clone();
        if let Some((last, since)) = last
            && last.upgrade().is_some_and(|space| !space.is_empty())
            && self.executor().now() < since + GRACE.as_nanos() as u64
        {
            self.executor().sleep(PAUSE).await;
            return true;
        }
        // Those that belong to nobody yet: a child or a program in the making.
        let mut refused = ArrayVec::<Arc<VmSpace>, REFUSALS>::new();
        while let Some((space, gain)) = self.most_to_gain(&refused).await {
            if killer.kill(&space, gain) {
                *victims.last.lock() = Some((Arc::downgrade(&space), self.executor().now()));
                space.doom();
                self.count(Counter::Pdkills);
                return true;
            }
            if refused.try_push(space).is_err() {
                break;
            }
        }
        false
    }

    /// The space whose end gives most back, but none of `refused`. Awaits its turn between parts.
    async fn most_to_gain(&self, refused: &[Arc<VmSpace>]) -> Option<(Arc<VmSpace>, Gain)> {
        let (mut at, mut best) = (0, None);
        while let Some(space) = self.next_space(&mut at) {
            if space.is_doomed() || refused.iter().any(|other| Arc::ptr_eq(other, &space)) {
                continue;
            }
            let (mut gain, mut va) = (Gain::default(), Some(0));
            while let Some(from) = va {
                va = space.gain_from(from, &mut gain);
                self.executor().reschedule_if_asked().await;
            }
            let more = best
                .as_ref()
                .is_none_or(|(_, most): &(_, Gain)| gain.total() > most.total());
            if gain.total() > 0 && more {
                best = Some((space, gain));
            }
        }
        best
    }
}

impl VmSpace {
    /// Whoever waits for memory in it waits no longer: their faults end with [`crate::FaultError::Killed`]. For a process that is to end.
    pub fn doom(&self) {
        self.doomed
            .store(true, core::sync::atomic::Ordering::Relaxed);
        self.uvm().upper.hope.wake_all();
        self.uvm().upper.turns.wake_all();
        self.uvm().upper.admission.wake_all();
    }

    /// Whether it is being killed.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.doomed.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Whether nothing is mapped.
    fn is_empty(&self) -> bool {
        self.map.read().tree.len() == 0
    }

    /// Adds what the end of some mappings from `va` on gives back; returns where to go on.
    fn gain_from(&self, va: u64, gain: &mut Gain) -> Option<u64> {
        let map = self.map.read();
        let part = map.part(va)?;
        // Only what nobody else shows.
        if let Some(amap) = &part.entry.amap {
            let slots = amap.lock();
            let anons = part.anons(&slots);
            for (_, anon) in anons.filter(|(_, anon)| Ref::count(anon) == 1) {
                let inner = anon.lock();
                gain.resident += usize::from(inner.frame.is_some());
                gain.swapped += usize::from(inner.slot.is_some());
            }
        }
        if let Some(object) = own_object(part.entry) {
            let pages = object.lock();
            gain.resident += part.frames(&pages).count();
            gain.swapped += part.slots(&pages).count();
        }
        Some(part.to)
    }
}

/// The anonymous object that nobody but the entry has.
fn own_object(entry: &MapEntry) -> Option<&Ref<crate::UvmObject>> {
    let object = entry.object.as_ref()?;
    (object.is_anonymous() && Ref::count(object) == 1).then_some(object)
}
