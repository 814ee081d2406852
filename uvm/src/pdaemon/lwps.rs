//! When memory is short, whole LWPs go out of it: who is asked, and when.
//!
//! Owns who is asked ([`LwpSwapper`]), who knows LWPs and their states. What goes out is a [`Residence`]; which ones is [`crate::glue::swapout`]'s rule.

use alloc::sync::Arc;

use crate::Uvm;
use crate::lock::{LEAF, SpinLock};
use crate::meter::Gauge;
use crate::page::freelist::AllocFor;
use crate::policy::Setting;
use crate::uarea::{Residence, UAREA_PAGES};

/// How badly memory is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Less is free than should be: those who have slept for long may go.
    Sleepers,
    /// There is not even enough for a u-area, or nothing else gives any: if none has slept for long, one other goes.
    Anybody,
}

/// What a look for LWPs came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// How many are on their way out.
    pub sent: usize,
    /// Whether there are more, at which the next look begins. Else that begins with the first again.
    pub rest: bool,
}

/// Who knows LWPs.
pub trait LwpSwapper: Send + Sync + 'static {
    /// Puts LWPs on their way out by [`Residence::send_out`], as [`crate::glue::swapout`] has it, and does not wait for them. Looks at as many as it can
    /// well below a millisecond. Called by the pagedaemon, with no lock held; allocates nothing.
    fn put_out_some(&self, need: Need) -> Looked;

    /// Whether memory of LWPs that are out is still on its way to the free list, such as their page tables: then it is not yet time to despair.
    fn is_freeing(&self) -> bool {
        false
    }

    /// A u-area has gone out. Called by a page-out worker with no lock held; does not wait, and allocates nothing.
    fn has_gone(&self, residence: &Residence) {
        let _ = residence;
    }
}

/// Who is asked.
pub(crate) struct Lwps(SpinLock<Option<Arc<dyn LwpSwapper>>, LEAF>);

impl Lwps {
    pub(crate) const fn new() -> Self {
        Self(SpinLock::new(None))
    }

    fn swapper(&self) -> Option<Arc<dyn LwpSwapper>> {
        self.0.lock().clone()
    }
}

impl Uvm {
    /// Has `swapper` asked for LWPs to put out when memory is short. Until then all stay.
    pub fn set_lwp_swapper(&self, swapper: Arc<dyn LwpSwapper>) {
        *self.upper.lwps.0.lock() = Some(swapper);
    }

    /// The beginning of a pass: has LWPs put out, if that is called for and there is swap.
    pub(super) fn put_out_lwps(&self) {
        let short = (self.free_frames() as u64) < self.meter().gauge(Gauge::Freetarg);
        if !(short || self.torture_evict()) {
            return;
        }
        let need = match self.spare_frames(AllocFor::User) < UAREA_PAGES || self.torture_evict() {
            true => Need::Anybody,
            false => Need::Sleepers,
        };
        if let Some(swapper) = self.lwp_swapper() {
            swapper.put_out_some(need);
        }
    }

    /// A pass has freed nothing, and somebody waits: has LWPs put out, as long as it takes to find one. Whether there was one. Lets others run in between.
    pub(super) async fn put_out_any_lwp(&self) -> bool {
        let Some(swapper) = self.lwp_swapper() else {
            return false;
        };
        // The first look may have begun anywhere.
        for _ in 0..2 {
            loop {
                let looked = swapper.put_out_some(Need::Anybody);
                if looked.sent > 0 {
                    return true;
                }
                if !looked.rest {
                    break;
                }
                executor::yield_now().await;
            }
        }
        false
    }

    /// Whether LWPs that are out will give more memory soon.
    pub(super) fn lwps_are_freeing(&self) -> bool {
        (self.upper.lwps.swapper()).is_some_and(|swapper| swapper.is_freeing())
    }

    /// Who is asked, if LWPs may go anywhere.
    fn lwp_swapper(&self) -> Option<Arc<dyn LwpSwapper>> {
        match self.swap_has_room() && self.setting(Setting::Swapout) != 0 {
            true => self.upper.lwps.swapper(),
            false => None,
        }
    }

    /// Tells that a u-area has gone out.
    pub(crate) fn uarea_has_gone(&self, residence: &Residence) {
        if let Some(swapper) = self.upper.lwps.swapper() {
            swapper.has_gone(residence);
        }
    }
}

#[cfg(test)]
mod tests;
