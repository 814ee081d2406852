//! Swap: where anonymous memory goes when it does not fit into RAM.
//!
//! # What this owns
//! The swap devices and their slots (`slots`). A slot holds one page of one anon, or of one anonymous object, which notes it, or of a u-area that is out
//! (`uarea`); while the page is in memory as well and nobody has written to it, its frame can be had back without a write.
//!
//! | a page of anonymous memory has | it is |
//! |---|---|
//! | a frame | in memory, nowhere else |
//! | a frame, CLEAN, and a slot | in memory and on the device |
//! | a frame, not CLEAN, and a slot | in memory; what the slot holds is old, and the slot is given up at the next write |
//! | a slot | on the device: *swap-only* |
//!
//! # In and out
//! `pagein` reads clusters of slots for faults; [`pageout`] writes what the pagedaemon has chosen, by worker tasks; `off` takes a device
//! away; [`discard`] tells devices what holds nothing any more; [`raw`] has slots that are no page's, to measure what a device can do. A page in transfer is BUSY, and the transfer has a
//! counted reference to its owner: so nothing frees a frame, or gives a slot to someone else, under it (row 17), whatever is unmapped
//! meanwhile.
//!
//! # How it synchronises
//! A spin lock for each device, and one for their order: all last in the order of locks, never two at once. Which slot a page has is its
//! owner's to know, under the owner's lock.

pub mod discard;
pub(crate) mod header;
mod off;
pub(crate) mod owner;
pub(crate) mod pagein;
pub mod pageout;
pub mod raw;
mod slots;
#[cfg(test)]
mod tests;
pub(crate) mod uarea;

use alloc::sync::Arc;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arrayvec::{ArrayString, ArrayVec};
use executor::sync::Mutex;

pub use discard::Discarding;
pub use header::BadHeader;
pub(crate) use owner::Owner;
pub(crate) use pagein::SwapIn;

use self::discard::Discarder;
use self::header::Header;
use self::pageout::Pageout;
use self::slots::{SlotMap, Words};
use crate::Uvm;
use crate::addr::PAGE_SIZE;
use crate::io::{BlockDevice, IoError, Op, Request, Segment};
use crate::lock::{LEAF, SpinLock};
use crate::meter::{Counter, Gauge};
use crate::page::freelist::{AllocFor, Zero};
use crate::page::fresh::Fresh;
use crate::pool::OutOfMemory;

/// Most devices at once.
pub const MAX_DEVICES: usize = 16;
/// Longest name of one, in bytes.
pub const MAX_NAME: usize = 32;
/// Bits of a slot number that say which page of the device it is.
const PAGE_BITS: u32 = 27;
/// Most pages of one device: 512 GiB.
const MAX_PAGES: u64 = 1 << PAGE_BITS;

const _: () = assert!(MAX_DEVICES <= 1 << (u32::BITS - PAGE_BITS));

