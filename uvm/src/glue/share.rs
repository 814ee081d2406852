//! Who has an address space: holders that share one, change over to another, and free it when the last one leaves.
//!
//! # What this owns
//! [`SpaceRef`], a holder: what an LWP or a kernel task has, at most one space at a time. The space counts its holders, apart
//! from the `Arc`s that merely keep its memory: the last holder to leave empties it, once, and awaits that.
//!
//! # How it synchronises
//! A spin lock over which space a holder has. The count of a space rises only under the lock of a holder that has it, or before anybody
//! else knows it; so what has been counted down to none stays there.

use alloc::sync::Arc;
use core::pin::Pin;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use core::task::{Context, Poll};

use crate::lock::{HOLDER, SpinLock};
use crate::map::{VmError, VmSpace};
use crate::meter::Counter;

/// A holder of an address space, or of none.
///
/// All operations are for the holder's own task, or for a task in another space while nobody polls the holder's.
/// Dropped with a space that nobody else holds it frees that in one go; [`Self::leave`] lets others run in between.
#[derive(Default)]
pub struct SpaceRef {
    space: SpinLock<Option<Arc<VmSpace>>, HOLDER>,
}

impl SpaceRef {
    /// A holder without a space, as a kernel task is.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            space: SpinLock::new(None),
        }
    }

    /// The first holder of a space that has none yet.
    #[must_use]
    pub fn new(space: Arc<VmSpace>) -> Self {
        let before = space.holders.fetch_add(1, Relaxed);
        debug_assert_eq!(before, 0, "held already: share with its holder");
        Self {
            space: SpinLock::new(Some(space)),
        }
    }

    /// The space, kept in memory by the answer, which does not make the caller a holder.
    #[must_use]
    pub fn space(&self) -> Option<Arc<VmSpace>> {
        self.space.lock().clone()
    }

    /// Makes its space that of this CPU, unless it is. For the start of each poll ([`Attached`] does it).
    #[inline]
    pub fn activate(&self) {
        if let Some(space) = &*self.space.lock() {
            space.activate();
        }
    }

    /// Goes over to the space that `with` holds (to none, if that has none), at once if this CPU is in the old one, else with the
    /// next poll. Works on a running holder. The old space is freed if this was its last holder; awaits that alone.
    ///
    /// After uvmspace_share.
    pub async fn share(&self, with: &Self) {
        let new = {
            // Counted while its holder cannot leave it.
            let theirs = with.space.lock();
            if let Some(space) = &*theirs {
                space.holders.fetch_add(1, Relaxed);
            }
            theirs.clone()
        };
        self.change_over(new).await;
    }

    /// Makes the space its own: if others hold it as well, by going over to a copy, as fork makes one. Awaits what fork awaits.
    ///
    /// After uvmspace_unshare.
    ///
    /// # Errors
    /// As [`VmSpace::fork`]; it goes on sharing.
    pub async fn unshare(&self) -> Result<(), VmError> {
        let Some(space) = self.space() else {
            return Ok(());
        };
        if space.holders.load(Relaxed) > 1 {
            let copy = space.fork().await?;
            copy.holders.fetch_add(1, Relaxed);
            self.change_over(Some(copy)).await;
        }
        Ok(())
    }

    /// Lets go of its space, as exit does and a kernel task that has seen enough; frees it if nobody else holds it. Awaits that
    /// alone.
    pub async fn leave(&self) {
        self.change_over(None).await;
    }

    /// Takes `new`, in which it is counted already, in place of what it has.
    async fn change_over(&self, new: Option<Arc<VmSpace>>) {
        let old = {
            let mut space = self.space.lock();
            core::mem::replace(&mut *space, new.clone())
        };
        let Some(old) = old else {
            return;
        };
        if old.is_active() {
            old.deactivate();
            if let Some(new) = &new {
                new.activate();
            }
        }
        if old.let_go() {
            old.teardown().await;
        }
    }
}

impl Drop for SpaceRef {
    fn drop(&mut self) {
        if let Some(space) = self.space.get_mut().take() {
            // What it shows goes with the last `Arc`.
            space.let_go();
        }
    }
}

impl VmSpace {
    /// Whether one holder alone has it.
    #[must_use]
    pub fn is_held_once(&self) -> bool {
        self.holders.load(Relaxed) == 1
    }

    /// How many holders have it.
    #[must_use]
    pub fn holders(&self) -> u32 {
        self.holders.load(Relaxed)
    }

    /// Counts one holder less; whether that was the last.
    fn let_go(&self) -> bool {
        let last = self.holders.fetch_sub(1, AcqRel) == 1;
        if last {
            self.uvm.count(Counter::SpaceFrees);
        }
        last
    }
}

/// A future that runs in its holder's address space: each poll begins with making it this CPU's, since any wait may end on another
/// (rule 12 of awaiting). For kernel tasks that work in a process's space; the future may itself change which that is.
#[must_use = "futures do nothing unless polled"]
pub struct Attached<F> {
    holder: Arc<SpaceRef>,
    future: F,
}

impl<F> Attached<F> {
    /// `future`, in the space of `holder`.
    pub const fn new(holder: Arc<SpaceRef>, future: F) -> Self {
        Self { holder, future }
    }
}

impl<F: Future> Future for Attached<F> {
    type Output = F::Output;

    /// # Returns
    /// What the future returns.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.holder.activate();
        // SAFETY: `future` is not moved out of, it has no other way to be reached than this, and there is no `Drop` of our own.
        let future = unsafe { self.map_unchecked_mut(|this| &mut this.future) };
        future.poll(cx)
    }
}
