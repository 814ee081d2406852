//! Bringing a block device up: reset, features, configuration, queue, interrupts (virtio 1.2, 3.1.1 and 5.2).

use core::fmt;

use super::super::queue::{Layout, MAX_SIZE};
use super::super::{Doorbell, Handlers, Signalling, Status, Transport, TransportError, feature};
use super::ring::{MAX_CHAIN, Ring};
use crate::block::{Features, MAX_SEGMENTS, SECTOR_SIZE};
use crate::{Dma, Interrupts};

/// How often the status register is read while a reset is awaited.
const RESET_POLLS: usize = 100_000;
/// How often a configuration that changes under the reader is read.
const CONFIG_READS: usize = 16;

/// The queue of requests; a device with several has this one too.
const QUEUE: u16 = 0;

/// Feature bits of block devices.
pub(in super::super) mod blk_feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// What the driver can make use of.
const WANTED: u64 = blk_feature::SIZE_MAX
    | blk_feature::SEG_MAX
    | blk_feature::RO
    | blk_feature::BLK_SIZE
    | blk_feature::FLUSH
    | blk_feature::DISCARD
    | blk_feature::WRITE_ZEROES
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::VERSION_1;

/// Offsets in the configuration.
pub(in super::super) mod config {
    pub const CAPACITY: usize = 0;
    pub const SIZE_MAX: usize = 8;
    pub const SEG_MAX: usize = 12;
    pub const BLK_SIZE: usize = 20;
    pub const MAX_DISCARD_SECTORS: usize = 36;
    pub const MAX_WRITE_ZEROES_SECTORS: usize = 48;
}

/// Why a block device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// The device cannot be reached.
    Transport(TransportError),
    /// The device did not come out of reset.
    Reset,
    /// The device does not follow virtio 1.x.
    Legacy,
    /// The device refuses the features that the driver chose from its offer.
    Features,
    /// The device's configuration makes no sense, or does not stop changing.
    Configuration,
    /// The device has no queue that could hold a request.
    NoQueue,
    /// Memory for the rings is short.
    OutOfMemory,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Transport(error) => error.fmt(f),
            ProbeError::Reset => f.write_str("it does not come out of reset"),
            ProbeError::Legacy => f.write_str("it does not follow virtio 1.x"),
            ProbeError::Features => f.write_str("it refuses the features that it offered"),
            ProbeError::Configuration => f.write_str("its configuration makes no sense"),
            ProbeError::NoQueue => f.write_str("it has no usable queue"),
            ProbeError::OutOfMemory => f.write_str("memory for its rings is short"),
        }
    }
}

impl core::error::Error for ProbeError {}

impl From<TransportError> for ProbeError {
    fn from(error: TransportError) -> ProbeError {
        ProbeError::Transport(error)
    }
}

/// A device that works.
pub(super) struct Started<T> {
    pub(super) features: Features,
    pub(super) sectors: u64,
    pub(super) ring: Ring<T>,
    pub(super) doorbell: Doorbell,
    pub(super) signalling: Signalling,
}