/// Why something cannot be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// It is swap space already.
    #[error("already in use as swap space")]
    Exists,
    /// It is no swap space.
    #[error("not in use as swap space")]
    Unknown,
    /// Somebody is taking it away just now.
    #[error("being removed")]
    Busy,
    /// There are as many as can be.
    #[error("too many swap devices")]
    TooMany,
    /// Its name is longer than [`MAX_NAME`].
    #[error("name too long")]
    NameTooLong,
    /// It cannot discard.
    #[error("device cannot discard")]
    NoDiscard,
    /// It cannot be written.
    #[error("device is read-only")]
    ReadOnly,
    /// It has no proper signature.
    #[error("{0}")]
    Header(#[from] BadHeader),
    /// The device failed.
    #[error("{0}")]
    Io(#[from] IoError),
    /// There is no memory: to describe it, or for what is on it.
    #[error("out of memory")]
    OutOfMemory,
}

impl From<OutOfMemory> for SwapError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// A page of a swap device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SwapSlot(NonZeroU32);

impl SwapSlot {
    fn new(device: usize, page: usize) -> Option<Self> {
        NonZeroU32::new((device as u32) << PAGE_BITS | page as u32).map(Self)
    }

    pub(crate) const fn device(self) -> usize {
        (self.0.get() >> PAGE_BITS) as usize
    }

    pub(crate) const fn page(self) -> usize {
        (self.0.get() & (MAX_PAGES as u32 - 1)) as usize
    }

    /// A number that no other slot has.
    pub(crate) const fn number(self) -> u32 {
        self.0.get()
    }

    /// The slot `n` further on, on the same device.
    pub(crate) fn offset(self, n: isize) -> Option<Self> {
        let page = self.page().checked_add_signed(n)?;
        ((page as u64) < MAX_PAGES).then_some(())?;
        Self::new(self.device(), page)
    }
}

/// A set of slots: a bit for each. For `check`.
pub(crate) struct SlotSet {
    devices: [Option<Words>; MAX_DEVICES],
    len: usize,
}

impl SlotSet {
    /// The empty set of the slots that there are now.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(crate) fn new(uvm: &Uvm) -> Result<Self, OutOfMemory> {
        let mut set = Self {
            devices: [const { None }; MAX_DEVICES],
            len: 0,
        };
        for (device, bits) in uvm.swap().devices.iter().zip(&mut set.devices) {
            let slots = device.lock().as_ref().map(|device| device.map.len());
            *bits = slots.map(Words::for_slots).transpose()?;
        }
        Ok(set)
    }

    /// Adds a slot; whether it was not in it.
    pub(crate) fn insert(&mut self, slot: SwapSlot) -> bool {
        let bits = self.devices[slot.device()].as_mut();
        let new = bits.is_some_and(|bits| bits.mark(slot.page()));
        self.len += usize::from(new);
        new
    }

    /// How many there are in it.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapDevice {
    /// Its name.
    pub name: ArrayString<MAX_NAME>,
    /// Those of lower number are used first.
    pub priority: i16,
    /// Pages that it has room for.
    pub pages: usize,
    /// Pages in use.
    pub used: usize,
    /// Pages that could not be written, or not read, or that the signature calls bad; those in use, whose contents may yet be read, are not
    /// among them.
    pub bad: usize,
    /// Whether it hears what holds nothing any more.
    pub discarding: Discarding,
}

struct Device {
    disk: Arc<dyn BlockDevice>,
    what: SwapDevice,
    map: SlotMap,
    state: State,
    /// Most slots of one discard.
    discard_most: usize,
}

/// Whether a device takes new pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It does.
    InUse,
    /// It is being taken away: nothing new goes there. Then it is gone, or in use as before.
    Leaving,
    /// The same has been called off: it takes pages again. Who takes it away has not noticed yet.
    CalledOff,
}

impl Device {
    fn takes_pages(&self) -> bool {
        self.state != State::Leaving
    }

    /// So many slots that hold nothing are never used again.
    fn retire(&mut self, uvm: &Uvm, slots: usize) {
        self.what.bad += slots;
        self.what.pages -= slots;
        uvm.meter().lower(Gauge::Swpages, slots as u64);
        uvm.count_n(Counter::Pdbadslot, slots);
    }
}

/// All devices.
pub(crate) struct Swap {
    devices: [SpinLock<Option<Device>, LEAF>; MAX_DEVICES],
    /// Numbers of the devices in use with their priorities, in the order in which they are asked.
    order: SpinLock<ArrayVec<(i16, u8), MAX_DEVICES>, LEAF>,
    /// Free slots of all devices that take new pages. A hint for who does not want to take a lock for each page that it looks at.
    room: AtomicUsize,
    /// Held by who adds a device, from the look whether it is there to the end: else two could add the same.
    adding: Mutex<()>,
    pub(crate) out: Pageout,
    discarder: Discarder,
}

impl Swap {
    pub(crate) fn new(managed: usize) -> Self {
        Self {
            devices: [const { SpinLock::new(None) }; MAX_DEVICES],
            order: SpinLock::new(ArrayVec::new()),
            room: AtomicUsize::new(0),
            adding: Mutex::new("swapon", ()),
            out: Pageout::new(managed),
            discarder: Discarder::new(),
        }
    }

    /// Takes up to `want` slots in a row: the first, and how many. `None`: all are in use.
    fn take_run(&self, uvm: &Uvm, want: usize) -> Option<(SwapSlot, usize)> {
        // Whoever changes the order meanwhile: a device asked twice, or not this time, is no harm.
        let mut turn = 0;
        while let Some((priority, number)) = self.at_turn(turn) {
            turn += 1;
            let number = usize::from(number);
            let run = {
                let mut device = self.devices[number].lock();
                let device = device.as_mut().filter(|device| device.takes_pages());
                device.and_then(|device| {
                    let run = device.map.take_run(want)?;
                    device.what.used += run.1;
                    self.room.fetch_sub(run.1, Relaxed);
                    Some(run)
                })
            };
            if let Some((page, len)) = run {
                self.move_back(priority, number);
                uvm.meter().raise(Gauge::Swpginuse, len as u64);
                return Some((SwapSlot::new(number, page)?, len));
            }
        }
        None
    }

