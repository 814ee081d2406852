//! A split virtqueue (virtio 1.2, 2.7): the rings through which a driver lends memory to a device.
//!
//! The queue owns three shared areas: the descriptor table with the two rings, and a table of indirect descriptors
//! for each *slot*. A slot is one request in flight; it is lent to the device by [`Queue::push`] and comes back once
//! by [`Queue::pop`]. With indirect descriptors a slot uses one descriptor of the main table, so that the queue holds
//! as many requests as it has descriptors; a device without them gets the main table cut into equal runs, one per slot.
//!
//! # How it synchronises
//!
//! The driver's side is `&mut self`: its owner's lock serialises it. Against the device:
//!
//! - `push` writes the descriptors and the ring entry, then [`Queue::publish`] stores the available index with
//!   release: a device that sees the index sees the rest.
//! - `publish` puts a full fence between that store and its look at what the device asked for (event index or flag).
//!   The device stores its wish, fences, and looks at the index once more. One of the two sees the other.
//! - [`Queue::arm`] is the mirror image: store the wish for an interrupt, fence, look at the used index once more.
//! - `pop` loads the used index with acquire before it reads the entry.
//!
//! Everything that the device writes is checked: an index that runs ahead of what was lent, or an entry that names no
//! slot in the device's hands, is [`Malformed`].

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::fence::Fence;
use super::memory::SharedMemory;
use crate::Dma;

/// The most descriptors that a queue of ours has; a device may offer more.
pub(crate) const MAX_SIZE: u16 = 256;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR: usize = 16;

/// `used.flags`: the device wants no doorbells.
const USED_NO_NOTIFY: u16 = 1;
/// `avail.flags`: the driver wants no interrupts.
const AVAIL_NO_INTERRUPT: u16 = 1;

/// Which way the data of a buffer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The device reads it.
    ToDevice,
    /// The device writes it.
    FromDevice,
}

/// A piece of memory lent to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) phys: u64,
    pub(crate) len: u32,
    pub(crate) direction: Direction,
}

/// How a queue is laid out, as negotiated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Descriptors in the main table: a power of two, at most [`MAX_SIZE`].
    pub(crate) size: u16,
    /// The most buffers in one request.
    pub(crate) chain: u16,
    /// The device takes indirect descriptors.
    pub(crate) indirect: bool,
    /// Doorbells and interrupts go by index rather than by flag.
    pub(crate) event_index: bool,
}

/// Physical addresses of the queue's parts, for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueAddresses {
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring, which the driver writes.
    pub available: u64,
    /// The used ring, which the device writes.
    pub used: u64,
}

/// What a device did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It says that it used more than it was lent.
    Index { used: u16, in_flight: u16 },
    /// It names a request that it does not have: never lent, or already given back.
    Id(u32),
}

/// The driver's side of a virtqueue.
#[derive(Debug)]
pub(crate) struct Queue {
    layout: Layout,
    rings: SharedMemory,
    tables: Option<SharedMemory>,
    fence: Fence,
    /// Per slot: the device has it.
    lent: Vec<bool>,
    in_flight: u16,
    /// Next available index to write, of which `published` is what the device was shown.
    available: u16,
    published: u16,
    /// Next used index to read.
    used: u16,
}

impl Queue {
    /// Takes memory for a queue, or gives `None` when there is too little, or `layout` leaves no room for a request.
    pub(crate) fn new(dma: &dyn Dma, layout: Layout) -> Option<Queue> {
        let Layout {
            size,
            chain,
            indirect,
            ..
        } = layout;
        if !size.is_power_of_two() || size > MAX_SIZE || chain == 0 {
            return None;
        }
        let slots = if indirect { size } else { size / chain };
        if slots == 0 {
            return None;
        }
        let rings = SharedMemory::allocate(dma, used_ring(size) + 6 + 8 * usize::from(size))?;
        let tables = if indirect {
            Some(SharedMemory::allocate(
                dma,
                usize::from(slots) * table_size(chain),
            )?)
        } else {
            None
        };
        let lent = vec![false; usize::from(slots)];
        Some(Queue {
            layout,
            rings,
            tables,
            fence: Fence::new(),
            lent,
            in_flight: 0,
            available: 0,
            published: 0,
            used: 0,
        })
    }

    /// Where the device finds the queue.
    pub(crate) fn addresses(&self) -> QueueAddresses {
        QueueAddresses {
            descriptors: self.rings.phys(0),
            available: self.rings.phys(self.available_ring()),
            used: self.rings.phys(used_ring(self.layout.size)),
        }
    }

    /// Requests that fit at once; slots are numbered below it.
    pub(crate) fn slots(&self) -> usize {
        self.lent.len()
    }

    /// Lends `buffers` to the device under `slot`, which must not be lent and, like the number of buffers, within
    /// the layout. The device does not see it before [`Queue::publish`].
    pub(crate) fn push(&mut self, slot: u16, buffers: &[Buffer]) {
        let Layout { size, chain, .. } = self.layout;
        assert!(!buffers.is_empty() && buffers.len() <= usize::from(chain));
        let lent = core::mem::replace(&mut self.lent[usize::from(slot)], true);
        assert!(!lent, "a request was lent twice");
        let head = match self.tables {
            Some(tables) => {
                let table = usize::from(slot) * table_size(chain);
                write_chain(&tables, table, 0, buffers);
                let len = (buffers.len() * DESCRIPTOR) as u32;
                write_descriptor(
                    &self.rings,
                    usize::from(slot) * DESCRIPTOR,
                    tables.phys(table),
                    len,
                    INDIRECT,
                    0,
                );
                slot
            }
            None => {
                let head = slot * chain;
                write_chain(&self.rings, usize::from(head) * DESCRIPTOR, head, buffers);
                head
            }
        };
        let entry = self.available_ring() + 4 + 2 * usize::from(self.available % size);
        self.rings.write(entry, head);
        self.available = self.available.wrapping_add(1);
        self.in_flight += 1;
    }

