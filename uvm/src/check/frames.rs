//! Frames: each is in exactly one place, and on the queue that it belongs on.
//!
//! Owns nothing: one part of the check, which has gone through maps, amaps and objects before.

use alloc::format;
use core::ops::ControlFlow;

use super::Checker;
use crate::Uvm;
use crate::addr::Frame;
use crate::anon::Anon;
use crate::meter::Gauge;
use crate::object::UvmObject;
use crate::page::queues::Queue;
use crate::page::{OwnerKind, PageFlags};

impl Checker<'_> {
    /// Each frame is in exactly one place.
    pub(super) fn pages(&mut self) {
        let uvm = self.uvm;
        // Marks, not a set: nothing may be allocated under the free list's lock.
        let mut twice = None;
        uvm.for_each_free(|frame| mark(uvm, frame, &mut twice));
        self.expect(twice.is_none(), || format!("{twice:?} is free twice"));
        let (mut anon_objects, mut file, mut wired) = (0, 0, 0);
        for frame in uvm.pages().frames() {
            let page = uvm.page(frame);
            let listed = page.has(PageFlags::SEEN);
            page.clear(PageFlags::SEEN);
            let flags = page.flags();
            self.report.frames += 1;
            let is_free = flags.contains(PageFlags::FREE);
            self.expect(is_free == listed, || {
                format!("{frame:?} has flags {flags:?}; on a free list: {listed}",)
            });
            let wirings = usize::from(page.wire_count());
            wired += usize::from(wirings > 0);
            let seen = self.wirings.get(&frame).copied().unwrap_or(0);
            self.compare(wirings, seen, || format!("wirings of {frame:?}"));
            let kind = page.owner_kind();
            if flags.intersects(PageFlags::FREE | PageFlags::KERNEL | PageFlags::RESERVED) {
                let owned = matches!(kind, OwnerKind::Anon | OwnerKind::Object);
                self.expect(!owned && !uvm.is_mapped(frame), || {
                    format!("{frame:?} is {flags:?} and in use by {kind:?}")
                });
                self.report.free += usize::from(is_free);
                self.report.kernel += usize::from(!is_free);
                continue;
            }
            let (loans, borrowers) = (page.loan_count(), self.borrowed.get(&frame).copied());
            self.expect(page.wire_count() == 0 || !page.is_lent(), || {
                format!("{frame:?} is wired and on loan")
            });
            if let Some(borrowers) = borrowers {
                self.expect(page.is_lent() && usize::from(loans) >= borrowers, || {
                    format!("{borrowers} anons borrow {frame:?}, which is lent {loans} times")
                });
            }
            match kind {
                OwnerKind::Anon => {
                    self.report.anon += 1;
                    if let Some(anon) = page.owner_ref::<Anon>() {
                        let same = anon.lock().frame == Some(frame);
                        self.expect(same, || {
                            format!("{frame:?} names an anon that has another page")
                        });
                        self.report.floating += usize::from(!self.anon_pages.contains_key(&frame));
                    }
                }
                OwnerKind::Object => {
                    self.report.object += 1;
                    if let Some(object) = page.owner_ref::<UvmObject>() {
                        let there = object.lock().frames.get(page.index().0).copied();
                        self.expect(there == Some(frame), || {
                            format!("{frame:?} names an object that has {there:?} there")
                        });
                        *(if object.is_anonymous() {
                            &mut anon_objects
                        } else {
                            &mut file
                        }) += 1;
                    }
                }
                _ if borrowers.is_some() => self.report.borrowed += 1,
                _ => {
                    self.report.in_transit += 1;
                    self.expect(!uvm.is_mapped(frame), || {
                        format!("{frame:?} is mapped and has no owner")
                    });
                }
            }
        }
        let counted = uvm.free_frames();
        let free = self.report.free;
        self.expect(counted == free, || {
            format!("{counted} frames counted free, {free} found")
        });
        let meter = uvm.meter();
        for (gauge, found) in [
            (Gauge::Anonpages, self.report.anon + anon_objects),
            (Gauge::Filepages, file),
            (Gauge::Wired, wired),
        ] {
            let counted = meter.gauge(gauge) as usize;
            self.expect(counted == found, || {
                format!("{} is {counted}, found {found}", gauge.name())
            });
        }
    }

    /// Every page that could be evicted some day is on one queue, and nothing else is.
    pub(super) fn queues(&mut self) {
        let uvm = self.uvm;
        for queue in [Queue::Active, Queue::Inactive] {
            let mut twice = None;
            uvm.for_each_queued(queue, |frame| mark(uvm, frame, &mut twice));
            self.expect(twice.is_none(), || format!("{twice:?} is queued twice"));
        }
        for frame in uvm.pages().frames() {
            let page = uvm.page(frame);
            let queued = page.has(PageFlags::SEEN);
            page.clear(PageFlags::SEEN);
            let kind = page.owner_kind();
            let owned = matches!(kind, OwnerKind::Anon | OwnerKind::Object);
            let wired = page.wire_count();
            self.expect(!queued || (owned && wired == 0), || {
                format!("{frame:?} is queued, owned by {kind:?} and wired {wired} times")
            });
            self.expect(queued || !owned || page.is_busy() || wired > 0, || {
                format!("{frame:?} is on no queue")
            });
        }
    }
}

/// Marks a frame that stands on a list. Ends the walk when it was marked before: the list may have no end then.
fn mark(uvm: &Uvm, frame: Frame, twice: &mut Option<Frame>) -> ControlFlow<()> {
    let page = uvm.page(frame);
    if page.has(PageFlags::SEEN) {
        *twice = Some(frame);
        return ControlFlow::Break(());
    }
    page.set(PageFlags::SEEN);
    ControlFlow::Continue(())
}
