//! A u-area goes out of memory, and comes in: frames, mappings, slots and accounts, at a moment at which it is nobody's to use.
//!
//! Owns nothing: the [`Residence`](super::Residence) decides when, and has what is left of a u-area that is out, its addresses and its slots.

use core::ptr::NonNull;

use super::{ComesNot, UAREA_PAGES, Uarea};
use crate::Uvm;
use crate::addr::Frame;
use crate::io::IoError;
use crate::meter::{Counter, Gauge};
use crate::swap::uarea::{BadSlots, UareaSlots};

/// What a u-area that is out consists of.
pub(super) struct Gone {
    /// Its addresses.
    pub(super) base: NonNull<u8>,
    /// Where its contents are.
    pub(super) slots: UareaSlots,
}

const PAGES: u64 = UAREA_PAGES as u64;

impl Uvm {
    /// A u-area's contents are on swap and nobody uses it: it is unmapped on all CPUs, and its frames are free. It keeps its addresses.
    pub(super) fn let_uarea_go(&self, uarea: Uarea) {
        self.unmap_uarea(uarea);
        self.meter().raise(Gauge::UareasOut, 1);
        self.meter().raise(Gauge::Swpgonly, PAGES);
        self.count(Counter::UareaPuts);
        self.count_n(Counter::Swapouts, UAREA_PAGES);
        self.count_n(Counter::Pdfreed, UAREA_PAGES);
    }

    /// A read of the u-area with these addresses into `frames` has ended so: maps it, or frees them.
    pub(super) fn map_uarea_in(
        &self,
        base: NonNull<u8>,
        frames: [Frame; UAREA_PAGES],
        read: Result<(), IoError>,
    ) -> Result<Uarea, ComesNot> {
        self.meter().lower(Gauge::PagingIn, PAGES);
        match read {
            Ok(()) => Ok(self.map_uarea(base, frames)?),
            Err(error) => {
                for frame in frames {
                    self.free_frame(frame);
                }
                Err(ComesNot::Io(error))
            }
        }
    }

    /// A u-area is in memory again: gives its slots back.
    pub(super) fn uarea_is_in(&self, slots: UareaSlots) {
        self.count(Counter::UareaBrings);
        self.count_n(Counter::Swapins, UAREA_PAGES);
        self.uarea_is_not_out(slots);
    }

    /// Nobody wants a u-area any more that is out: gives its slots back, and its addresses.
    pub(super) fn forget_uarea(&self, gone: Gone) {
        self.free_uarea_addresses(gone.base);
        self.uarea_is_not_out(gone.slots);
    }

    fn uarea_is_not_out(&self, slots: UareaSlots) {
        self.meter().lower(Gauge::UareasOut, 1);
        self.meter().lower(Gauge::Swpgonly, PAGES);
        self.swap().free_of_uarea(self, slots, &BadSlots::new());
    }
}
