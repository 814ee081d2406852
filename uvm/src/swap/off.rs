//! Taking a swap device away: everything on it comes into memory first, or it stays as it was.
//!
//! Owns nothing. From the start nothing new goes to the device. Then all address spaces are gone through, all u-areas, and all anonymous objects, those
//! that nobody maps at the moment among them, again and again, until no slot of it is in use: what moves meanwhile from one space to
//! another is found the next time, and a page that is being read or written is awaited.
//!
//! What is on it may not fit into memory. It is others who notice that first: then the pagedaemon, before it takes all hope from those who
//! wait for memory, or has one of them killed, calls it off ([`Swap::call_off`]), and the device takes pages again at once.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use super::pagein::{Around, UnderWay};
use super::{Owner, State, Swap, SwapError};
use crate::Uvm;
use crate::addr::PageIndex;
use crate::amap::Runs;
use crate::anon::Anon;
use crate::io::IoError;
use crate::map::{Advice, VmSpace};
use crate::meter::Gauge;
use crate::object::{PageHold, Settled, UvmObject};
use crate::page::freelist::AllocFor;
use crate::pool::{OutOfMemory, Ref};
use crate::uarea::{ComesNot, Residence};

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
            device.state = State::Leaving;
            swap.room.fetch_sub(device.map.free(), Relaxed);
        })?;
        let result = self.empty_device(number).await;
        let mut device = swap.devices[number].lock();
        if let Err(error) = result {
            if let Some(device) = device.as_mut() {
                swap.stay(device);
                device.state = State::InUse;
            }
            drop(device);
            // What could not go anywhere may go now.
            self.wake_pagedaemon();
            swap.discarder.wake();
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

    async fn empty_device(self: &Arc<Self>, number: usize) -> Result<(), SwapError> {
        // None is begun any more.
        self.swap().discard_ended(number).await;
        let _under_way = UnderWay::new(self);
        let mut idle = 0;
        while let Some(used) = self.swap().left_on(number)?
            && used > 0
        {
            let mut found = 0;
            let mut at = 0;
            while let Some(space) = self.next_space(&mut at) {
                found += self.empty_space(&space, number).await?;
            }
            let mut at = 0;
            while let Some(object) = self.next_anonymous(&mut at) {
                found += self.empty_object(&object, number).await?;
            }
            let mut at = 0;
            while let Some(residence) = self.next_residence(&mut at) {
                found += self.empty_uarea(&residence, number).await?;
            }
            idle = if found > 0 { 0 } else { idle + 1 };
            if idle > PATIENCE {
                return Err(SwapError::Busy);
            }
            self.executor().sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Brings in what a space has on the device in anons; how much that was.
    async fn empty_space(
        self: &Arc<Self>,
        space: &Arc<VmSpace>,
        number: usize,
    ) -> Result<usize, SwapError> {
        let (mut va, mut found) = (0, 0);
        while let Some((next, owner)) = space.next_swapped(va, number) {
            va = next;
            if let Some(owner) = owner {
                found += 1;
                let around = Around::Space(space, va);
                self.bring_back(owner, around, number).await?;
            }
            self.executor().reschedule_if_asked().await;
        }
        Ok(found)
    }

    /// The same of an anonymous object.
    async fn empty_object(
        self: &Arc<Self>,
        object: &Ref<UvmObject>,
        number: usize,
    ) -> Result<usize, SwapError> {
        let (mut from, mut found) = (PageIndex(0), 0);
        loop {
            let next = {
                let pages = object.lock();
                let mut slots = pages.slots_from(from);
                slots.find(|(_, slot)| slot.device() == number)
            };
            let Some((index, _)) = next else {
                return Ok(found);
            };
            (from, found) = (index, found + 1);
            let owner = Owner::Object(object.clone(), index);
            self.bring_back(owner, Around::Object, number).await?;
            self.executor().reschedule_if_asked().await;
        }
    }

    /// The same of a u-area, which is then in memory.
    async fn empty_uarea(
        self: &Arc<Self>,
        residence: &Residence,
        number: usize,
    ) -> Result<usize, SwapError> {
        let mut patience = PATIENCE;
        let mut found = 0;
        while residence.has_slot_on(number) {
            found = 1;
            self.swap().left_on(number)?;
            match residence.come(AllocFor::User).await {
                Ok(()) => {}
                Err(ComesNot::OutOfMemory) => self.wait_a_little(&mut patience).await?,
                Err(ComesNot::Io(error)) => return Err(error.into()),
                Err(ComesNot::Freed) => break,
            }
        }
        self.executor().reschedule_if_asked().await;
        Ok(found)
    }

    /// There is no frame. Not among those who wait for frames: for their sake processes are killed.
    async fn wait_a_little(&self, patience: &mut u32) -> Result<(), OutOfMemory> {
        *patience = patience.checked_sub(1).ok_or(OutOfMemory)?;
        self.wake_pagedaemon();
        self.executor().sleep(PAUSE).await;
        Ok(())
    }

    /// Brings a page in, with those around it if it can, and gives its slot up, if that is on the device.
    async fn bring_back(
        self: &Arc<Self>,
        owner: Owner,
        around: Around<'_>,
        number: usize,
    ) -> Result<(), SwapError> {
        /// What is in the way.
        enum Blocked {
            /// A transfer.
            Busy(PageHold),
            /// It is on the device only.
            Out,
        }
        let mut patience = PATIENCE;
        let mut advice = Advice::Normal;
        loop {
            self.swap().left_on(number)?;
            let blocked = owner.with(|held| {
                held.slot().filter(|slot| slot.device() == number)?;
                let Some(frame) = held.frame() else {
                    return Some(Blocked::Out);
                };
                if self.page(frame).is_busy() {
                    return Some(Blocked::Busy(PageHold::new(self, frame)));
                }
                held.give_slot_up(self);
                None
            });
            let hold = match blocked {
                None => return Ok(()),
                Some(Blocked::Busy(hold)) => hold,
                Some(Blocked::Out) => match self.swap_in(owner.clone(), around, advice).await {
                    Ok(Some(hold)) => hold,
                    Ok(None) => continue,
                    Err(OutOfMemory) => {
                        self.wait_a_little(&mut patience).await?;
                        continue;
                    }
                },
            };
            match hold.settled().await {
                Settled::Valid => {}
                Settled::ClusterFailed => advice = Advice::Random,
                Settled::Failed => return Err(IoError::Device.into()),
            }
        }
    }
}

impl Swap {
    /// Slots in use on a device that is being taken away.
    ///
    /// # Errors
    /// [`OutOfMemory`] if that has been called off.
    fn left_on(&self, number: usize) -> Result<Option<usize>, OutOfMemory> {
        match self.devices[number].lock().as_ref() {
            Some(device) if device.state == State::CalledOff => Err(OutOfMemory),
            device => Ok(device.map(|device| device.what.used)),
        }
    }

    /// Has all devices that are being taken away stay: memory is full, and nothing else can be freed. Whether there was any.
    pub(crate) fn call_off(&self) -> bool {
        let mut any = false;
        for device in &self.devices {
            if let Some(device) = device.lock().as_mut() {
                any |= self.stay(device);
            }
        }
        any
    }

    /// A device takes pages again, unless it does already.
    fn stay(&self, device: &mut super::Device) -> bool {
        let leaving = device.state == State::Leaving;
        if leaving {
            device.state = State::CalledOff;
            self.room.fetch_add(device.map.free(), Relaxed);
        }
        leaving
    }
}

impl Residence {
    /// Whether it has a page on a device, or is about to.
    fn has_slot_on(&self, device: usize) -> bool {
        let slots = self.slots();
        slots.is_some_and(|(slots, _)| slots.iter().any(|slot| slot.device() == device))
    }
}

impl VmSpace {
    /// Looks at a few pages at `va` and later for an anon that has a slot on a device: its place, and who has it; or where to go on. `None`:
    /// there is nothing there any more.
    fn next_swapped(&self, va: u64, device: usize) -> Option<(u64, Option<Owner>)> {
        let map = self.map.read();
        let part = map.part(va)?;
        let entry = part.entry;
        let on_device = |anon: &Anon| anon.lock().slot.is_some_and(|s| s.device() == device);
        let found = entry.amap.as_ref().and_then(|amap| {
            let slots = amap.lock();
            // Where memory was too short to count who shows what, anons are left that nobody does.
            if part.from == entry.start && matches!(slots.runs, Runs::Lost) {
                let mut all = slots.anons.iter_from(0).map(|(_, anon)| anon);
                return all
                    .find(|anon| on_device(anon))
                    .map(|anon| (entry.start, anon.clone()));
            }
            let found = part.anons(&slots).find(|(_, anon)| on_device(anon));
            found.map(|(va, anon)| (va, anon.clone()))
        });
        Some(match found {
            // The same place once more: it may have another anon by then.
            Some((va, anon)) => (va, Some(Owner::Anon(anon))),
            None => (part.to, None),
        })
    }
}
