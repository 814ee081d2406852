//! The operations of simulated programs that wire and unwire, and what is in memory.
//!
//! What is wired never faults, as long as the mapping allows the access (see `access` in `lwp`), and `mincore` says that it is there.

use alloc::vec::Vec;
use core::ops::Range;

use crate::fault::FaultError;
use crate::map::{MlockAll, VmError};
use crate::sim::lwp::Lwp;
use crate::sim::mapping::{ALL, PAGE, range};
use crate::sim::model::{Content, Model, ModelPage, Risk};
use crate::sim::process::{Doing, Turn};

/// Whether a page cannot, or perhaps not, be brought in.
pub(super) fn hard_to_wire(page: &ModelPage) -> bool {
    matches!(page.content, Content::Beyond) || page.risk() > Risk::None
}

/// What speaks against wiring.
pub(super) struct Trouble {
    /// There would be more than may be.
    over: bool,
    /// A page lies past its object's end.
    beyond: bool,
    /// The worst of the disks.
    risk: Risk,
    /// Reads from swap that have failed so far.
    errors: u64,
}

impl Lwp {
    /// What speaks against wiring those of `pages` that `takes` says; from now on nobody knows which of them have become anonymous.
    pub(super) fn wire_trouble(
        &self,
        pages: Range<u64>,
        takes: impl Fn(&ModelPage) -> bool,
    ) -> Trouble {
        self.process.with(|m| {
            let new = |page: &&ModelPage| takes(page) && page.wired == 0;
            let new: Vec<_> = m
                .within(pages.clone())
                .map(|(_, page)| page)
                .filter(new)
                .collect();
            let count = new.len() as u64;
            let trouble = Trouble {
                over: count > 0 && (m.locked() + count) * PAGE > self.shared.plan.locked,
                beyond: new.iter().any(|p| matches!(p.content, Content::Beyond)),
                errors: self.shared.swap_errors(),
                risk: new.iter().map(|p| p.risk()).max().unwrap_or(Risk::None),
            };
            if count > 0 {
                m.may_own(pages);
            }
            trouble
        })
    }

    /// Compares what came of wiring with what had to, and notes it; whether it is done.
    pub(super) fn judge_wiring(
        &self,
        (what, turn): (&str, &Turn<'_>),
        pages: Range<u64>,
        takes: impl Fn(&ModelPage) -> bool,
        trouble: &Trouble,
        result: Result<(), VmError>,
    ) -> bool {
        // What others wire and unwire at the same time counts or does not.
        let unsure = !turn.is_alone();
        match result {
            Ok(()) if (!trouble.over || unsure) && !trouble.beyond && trouble.risk < Risk::Bad => {
                self.shared.note(|o| o.wirings += 1);
                self.process.with(|m| {
                    m.change(pages, |page| {
                        if takes(page) {
                            page.wire();
                        }
                    });
                });
                return true;
            }
            Err(VmError::Limit) if trouble.over || unsure => {}
            Err(VmError::Fault(FaultError::BeyondEnd)) if trouble.beyond => {}
            Err(VmError::Fault(FaultError::Io))
                if trouble.risk > Risk::None || self.shared.swap_errors() > trouble.errors =>
            {
                self.shared.note(|o| o.io_errors += 1);
            }
            Err(error) => self.out_of_memory(what, error),
            Ok(()) => self.fail(format_args!(
                "{what} {pages:x?} succeeds; over the limit: {}, beyond: {}, disk: {:?}",
                trouble.over, trouble.beyond, trouble.risk
            )),
        }
        false
    }

    pub(super) async fn mlock(&self, pages: Range<u64>) {
        let turn = self.turn(pages.clone(), Doing::Changes).await;
        let known = self.known(&pages);
        let mapped = self.process.with(|m| m.all(pages.clone()));
        if !mapped {
            let result = self.process.space.mlock(range(&pages)).await;
            self.needs_mapped("mlock", pages, result);
            return;
        }
        let trouble = self.wire_trouble(known.clone(), |_| true);
        let result = self.process.space.mlock(range(&pages)).await;
        if self.judge_wiring(("mlock", &turn), known.clone(), |_| true, &trouble, result) {
            self.mincore(known);
            self.compare_locked();
        }
    }

    pub(super) async fn munlock(&self, pages: Range<u64>) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        let known = self.known(&pages);
        // From now on they may fault.
        self.process.with(|m| m.begin(known.clone()));
        let result = self.process.space.munlock(range(&pages)).await;
        self.process.with(|m| m.end(known.clone()));
        if self.needs_mapped("munlock", pages, result) {
            self.process
                .with(|m| m.change(known, |page| page.wired = 0));
            self.compare_locked();
        }
    }

    pub(super) async fn mlockall(&self, what: MlockAll) {
        let turn = self.turn(ALL, Doing::Changes).await;
        if what.is_empty() {
            let result = self.process.space.mlockall(what).await;
            if result != Err(VmError::Invalid) {
                self.fail(format_args!("mlockall of nothing: {result:?}"));
            }
            return;
        }
        let takes = |page: &ModelPage| what.contains(MlockAll::CURRENT) && !page.prot.is_empty();
        let trouble = self.wire_trouble(ALL, takes);
        let result = self.process.space.mlockall(what).await;
        if self.judge_wiring(("mlockall", &turn), ALL, takes, &trouble, result) {
            let future = what.contains(MlockAll::FUTURE);
            self.process.with(|m| m.wires_future = future);
            self.compare_locked();
        }
    }

    pub(super) async fn munlockall(&self) {
        let _turn = self.turn(ALL, Doing::Changes).await;
        self.process.with(|m| {
            m.wires_future = false;
            m.change(ALL, |page| page.wired = 0);
        });
        self.process.space.munlockall().await;
        self.compare_locked();
    }

    fn compare_locked(&self) {
        if self.process.with(|m| m.is_settled()) {
            let (got, wanted) = (
                self.process.space.locked(),
                self.process.with(|m| m.locked()) * PAGE,
            );
            if got != wanted {
                self.fail(format_args!("{got} bytes are locked, expected {wanted}"));
            }
        }
    }

    /// Asks what is in memory; never waits.
    pub(super) fn mincore(&self, pages: Range<u64>) {
        let mut out = alloc::vec![0xee; (pages.end - pages.start) as usize];
        let result = self.process.space.mincore(range(&pages), &mut out);
        let stacks = &self.shared.plan.stacks;
        let grows = pages.start < stacks.end && stacks.start < pages.end;
        let unsettled = |m: &mut Model| {
            (grows && m.growing > 0) || pages.clone().any(|page| !m.is_settled_at(page))
        };
        if self.process.with(unsettled) || self.process.is_quiet() {
            return;
        }
        let mapped = self.process.with(|m| m.all(pages.clone()));
        match result {
            Ok(()) if mapped => {}
            Err(VmError::Unmapped) if !mapped => return,
            result => self.fail(format_args!(
                "mincore {pages:x?}: {result:?}, mapped: {mapped}"
            )),
        }
        for (page, byte) in pages.zip(out) {
            let (surely, never) = self
                .process
                .with(|m| m.residency(page, self.shared.plan.has_swap()));
            if byte > 1 || (byte == 0 && surely) || (byte == 1 && never) {
                self.fail(format_args!(
                    "mincore of page {page:#x}: {byte}; surely there: {surely}, never: {never}"
                ));
            }
        }
    }
}
