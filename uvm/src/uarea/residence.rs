//! Whether a u-area is in memory, and who says so.
//!
//! # What this owns
//! A [`Residence`] owns a u-area, or what is left of one that is out: its addresses and its swap slots. Two see it: its *owner*, who keeps
//! something in the u-area and is alone in using it, and whoever wants memory. The owner says when nothing uses the u-area for a while ([`Residence::rest`]), and
//! takes that back before it uses it again ([`Residence::claim`]); in between anybody may put it out.
//!
//! ```text
//!         rest             send_out             written
//!  Held --------> Idle ----------------> Leaving ---------> Going ----> Out
//!       <--------      <----------------                               |   ^
//!         claim           not written,                bring_in, swapoff|   | not read,
//!                         claimed meanwhile (Held)                     v   | no memory
//!                 Idle <--------------------------------------------- Coming
//!                                         read
//! ```
//!
//! - *Leaving*: a page-out worker writes it. It is mapped still, so that its owner may claim and use it at once; the write goes on, and what it has
//!   written is given up when it has ended: no slot is another's under a write (row 17). A claim and a rest during one write change nothing in that: what has
//!   been written may be old.
//! - *Going*: it is being unmapped, on all CPUs. Takes no time worth mentioning and never awaits; there is no way back but by a read.
//! - *Coming*: somebody reads it, its owner or who takes a swap device away.
//!
//! [`Residence::free`] ends it in any state; what is under way then ends first.
//!
//! # How it synchronises
//! A spin lock over the state, held for a few instructions. A transfer belongs to who has moved the state to Leaving, Going or Coming, and
//! nobody else moves it on from there; who waits for that waits for `changed`.

mod transfer;

use alloc::sync::Arc;
use core::ptr::NonNull;

use executor::sync::WaitQueue;

use super::out::Gone;
use super::{UAREA_PAGES, UAREA_SIZE, Uarea};
use crate::Uvm;
use crate::addr::Frame;
use crate::io::IoError;
use crate::km::{HeapRoom, arc_bytes};
use crate::lock::{LEAF, SpinLock};
use crate::pool::OutOfMemory;
use crate::swap::uarea::UareaSlots;

/// A u-area, in memory or out. See the module's docs.
pub struct Residence {
    base: NonNull<u8>,
    tag: u64,
    /// Its place in the list of all.
    pub(super) number: u64,
    state: SpinLock<State, LEAF>,
    /// For who waits for the end of Going or Coming, or for that of Leaving.
    changed: WaitQueue,
    uvm: Arc<Uvm>,
}

// SAFETY: `base` is an address, handed out as one; all else is `Send`.
unsafe impl Send for Residence {}
// SAFETY: as above; the state has a lock.
unsafe impl Sync for Residence {}

/// Where it is.
enum State {
    Held(Uarea),
    Idle(Uarea),
    Leaving {
        uarea: Uarea,
        slots: UareaSlots,
        then: Then,
    },
    Going(UareaSlots, Owner),
    Out(UareaSlots),
    Coming(UareaSlots, Owner),
    Freed,
}

/// What a u-area is once it has been written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Out.
    Out,
    /// In memory: it was claimed meanwhile, and is at rest again.
    Idle,
    /// In memory, in use.
    Held,
    /// Free.
    Freed,
}

/// Whether somebody has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Its owner.
    There,
    /// Nobody any more.
    Gone,
}

/// It is not in memory: see [`Residence::bring_in`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotIn;

/// Why a u-area is not put out. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaysIn {
    /// It is in use, on its way, or out.
    InUse,
    /// Swap is full.
    NoSwap,
    /// As many as can be are on their way: another time.
    Busy,
    /// It has no addresses of its own, but lies in the direct map.
    Unmapped,
    /// It was claimed, or could not be written.
    Called,
}

/// Why a u-area is not brought in. It is out as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComesNot {
    /// There is no memory for it now: wait, and try again.
    #[error("out of memory")]
    OutOfMemory,
    /// It cannot be read: what its owner had in it is lost.
    #[error("{0}")]
    Io(IoError),
    /// It has been freed.
    #[error("freed")]
    Freed,
}

impl From<OutOfMemory> for ComesNot {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl Residence {
    /// Takes a u-area over, in use by the caller, who has looked for room in the heap, and says by `tag` who it is. Never waits.
    ///
    /// # Errors
    /// The u-area, if there is no memory.
    pub fn new(
        uvm: &Arc<Uvm>,
        uarea: Uarea,
        tag: u64,
        _room: &HeapRoom<'_>,
    ) -> Result<Arc<Self>, Uarea> {
        let residence = Arc::new(Self {
            base: uarea.base(),
            tag,
            number: uvm.number_of_residence(),
            state: SpinLock::new(State::Held(uarea)),
            changed: WaitQueue::new("u-area"),
            uvm: uvm.clone(),
        });
        match uvm.list_residence(&residence) {
            Ok(()) => Ok(residence),
            Err(OutOfMemory) => residence.take_back().map_or(Ok(residence), Err),
        }
    }

