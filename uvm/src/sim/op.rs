//! The operations of programs, each drawn from a seed and its own number alone.
//!
//! Because operation `i` does not depend on those before it, any of them can be left out and the rest stay what they were: so a failing
//! run is made short ([`super::shrink`]). How they are drawn stands in `draw`.

use core::ops::Range;

use crate::addr::PAGE_SIZE;
use crate::map::{Advice, Extract, Inherit, MlockAll, Mremap, Sync};
use crate::prot::{Access, Prot};
use crate::sim::model::SAMPLES;

/// Pages of each shared object and of each file.
pub const OBJECT_PAGES: u64 = 24;
/// Files, and shared anonymous objects.
pub const FILES: usize = 4;
/// See [`FILES`].
pub const OBJECTS: usize = 2;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Load, store or fetch.
    Access,
    /// Bytes over several pages, from outside.
    Copy,
    /// Store to many pages in a row.
    Fill,
    /// Load from many pages in a row.
    Scan,
    /// Make a mapping.
    Map,
    /// Ask for a mapping that cannot be.
    MapBadly,
    /// Remove mappings.
    Unmap,
    /// Change protection.
    Protect,
    /// Change inheritance.
    Inherit,
    /// Give advice.
    Advise,
    /// Start reading.
    WillNeed,
    /// Give contents up.
    Discard,
    /// Write back.
    Sync,
    /// Lend pages to the kernel.
    Loan,
    /// Lend pages to a process.
    LoanTo,
    /// Show pages in a second place, or move them.
    Extract,
    /// Change a mapping's length or place.
    Mremap,
    /// Read and write as a debugger does.
    Poke,
    /// Move the heap's end.
    Brk,
    /// Wire.
    Mlock,
    /// Unwire.
    Munlock,
    /// Wire, or unwire, everything.
    MlockAll,
    /// Ask what is in memory.
    Mincore,
    /// Copy the address space.
    Fork,
    /// Copy it twice, sharing memory with the one child and not with the other.
    Bequeath,
    /// Go over to another process's space.
    Join,
    /// Go over to a copy of a space that others have as well.
    Unshare,
    /// Take a swap device away.
    Swapoff,
    /// Use one again, or give it another priority.
    Swapon,
    /// End.
    Exit,
}

/// All kinds, how often each is done, and whether a run may do without it.
pub const KINDS: [(Kind, u64, bool); 30] = [
    (Kind::Access, 1200, false),
    (Kind::Copy, 60, true),
    (Kind::Fill, 15, true),
    (Kind::Scan, 15, true),
    (Kind::Map, 180, false),
    (Kind::MapBadly, 20, true),
    (Kind::Unmap, 70, true),
    (Kind::Protect, 80, true),
    (Kind::Inherit, 40, true),
    (Kind::Advise, 40, true),
    (Kind::WillNeed, 20, true),
    (Kind::Discard, 40, true),
    (Kind::Sync, 10, true),
    (Kind::Loan, 40, true),
    (Kind::LoanTo, 40, true),
    (Kind::Extract, 30, true),
    (Kind::Mremap, 30, true),
    (Kind::Poke, 20, true),
    (Kind::Brk, 20, true),
    (Kind::Mlock, 60, true),
    (Kind::Munlock, 30, true),
    (Kind::MlockAll, 8, true),
    (Kind::Mincore, 20, true),
    (Kind::Fork, 40, true),
    (Kind::Bequeath, 20, true),
    (Kind::Join, 10, true),
    (Kind::Unshare, 15, true),
    (Kind::Exit, 30, true),
    (Kind::Swapoff, 24, true),
    (Kind::Swapon, 48, true),
];

/// A byte that is looked at: a sample of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Page number.
    pub page: u64,
    /// Which of [`SAMPLES`].
    pub sample: usize,
}

impl Spot {
    /// Its address.
    #[must_use]
    pub const fn va(self) -> u64 {
        self.page * PAGE_SIZE as u64 + SAMPLES[self.sample] as u64
    }
}

/// What a mapping shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Zeroes of its own.
    Private,
    /// Zeroes that children share.
    Shared,
    /// A file from a page on: privately, or shared and never written.
    File(usize, u64, Seen),
    /// A shared object from a page on.
    Object(usize, u64, Seen),
    /// A file from a page on that all may write: nothing but holes at first.
    Written(u64, Seen),
    /// A device's memory from a page on.
    Device(u64),
    /// Zeroes of its own that grow down.
    Stack,
}

