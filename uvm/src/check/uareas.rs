//! u-areas: in memory and mapped, or out with slots of their own.
//!
//! Owns nothing: one part of the check. What it finds of swap slots goes to where those of all pages are.

use alloc::collections::BTreeSet;
use alloc::format;

use super::Checker;
use crate::addr::{Frame, PAGE_SIZE, VirtAddr};
use crate::meter::Gauge;
use crate::page::PageFlags;
use crate::uarea::{Residence, Where};

impl Checker<'_> {
    /// Every u-area of which it is told where it is.
    pub(super) fn uareas(&mut self) {
        let (mut at, mut out, mut frames) = (0, 0, BTreeSet::new());
        while let Some(residence) = self.uvm.next_residence(&mut at) {
            out += self.uarea(&residence, &mut frames);
        }
        let counted = self.uvm.meter().gauge(Gauge::UareasOut) as usize;
        self.expect(counted == out, || {
            format!("{counted} u-areas are counted as out, {out} found")
        });
    }

    /// One of them; how many are out.
    fn uarea(&mut self, residence: &Residence, all: &mut BTreeSet<Frame>) -> usize {
        let frames = residence.frames();
        let mut only = false;
        if let Some((slots, place)) = residence.slots() {
            only = place == Where::SwapOnly;
            for (i, slot) in slots.into_iter().enumerate() {
                let frame = frames.map(|frames| frames[i]);
                self.expect(frame.is_none() == only, || {
                    format!("a u-area that is {place:?} has {frame:?}")
                });
                self.slot(Some(slot), frame);
            }
        }
        for (i, frame) in frames.into_iter().flatten().enumerate() {
            let alone = all.insert(frame);
            let kernel = self.uvm.page(frame).has(PageFlags::KERNEL);
            self.expect(alone && kernel, || {
                format!("{frame:?} of a u-area is another's, or not the kernel's")
            });
            self.shown_at(residence, i, Some(frame));
        }
        if only {
            self.shown_at(residence, 0, None);
        }
        usize::from(only)
    }

    /// Page `i` of a u-area shows this frame, or nothing.
    fn shown_at(&mut self, residence: &Residence, i: usize, frame: Option<Frame>) {
        if self.uvm.uareas_have_addresses() {
            let va = VirtAddr::from_ptr(residence.base().as_ptr()) + (i * PAGE_SIZE) as u64;
            let shown = self.uvm.kextract(va).map(|mapping| mapping.frame);
            self.expect(shown == frame, || {
                format!("{va:?} shows {shown:?}; its u-area has {frame:?} there")
            });
        }
    }
}
