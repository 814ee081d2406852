//! Swap devices of the simulated machine, and the operations that take them away, use them again and reorder them.
//!
//! Whether a device is in use is known at any time, and so what each of these must answer. What a device held when it was taken away is
//! lost at once, and no request may reach it from then on: a page that was forgotten there shows. A slot whose page could not be read must
//! not be written again, and only the page that has it may answer so: see [`SwapDisk::lost`]. What is discarded is lost as well: a page
//! that was still there shows.
//!
//! While a device is being taken away pages that are out are moved to where whoever looks for them may have been already: one look at everything is
//! not to be enough.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::sync::Mutex;

use crate::addr::{Frame, PAGE_SIZE};
use crate::io::{BlockDevice, Discards};
use crate::map::{Extract, VmSpace};
use crate::sim::World;
use crate::sim::disk::{self, SimDisk};
use crate::sim::lwp::Lwp;
use crate::sim::mapping::PAGE;
use crate::sim::op::{Where, Whose};
use crate::sim::plan::Plan;
use crate::sim::random::Random;
use crate::sim::run::Mode;
use crate::sim::weather::Weather;
use crate::swap::{SwapError, SwapSlot};
use crate::{Pace, Uvm};

/// Most devices of a run.
pub(super) const SWAPS: usize = 2;
/// Nothing that could be discarded waits for more, or for a quiet moment.
const HASTY: Pace = Pace {
    enough: 1,
    others: usize::MAX,
    pause: Duration::from_micros(5),
    quiet: Duration::from_micros(5),
};
/// Pages moved, at most, while a device is taken away.
const MOVES: usize = 16;
/// How often who waits for something to be on a device looks, and how long it waits in between.
const LOOKS: usize = 40;
const LOOK: Duration = Duration::from_micros(50);
const NAMES: [&str; SWAPS] = ["swap", "other"];

/// What is being done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing: it is not in use.
    Off,
    /// It is being put to use.
    Coming,
    /// It is in use, with this priority.
    On(i16),
    /// It is being taken away.
    Leaving,
}

/// A device.
pub(super) struct SwapDisk {
    pub(super) disk: Arc<SimDisk>,
    device: Arc<dyn BlockDevice>,
    name: &'static str,
    state: Mutex<State>,
}

impl SwapDisk {
    /// The devices of a run, all in use.
    pub(super) fn all(world: &World, plan: &Plan, mode: Mode, random: &mut Random) -> Vec<Self> {
        let sizes = plan.swaps.iter().zip(NAMES);
        let used = sizes.filter(|((pages, _), _)| *pages > 0);
        used.map(|(&(pages, priority), name)| {
            // Where memory is short so is swap; and bad slots show where all are used again soon.
            let pages = match mode {
                Mode::Starved | Mode::Faulty => (pages / 4).max(2),
                Mode::Normal | Mode::Torture => pages,
            };
            let disk = SimDisk::swap(&world.uvm, pages, disk::Mode::AtOnce);
            let most = random.pick(&[32, 64, 256]) * PAGE_SIZE as u64;
            disk.set_discards(Discards::Useful(most));
            let device = disk.device();
            world.swap_to(device.clone(), name, priority, HASTY);
            let mut failing = 0;
            if mode == Mode::Faulty {
                let chances: &[u64] = match plan.weather {
                    Weather::Swapping => &[20, 40, 80],
                    _ => &[0, 10, 20, 40],
                };
                failing = random.pick(chances);
                // Not the signature, nor all. Some cannot be written, some can, and cannot be read again.
                for _ in 0..(4 + pages / 8).min(pages / 4) {
                    let page = 1 + random.below(u64::from(pages) - 1);
                    disk.spoil(page * PAGE_SIZE as u64, page * PAGE_SIZE as u64 + 1);
                }
                for _ in 0..(3 + pages / 16).min(pages / 4) {
                    disk.spoil_reads(1 + random.below(u64::from(pages) - 1));
                }
            }
            let seed = random.draw();
            disk.set_mode(disk::Mode::Chance { seed, failing });
            Self {
                device,
                disk,
                name,
                state: Mutex::new(State::On(priority)),
            }
        })
        .collect()
    }

    fn state(&self) -> State {
        *self.state.lock().expect("not poisoned")
    }