    /// The device that is asked after so many others.
    fn at_turn(&self, turn: usize) -> Option<(i16, u8)> {
        self.order.lock().get(turn).copied()
    }

    /// Round robin: the next run comes from another device of the same priority.
    fn move_back(&self, priority: i16, number: usize) {
        let mut order = self.order.lock();
        if order.len() == 1 {
            return;
        }
        let at = order.iter().position(|&(_, n)| usize::from(n) == number);
        let last = order.iter().rposition(|&(p, _)| p == priority);
        if let (Some(at), Some(last)) = (at, last)
            && at < last
        {
            order[at..=last].rotate_left(1);
        }
    }

    /// Gives a slot back; the page that it held is nobody's any more.
    pub(crate) fn free(&self, uvm: &Uvm, slot: SwapSlot) {
        self.free_all(uvm, core::iter::once(slot));
    }

    /// Gives slots back, as few locks for slots in a row as can be.
    fn free_all(&self, uvm: &Uvm, slots: impl Iterator<Item = SwapSlot>) {
        let mut slots = slots.peekable();
        while let Some(number) = slots.peek().map(|slot| slot.device()) {
            let mut guard = self.devices[number].lock();
            let here = core::iter::from_fn(|| slots.next_if(|slot| slot.device() == number));
            let Some(device) = guard.as_mut() else {
                debug_assert!(false, "slots of no device");
                here.for_each(drop);
                continue;
            };
            let (given, bad) = device.map.give(here.map(SwapSlot::page));
            device.what.used -= given + bad;
            device.retire(uvm, bad);
            if device.takes_pages() {
                self.room.fetch_add(given, Relaxed);
            }
            let stale = device.discardable() > 0;
            drop(guard);
            uvm.meter().lower(Gauge::Swpginuse, (given + bad) as u64);
            if stale {
                self.discarder.wake();
            }
        }
    }

    /// A slot alone could not be read. Its page is not given up, since another time it may be; but once it is, the slot is not used again.
    fn doubt(&self, slot: SwapSlot) {
        if let Some(device) = self.devices[slot.device()].lock().as_mut() {
            device.map.doubt(slot.page());
        }
    }

    /// Never uses a slot again: it cannot be written. It holds nothing.
    fn condemn(&self, uvm: &Uvm, slot: SwapSlot) {
        if let Some(device) = self.devices[slot.device()].lock().as_mut() {
            device.what.used -= 1;
            device.retire(uvm, 1);
        }
        uvm.meter().lower(Gauge::Swpginuse, 1);
    }

    /// The device of a slot, and where on it the slot begins, in bytes.
    pub(crate) fn place(&self, slot: SwapSlot) -> Option<(Arc<dyn BlockDevice>, u64)> {
        let device = self.devices[slot.device()].lock();
        let disk = device.as_ref()?.disk.clone();
        Some((disk, (slot.page() * PAGE_SIZE) as u64))
    }

    /// Free slots of all devices that take new pages, as they are counted.
    pub(crate) fn counted_room(&self) -> usize {
        self.room.load(Relaxed)
    }

    /// The same, as the devices have it. For `check`.
    pub(crate) fn room(&self) -> usize {
        self.free_on(Device::takes_pages)
    }

    /// Free slots of all devices. For `check`.
    pub(crate) fn free_slots(&self) -> usize {
        self.free_on(|_| true)
    }

    fn free_on(&self, which: impl Fn(&Device) -> bool) -> usize {
        let free = |device: &SpinLock<Option<Device>, LEAF>| {
            let device = device.lock();
            let counted = device.as_ref().filter(|device| which(device));
            counted.map_or(0, |device| device.map.free())
        };
        self.devices.iter().map(free).sum()
    }

    fn find(&self, name: &str) -> Result<usize, SwapError> {
        let named = |device: &SpinLock<Option<Device>, LEAF>| {
            let device = device.lock();
            device
                .as_ref()
                .is_some_and(|device| &device.what.name == name)
        };
        self.devices
            .iter()
            .position(named)
            .ok_or(SwapError::Unknown)
    }

    /// Changes the device of that name, unless it is being taken away: its number, and what `f` answers.
    fn change<R>(
        &self,
        name: &str,
        f: impl FnOnce(&mut Device) -> R,
    ) -> Result<(usize, R), SwapError> {
        let number = self.find(name)?;
        let mut device = self.devices[number].lock();
        let device = device.as_mut().ok_or(SwapError::Unknown)?;
        if device.state != State::InUse {
            return Err(SwapError::Busy);
        }
        Ok((number, f(device)))
    }
}

