//! What a disk is to the rest of the kernel.
//!
//! A [`Request`] names memory by physical address and is handed to [`Disk::start`], which never waits. The device
//! owns that memory until the request's [`Done`] has been called: once, from a task of class `Completion`, never
//! from an interrupt handler and never from inside `start`. Dropping whoever waits does not cancel a request.
//!
//! Synchronisation: a `Disk` is shared freely; its counters are independent atomics, each exact, their set not a
//! snapshot.

use arrayvec::ArrayVec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes in a sector, the unit in which disks are addressed, whatever the device's own block size is.
pub const SECTOR_SIZE: usize = 512;

/// Segments that a request may carry.
pub const MAX_SEGMENTS: usize = 32;

/// Requests that a disk accepts before [`Disk::start`] hands them back.
pub const MAX_IN_FLIGHT: usize = 256;

/// A run of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Physical address of the first byte.
    pub phys: u64,
    /// Bytes.
    pub len: u32,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Disk to memory.
    Read,
    /// Memory to disk.
    Write,
    /// All writes that completed before are to survive a power failure. Takes no sectors and no segments.
    Flush,
    /// The `sectors` are no longer needed; reading them gives anything.
    Discard,
    /// The `sectors` are to read as zeroes.
    WriteZeroes,
}

/// One operation on a disk.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// First sector, in units of 512 bytes.
    pub sector: u64,
    /// Memory to read into or write from, in order; together whole sectors. Empty unless `op` is a read or a write.
    pub segments: ArrayVec<Segment, MAX_SEGMENTS>,
    /// Sectors to discard or to zero; unused by the other operations.
    pub sectors: u32,
    /// Called when the device is done with the memory.
    pub done: Done,
}

impl Request {
    /// Sectors that the request covers.
    pub fn sector_count(&self) -> u64 {
        match self.op {
            Op::Read | Op::Write => self.bytes() / SECTOR_SIZE as u64,
            Op::Discard | Op::WriteZeroes => u64::from(self.sectors),
            Op::Flush => 0,
        }
    }

    /// Bytes in the segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.len)).sum()
    }

    /// Whether a disk of that size and those features can carry the request out; otherwise the error with which
    /// it must complete.
    pub fn check(&self, sectors: u64, features: &Features) -> Result<(), DiskError> {
        if features.read_only && !matches!(self.op, Op::Read | Op::Flush) {
            return Err(DiskError::ReadOnly);
        }
        match self.op {
            Op::Flush => {
                if !self.segments.is_empty() {
                    return Err(DiskError::Malformed);
                }
            }
            Op::Read | Op::Write => {
                let bytes = self.bytes();
                let bad_segment = self
                    .segments
                    .iter()
                    .any(|s| s.len == 0 || s.len > features.max_segment_bytes);
                if bad_segment
                    || bytes == 0
                    || !bytes.is_multiple_of(SECTOR_SIZE as u64)
                    || self.segments.len() > features.max_segments
                {
                    return Err(DiskError::Malformed);
                }
            }
            Op::Discard | Op::WriteZeroes => {
                let limit = if self.op == Op::Discard {
                    features.max_discard_sectors
                } else {
                    features.max_write_zeroes_sectors
                };
                if limit == 0 {
                    return Err(DiskError::Unsupported);
                }
                if self.sectors == 0 || self.sectors > limit || !self.segments.is_empty() {
                    return Err(DiskError::Malformed);
                }
            }
        }
        match self.sector.checked_add(self.sector_count()) {
            Some(end) if end <= sectors => Ok(()),
            _ => Err(DiskError::OutOfRange),
        }
    }
}

/// Whom to tell when a request is over.
#[derive(Clone, Copy)]
pub struct Done {
    /// Called once, from a `Completion` task, with `token`. It must not wait; it may start further requests.
    pub call: fn(token: usize, result: Result<(), DiskError>),
    /// The caller's own name for the request.
    pub token: usize,
}

impl Done {
    /// Tells the requester.
    pub fn complete(self, result: Result<(), DiskError>) {
        (self.call)(self.token, result);
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Done({:#x})", self.token)
    }
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The device could not read or write its medium.
    Io,
    /// The device does not know the operation.
    Unsupported,
    /// The sectors lie beyond the end of the disk.
    OutOfRange,
    /// The disk cannot be written.
    ReadOnly,
    /// The request itself is wrong: no whole sectors, too many segments, too long.
    Malformed,
    /// The device broke its protocol or asked for a reset; it has been stopped and takes no more requests.
    Failed,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskError::Io => "the device reports an I/O error",
            DiskError::Unsupported => "the device does not support the operation",
            DiskError::OutOfRange => "the request lies beyond the end of the disk",
            DiskError::ReadOnly => "the disk is read-only",
            DiskError::Malformed => "the request is malformed",
            DiskError::Failed => "the device failed and has been stopped",
        })
    }
}

