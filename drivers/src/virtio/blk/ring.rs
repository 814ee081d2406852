//! Requests on the ring: how an operation looks to the device, and which request its answer belongs to.
//!
//! Each slot of the queue has 64 bytes of shared memory: the header, the range of a discard, the status byte. A request
//! stands in the table from before the device can see it until its slot has come back; only then is the slot free.
//!
//! Synchronisation: `&mut self`, under the driver's lock.

use alloc::vec::Vec;
use arrayvec::ArrayVec;

use super::super::memory::SharedMemory;
use super::super::queue::{Buffer, Direction, Layout, Malformed, Queue, QueueAddresses};
use crate::Dma;
use crate::block::{DiskError, MAX_SEGMENTS, Op, Request};

/// Buffers of the longest request: header, segments, status.
pub(super) const MAX_CHAIN: u16 = MAX_SEGMENTS as u16 + 2;

/// What stands in a slot of shared memory, by offset.
pub(in super::super) mod header {
    pub const TYPE: usize = 0;
    pub const RESERVED: usize = 4;
    pub const SECTOR: usize = 8;
    pub const LEN: u32 = 16;
    /// The range of a discard or write-zeroes.
    pub const RANGE: usize = 16;
    pub const RANGE_SECTORS: usize = 24;
    pub const RANGE_FLAGS: usize = 28;
    pub const RANGE_LEN: u32 = 16;
    pub const STATUS: usize = 32;
    /// Bytes from one slot to the next.
    pub const STRIDE: usize = 64;
}

/// Request types.
pub(in super::super) mod request_type {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// What a device answers.
pub(in super::super) mod status {
    pub const OK: u8 = 0;
    #[cfg(test)]
    pub const IOERR: u8 = 1;
    pub const UNSUPP: u8 = 2;
    /// What the driver puts there, and no device answers.
    pub const UNANSWERED: u8 = 0xff;
}

/// A request that came back, and how it went.
pub(super) struct Taken<T> {
    pub(super) tag: T,
    pub(super) result: Result<(), DiskError>,
}

/// The queue with the requests that are on it, each with a `T` of the driver's.
pub(super) struct Ring<T> {
    queue: Queue,
    headers: SharedMemory,
    requests: Vec<Option<T>>,
    free: Vec<u16>,
}

impl<T> Ring<T> {
    /// Takes memory for a ring. `None` when there is too little, or the layout has no room for a request.
    pub(super) fn new(dma: &dyn Dma, layout: Layout) -> Option<Ring<T>> {
        let queue = Queue::new(dma, layout)?;
        let slots = queue.slots();
        let headers = SharedMemory::allocate(dma, slots * header::STRIDE)?;
        let mut requests = Vec::new();
        requests.resize_with(slots, || None);
        let free = (0..slots as u16).rev().collect();
        Some(Ring {
            queue,
            headers,
            requests,
            free,
        })
    }

    /// Where the device finds the queue.
    pub(super) fn addresses(&self) -> QueueAddresses {
        self.queue.addresses()
    }

    /// Requests that fit.
    pub(super) fn depth(&self) -> usize {
        self.queue.slots()
    }

    /// Whether [`Ring::start`] may be called.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Lends a request, which must be sound ([`Request::check`]), to the device. True when the device wants a
    /// doorbell for it. There must be room.
    #[must_use]
    pub(super) fn start(&mut self, request: &Request, tag: T) -> bool {
        let Some(slot) = self.free.pop() else {
            unreachable!("the caller looked for room under the same lock");
        };
        let at = usize::from(slot) * header::STRIDE;
        let kind = match request.op {
            Op::Read => request_type::IN,
            Op::Write => request_type::OUT,
            Op::Flush => request_type::FLUSH,
            Op::Discard => request_type::DISCARD,
            Op::WriteZeroes => request_type::WRITE_ZEROES,
        };
        let ranged = matches!(request.op, Op::Discard | Op::WriteZeroes);
        // Where there is a range, it names the sectors, and the header's own field must be zero.
        let sector = if ranged { 0 } else { request.sector };
        self.headers.write(at + header::TYPE, kind);
        self.headers.write(at + header::RESERVED, 0u32);
        self.headers.write(at + header::SECTOR, sector);
        self.headers.write(at + header::STATUS, status::UNANSWERED);

        let shared = |offset: usize, len: u32, direction| Buffer {
            phys: self.headers.phys(at + offset),
            len,
            direction,
        };
        let mut chain: ArrayVec<Buffer, { MAX_CHAIN as usize }> = ArrayVec::new();
        chain.push(shared(header::TYPE, header::LEN, Direction::ToDevice));
        if ranged {
            self.headers.write(at + header::RANGE, request.sector);
            self.headers
                .write(at + header::RANGE_SECTORS, request.sectors);
            self.headers.write(at + header::RANGE_FLAGS, 0u32);
            chain.push(shared(
                header::RANGE,
                header::RANGE_LEN,
                Direction::ToDevice,
            ));
        }
        let direction = if request.op == Op::Read {
            Direction::FromDevice
        } else {
            Direction::ToDevice
        };
        chain.extend(request.segments.iter().map(|s| Buffer {
            phys: s.phys,
            len: s.len,
            direction,
        }));
        chain.push(shared(header::STATUS, 1, Direction::FromDevice));

        self.requests[usize::from(slot)] = Some(tag);
        self.queue.push(slot, &chain);
        self.queue.publish()
    }

    /// Takes back one request that the device is done with, and how it went; `None` when there is none.
    ///
    /// # Errors
    /// [`Malformed`] when the used ring makes no sense; then only [`Ring::abandon`] is left.
    pub(super) fn take(&mut self) -> Result<Option<Taken<T>>, Malformed> {
        let Some(slot) = self.queue.pop()? else {
            return Ok(None);
        };
        let Some(tag) = self.requests[usize::from(slot)].take() else {
            return Err(Malformed::Id(u32::from(slot)));
        };
        let answer: u8 = self
            .headers
            .read(usize::from(slot) * header::STRIDE + header::STATUS);
        self.free.push(slot);
        let result = match answer {
            status::OK => Ok(()),
            status::UNSUPP => Err(DiskError::Unsupported),
            // IOERR; and an unknown answer, or none at all, says no more: the data cannot be trusted.
            _ => Err(DiskError::Io),
        };
        Ok(Some(Taken { tag, result }))
    }

    /// Takes one request away from a device that has been stopped; `None` when there are no more.
    pub(super) fn abandon(&mut self) -> Option<T> {
        self.requests.iter_mut().find_map(Option::take)
    }

    /// Asks for an interrupt when the next request comes back. True when there is one to [`Ring::take`] already.
    #[must_use]
    pub(super) fn arm(&mut self) -> bool {
        self.queue.arm()
    }

    /// Asks for no interrupts, as far as the device can be asked.
    pub(super) fn disarm(&mut self) {
        self.queue.disarm();
    }
}
