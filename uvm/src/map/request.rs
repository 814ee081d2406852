//! What callers say to a map and hear from it. Plain values.

use crate::addr::{PAGE_SIZE, PageIndex, VaRange, VirtAddr};
use crate::fault::FaultError;
use crate::map::{Advice, Inherit};
use crate::object::UvmObject;
use crate::pool::{OutOfMemory, Ref};
use crate::prot::Prot;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Where there is room, at the highest place below the stack; at this address if it is free.
    Anywhere(Option<VirtAddr>),
    /// Exactly here; what is there goes away.
    Fixed(VirtAddr),
    /// Exactly here, and only if nothing is there.
    Exclusive(VirtAddr),
}

/// Who sees writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This address space alone: copy on write.
    Private,
    /// Everyone who maps the same memory.
    Shared,
}

/// What a mapping shows.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes, until written to.
    Anonymous,
    /// An object from this page on.
    Object {
        /// The object.
        object: Ref<UvmObject>,
        /// Its page at the mapping's first address.
        offset: PageIndex,
    },
}

/// A mapping to be made.
#[derive(Clone)]
pub struct MapRequest {
    /// Where.
    pub placement: Placement,
    /// Length in bytes, more than 0; rounded up to pages.
    pub len: usize,
    /// In bytes, a power of two: where [`Placement::Anywhere`] puts it is a multiple. Less than a page is a page.
    pub align: u64,
    /// What is allowed.
    pub prot: Prot,
    /// The most that `protect` may ever allow.
    pub max_prot: Prot,
    /// What a child gets.
    pub inherit: Inherit,
    /// Expected use.
    pub advice: Advice,
    /// Who sees writes.
    pub sharing: Sharing,
    /// What it shows.
    pub backing: Backing,
    /// Whether it grows down when something below it is touched, as a stack does. Only private anonymous memory can.
    pub grows: bool,
}

impl MapRequest {
    /// Private zeroed memory of `len` bytes, anywhere.
    #[must_use]
    pub fn anonymous(len: usize, prot: Prot) -> Self {
        Self {
            placement: Placement::Anywhere(None),
            len,
            align: PAGE_SIZE as u64,
            prot,
            max_prot: Prot::ALL,
            inherit: Inherit::Copy,
            advice: Advice::Normal,
            sharing: Sharing::Private,
            backing: Backing::Anonymous,
            grows: false,
        }
    }

    /// `len` bytes of `object` from page `offset` on, private, anywhere.
    #[must_use]
    pub fn object(object: Ref<UvmObject>, offset: PageIndex, len: usize, prot: Prot) -> Self {
        Self {
            backing: Backing::Object { object, offset },
            ..Self::anonymous(len, prot)
        }
    }

    /// The same, elsewhere.
    #[must_use]
    pub fn at(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// The same, at a multiple of `align` bytes, a power of two, if it may go anywhere.
    #[must_use]
    pub fn aligned(mut self, align: u64) -> Self {
        self.align = align;
        self
    }

    /// The same, growing down on demand: a stack (see [`MapRequest::grows`]).
    #[must_use]
    pub fn growing(mut self) -> Self {
        self.grows = true;
        self
    }

    /// The same, shared: writes are seen by all, and a child shares it too.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.sharing = Sharing::Shared;
        self.inherit = Inherit::Share;
        self
    }
}

/// Why an operation on an address space failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmError {
    /// No memory for it, or no room in the address space.
    #[error("out of memory")]
    OutOfMemory,
    /// Memory and swap together could never hold it (ENOMEM): to wait would be in vain.
    #[error("larger than memory and swap")]
    TooLarge,
    /// An exclusive placement met something (EEXIST).
    #[error("address range is in use")]
    Exists,
    /// An address is unaligned or outside the user half, a length is 0 or too long, or it makes no sense here (EINVAL).
    #[error("bad address or length")]
    Invalid,
    /// Part of the range is not mapped (ENOMEM of mprotect and madvise, EFAULT of mremap).
    #[error("nothing is mapped there")]
    Unmapped,
    /// More than the maximum protection, or a write to what cannot be written (EACCES).
    #[error("protection not allowed")]
    Protection,
    /// The address space may not grow that far, or not so much of it be wired.
    #[error("over the limit")]
    Limit,
    /// A page that was to be wired cannot be had: it cannot be read, or lies past the end of its object.
    #[error("{0}")]
    Fault(FaultError),
    /// Part of the range is wired, and must stay as it is (EBUSY).
    #[error("range is wired")]
    Busy,
    /// What had to be read or written could not be (EIO).
    #[error("input/output error")]
    Io,
}

impl From<OutOfMemory> for VmError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<FaultError> for VmError {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::OutOfMemory => Self::OutOfMemory,
            other => Self::Fault(other),
        }
    }
}

/// One entry as `pmap PID` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Addresses.
    pub range: VaRange,
    /// What is allowed.
    pub prot: Prot,
    /// Private or shared.
    pub sharing: Sharing,
    /// Whether an object lies below.
    pub file: bool,
    /// Page of the object at the start.
    pub offset: PageIndex,
    /// Pages of it in its amap.
    pub anons: u64,
    /// Times wired.
    pub wired: u16,
}
