//! A u-area's way out of memory and back: who moves its state on, and what that costs and gives.
//!
//! Owns what is under way: between Leaving and Out, and between Coming and what comes of it, nobody else changes the state.

use alloc::sync::Arc;
use core::time::Duration;

use super::{ComesNot, Owner, Residence, State, StaysIn, Then};
use crate::map::VmSpace;
use crate::meter::{Counter, Gauge};
use crate::page::freelist::AllocFor;
use crate::swap::uarea::{BadSlots, UareaSlots};
use crate::uarea::{UAREA_PAGES, Uarea};

/// Between two attempts to come in where nothing can be freed.
const PAUSE: Duration = Duration::from_millis(1);

impl Residence {
    /// Puts the u-area on its way out, if nothing uses it. Never waits and allocates nothing. A page-out worker does the rest.
    ///
    /// # Errors
    /// [`StaysIn`], but not [`StaysIn::Called`].
    pub fn send_out(self: &Arc<Self>) -> Result<(), StaysIn> {
        let uvm = &self.uvm;
        if !uvm.uareas_have_addresses() {
            return Err(StaysIn::Unmapped);
        }
        if !self.is_idle() {
            return Err(StaysIn::InUse);
        }
        let place = uvm.swap().uarea_place().ok_or(StaysIn::Busy)?;
        let slots = uvm.swap().take_for_uarea(uvm).ok_or(StaysIn::NoSwap)?;
        let mut sent = false;
        self.change(|state| match state {
            State::Idle(uarea) => {
                sent = true;
                State::Leaving {
                    uarea,
                    slots,
                    then: Then::Out,
                }
            }
            state => state,
        });
        if !sent {
            uvm.swap().free_of_uarea(uvm, slots, &BadSlots::new());
            return Err(StaysIn::InUse);
        }
        uvm.meter().raise(Gauge::Paging, UAREA_PAGES as u64);
        place.take(uvm, self.clone());
        Ok(())
    }

    /// Puts the u-area out, if nothing uses it; on success it is out. Allocates nothing, and waits for no frame; awaits a worker of the page-out, and the
    /// device.
    ///
    /// # Errors
    /// [`StaysIn`].
    pub async fn put_out(self: &Arc<Self>) -> Result<(), StaysIn> {
        self.send_out()?;
        self.settled().await;
        match self.is_in() {
            true => Err(StaysIn::Called),
            false => Ok(()),
        }
    }

    /// Writes the u-area, and lets it go if nobody has come for it. Awaits the device. For the page-out worker that has got it.
    pub(crate) async fn leave(&self) {
        let wanted = match &*self.state.lock() {
            State::Leaving {
                uarea,
                slots,
                then: Then::Out,
            } => Some((uarea.frames(), *slots)),
            _ => None,
        };
        let written = match wanted {
            Some((frames, slots)) => self.uvm.write_uarea(frames, slots).await,
            None => Ok(()),
        };
        self.written(&written);
        self.uvm.meter().lower(Gauge::Paging, UAREA_PAGES as u64);
    }

    /// The write has ended.
    fn written(&self, result: &Result<(), BadSlots>) {
        let (mut goes, mut freed, mut left) = (None, None, None);
        self.change(|state| match state {
            State::Leaving { uarea, slots, then } => {
                if then == Then::Out && result.is_ok() {
                    goes = Some(uarea);
                    return State::Going(slots, Owner::There);
                }
                left = Some(slots);
                match then {
                    Then::Held => State::Held(uarea),
                    Then::Out | Then::Idle => State::Idle(uarea),
                    Then::Freed => {
                        freed = Some(uarea);
                        State::Freed
                    }
                }
            }
            state => state,
        });
        let uvm = &self.uvm;
        if let Some(uarea) = goes {
            uvm.let_uarea_go(uarea);
            let mut gone = None;
            self.change(|state| match state {
                State::Going(slots, Owner::There) => State::Out(slots),
                State::Going(slots, Owner::Gone) => {
                    gone = Some(slots);
                    State::Freed
                }
                state => state,
            });
            self.forget(gone);
            uvm.uarea_has_gone(self);
        }
        if let Some(slots) = left {
            let none = BadSlots::new();
            uvm.swap()
                .free_of_uarea(uvm, slots, result.as_ref().err().unwrap_or(&none));
            uvm.count(Counter::UareaStays);
        }
        if let Some(uarea) = freed {
            uvm.uarea_free(uarea);
        }
        self.changed.wake_all();
    }