impl core::error::Error for DiskError {}

/// What a disk can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Writes, discards and zeroing fail with [`DiskError::ReadOnly`].
    pub read_only: bool,
    /// Writes may sit in a volatile cache until [`Op::Flush`]; without it a flush completes at once.
    pub write_cache: bool,
    /// The size in bytes of the blocks in which the medium is best addressed; at least [`SECTOR_SIZE`].
    pub block_size: u32,
    /// Segments in a read or write; at most [`MAX_SEGMENTS`].
    pub max_segments: usize,
    /// Bytes in one segment.
    pub max_segment_bytes: u32,
    /// Sectors in one [`Op::Discard`]; 0 when discarding is not supported.
    pub max_discard_sectors: u32,
    /// Whether discarding gives anything back: space on the medium, or its life. Otherwise it costs a write, and that is all.
    pub discard_gains: bool,
    /// Sectors in one [`Op::WriteZeroes`]; 0 when it is not supported.
    pub max_write_zeroes_sectors: u32,
}

/// A disk.
pub trait Disk: Send + Sync {
    /// A short name, such as `virtio0`.
    fn name(&self) -> &str;

    /// Size in sectors of 512 bytes.
    fn sectors(&self) -> u64;

    /// What the disk can do.
    fn features(&self) -> Features;

    /// Whether writes are refused.
    fn read_only(&self) -> bool {
        self.features().read_only
    }

    /// Requests that can be in flight at once.
    fn depth(&self) -> usize;

    /// Hands a request to the device; never waits. A request that cannot be carried out is accepted and completes
    /// with its error. Any task may call; interrupt handlers may not.
    ///
    /// # Errors
    /// The request itself, untouched, when [`Disk::depth`] requests are in flight. Try again after a completion.
    #[expect(
        clippy::result_large_err,
        reason = "handing the request back whole is what spares an allocation"
    )]
    fn start(&self, request: Request) -> Result<(), Request>;

    /// The disk's counters.
    fn stats(&self) -> DiskStats;
}

/// Counters of a disk since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Requests that the disk has and has not completed.
    pub in_flight: u64,
    /// The most that `in_flight` has been.
    pub max_in_flight: u64,
    /// Reads completed, well or not.
    pub reads: u64,
    /// Writes completed.
    pub writes: u64,
    /// Flushes completed.
    pub flushes: u64,
    /// Discards completed.
    pub discards: u64,
    /// Write-zeroes completed.
    pub write_zeroes: u64,
    /// Sectors that successful reads brought.
    pub sectors_read: u64,
    /// Sectors that successful writes took.
    pub sectors_written: u64,
    /// Requests that completed with an error.
    pub errors: u64,
    /// Times the device was told that there is work.
    pub doorbells: u64,
    /// Interrupts taken.
    pub interrupts: u64,
}

/// The counters behind [`DiskStats`], as a driver keeps them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    by_op: [AtomicU64; 5],
    sectors_read: AtomicU64,
    sectors_written: AtomicU64,
    errors: AtomicU64,
    pub(crate) doorbells: AtomicU64,
    pub(crate) interrupts: AtomicU64,
}

impl Counters {
    pub(crate) fn started(&self) {
        let now = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.max_in_flight.fetch_max(now, Relaxed);
    }

    /// A request that was counted as started was not accepted after all.
    pub(crate) fn withdrawn(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(crate) fn finished(&self, op: Op, sectors: u64, result: Result<(), DiskError>) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.by_op[op as usize].fetch_add(1, Relaxed);
        match (result, op) {
            (Err(_), _) => drop(self.errors.fetch_add(1, Relaxed)),
            (Ok(()), Op::Read) => drop(self.sectors_read.fetch_add(sectors, Relaxed)),
            (Ok(()), Op::Write) => drop(self.sectors_written.fetch_add(sectors, Relaxed)),
            (Ok(()), _) => {}
        }
    }

    pub(crate) fn snapshot(&self) -> DiskStats {
        let by_op = |op: Op| self.by_op[op as usize].load(Relaxed);
        DiskStats {
            in_flight: self.in_flight.load(Relaxed),
            max_in_flight: self.max_in_flight.load(Relaxed),
            reads: by_op(Op::Read),
            writes: by_op(Op::Write),
            flushes: by_op(Op::Flush),
            discards: by_op(Op::Discard),
            write_zeroes: by_op(Op::WriteZeroes),
            sectors_read: self.sectors_read.load(Relaxed),
            sectors_written: self.sectors_written.load(Relaxed),
            errors: self.errors.load(Relaxed),
            doorbells: self.doorbells.load(Relaxed),
            interrupts: self.interrupts.load(Relaxed),
        }
    }
}