/// Brings a device up to the point where it serves requests. On error it is left as it is: the caller marks it failed.
pub(super) fn start<T>(
    transport: &dyn Transport,
    dma: &dyn Dma,
    interrupts: &dyn Interrupts,
    handlers: &'static dyn Handlers,
) -> Result<Started<T>, ProbeError> {
    if !reset(transport) {
        return Err(ProbeError::Reset);
    }
    let mut status = Status::ACKNOWLEDGE | Status::DRIVER;
    transport.set_status(Status::ACKNOWLEDGE);
    transport.set_status(status);

    let taken = transport.device_features() & WANTED;
    if taken & feature::VERSION_1 == 0 {
        return Err(ProbeError::Legacy);
    }
    transport.set_driver_features(taken);
    status |= Status::FEATURES_OK;
    transport.set_status(status);
    if !transport.status().contains(Status::FEATURES_OK) {
        return Err(ProbeError::Features);
    }

    let sectors = read_capacity(transport).ok_or(ProbeError::Configuration)?;
    let mut features = read_features(transport, taken).ok_or(ProbeError::Configuration)?;

    // Any number may be offered; a split queue takes powers of two, and 0 says that there is no queue.
    let offered = transport.max_queue_size(QUEUE).min(MAX_SIZE);
    let size = offered.checked_ilog2().map_or(0, |log| 1 << log);
    let indirect = taken & feature::INDIRECT_DESC != 0;
    // Without tables of descriptors, the longest request has to fit into the queue itself.
    let chain = if indirect {
        MAX_CHAIN
    } else {
        direct_chain(size).ok_or(ProbeError::NoQueue)?
    };
    features.max_segments = features.max_segments.min(usize::from(chain) - 2);
    let layout = Layout {
        size,
        chain,
        indirect,
        event_index: taken & feature::EVENT_IDX != 0,
    };
    if size == 0 {
        return Err(ProbeError::NoQueue);
    }
    let ring = Ring::new(dma, layout).ok_or(ProbeError::OutOfMemory)?;

    let signalling = transport.wire(interrupts, handlers)?;
    let doorbell = transport.enable_queue(QUEUE, size, ring.addresses())?;
    transport.set_status(status | Status::DRIVER_OK);
    Ok(Started {
        features,
        sectors,
        ring,
        doorbell,
        signalling,
    })
}

/// Resets a device and waits, within bounds, until it has done so. False when it does not.
pub(super) fn reset(transport: &dyn Transport) -> bool {
    transport.set_status(Status::empty());
    (0..RESET_POLLS).any(|_| transport.status().is_empty())
}

/// Size in sectors, or `None` when the configuration does not hold still.
pub(super) fn read_capacity(transport: &dyn Transport) -> Option<u64> {
    (0..CONFIG_READS).find_map(|_| {
        let before = transport.config_generation();
        let low = u64::from(transport.config32(config::CAPACITY));
        let high = u64::from(transport.config32(config::CAPACITY + 4));
        (transport.config_generation() == before).then_some(high << 32 | low)
    })
}

/// What the disk can do by its features and configuration, or `None` when that makes no sense.
fn read_features(transport: &dyn Transport, taken: u64) -> Option<Features> {
    let field = |bit: u64, offset: usize| (taken & bit != 0).then(|| transport.config32(offset));
    let max_segment_bytes = field(blk_feature::SIZE_MAX, config::SIZE_MAX).unwrap_or(u32::MAX);
    if max_segment_bytes < SECTOR_SIZE as u32 {
        return None;
    }
    // A device that gives no number is only sure to take one segment.
    let max_segments = field(blk_feature::SEG_MAX, config::SEG_MAX)
        .unwrap_or(1)
        .max(1);
    let block_size = field(blk_feature::BLK_SIZE, config::BLK_SIZE).unwrap_or(SECTOR_SIZE as u32);
    if !block_size.is_power_of_two() || block_size < SECTOR_SIZE as u32 {
        return None;
    }
    Some(Features {
        read_only: taken & blk_feature::RO != 0,
        write_cache: taken & blk_feature::FLUSH != 0,
        block_size,
        max_segments: MAX_SEGMENTS.min(max_segments as usize),
        max_segment_bytes,
        max_discard_sectors: field(blk_feature::DISCARD, config::MAX_DISCARD_SECTORS).unwrap_or(0),
        discard_gains: true,
        max_write_zeroes_sectors: field(
            blk_feature::WRITE_ZEROES,
            config::MAX_WRITE_ZEROES_SECTORS,
        )
        .unwrap_or(0),
    })
}

/// How long a request may be where requests live in the queue's own descriptors: a balance between length and number.
fn direct_chain(size: u16) -> Option<u16> {
    const SHORTEST: u16 = 3;
    (size >= SHORTEST).then(|| (size / 16).clamp(SHORTEST, MAX_CHAIN))
}