/// Who sees stores to an object's mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The address space alone.
    Alone,
    /// All.
    ByAll,
}

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In place of what is there.
    Fixed,
    /// Only if nothing is there.
    Exclusive,
    /// There if nothing is there, else elsewhere.
    Hint,
    /// Anywhere.
    Anywhere,
}

/// A mapping to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The pages.
    pub pages: Range<u64>,
    /// How strictly.
    pub place: Where,
    /// What it shows.
    pub shows: Shows,
    /// What is allowed.
    pub prot: Prot,
    /// The most that ever may be.
    pub max_prot: Prot,
    /// What a child gets of it, if not what it gets of all such mappings.
    pub inherit: Option<Inherit>,
}

/// What is wrong with a mapping that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No length.
    Empty,
    /// More than the address space has.
    TooLong,
    /// An address within a page.
    Unaligned,
    /// Below the lowest address.
    TooLow,
    /// Past the highest.
    TooHigh,
    /// More allowed than ever may be.
    TooMuch,
    /// Past the last page that an object can have.
    Offset,
    /// A file that all see the stores to.
    SharedFile,
    /// A device of one's own.
    PrivateDevice,
    /// A stack that all see.
    SharedStack,
}

/// Whose address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The program's own.
    Own,
    /// That of one of the other processes, which this number chooses.
    Other(u64),
}

/// How contents are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// MADV_DONTNEED.
    Up,
    /// MADV_FREE.
    Free,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A load, store (of this byte) or fetch.
    Access(Access, Spot, u8),
    /// Bytes read from so many bytes on, from outside.
    ReadBytes(Spot, usize),
    /// Bytes written there: all the same.
    WriteBytes(Spot, usize, u8),
    /// A store of this byte to each page of a range.
    Fill(Range<u64>, u8),
    /// A load from each page of a range.
    Scan(Range<u64>),
    /// A mapping.
    Map(Mapping),
    /// One that must be refused.
    MapBadly(Flaw, Range<u64>),
    /// Removes mappings.
    Unmap(Range<u64>),
    /// Changes protection.
    Protect(Range<u64>, Prot),
    /// Changes inheritance.
    Inherit(Range<u64>, Inherit),
    /// Gives advice.
    Advise(Range<u64>, Advice),
    /// Starts reading.
    WillNeed(Range<u64>),
    /// Gives contents up.
    Discard(Range<u64>, Gives),
    /// Writes back.
    Sync(Range<u64>, Sync),
    /// Lends a few pages to the kernel for so many microseconds.
    Loan(Range<u64>, u64),
    /// Lends a few pages to where others are, of whose space.
    LoanTo(Range<u64>, u64, Whose),
    /// Shows pages, or moves them, where others are, in whose space.
    Extract(Range<u64>, Extract, u64, Where, Whose),
    /// Makes of pages a mapping of so many, there or elsewhere; of none, a second one of what begins there.
    Mremap(Range<u64>, u64, Mremap),
    /// Writes a byte whatever is allowed, and reads it.
    Poke(Spot, u8),
    /// Moves the heap's end to so many bytes past its start.
    Brk(u64),
    /// Wires.
    Mlock(Range<u64>),
    /// Unwires.
    Munlock(Range<u64>),
    /// Wires what is mapped, or will be.
    MlockAll(MlockAll),
    /// Unwires everything.
    MunlockAll,
    /// Asks what is in memory.
    Mincore(Range<u64>),
    /// A child of so many programs.
    Fork(usize),
    /// A child that shares these pages, one with a copy of them, and stores of this byte before and after.
    Bequeath(Range<u64>, u8),
    /// The program goes over to the space of one of the other processes, which this number chooses.
    Join(u64),
    /// It goes over to a copy of its space, unless it has that alone.
    Unshare,
    /// Takes away the swap device that the first number chooses, while pages move about as the second has it.
    Swapoff(usize, u64),
    /// Uses it again with this priority, or gives it that.
    Swapon(usize, i16),
    /// The program ends, unless it is the last.
    Exit,
}

/// What a program does after an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next one.
    GoOn,
    /// Lets all others run.
    Yield,
    /// Sleeps for so many microseconds.
    Sleep(u64),
}
