//! Disks as uvm wants them: [`BlockDevice`] around a driver's [`Disk`].
//!
//! Owns the requests between the two: one slot for each that the driver can have in flight, made with the
//! device, and a queue for the rest, so that neither starting nor completing one allocates. Does not own
//! their memory, which is the submitter's until [`PageIo::complete`].
//!
//! Synchronisation: two bounded lock-free queues, of free slots and of waiting requests. Whoever adds to
//! either moves requests on (`DiskDevice::pump`), so none is left while a slot is free. A driver's disk
//! must have only one such device around it.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use crossbeam_queue::ArrayQueue;
use drivers::block::{self, Disk, DiskError, Done, SECTOR_SIZE};
use executor::sync::SpinLock;
use uvm::io::{self, BlockDevice, Discards, IO_SLOTS, IoError, Op, PageIo};

/// A driver's disk as a device for uvm.
pub struct DiskDevice {
    disk: Arc<dyn Disk>,
    slots: Vec<Slot>,
    free: ArrayQueue<usize>,
    waiting: ArrayQueue<PageIo>,
}

/// A disk with the name that users know it by.
pub struct NamedDisk {
    /// `virtioN` or `ramN`.
    pub name: String,
    /// The disk.
    pub device: Arc<DiskDevice>,
}

/// What a driver's completion token points to.
struct Slot {
    device: Weak<DiskDevice>,
    number: usize,
    /// The request that the driver has, and what keeps this slot where it is meanwhile.
    busy: SpinLock<Option<(PageIo, Arc<DiskDevice>)>>,
}

impl DiskDevice {
    /// The device around `disk`. Allocates for all its requests: at boot.
    pub fn new(disk: Arc<dyn Disk>) -> Arc<DiskDevice> {
        let depth = disk.depth().clamp(1, IO_SLOTS);
        let free = ArrayQueue::new(depth);
        Arc::new_cyclic(|this| DiskDevice {
            disk,
            slots: (0..depth)
                .map(|number| {
                    // As many as there is room for.
                    let _ = free.push(number);
                    Slot {
                        device: this.clone(),
                        number,
                        busy: SpinLock::new(None),
                    }
                })
                .collect(),
            free,
            waiting: ArrayQueue::new(IO_SLOTS),
        })
    }

    /// The driver's side.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Gives waiting requests to the driver while there are free slots.
    fn pump(&self) {
        while let Some(number) = self.free.pop() {
            match self.waiting.pop() {
                Some(io) => self.launch(&self.slots[number], io),
                None => {
                    let _ = self.free.push(number);
                    if self.waiting.is_empty() {
                        return;
                    }
                    // One came in between, and whoever brought it may have found no slot.
                }
            }
        }
    }

    /// Gives one request to the driver; if that cannot be, the slot is free again and the request failed.
    fn launch(&self, slot: &Slot, io: PageIo) {
        let error = match (io.with_request(translate), slot.device.upgrade()) {
            (Ok(mut request), Some(device)) => {
                request.done.token = core::ptr::from_ref(slot) as usize;
                // Recorded before the driver knows of it: the completion may come at once.
                *slot.busy.lock() = Some((io, device));
                if self.disk.start(request).is_ok() {
                    return;
                }
                // A driver that takes fewer than its depth.
                slot.take(Err(IoError::Device));
                return;
            }
            (Ok(_), None) => IoError::Device,
            (Err(error), _) => error,
        };
        let _ = self.free.push(slot.number);
        io.complete(Err(error));
    }
}

impl Slot {
    /// Frees the slot and ends its request. Returns the device, if there was one.
    fn take(&self, result: Result<(), IoError>) -> Option<Arc<DiskDevice>> {
        let (io, device) = self.busy.lock().take()?;
        let _ = device.free.push(self.number);
        io.complete(result);
        Some(device)
    }
}

impl BlockDevice for DiskDevice {
    fn size(&self) -> u64 {
        self.disk.sectors() * SECTOR_SIZE as u64
    }

    fn read_only(&self) -> bool {
        self.disk.read_only()
    }

    fn discards(&self) -> Discards {
        let features = self.disk.features();
        let most = u64::from(features.max_discard_sectors) * SECTOR_SIZE as u64;
        match features.discard_gains {
            _ if most == 0 => Discards::Unsupported,
            true => Discards::Useful(most),
            false => Discards::Useless(most),
        }
    }

    fn start(&self, io: PageIo) {
        if let Err(io) = self.waiting.push(io) {
            // There are no more requests than places in this queue.
            io.complete(Err(IoError::Device));
        }
        self.pump();
    }
}

/// The driver's form of a request, its token still open.
fn translate(request: &io::Request) -> Result<block::Request, IoError> {
    let sector = SECTOR_SIZE as u64;
    if !request.offset.is_multiple_of(sector) || !request.len.is_multiple_of(sector) {
        return Err(IoError::OutOfRange);
    }
    let op = match request.op {
        Op::Read => block::Op::Read,
        Op::Write => block::Op::Write,
        Op::Flush => block::Op::Flush,
        Op::Discard => block::Op::Discard,
    };
    let segments: ArrayVec<_, { block::MAX_SEGMENTS }> = request
        .segments
        .iter()
        .map(|segment| block::Segment {
            phys: segment.phys(),
            len: segment.len,
        })
        .collect();
    let sectors = match op {
        block::Op::Discard => {
            u32::try_from(request.len / sector).map_err(|_| IoError::OutOfRange)?
        }
        _ => 0,
    };
    Ok(block::Request {
        op,
        sector: request.offset / sector,
        segments,
        sectors,
        done: Done {
            call: completed,
            token: 0,
        },
    })
}

/// The driver's completion: from a task, once for each request started.
fn completed(token: usize, result: Result<(), DiskError>) {
    // SAFETY: `launch` made the token from a slot, and put a reference into it that keeps the device, and so
    // the slot, alive until `take` hands it out below.
    let slot = unsafe { &*(token as *const Slot) };
    let result = result.map_err(|error| match error {
        DiskError::OutOfRange => IoError::OutOfRange,
        DiskError::ReadOnly => IoError::ReadOnly,
        DiskError::Io | DiskError::Unsupported | DiskError::Malformed | DiskError::Failed => {
            IoError::Device
        }
    });
    if let Some(device) = slot.take(result) {
        device.pump();
    }
}
