//! A virtio block device for tests: a disk in a `Vec`, reached through a [`Transport`] that does as it is told.

use std::sync::{Arc, Mutex, MutexGuard};
use std::vec;
use std::vec::Vec;

use super::super::blk::{blk_feature, config, request_type, status};
use super::super::{
    Doorbell, Handlers, QueueAddresses, Signalling, Status, Transport, TransportError, feature,
};
use super::ring::{Chain, DeviceRing};
use crate::Interrupts;
use crate::testing::TestMemory;

pub(crate) const EVERYTHING: u64 = blk_feature::SIZE_MAX
    | blk_feature::SEG_MAX
    | blk_feature::BLK_SIZE
    | blk_feature::FLUSH
    | blk_feature::DISCARD
    | blk_feature::WRITE_ZEROES
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::VERSION_1;

/// What a test sees and sets.
pub(crate) struct State {
    memory: &'static TestMemory,
    pub(crate) status: Status,
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) refuses_features: bool,
    pub(crate) ignores_reset: bool,
    pub(crate) disconnected: bool,
    pub(crate) config: [u8; 64],
    pub(crate) max_queue: u16,
    pub(crate) ring: Option<DeviceRing>,
    handlers: Option<&'static dyn Handlers>,
    pub(crate) disk: Vec<u8>,
    /// Requests stay with the device until [`ModelBlk::release`].
    pub(crate) holds: bool,
    /// What every request is answered with instead of being carried out.
    pub(crate) answer: Option<u8>,
    pub(crate) doorbells: usize,
    /// Types of the requests carried out, in order.
    pub(crate) log: Vec<u32>,
}

/// The device; clones are the same one.
#[derive(Clone)]
pub(crate) struct ModelBlk(Arc<Mutex<State>>);

