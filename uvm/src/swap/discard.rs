//! Discards: a device hears which of its slots hold nothing any more, so that the space behind them can go back to whom it belongs to.
//!
//! Without them a swap file of the host, once full, stays full for ever, and a flash disk moves around what nobody will read. With them
//! a slot that is free twice is written twice all the same: nothing here makes page-out faster. So a discard is *idle work*, done by one task
//! for all devices ([`discard_worker`]), and comes last in everything.
//!
//! # What this owns
//! The stale clusters of a device (`slots`: wholly free, and written since they were last discarded) while they are being discarded. Who asks
//! for slots cannot find them, so nothing is written there meanwhile; in all sums they are free. One request is under way at a time.
//!
//! # When
//! As soon as a good many clusters are stale, or nothing has changed for a while ([`Pace`]); and only if no device has anything to do. A
//! discard takes at most a quarter of what is free on its device. Should page-out have used up the rest before it ends, the pagedaemon
//! awaits the end before it takes swap to be full (`Swap::discarded_room`): nobody is killed, and no system call fails, for slots that are
//! only away. A device that is being taken away awaits the end as well, and no other is begun there.
//!
//! # On which devices
//! On those that gain by it ([`Discards::Useful`]), unless told otherwise. A RAM disk keeps its memory: to discard is to fill that with
//! zeroes, and done only if asked for ([`Uvm::start_discards`]). A device that fails a discard is not asked again. What it was to discard
//! goes back as it was.
//!
//! A device that has just been put to use is taken to hold nothing, and what one holds when it is taken away stays there.
//!
//! # How it synchronises
//! By the lock of the device. It allocates nothing, and takes no request slot of those that are page-out's.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::ops::Range;
use core::time::Duration;

use executor::sync::WaitQueue;

use super::{Device, Swap, SwapError, SwapSlot};
use crate::Uvm;
use crate::addr::PAGE_SIZE;
use crate::io::{BlockDevice, Discards, IoError, Request};
use crate::meter::Counter;
use crate::object::vnode::CLUSTER;

/// Most slots in one request: 1 MiB, so that a page that is asked for meanwhile does not wait for long.
const MOST: usize = (1 << 20) / PAGE_SIZE;

/// Whether free slots of a device are discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarding {
    /// It cannot do that.
    Unsupported,
    /// They are not.
    Off,
    /// They are.
    On,
    /// Not any more: one has failed.
    Failed,
}

/// When discards are begun.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// So many stale clusters are enough to begin at once.
    pub enough: usize,
    /// How long to wait even then, and before the next look if devices had something to do.
    pub pause: Duration,
    /// Most requests that devices may have when one is begun.
    pub others: usize,
    /// With fewer clusters: how long nothing may have changed. Slots that were just given back may be written to at any moment.
    pub quiet: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            enough: 4 * MOST / CLUSTER,
            others: 0,
            pause: Duration::from_millis(100),
            quiet: Duration::from_secs(1),
        }
    }
}

/// What the worker shares with those who wait for it, and those it waits for.
pub(super) struct Discarder {
    stale: WaitQueue,
    ended: WaitQueue,
}

impl Discarder {
    pub(super) const fn new() -> Self {
        Self {
            stale: WaitQueue::new("slots to discard"),
            ended: WaitQueue::new("discard"),
        }
    }

    /// There may be something to discard.
    pub(super) fn wake(&self) {
        self.stale.wake_one();
    }
}

/// A discard under way.
struct Begun {
    device: usize,
    disk: Arc<dyn BlockDevice>,
    slots: Range<usize>,
}

/// The task that discards, for ever: one, of class Daemon, is spawned at boot. `report` hears of each device that fails at it.
pub async fn discard_worker(uvm: Arc<Uvm>, pace: Pace, report: impl Fn(&str, IoError)) {
    let swap = uvm.swap();
    // No timer runs while there is nothing to do.
    let found = || {
        let stale = swap.discardable();
        (stale > 0).then(|| (stale, swap.out.finished()))
    };
    loop {
        let before = swap.discarder.stale.wait_until(found).await;
        let enough = before.0 >= pace.enough;
        let pause = if enough { pace.pause } else { pace.quiet };
        uvm.executor().sleep(pause).await;
        if enough || found() == Some(before) {
            while uvm.io().under_way() <= pace.others && uvm.discard_some(&report).await {
                uvm.executor().reschedule_if_asked().await;
            }
        }
    }
}

impl Device {
    /// Clusters that could be discarded now.
    pub(super) fn discardable(&self) -> usize {
        match self.what.discarding {
            Discarding::On if self.takes_pages() => self.map.discardable(),
            _ => 0,
        }
    }
}

impl Discarding {
    /// How it is to begin with, and most slots of one request.
    pub(super) fn on(disk: &dyn BlockDevice) -> (Self, usize) {
        let (state, bytes) = match disk.discards() {
            Discards::Unsupported => (Self::Unsupported, 0),
            Discards::Useful(bytes) => (Self::On, bytes),
            Discards::Useless(bytes) => (Self::Off, bytes),
        };
        let most = usize::try_from(bytes / PAGE_SIZE as u64).map_or(MOST, |most| most.min(MOST));
        match most >= CLUSTER {
            true => (state, most),
            false => (Self::Unsupported, 0),
        }
    }
}