    /// Shows the device everything pushed. True when it wants a doorbell for it.
    #[must_use]
    pub(crate) fn publish(&mut self) -> bool {
        let before = core::mem::replace(&mut self.published, self.available);
        self.rings
            .index(self.available_ring() + 2)
            .store(self.available, Release);
        self.fence.full();
        if self.layout.event_index {
            let event = self.rings.index(self.available_event()).load(Relaxed);
            passed(event, before, self.available)
        } else {
            self.rings.index(used_ring(self.layout.size)).load(Relaxed) & USED_NO_NOTIFY == 0
        }
    }

    /// Takes one slot back, or `None` when the device has given back no more.
    ///
    /// # Errors
    /// [`Malformed`]; the queue is then of no further use.
    pub(crate) fn pop(&mut self) -> Result<Option<u16>, Malformed> {
        let Layout { size, chain, .. } = self.layout;
        let ring = used_ring(size);
        let used = self.rings.index(ring + 2).load(Acquire);
        let given_back = used.wrapping_sub(self.used);
        if given_back == 0 {
            return Ok(None);
        }
        if given_back > self.in_flight {
            return Err(Malformed::Index {
                used,
                in_flight: self.in_flight,
            });
        }
        let id: u32 = self
            .rings
            .read(ring + 4 + 8 * usize::from(self.used % size));
        let slot = if self.tables.is_some() {
            Some(id)
        } else {
            id.is_multiple_of(u32::from(chain))
                .then_some(id / u32::from(chain))
        };
        let lent = slot
            .and_then(|slot| self.lent.get_mut(slot as usize))
            .ok_or(Malformed::Id(id))?;
        if !core::mem::replace(lent, false) {
            return Err(Malformed::Id(id));
        }
        self.used = self.used.wrapping_add(1);
        self.in_flight -= 1;
        Ok(slot.map(|slot| slot as u16))
    }

    /// Asks for an interrupt when the next slot comes back. True when one has come back already: [`Queue::pop`] it,
    /// for no interrupt may follow.
    #[must_use]
    pub(crate) fn arm(&mut self) -> bool {
        if self.layout.event_index {
            self.rings
                .index(self.used_event())
                .store(self.used, Relaxed);
        } else {
            self.rings.index(self.available_ring()).store(0, Relaxed);
        }
        self.fence.full();
        self.rings
            .index(used_ring(self.layout.size) + 2)
            .load(Relaxed)
            != self.used
    }

    /// Asks for no more interrupts, while slots are being taken back anyway. A hint: one may still come. By event
    /// index there is nothing to do, since the index asked for has been passed.
    pub(crate) fn disarm(&mut self) {
        if !self.layout.event_index {
            self.rings
                .index(self.available_ring())
                .store(AVAIL_NO_INTERRUPT, Relaxed);
        }
    }

    fn available_ring(&self) -> usize {
        usize::from(self.layout.size) * DESCRIPTOR
    }

    /// Where the driver says which used index is to interrupt: behind the available ring.
    fn used_event(&self) -> usize {
        self.available_ring() + 4 + 2 * usize::from(self.layout.size)
    }

    /// Where the device says which available index is to ring: behind the used ring.
    fn available_event(&self) -> usize {
        used_ring(self.layout.size) + 4 + 8 * usize::from(self.layout.size)
    }
}

/// Offset of the used ring behind the descriptors and the available ring, aligned to 4.
fn used_ring(size: u16) -> usize {
    (usize::from(size) * (DESCRIPTOR + 2) + 6).next_multiple_of(4)
}

fn table_size(chain: u16) -> usize {
    usize::from(chain) * DESCRIPTOR
}

/// Whether going from `before` to `now` passed `event` (virtio 1.2, 2.7.10: `vring_need_event`).
fn passed(event: u16, before: u16, now: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}

/// Writes a chain of descriptors at byte `at`, where the first has index `first`.
fn write_chain(memory: &SharedMemory, at: usize, first: u16, buffers: &[Buffer]) {
    for (n, buffer) in buffers.iter().enumerate() {
        let mut flags = match buffer.direction {
            Direction::ToDevice => 0,
            Direction::FromDevice => WRITE,
        };
        let mut next = 0;
        if n + 1 < buffers.len() {
            flags |= NEXT;
            next = first + n as u16 + 1;
        }
        write_descriptor(
            memory,
            at + n * DESCRIPTOR,
            buffer.phys,
            buffer.len,
            flags,
            next,
        );
    }
}

fn write_descriptor(memory: &SharedMemory, at: usize, phys: u64, len: u32, flags: u16, next: u16) {
    memory.write(at, phys);
    memory.write(at + 8, len);
    memory.write(at + 12, flags);
    memory.write(at + 14, next);
}
