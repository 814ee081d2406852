//! A walk over what a map shows, in parts short enough for one hold of its lock: for whoever counts or looks for pages in a whole
//! address space (`top`, the choice of a victim, fork, swapoff).
//!
//! Owns nothing. What it costs is what is there: holes cost nothing, however large, so that a huge mapping of which little is touched is one
//! part. Between two parts the map may change: each is as it was in its hold.

use crate::addr::{Frame, PAGE_SHIFT, PageIndex};
use crate::amap::AmapInner;
use crate::anon::Anon;
use crate::map::{MapEntry, MapInner};
use crate::object::ObjectPages;
use crate::pool::Ref;
use crate::swap::SwapSlot;

/// Pages of a kind (anons, pages of an object, slots of one) in a part.
const BUDGET: usize = 256;

/// A part of an entry.
pub(crate) struct Part<'a> {
    pub(crate) entry: &'a MapEntry,
    /// Where it begins.
    pub(crate) from: u64,
    /// Where it ends, and the next one is looked for.
    pub(crate) to: u64,
}

impl MapInner {
    /// The first part that ends after `va`, and none of it before `va`. Takes the locks of its amap and object, one after the other.
    pub(crate) fn part(&self, va: u64) -> Option<Part<'_>> {
        let entry = self.tree.from(va)?;
        let mut part = Part {
            entry,
            from: va.max(entry.start),
            to: entry.end,
        };
        if let Some(amap) = &entry.amap {
            let amap = amap.lock();
            part.to = part.anons(&amap).nth(BUDGET).map_or(part.to, |(va, _)| va);
        }
        if let Some(object) = entry.object.as_ref().filter(|object| !object.is_device()) {
            let pages = object.lock();
            part.to = part
                .frames(&pages)
                .nth(BUDGET)
                .map_or(part.to, |(va, _)| va);
            part.to = part.slots(&pages).nth(BUDGET).map_or(part.to, |(va, _)| va);
        }
        Some(part)
    }
}

impl Part<'_> {
    /// The anons that it shows, of its amap, with their addresses.
    pub(crate) fn anons<'b>(
        &self,
        amap: &'b AmapInner,
    ) -> impl Iterator<Item = (u64, &'b Ref<Anon>)> + use<'b> {
        let (from, first) = (self.from, self.entry.slot_of(self.from));
        let end = self.entry.slot_of(self.to);
        let anons = amap.anons.iter_from(first);
        anons
            .take_while(move |&(slot, _)| slot < end)
            .map(move |(slot, anon)| (from + ((slot - first) << PAGE_SHIFT), anon))
    }

    /// The pages in memory of what it shows of its object, also those that anons hide.
    pub(crate) fn frames<'b>(
        &self,
        pages: &'b ObjectPages,
    ) -> impl Iterator<Item = (u64, Frame)> + use<'b> {
        let (first, end, at) = self.indices();
        let frames = pages.frames.iter_from(first.0);
        frames
            .take_while(move |&(index, _)| index < end.0)
            .map(move |(index, &frame)| (at(index), frame))
    }

    /// The swap slots of what it shows of its object, also of pages that are in memory, or that anons hide.
    pub(crate) fn slots<'b>(
        &self,
        pages: &'b ObjectPages,
    ) -> impl Iterator<Item = (u64, SwapSlot)> + use<'b> {
        let (first, end, at) = self.indices();
        let slots = pages.slots_from(first);
        slots
            .take_while(move |&(index, _)| index < end)
            .map(move |(index, slot)| (at(index.0), slot))
    }

    /// The first page of the object that it shows, the first one behind it, and where a page is.
    fn indices(&self) -> (PageIndex, PageIndex, impl Fn(u64) -> u64 + use<>) {
        let (from, first) = (self.from, self.entry.index_of(self.from));
        let end = self.entry.index_of(self.to);
        (first, end, move |index| {
            from + ((index - first.0) << PAGE_SHIFT)
        })
    }
}
