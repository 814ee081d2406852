//! Deferred TLB flushes.
//!
//! Operations that take rights away only *note* what must be flushed; [`Pmap::update`] does it,
//! once for all. Up to [`PAGES`] pages are flushed one by one, more by flushing the whole address
//! space. Page tables that became empty are kept until then too, because hardware walkers may still
//! hold them. All of it is under the pmap's lock, and so is the flush itself: who finds nothing
//! pending knows that everything noted before has been done. (The CPUs that are asked to flush keep
//! taking interrupts while they spin for the lock.)

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use arrayvec::ArrayVec;

use super::Pmap;
use crate::Uvm;
use crate::addr::{Frame, PAGE_SHIFT, VirtAddr};
use crate::lock::{self, IDENTITY, POOL_MAGAZINE};
use crate::machine::CpuSet;
use crate::meter::Counter;
use crate::page::NIL;

/// Pages noted before the whole address space is flushed instead.
pub const PAGES: usize = 16;

/// Bits of a page's number beyond 32.
const HIGH_BITS: u32 = 4;
const _: () = assert!(HIGH_BITS as usize * PAGES <= u64::BITS as usize);

/// What is to be flushed. Every address space has one, so it is small.
#[derive(Default)]
pub(super) struct Pending {
    /// The low halves of their numbers, which have four bits more.
    pages: ArrayVec<u32, PAGES>,
    /// Those bits, from the lowest on.
    high: u64,
    all: bool,
    /// First of the page tables to be freed afterwards, linked by `Page::next`.
    tables: u32,
}

impl Pending {
    pub(super) fn note(&mut self, va: VirtAddr) {
        if self.all {
            return;
        }
        let page = va.as_u64() >> PAGE_SHIFT;
        let shift = HIGH_BITS * self.pages.len() as u32;
        if self.pages.try_push(page as u32).is_err() {
            self.all = true;
        } else {
            let high = page >> u32::BITS & ((1 << HIGH_BITS) - 1);
            self.high = self.high & !(u64::MAX << shift) | high << shift;
        }
    }

    /// What was noted.
    fn noted(&self) -> ArrayVec<VirtAddr, PAGES> {
        let address = |(at, &low): (u32, &u32)| {
            let high = self.high >> (HIGH_BITS * at) & ((1 << HIGH_BITS) - 1);
            VirtAddr::new_truncate((high << u32::BITS | u64::from(low)) << PAGE_SHIFT)
        };
        (0..).zip(&self.pages).map(address).collect()
    }

    pub(super) fn hold_table(&mut self, uvm: &Uvm, frame: Frame) {
        uvm.page(frame).next.store(self.tables, Relaxed);
        self.tables = frame.number();
    }

    /// Flushes what was noted on `cpus`.
    pub(super) fn flush(&mut self, uvm: &Uvm, cpus: CpuSet, space: Option<Frame>) {
        if !cpus.is_empty() && (self.all || !self.pages.is_empty()) {
            // The CPUs that are asked may spin for any lock that is taken under these.
            lock::assert_none_from(
                if space.is_some() {
                    IDENTITY
                } else {
                    POOL_MAGAZINE
                },
                "flushing TLBs",
            );
            if self.all {
                uvm.count(Counter::TlbFlushAll);
                uvm.machine().invalidate_all(cpus, space);
            } else {
                uvm.count(Counter::TlbFlush);
                uvm.count_n(Counter::TlbFlushPages, self.pages.len());
                uvm.machine().invalidate(cpus, space, &self.noted());
            }
        }
        self.pages.clear();
        self.all = false;
    }

    /// Frees the tables held back; the flush has been done.
    fn free_tables(&mut self, uvm: &Uvm) {
        while self.tables != NIL {
            let frame = Frame::new(self.tables);
            self.tables = uvm.page(frame).next.load(Relaxed);
            uvm.free_kernel_frame(frame);
        }
    }
}

impl Pmap {
    /// CPUs whose TLB may hold translations of this address space.
    pub(super) fn cpus(&self) -> CpuSet {
        CpuSet(self.active.load(SeqCst))
    }

    /// Marks that something is pending, put off by this CPU. Caller holds the lock.
    pub(super) fn mark_pending(&self, uvm: &Uvm) {
        let deferred = self.deferred.load(Relaxed);
        self.deferred.store(deferred | 1 << uvm.cpu(), Relaxed);
        if deferred == 0 {
            uvm.flushes_pending.fetch_add(1, SeqCst);
        }
    }

    /// Does all deferred TLB flushes and then frees the page tables held back for them. Returns at
    /// once when nothing is pending. No await may come between a removal and this.
    #[inline]
    pub fn update(&self, uvm: &Uvm) {
        if self.deferred.load(Relaxed) != 0 {
            self.flush(uvm);
        }
    }

    #[cold]
    #[inline(never)]
    fn flush(&self, uvm: &Uvm) {
        let mut inner = self.inner.lock();
        if self.deferred.load(Relaxed) == 0 {
            return;
        }
        // Without tables no CPU has any translation.
        let root = self.root().unwrap_or(uvm.kernel_root);
        inner.pending.flush(uvm, self.cpus(), Some(root));
        inner.pending.free_tables(uvm);
        self.deferred.store(0, Relaxed);
        uvm.flushes_pending.fetch_sub(1, SeqCst);
    }
}

impl Uvm {
    /// With debug assertions panics if this CPU has taken something away from `pmap`, or from the kernel's half, and not flushed it
    /// (row 22): for the moment before a program goes on. What other CPUs are in the midst of is theirs.
    ///
    /// # Panics
    /// See above.
    #[inline(always)]
    pub fn assert_flushed(&self, pmap: &Pmap) {
        debug_assert!(
            pmap.deferred.load(Relaxed) >> self.cpu() & 1 == 0,
            "a program goes on before its TLB is flushed"
        );
        debug_assert!(
            self.cpus() > 1 || !self.kernel.has_deferred(),
            "a program goes on before the kernel's TLB entries are flushed"
        );
    }

    /// Address spaces with deferred flushes that have not been done. None whenever a task awaits or returns to ring 3: for tests.
    #[must_use]
    pub fn deferred_flushes(&self) -> usize {
        self.flushes_pending.load(SeqCst)
    }
}