    fn set(&self, state: State) {
        *self.state.lock().expect("not poisoned") = state;
    }

    /// Whether it is this disk's, and the page in `slot` could not be read when it was tried last.
    pub(super) fn lost(&self, uvm: &Uvm, slot: SwapSlot) -> bool {
        let place = uvm.swap().place(slot);
        place.is_some_and(|(device, _)| Arc::ptr_eq(&device, &self.device))
            && self.disk.has_failed(slot.page() as u64)
    }
}

/// The slot of the page of anonymous memory at `va`, if that is nowhere else: somebody may be trying to read it once more.
fn slot_at(space: &VmSpace, va: u64) -> Option<SwapSlot> {
    let uvm = space.uvm();
    let nowhere_else = |frame: Option<Frame>| frame.is_none_or(|frame| uvm.page(frame).is_busy());
    let map = space.vm_map().read();
    let entry = space.vm_map().lookup(&map, va)?;
    if let Some(amap) = &entry.amap
        && let Some(anon) = amap.lock().anons.get(entry.slot_of(va))
    {
        let inner = anon.lock();
        return inner.slot.filter(|_| nowhere_else(inner.frame));
    }
    let object = entry.object.as_ref()?;
    let (pages, index) = (object.lock(), entry.index_of(va));
    let slot = pages.slot(index)?;
    nowhere_else(pages.frames.get(index.0).copied()).then_some(slot)
}

