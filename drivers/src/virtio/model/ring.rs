//! A device's side of a split virtqueue (virtio 1.2, 2.7), which distrusts its driver.

use core::sync::atomic::AtomicU16;
use core::sync::atomic::Ordering::SeqCst;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::super::QueueAddresses;
use crate::testing::TestMemory;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A buffer that the driver lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) phys: u64,
    pub(crate) len: u32,
    /// The device may write it, and not read it.
    pub(crate) writable: bool,
}

/// A request as the device sees it.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) head: u16,
    pub(crate) buffers: Vec<Lent>,
    /// Every descriptor it is made of: where, and what stood there.
    descriptors: Vec<(u64, [u8; 16])>,
}

/// A device's side of a queue.
pub(crate) struct DeviceRing {
    memory: &'static TestMemory,
    size: u16,
    addresses: QueueAddresses,
    event_index: bool,
    /// Available entries taken.
    seen: u16,
    /// Used entries given.
    used: u16,
    held: BTreeMap<u16, Chain>,
}

impl DeviceRing {
    pub(crate) fn new(
        memory: &'static TestMemory,
        size: u16,
        addresses: QueueAddresses,
        event_index: bool,
    ) -> DeviceRing {
        assert!(addresses.descriptors.is_multiple_of(16));
        assert!(addresses.available.is_multiple_of(2) && addresses.used.is_multiple_of(4));
        assert!(addresses.available >= addresses.descriptors + 16 * u64::from(size));
        assert!(addresses.used >= addresses.available + 6 + 2 * u64::from(size));
        let held = BTreeMap::new();
        DeviceRing {
            memory,
            size,
            addresses,
            event_index,
            seen: 0,
            used: 0,
            held,
        }
    }

    fn read16(&self, phys: u64) -> u16 {
        self.index(phys).load(SeqCst)
    }

    fn write16(&self, phys: u64, value: u16) {
        self.index(phys).store(value, SeqCst);
    }

    /// An index or event field; the driver may be another thread.
    fn index(&self, phys: u64) -> &AtomicU16 {
        // SAFETY: the memory lives for good, `new` checked the alignment, and both sides access these fields as
        // atomics only.
        unsafe { AtomicU16::from_ptr(self.memory.at(phys, 2).cast().as_ptr()) }
    }

    fn available_index(&self) -> u16 {
        self.read16(self.addresses.available + 2)
    }

    /// Takes the next request, checking that nothing in it is in use by another one.
    pub(crate) fn fetch(&mut self) -> Option<Chain> {
        let index = self.available_index();
        if index == self.seen {
            return None;
        }
        assert!(
            index.wrapping_sub(self.seen) <= self.size,
            "more made available than fits"
        );
        let slot = u64::from(self.seen % self.size);
        let head = self.read16(self.addresses.available + 4 + 2 * slot);
        self.seen = self.seen.wrapping_add(1);
        let chain = self.walk(head);
        for other in self.held.values() {
            let shares = |&(at, _): &(u64, [u8; 16])| other.descriptors.iter().any(|d| d.0 == at);
            assert!(
                !chain.descriptors.iter().any(shares),
                "a descriptor in use was used again"
            );
            let overlaps = |a: &Lent, b: &Lent| {
                a.phys < b.phys + u64::from(b.len) && b.phys < a.phys + u64::from(a.len)
            };
            for buffer in chain.buffers.iter().filter(|b| b.writable) {
                let clash = other.buffers.iter().any(|b| overlaps(b, buffer));
                assert!(
                    !clash,
                    "memory that the device has was lent for writing once more"
                );
            }
        }
        self.held.insert(head, chain.clone());
        Some(chain)
    }

    fn walk(&self, head: u16) -> Chain {
        let mut chain = Chain {
            head,
            buffers: Vec::new(),
            descriptors: Vec::new(),
        };
        let mut table = (self.addresses.descriptors, self.size);
        let mut next = head;
        loop {
            assert!(next < table.1, "a descriptor outside its table");
            assert!(
                chain.descriptors.len() <= usize::from(self.size),
                "a chain in a circle"
            );
            let at = table.0 + 16 * u64::from(next);
            let bytes: [u8; 16] = self.memory.read(at);
            chain.descriptors.push((at, bytes));
            let phys = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let len = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
            let flags = u16::from_le_bytes(bytes[12..14].try_into().unwrap());
            if flags & INDIRECT != 0 {
                assert!(table.0 == self.addresses.descriptors && flags == INDIRECT);
                assert!(len > 0 && len.is_multiple_of(16));
                table = (phys, (len / 16) as u16);
                next = 0;
                continue;
            }
            let writable = flags & WRITE != 0;
            let last = chain.buffers.last();
            assert!(
                writable || !last.is_some_and(|b| b.writable),
                "readable after writable"
            );
            chain.buffers.push(Lent {
                phys,
                len,
                writable,
            });
            if flags & NEXT == 0 {
                return chain;
            }
            next = u16::from_le_bytes(bytes[14..].try_into().unwrap());
        }
    }

    /// Requests taken and not given back.
    pub(crate) fn held(&self) -> Vec<Chain> {
        self.held.values().cloned().collect()
    }

    /// Gives a request back. True when the driver wants an interrupt for it.
    pub(crate) fn give_back(&mut self, head: u16, written: u32) -> bool {
        let chain = self
            .held
            .remove(&head)
            .expect("the device gives back what it has");
        for (at, bytes) in chain.descriptors {
            assert_eq!(
                self.memory.read(at),
                bytes,
                "a descriptor changed while the device had it"
            );
        }
        self.write_used(u32::from(head), written)
    }

    /// Writes a used entry, be it true or not. True when the driver wants an interrupt for it.
    pub(crate) fn write_used(&mut self, id: u32, written: u32) -> bool {
        let entry = self.addresses.used + 4 + 8 * u64::from(self.used % self.size);
        self.memory.write(entry, id.to_le_bytes());
        self.memory.write(entry + 4, written.to_le_bytes());
        let before = self.used;
        self.used = self.used.wrapping_add(1);
        self.write16(self.addresses.used + 2, self.used);
        if self.event_index {
            let event = self.read16(self.addresses.available + 4 + 2 * u64::from(self.size));
            self.used.wrapping_sub(event).wrapping_sub(1) < self.used.wrapping_sub(before)
        } else {
            self.read16(self.addresses.available) & 1 == 0
        }
    }

    /// Moves the used index without an entry.
    pub(crate) fn jump(&mut self, by: u16) {
        self.used = self.used.wrapping_add(by);
        self.write16(self.addresses.used + 2, self.used);
    }

    /// Asks for a doorbell for whatever comes next. False when it is there already, and no doorbell may come.
    pub(crate) fn sleep(&mut self) -> bool {
        if self.event_index {
            let event = self.addresses.used + 4 + 8 * u64::from(self.size);
            self.write16(event, self.seen);
        } else {
            self.write16(self.addresses.used, 0);
        }
        self.available_index() == self.seen
    }

    /// Wants no doorbells while it is at work anyway.
    pub(crate) fn wake(&mut self) {
        if !self.event_index {
            self.write16(self.addresses.used, 1);
        }
    }
}