impl Swap {
    /// Clusters that could be discarded now.
    fn discardable(&self) -> usize {
        let of = |device: Option<&Device>| device.map_or(0, Device::discardable);
        self.devices.iter().map(|d| of(d.lock().as_ref())).sum()
    }

    /// Takes some of them out.
    fn begin_discard(&self) -> Option<Begun> {
        let mut devices = self.devices.iter().enumerate();
        devices.find_map(|(number, device)| {
            let mut device = device.lock();
            let device = device.as_mut().filter(|device| device.discardable() > 0)?;
            let slots = device.map.begin_discard(device.discard_most)?;
            Some(Begun {
                device: number,
                disk: device.disk.clone(),
                slots,
            })
        })
    }

    /// Gives them back.
    fn end_discard(
        &self,
        uvm: &Uvm,
        number: usize,
        result: Result<(), IoError>,
        report: &impl Fn(&str, IoError),
    ) {
        let mut failed = None;
        if let Some(device) = self.devices[number].lock().as_mut() {
            let discarded = device.map.end_discard(result);
            uvm.count_n(Counter::Swdiscards, discarded);
            if let Err(error) = result {
                device.what.discarding = Discarding::Failed;
                failed = Some((device.what.name, error));
            }
        }
        self.discarder.ended.wake_all();
        if let Some((name, error)) = failed {
            report(&name, error);
        }
    }

    /// Whether something is being discarded on a device.
    pub(super) fn is_discarding_on(&self, number: usize) -> bool {
        let device = self.devices[number].lock();
        let device = device.as_ref();
        device.is_some_and(|device| !device.map.discarding().is_empty())
    }

    /// Whether something is being discarded anywhere.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_discarding(&self) -> bool {
        (0..self.devices.len()).any(|number| self.is_discarding_on(number))
    }

    /// Awaits that nothing is being discarded on a device. Others may be begun, unless it is being taken away.
    pub(super) async fn discard_ended(&self, number: usize) {
        let ended = || (!self.is_discarding_on(number)).then_some(());
        self.discarder.ended.wait_until(ended).await;
    }

    /// If all free slots are being discarded, awaits that they can be had again; whether it was so.
    pub(crate) async fn discarded_room(&self) -> bool {
        let waits = self.room_is_away();
        if waits {
            let back = || (!self.room_is_away()).then_some(());
            self.discarder.ended.wait_until(back).await;
        }
        waits
    }

    fn room_is_away(&self) -> bool {
        let (mut free, mut away) = (0, 0);
        for device in &self.devices {
            if let Some(device) = device.lock().as_ref().filter(|d| d.takes_pages()) {
                free += device.map.free();
                away += device.map.discarding().len();
            }
        }
        away > 0 && away == free
    }

    /// Whether a slot is in use: neither free nor being discarded. For `check`.
    pub(crate) fn holds(&self, slot: SwapSlot) -> bool {
        let device = self.devices[slot.device()].lock();
        device.as_ref().is_some_and(|device| {
            !device.map.is_free(slot.page()) && !device.map.discarding().contains(&slot.page())
        })
    }
}

impl Uvm {
    /// Discards what can be in one request; whether there was anything. Awaits a request slot and the device.
    async fn discard_some(&self, report: &impl Fn(&str, IoError)) -> bool {
        // Before slots are taken out: it may be long until it has one.
        let claim = self.io().claim().await;
        let Some(Begun {
            device,
            disk,
            slots,
        }) = self.swap().begin_discard()
        else {
            return false;
        };
        let bytes = |slots: usize| (slots * PAGE_SIZE) as u64;
        let request = Request::discard(bytes(slots.start), bytes(slots.len()));
        let result = claim.submit(&disk, request).await;
        self.swap().end_discard(self, device, result, report);
        true
    }

    /// Has free slots of a device discarded from now on, those that were written before among them.
    ///
    /// # Errors
    /// [`SwapError::NoDiscard`] if it cannot do that; [`SwapError::Unknown`], [`SwapError::Busy`].
    pub fn start_discards(&self, name: &str) -> Result<(), SwapError> {
        let swap = self.swap();
        let start = |device: &mut Device| match &mut device.what.discarding {
            Discarding::Unsupported => Err(SwapError::NoDiscard),
            discarding => {
                *discarding = Discarding::On;
                Ok(())
            }
        };
        let (_, result) = swap.change(name, start)?;
        swap.discarder.wake();
        result
    }

    /// Has no more slots of a device discarded. One discard may be under way.
    ///
    /// # Errors
    /// [`SwapError::Unknown`], [`SwapError::Busy`].
    pub fn stop_discards(&self, name: &str) -> Result<(), SwapError> {
        let stop = |device: &mut Device| match &mut device.what.discarding {
            Discarding::Unsupported => {}
            discarding => *discarding = Discarding::Off,
        };
        self.swap().change(name, stop).map(drop)
    }
}