/// Awaits the end of both.
async fn both(first: impl Future<Output = ()>, second: impl Future<Output = ()>) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let mut done = [false; 2];
    poll_fn(|cx| {
        done[0] = done[0] || first.as_mut().poll(cx).is_ready();
        done[1] = done[1] || second.as_mut().poll(cx).is_ready();
        match done {
            [true, true] => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
}

impl Lwp {
    /// Whether a page may answer that it cannot be read: for its file, or for the slot that it is in now.
    pub(super) fn may_fail(&self, page: u64) -> bool {
        let on_swap = || {
            let slot = slot_at(&self.process.space, page * PAGE_SIZE as u64);
            let uvm = &self.shared.world.uvm;
            slot.is_some_and(|slot| self.shared.swaps.iter().any(|swap| swap.lost(uvm, slot)))
        };
        self.process.with(|m| m.may_fail(page)) || on_swap()
    }

    /// The device that an operation is about, if the run has any, and whether nobody is putting it to use just now.
    fn swap(&self, which: usize) -> Option<&SwapDisk> {
        let swaps = &self.shared.swaps;
        let swap = swaps.get(which % swaps.len().max(1))?;
        (swap.state() != State::Coming).then_some(swap)
    }

    /// Moves pages about, one at a time, as long as a device is being taken away.
    async fn move_about(&self, swap: &SwapDisk, seed: u64) {
        let mut random = Random::new(seed);
        let executor = &self.shared.world.executor;
        for _ in 0..MOVES {
            executor
                .sleep(Duration::from_micros(1 + random.below(40)))
                .await;
            if swap.state() != State::Leaving {
                return;
            }
            self.move_down(random.draw()).await;
        }
    }

    /// Moves one of the last pages that are out to the first hole, in its own space or in another one.
    async fn move_down(&self, choice: u64) {
        let plan = &self.shared.plan;
        let (from, to) = self.process.with(|m| {
            let mapped = m.within(plan.arena.clone()).map(|(page, _)| page);
            let out = |&page: &u64| slot_at(&self.process.space, page * PAGE).is_some();
            let out: Vec<_> = mapped.filter(out).collect();
            let n = choice as usize % out.len().clamp(1, 4);
            let hole = plan.arena.clone().find(|&page| !m.any(page..page + 1));
            (out.iter().rev().nth(n).copied(), hole)
        });
        if let (Some(from), Some(to)) = (from, to) {
            let whose = match choice >> 32 & 3 {
                0 => Whose::Other(choice >> 40),
                _ => Whose::Own,
            };
            let to = (to, Where::Exclusive);
            self.extract(from..from + 1, Extract::Remove, to, whose)
                .await;
        }
    }

    pub(super) async fn swapoff(&self, which: usize, moves: u64) {
        if let Some(swap) = self.swap(which) {
            self.something_on(swap).await;
        }
        if let Some(swap) = self.swap(which) {
            both(self.take_away(swap), self.move_about(swap, moves)).await;
        }
    }

    /// Awaits, but not for long, that there is something on a device: to take an empty one away shows little.
    async fn something_on(&self, swap: &SwapDisk) {
        let world = &self.shared.world;
        for _ in 0..LOOKS {
            let devices = world.uvm.swap_devices();
            let device = devices.iter().find(|device| &device.name == swap.name);
            if device.is_none_or(|device| device.used > 0) {
                break;
            }
            world.executor.sleep(LOOK).await;
        }
    }

    async fn take_away(&self, swap: &SwapDisk) {
        let before = swap.state();
        // A u-area may lie on two devices.
        let errors = self.shared.swap_errors();
        if let State::On(_) = before {
            swap.set(State::Leaving);
        }
        let uvm = &self.shared.world.uvm;
        let result = uvm.swapoff(swap.name).await;
        match (before, result) {
            (State::Off, Err(SwapError::Unknown)) | (State::Leaving, Err(SwapError::Busy)) => {}
            (State::On(_), Ok(())) => {
                if swap.disk.pending() > 0 {
                    self.fail(format_args!(
                        "requests are under way on {}, which is gone",
                        swap.name
                    ));
                }
                swap.set(State::Off);
                swap.disk.close();
                self.shared.note(|o| o.swapoffs += 1);
            }
            (State::On(_), Err(error)) => {
                swap.set(before);
                let right = match error {
                    SwapError::OutOfMemory => self.shared.mode == Mode::Starved,
                    SwapError::Io(_) => self.shared.swap_errors() > errors,
                    _ => false,
                };
                if !right {
                    self.fail(format_args!("swapoff {}: unexpected: {error}", swap.name));
                }
                self.shared.note(|o| o.kept_swaps += 1);
            }
            (_, result) => self.fail(format_args!(
                "swapoff {}, {before:?}: {result:?}",
                swap.name
            )),
        }
        self.compare_swap(swap);
    }

    /// What is in use gets another priority.
    pub(super) async fn swapon(&self, which: usize, priority: i16) {
        let Some(swap) = self.swap(which) else { return };
        let before = swap.state();
        let uvm = &self.shared.world.uvm;
        if before != State::Off {
            match (before, uvm.set_swap_priority(swap.name, priority)) {
                (State::On(_), Ok(())) => {
                    swap.set(State::On(priority));
                    self.discards(swap, priority);
                }
                (State::Leaving, Err(SwapError::Busy)) => {}
                (_, result) => self.fail(format_args!(
                    "priority of {}, {before:?}: {result:?}",
                    swap.name
                )),
            }
            return self.compare_swap(swap);
        }
        swap.set(State::Coming);
        let errors = swap.disk.read_errors();
        swap.disk.open();
        let result = uvm.swapon(swap.device.clone(), swap.name, priority).await;
        let on = match result {
            Ok(()) => true,
            Err(SwapError::OutOfMemory) if self.shared.mode == Mode::Starved => false,
            Err(SwapError::Io(_)) if swap.disk.read_errors() > errors => false,
            result => self.fail(format_args!("swapon {}: {result:?}", swap.name)),
        };
        if on {
            swap.set(State::On(priority));
        } else {
            swap.set(State::Off);
            swap.disk.close();
        }
        self.compare_swap(swap);
    }

    /// Has what is free on a device discarded from now on, or not.
    fn discards(&self, swap: &SwapDisk, chance: i16) {
        let uvm = &self.shared.world.uvm;
        let result = match chance {
            0 => uvm.stop_discards(swap.name),
            _ => uvm.start_discards(swap.name),
        };
        if result.is_err() {
            self.fail(format_args!("discards of {}: {result:?}", swap.name));
        }
    }

    /// A device is listed if it is in use.
    fn compare_swap(&self, swap: &SwapDisk) {
        let listed = self.shared.world.uvm.swap_devices();
        let found = listed.iter().find(|device| &device.name == swap.name);
        let state = swap.state();
        let right = match state {
            State::Off => found.is_none(),
            State::On(priority) => found.is_some_and(|device| device.priority == priority),
            State::Coming | State::Leaving => true,
        };
        if !right {
            self.fail(format_args!("{} is {state:?}, and {found:?}", swap.name));
        }
    }
}