impl Uvm {
    #[inline]
    pub(crate) fn swap(&self) -> &Swap {
        &self.upper.swap
    }

    /// Uses a device as swap space from now on. Of several the one of the lowest `priority` number is filled first; those of the same take
    /// turns. Awaits its turn, and that the signature is read.
    ///
    /// # Errors
    /// [`SwapError`]. Nothing has changed then.
    pub async fn swapon(
        &self,
        disk: Arc<dyn BlockDevice>,
        name: &str,
        priority: i16,
    ) -> Result<(), SwapError> {
        let name = ArrayString::from(name).map_err(|_| SwapError::NameTooLong)?;
        let _adding = self.swap().adding.lock().await;
        if self.swap().find(&name).is_ok() {
            return Err(SwapError::Exists);
        }
        if disk.read_only() {
            return Err(SwapError::ReadOnly);
        }
        let header = self.read_header(&disk).await?;
        let pages = header.pages.min(MAX_PAGES) as usize;
        let mut map = SlotMap::new(pages)?;
        let mut bad = 0;
        for page in header.bad {
            bad += usize::from(map.take(page as usize));
        }
        let free = map.free();
        let (discarding, discard_most) = Discarding::on(&*disk);
        let device = Device {
            disk,
            what: SwapDevice {
                name,
                priority,
                pages: free,
                used: 0,
                bad,
                discarding,
            },
            map,
            state: State::InUse,
            discard_most,
        };
        self.add_device(device)?;
        self.meter().raise(Gauge::Swpages, free as u64);
        // What could not go anywhere may go now.
        self.wake_pagedaemon();
        Ok(())
    }

    async fn read_header(&self, disk: &Arc<dyn BlockDevice>) -> Result<Header, SwapError> {
        let frame = self.alloc_frame(AllocFor::User, Zero::No);
        let frame = Fresh::new(self, frame.ok_or(OutOfMemory)?);
        let segments = [Segment::page(frame.frame())].into_iter().collect();
        let request = Request::transfer(Op::Read, 0, segments);
        self.io().transfer(disk, request).await?;
        let mut page = [0; PAGE_SIZE];
        self.bytes(frame.frame()).read(0, &mut page);
        Ok(Header::parse(&page, disk.size() / PAGE_SIZE as u64)?)
    }

    fn add_device(&self, device: Device) -> Result<(), SwapError> {
        let (priority, room, swap) = (device.what.priority, device.map.free(), self.swap());
        let mut free = swap.devices.iter().enumerate();
        let mut device = Some(device);
        let number = free.find_map(|(number, place)| {
            let mut place = place.lock();
            place.is_none().then(|| {
                *place = device.take();
                number
            })
        });
        let number = number.ok_or(SwapError::TooMany)?;
        swap.room.fetch_add(room, Relaxed);
        swap.line_up(number, priority);
        Ok(())
    }

    /// The devices in use, in the order in which they are asked for slots.
    #[must_use]
    pub fn swap_devices(&self) -> ArrayVec<SwapDevice, MAX_DEVICES> {
        let swap = self.swap();
        let order = swap.order.lock().clone();
        let what = |(_, number): (i16, u8)| {
            let device = swap.devices[usize::from(number)].lock();
            device.as_ref().map(|device| device.what.clone())
        };
        order.into_iter().filter_map(what).collect()
    }

    /// Changes a device's priority.
    ///
    /// # Errors
    /// [`SwapError::Unknown`], [`SwapError::Busy`].
    pub fn set_swap_priority(&self, name: &str, priority: i16) -> Result<(), SwapError> {
        let swap = self.swap();
        let (number, ()) = swap.change(name, |device| device.what.priority = priority)?;
        swap.line_up(number, priority);
        Ok(())
    }

    /// Whether a page could be written to swap now.
    pub(crate) fn swap_has_room(&self) -> bool {
        self.swap().room.load(Relaxed) > 0
    }
}

impl Swap {
    /// Puts a device, which may have had another place, behind those of its priority.
    fn line_up(&self, number: usize, priority: i16) {
        let mut order = self.order.lock();
        order.retain(|&mut (_, n)| usize::from(n) != number);
        let at = order.partition_point(|&(p, _)| p <= priority);
        // There are never more than the list has room for.
        let _ = order.try_insert(at, (priority, number as u8));
    }
}
