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
    /// There is not even enough for a u-area: if none has slept for long, one other goes.
    Anybody,
}

/// Who knows LWPs.
pub trait LwpSwapper: Send + Sync + 'static {
    /// Puts LWPs on their way out by [`Residence::send_out`], as [`crate::glue::swapout`] has it, and does not wait for them; how many. Called by
    /// the pagedaemon, at most once a pass, with no lock held; allocates nothing.
    fn put_out_some(&self, need: Need) -> usize;

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
        if !(short || self.torture_evict())
            || !self.swap_has_room()
            || self.setting(Setting::Swapout) == 0
        {
            return;
        }
        let need = match self.spare_frames(AllocFor::User) < UAREA_PAGES || self.torture_evict() {
            true => Need::Anybody,
            false => Need::Sleepers,
        };
        if let Some(swapper) = self.upper.lwps.swapper() {
            swapper.put_out_some(need);
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
