//! The other half of a pass: active pages that were not used lately become inactive.
//!
//! Owns nothing. As [`super::evict`] it goes from a frame to its owner, whose lock it only tries, a batch at a time.

use crate::Uvm;
use crate::addr::Frame;
use crate::anon::Anon;
use crate::meter::Counter;
use crate::page::Page;
use crate::page::queues::Queue;
use crate::pmap::sweep::Sweep;
use crate::swap::Owner;

impl Uvm {
    /// Deactivates those of some pages, which have been taken off the active queue, that could be evicted. All are back when it returns.
    pub(super) fn cool_some(&self, frames: &[Frame]) {
        let mut sweep = Sweep::new(self);
        let mut cooled = 0;
        for &frame in frames {
            sweep.make_room();
            let page = self.page(frame);
            let cool = self.cool_anon(&mut sweep, frame, page);
            cooled += usize::from(cool.unwrap_or_else(|| self.cool_any(frame, page)));
        }
        self.put_back(frames);
        self.count_n(Counter::Pddeact, cooled);
    }

    /// A page of an anon that one address space maps, in one go; whether it is inactive then. `None`: it is none.
    #[inline]
    fn cool_anon(&self, sweep: &mut Sweep<'_>, frame: Frame, page: &Page) -> Option<bool> {
        // Dropped after the locks: it may be the last reference.
        let anon;
        let identity = page.lock_identity();
        anon = identity.owner_ref::<Anon>()?;
        let inner = anon.try_lock()?;
        let goes = inner.frame == Some(frame)
            && (inner.slot.is_some() || self.swap_has_room())
            && self.may_cool(frame, page);
        if !goes {
            return Some(false);
        }
        // The bit is to tell whether it is used from now on.
        if !sweep.clear_reference(&identity, frame, page) {
            return None;
        }
        self.deactivate(frame);
        Some(true)
    }

    /// Any page.
    fn cool_any(&self, frame: Frame, page: &Page) -> bool {
        let cool = || {
            let goes = self.may_cool(frame, page);
            if goes {
                self.clear_reference(frame);
                self.deactivate(frame);
            }
            goes
        };
        match self.owner_of(frame) {
            Some(Owner::Anon(anon)) => anon.try_lock().is_some_and(|inner| {
                inner.frame == Some(frame)
                    && (inner.slot.is_some() || self.swap_has_room())
                    && cool()
            }),
            Some(Owner::Object(object, index)) => object.try_lock().is_some_and(|pages| {
                pages.frames.get(index.0) == Some(&frame)
                    && (!object.is_anonymous()
                        || pages.slot(index).is_some()
                        || self.swap_has_room())
                    && cool()
            }),
            None => false,
        }
    }

    /// Whether a page is still one to cool. Its owner is locked.
    #[inline]
    fn may_cool(&self, frame: Frame, page: &Page) -> bool {
        !page.is_busy() && self.queue_of(frame) == Some(Queue::Active)
    }
}