    /// Brings the u-area in, unless it is in memory, and claims it. For its owner, who has found it [`super::NotIn`]. Frames are taken on behalf of `who`:
    /// [`AllocFor::User`], or [`AllocFor::Kernel`] for one who is being killed. Awaits the device, never a frame. To be run to its end.
    ///
    /// # Errors
    /// [`ComesNot`].
    pub async fn bring_in(&self, who: AllocFor) -> Result<(), ComesNot> {
        while self.claim().is_err() {
            self.come(who).await?;
        }
        Ok(())
    }

    /// The same for an LWP in `space`, whose page tables are made again if they are put away, however long it takes: where there is no memory it waits for
    /// some, and when the space is doomed the kernel's reserve will do. It comes in behind those in memory that wait for frames, and when there is room
    /// for more than its u-area (`pdaemon::admission`). Awaits the device and frames; the caller holds nothing. To be run to its end.
    ///
    /// # Errors
    /// [`ComesNot::Io`], [`ComesNot::Freed`].
    pub async fn bring_in_for(&self, space: &VmSpace) -> Result<(), ComesNot> {
        let uvm = &self.uvm;
        if !self.is_in() {
            uvm.wait_to_come_in(|| space.is_doomed()).await;
        }
        loop {
            let who = match space.is_doomed() {
                true => AllocFor::Kernel,
                false => AllocFor::User,
            };
            match self.bring_in(who).await {
                Err(ComesNot::OutOfMemory) => {}
                Ok(()) if space.make_tables(who).is_err() => {}
                result => return result,
            }
            let doomed = || space.is_doomed();
            let waited = uvm.wait_for_memory_unless(UAREA_PAGES, doomed).await;
            if waited.is_err() && (who == AllocFor::Kernel || !doomed()) {
                // No hope, at the moment. It holds nothing that others wait for.
                uvm.executor().sleep(PAUSE).await;
            }
        }
    }

    /// Brings the u-area in, unless it is in memory; there it is as at rest as it was. Awaits the device, or who brings it or unmaps it already. To be run to
    /// its end.
    pub(crate) async fn come(&self, who: AllocFor) -> Result<(), ComesNot> {
        let mut out = None;
        let mut freed = false;
        self.change(|state| match state {
            State::Out(slots) => {
                out = Some(slots);
                State::Coming(slots, Owner::There)
            }
            state => {
                freed = matches!(state, State::Freed);
                state
            }
        });
        let Some(slots) = out else {
            self.settled().await;
            return if freed { Err(ComesNot::Freed) } else { Ok(()) };
        };
        let uvm = &self.uvm;
        let came = match uvm.uarea_frames(who) {
            Ok(frames) => {
                uvm.meter().raise(Gauge::PagingIn, UAREA_PAGES as u64);
                let read = uvm.read_uarea(frames, slots).await;
                uvm.map_uarea_in(self.base, frames, read)
            }
            Err(error) => Err(error.into()),
        };
        self.came(slots, came)
    }

    /// The read has ended.
    fn came(&self, slots: UareaSlots, result: Result<Uarea, ComesNot>) -> Result<(), ComesNot> {
        let uvm = &self.uvm;
        let (mut uarea, outcome) = match result {
            Ok(uarea) => (Some(uarea), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let mut gone = None;
        let came = uarea.is_some();
        self.change(|state| match (state, uarea.take()) {
            (State::Coming(_, Owner::There), Some(uarea)) => State::Idle(uarea),
            (State::Coming(slots, Owner::There), None) => State::Out(slots),
            (State::Coming(slots, Owner::Gone), here) => {
                gone = (!came).then_some(slots);
                uarea = here;
                State::Freed
            }
            (state, here) => {
                uarea = here;
                state
            }
        });
        if came {
            uvm.uarea_is_in(slots);
        }
        if let Some(uarea) = uarea {
            uvm.uarea_free(uarea);
        }
        self.forget(gone);
        self.changed.wake_all();
        outcome
    }
}
