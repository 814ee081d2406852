//! Taking a swap device away: everything on it comes into memory first, or it stays as it was.
//!
//! Owns nothing. From the start nothing new goes to the device. Then all address spaces and all anonymous objects that they show are gone
//! through, again and again, until no slot of it is in use: what moves meanwhile from one space to another is found the next time.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use super::pagein::{Around, UnderWay};
use super::{Owner, SwapError, SwapSlot};
use crate::Uvm;
use crate::addr::PAGE_SIZE;
use crate::io::IoError;
use crate::map::{Advice, VmSpace};
use crate::meter::Gauge;
use crate::object::Settled;
use crate::pool::OutOfMemory;

/// Pages looked at in one hold of a map's lock.
const BUDGET: usize = 512;
/// Rounds in which nothing was found although slots are in use, after which whatever they are of is taken to be out of reach; and looks
/// for a frame, after which there is taken to be none.
const PATIENCE: u32 = 1000;
/// Between two rounds: what is in use may be in a transfer.
const PAUSE: Duration = Duration::from_millis(1);

impl Uvm {
    /// Takes a swap device away. Awaits that all that is on it has been read.
    ///
    /// # Errors
    /// [`SwapError::Unknown`]; [`SwapError::Busy`] if somebody does it already; [`SwapError::OutOfMemory`] if what is on it does not fit into
    /// memory and the other devices; [`SwapError::Io`] if some of it cannot be read. The device is in use as before then.
    pub async fn swapoff(self: &Arc<Self>, name: &str) -> Result<(), SwapError> {
        let swap = self.swap();
        let (number, ()) = swap.change(name, |device| {
            device.leaving = true;
            swap.room.fetch_sub(device.map.free(), Relaxed);
        })?;
        let result = self.empty_device(number).await;
        let mut device = swap.devices[number].lock();
        if let Err(error) = result {
            if let Some(device) = device.as_mut() {
                device.leaving = false;
                swap.room.fetch_add(device.map.free(), Relaxed);
            }
            return Err(error);
        }
        let gone = device.take();
        drop(device);
        let pages = gone.as_ref().map_or(0, |gone| gone.what.pages);
        self.meter().lower(Gauge::Swpages, pages as u64);
        swap.order
            .lock()
            .retain(|&mut (_, n)| usize::from(n) != number);
        drop(gone);
        Ok(())
    }

    fn used_on(&self, number: usize) -> usize {
        let device = self.swap().devices[number].lock();
        device.as_ref().map_or(0, |device| device.what.used)
    }

    async fn empty_device(self: &Arc<Self>, number: usize) -> Result<(), SwapError> {
        let _under_way = UnderWay::new(self);
        let mut idle = 0;
        while self.used_on(number) > 0 {
            let mut found = 0;
            let mut at = 0;
            while let Some(space) = self.next_space(&mut at) {
                found += self.read_back(&space, number).await?;
            }
            idle = if found > 0 { 0 } else { idle + 1 };
            if idle > PATIENCE {
                return Err(SwapError::Busy);
            }
            self.executor().sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Brings in what a space has on the device; how much that was.
    async fn read_back(
        self: &Arc<Self>,
        space: &Arc<VmSpace>,
        number: usize,
    ) -> Result<usize, SwapError> {
        let (mut va, mut found) = (0, 0);
        while let Some((next, owner)) = space.next_swapped(va, number) {
            va = next;
            if let Some(owner) = owner {
                found += 1;
                self.bring_back(owner).await?;
            }
            self.executor().reschedule_if_asked().await;
        }
        Ok(found)
    }

    async fn bring_back(self: &Arc<Self>, owner: Owner) -> Result<(), SwapError> {
        let mut patience = PATIENCE;
        loop {
            let busy = owner.with(|held| {
                let frame = held.frame()?;
                if self.page(frame).is_busy() {
                    return Some(Some(crate::object::PageHold::new(self, frame)));
                }
                held.give_slot_up(self);
                Some(None)
            });
            let hold = match busy {
                Some(None) => return Ok(()),
                Some(Some(hold)) => hold,
                None => match self
                    .swap_in(owner.clone(), Around::Object, Advice::Random)
                    .await
                {
                    Ok(Some(hold)) => hold,
                    Ok(None) => continue,
                    Err(OutOfMemory) => {
                        // Not among those who wait for frames: for their sake processes are killed.
                        patience = patience.checked_sub(1).ok_or(OutOfMemory)?;
                        self.wake_pagedaemon();
                        self.executor().sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            if hold.settled().await == Settled::Failed {
                return Err(IoError::Device.into());
            }
        }
    }
}

impl VmSpace {
    /// Looks at a few pages at `va` and later for one that has a slot on a device: who has it, and where to go on. `None`: there is
    /// nothing there any more.
    fn next_swapped(&self, va: u64, device: usize) -> Option<(u64, Option<Owner>)> {
        let map = self.map.read();
        let entry = map.tree.from(va)?;
        let from = va.max(entry.start);
        // A page of an entry has an anon or is the object's; the object's pages are looked at for each page that has none, too.
        let to = entry.end.min(from + (BUDGET * PAGE_SIZE) as u64);
        let on_device = |slot: Option<SwapSlot>| slot.is_some_and(|s| s.device() == device);
        let anons = entry.amap.as_ref().and_then(|amap| {
            let slots = amap.lock();
            let (first, end) = (entry.slot_of(from), entry.slot_of(to));
            let mut anons = slots
                .anons
                .iter_from(first)
                .take_while(|&(slot, _)| slot < end);
            let (slot, anon) = anons.find(|(_, anon)| on_device(anon.lock().slot))?;
            Some((slot - entry.slot, Owner::Anon(anon.clone())))
        });
        let anonymous = entry.object.as_ref().filter(|object| object.is_anonymous());
        let found = anons.or_else(|| {
            let object = anonymous?;
            let pages = object.lock();
            let (first, end) = (entry.index_of(from), entry.index_of(to));
            let mut slots = pages
                .slots_from(first)
                .take_while(|&(index, _)| index < end);
            let (index, _) = slots.find(|&(_, slot)| on_device(Some(slot)))?;
            Some((
                index.0 - entry.offset.0,
                Owner::Object(object.clone(), index),
            ))
        });
        Some(match found {
            // The same place once more: an object's page may lie below.
            Some((page, owner)) => (entry.start + page * PAGE_SIZE as u64, Some(owner)),
            None => (to, None),
        })
    }
}