impl ModelBlk {
    pub(crate) fn new(memory: &'static TestMemory, sectors: u64) -> ModelBlk {
        let mut config_space = [0; 64];
        let mut set = |offset: usize, value: u32| {
            config_space[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        };
        set(config::CAPACITY, sectors as u32);
        set(config::SIZE_MAX, 1 << 20);
        set(config::SEG_MAX, 254);
        set(config::BLK_SIZE, 512);
        set(config::MAX_DISCARD_SECTORS, 1024);
        set(config::MAX_WRITE_ZEROES_SECTORS, 2048);
        ModelBlk(Arc::new(Mutex::new(State {
            memory,
            status: Status::FAILED,
            offered: EVERYTHING,
            accepted: 0,
            refuses_features: false,
            ignores_reset: false,
            disconnected: false,
            config: config_space,
            max_queue: 256,
            ring: None,
            handlers: None,
            disk: vec![0; sectors as usize * 512],
            holds: false,
            answer: None,
            doorbells: 0,
            log: Vec::new(),
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Carries out and gives back those of the requests held that `choose` picks.
    pub(crate) fn release(&self, mut choose: impl FnMut(&Chain) -> bool) {
        let mut state = self.state();
        let mut interrupt = false;
        for chain in state.held().into_iter().filter(|chain| choose(chain)) {
            interrupt |= state.carry_out(&chain);
        }
        let handlers = state.handlers.filter(|_| interrupt);
        drop(state);
        handlers.inspect(|handlers| handlers.queue());
    }

    /// Does something to the ring and raises the queue's interrupt, asked for or not.
    pub(crate) fn misbehave<T>(&self, how: impl FnOnce(&mut DeviceRing) -> T) {
        let mut state = self.state();
        how(state.ring.as_mut().unwrap());
        let handlers = state.handlers.unwrap();
        drop(state);
        handlers.queue();
    }

    /// Changes something and raises the configuration interrupt.
    pub(crate) fn change(&self, how: impl FnOnce(&mut State)) {
        let mut state = self.state();
        how(&mut state);
        let handlers = state.handlers.unwrap();
        drop(state);
        handlers.config();
    }

    /// Looks at the queue as after a doorbell.
    fn run(&self) {
        let mut state = self.state();
        let mut interrupt = false;
        if let Some(ring) = &mut state.ring {
            ring.wake();
        }
        loop {
            while let Some(chain) = state.ring.as_mut().and_then(DeviceRing::fetch) {
                if !state.holds {
                    interrupt |= state.carry_out(&chain);
                }
            }
            if state.ring.as_mut().is_none_or(DeviceRing::sleep) {
                break;
            }
        }
        let handlers = state.handlers.filter(|_| interrupt);
        drop(state);
        handlers.inspect(|handlers| handlers.queue());
    }
}

impl State {
    pub(crate) fn held(&self) -> Vec<Chain> {
        self.ring.as_ref().map_or(Vec::new(), DeviceRing::held)
    }

    fn carry_out(&mut self, chain: &Chain) -> bool {
        let memory = self.memory;
        let (head, rest) = chain.buffers.split_first().unwrap();
        let (last, data) = rest.split_last().unwrap();
        assert!(!head.writable && head.len == 16 && last.writable && last.len == 1);
        let kind = u32::from_le_bytes(memory.read(head.phys));
        let mut at = u64::from_le_bytes(memory.read(head.phys + 8)) as usize * 512;
        self.log.push(kind);
        let mut written = 1;
        let mut answer = self.answer.unwrap_or(status::OK);
        if answer == status::OK {
            match kind {
                request_type::IN => {
                    for buffer in data {
                        let len = buffer.len as usize;
                        assert!(buffer.writable);
                        memory.fill(buffer.phys, &self.disk[at..at + len]);
                        at += len;
                        written += buffer.len;
                    }
                }
                request_type::OUT => {
                    for buffer in data {
                        let len = buffer.len as usize;
                        assert!(!buffer.writable);
                        self.disk[at..at + len].copy_from_slice(&memory.bytes(buffer.phys, len));
                        at += len;
                    }
                }
                request_type::FLUSH => assert!(data.is_empty() && at == 0),
                request_type::DISCARD | request_type::WRITE_ZEROES => {
                    assert!(data.len() == 1 && data[0].len == 16 && !data[0].writable && at == 0);
                    let start = u64::from_le_bytes(memory.read(data[0].phys)) as usize * 512;
                    let sectors = u32::from_le_bytes(memory.read(data[0].phys + 8)) as usize;
                    assert_eq!(memory.read::<4>(data[0].phys + 12), [0; 4]);
                    self.disk[start..start + sectors * 512].fill(0);
                }
                _ => answer = status::UNSUPP,
            }
        }
        memory.write(last.phys, [answer]);
        self.ring.as_mut().unwrap().give_back(chain.head, written)
    }
}

impl Transport for ModelBlk {
    fn status(&self) -> Status {
        self.state().status
    }

    fn set_status(&self, status: Status) {
        let mut state = self.state();
        if status.is_empty() && !state.ignores_reset {
            state.ring = None;
        }
        if !(status.is_empty() && state.ignores_reset) {
            state.status = status;
        }
        if state.refuses_features {
            state.status -= Status::FEATURES_OK;
        }
    }

    fn device_features(&self) -> u64 {
        self.state().offered
    }

    fn set_driver_features(&self, features: u64) {
        let mut state = self.state();
        assert_eq!(
            features & !state.offered,
            0,
            "the driver takes what was not offered"
        );
        state.accepted = features;
    }

    fn config_generation(&self) -> u8 {
        0
    }

    fn config32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.state().config[offset..offset + 4].try_into().unwrap())
    }

    fn max_queue_size(&self, queue: u16) -> u16 {
        assert_eq!(queue, 0);
        self.state().max_queue
    }

    fn wire(
        &self,
        _: &dyn Interrupts,
        handlers: &'static dyn Handlers,
    ) -> Result<Signalling, TransportError> {
        self.state().handlers = Some(handlers);
        Ok(Signalling::MsiX)
    }

    fn enable_queue(
        &self,
        queue: u16,
        size: u16,
        addresses: QueueAddresses,
    ) -> Result<Doorbell, TransportError> {
        let mut state = self.state();
        assert!(
            state.status.contains(Status::FEATURES_OK) && !state.status.contains(Status::DRIVER_OK)
        );
        assert!(size.is_power_of_two() && size <= state.max_queue);
        let event_index = state.accepted & feature::EVENT_IDX != 0;
        state.ring = Some(DeviceRing::new(state.memory, size, addresses, event_index));
        Ok(Doorbell { queue, offset: 0 })
    }

    fn notify(&self, doorbell: Doorbell) {
        assert_eq!(
            doorbell,
            Doorbell {
                queue: 0,
                offset: 0
            }
        );
        let mut state = self.state();
        assert!(
            state.status.contains(Status::DRIVER_OK),
            "a doorbell before the device is on"
        );
        state.doorbells += 1;
        drop(state);
        self.run();
    }

    fn disconnect(&self) {
        let mut state = self.state();
        state.disconnected = true;
        state.ring = None;
    }
}