    /// Nothing has come of it: the u-area that it was made with.
    fn take_back(&self) -> Option<Uarea> {
        let mut uarea = None;
        self.change(|state| match state {
            State::Held(here) => {
                uarea = Some(here);
                State::Freed
            }
            state => state,
        });
        uarea
    }

    /// The first byte of the u-area, which never moves. There is memory only while the caller, who is the owner, has it claimed.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Who the owner is, by its own numbers.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Nothing uses the u-area until it is claimed: from now on it may be put out. For its owner, who has it claimed; at the end of a poll that left an LWP
    /// in a swappable wait. Never waits.
    pub fn rest(&self) {
        self.change(|state| match state {
            State::Held(uarea) => State::Idle(uarea),
            State::Leaving { uarea, slots, then } => State::Leaving {
                uarea,
                slots,
                // What is being written is what was there before it was claimed.
                then: match then {
                    Then::Held => Then::Idle,
                    then => then,
                },
            },
            state => state,
        });
    }

    /// The u-area is about to be used: if it is in memory it stays there. For its owner, before each poll. Never waits.
    ///
    /// # Errors
    /// [`NotIn`].
    #[inline]
    pub fn claim(&self) -> Result<(), NotIn> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Held(_) => return Ok(()),
            State::Leaving { then, .. } if *then != Then::Freed => {
                *then = Then::Held;
                return Ok(());
            }
            State::Idle(_) => {}
            _ => return Err(NotIn),
        }
        if let State::Idle(uarea) = core::mem::replace(&mut *state, State::Freed) {
            *state = State::Held(uarea);
        }
        Ok(())
    }

    /// Whether it is in memory, where it may be on its way out.
    #[must_use]
    pub fn is_in(&self) -> bool {
        matches!(
            &*self.state.lock(),
            State::Held(_) | State::Idle(_) | State::Leaving { .. }
        )
    }

    /// Bytes of memory that it takes now: its own, and the u-area if that is there.
    #[must_use]
    pub fn kernel_bytes(&self) -> usize {
        let uarea = match self.is_in() {
            true => UAREA_SIZE,
            false => 0,
        };
        arc_bytes::<Self>() + self.uvm.upper.listed_uareas.cost() + uarea
    }

    /// Whether it could be put out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(&*self.state.lock(), State::Idle(_))
    }

    /// Ends it: a u-area that is in memory goes to the cache at once, unless it is being written, and one that is out is forgotten. Nothing uses it any more.
    /// Never waits, never fails.
    pub fn free(&self) {
        let (mut uarea, mut gone) = (None, None);
        self.change(|state| match state {
            State::Held(here) | State::Idle(here) => {
                uarea = Some(here);
                State::Freed
            }
            State::Leaving { uarea, slots, .. } => State::Leaving {
                uarea,
                slots,
                then: Then::Freed,
            },
            State::Going(slots, _) => State::Going(slots, Owner::Gone),
            State::Coming(slots, _) => State::Coming(slots, Owner::Gone),
            State::Out(slots) => {
                gone = Some(slots);
                State::Freed
            }
            State::Freed => State::Freed,
        });
        if let Some(uarea) = uarea {
            self.uvm.uarea_free(uarea);
        }
        self.forget(gone);
    }

    /// What is out is nobody's any more.
    fn forget(&self, out: Option<UareaSlots>) {
        if let Some(slots) = out {
            self.uvm.forget_uarea(Gone {
                base: self.base,
                slots,
            });
        }
    }

    /// Awaits that nothing is under way.
    pub(crate) async fn settled(&self) {
        let settled = || {
            let state = self.state.lock();
            let moves = matches!(
                *state,
                State::Leaving { .. } | State::Going(..) | State::Coming(..)
            );
            (!moves).then_some(())
        };
        self.changed.wait_until(settled).await;
    }

    /// Its swap slots, if it has any, and whether it is on swap only.
    pub(crate) fn slots(&self) -> Option<(UareaSlots, Where)> {
        match &*self.state.lock() {
            State::Leaving { slots, .. } => Some((*slots, Where::InMemory)),
            State::Going(slots, _) | State::Out(slots) | State::Coming(slots, _) => {
                Some((*slots, Where::SwapOnly))
            }
            State::Held(_) | State::Idle(_) | State::Freed => None,
        }
    }

    /// The frames that it lies in.
    pub(crate) fn frames(&self) -> Option<[Frame; UAREA_PAGES]> {
        match &*self.state.lock() {
            State::Held(uarea) | State::Idle(uarea) | State::Leaving { uarea, .. } => {
                Some(uarea.frames())
            }
            _ => None,
        }
    }

    /// Moves the state on. Nothing is locked, allocated or freed in `f`.
    fn change(&self, f: impl FnOnce(State) -> State) {
        let mut state = self.state.lock();
        let old = core::mem::replace(&mut *state, State::Freed);
        *state = f(old);
    }
}

/// Where a u-area with swap slots is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In memory: it is being written.
    InMemory,
    /// Nowhere else.
    SwapOnly,
}

impl Drop for Residence {
    fn drop(&mut self) {
        self.free();
        self.uvm.unlist_residence(self);
    }
}

#[cfg(test)]
mod tests;
