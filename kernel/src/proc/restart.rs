//! What becomes of a system call that a signal has broken off.
//!
//! A call that is started over begins anew with the arguments that it had. Where that would be wrong, since part of a wait is over, the
//! call leaves a [`Resume`] behind, and the program makes `restart_syscall` in its place, as on Linux.

/// What to do about a system call that a signal interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Start it over unless a handler without `SA_RESTART` ran.
    UnlessHandlerSays,
    /// Start it over unless a handler ran.
    UnlessHandled,
    /// Go on with the [`Resume`] that the thread keeps, unless a handler ran.
    GoOn,
}

/// A wait until a moment, as far as it has come. Addresses are the program's and are not yet checked; moments are the monotonic clock's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// A sleep.
    Sleep {
        /// When it ends.
        until: u64,
        /// Where what is left is told if it is broken off again; 0 for nowhere.
        remaining: u64,
    },
    /// A wait for a word of memory.
    Futex {
        /// The word, and whether only this address space is meant.
        word: (u64, bool),
        /// What it held.
        expected: u32,
        /// Which wakes count.
        bits: u32,
        /// When it ends.
        until: u64,
    },
    /// A wait for files.
    Poll {
        /// The list of them.
        list: u64,
        /// Its length.
        count: u64,
        /// When it ends.
        until: u64,
    },
}
