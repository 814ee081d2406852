//! The operations of simulated programs that lend pages: to the kernel, and to where they show elsewhere.

use core::ops::Range;
use core::time::Duration;

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::fault::FaultError;
use crate::loan::{KernelLoan, LoanError};
use crate::map::VmError;
use crate::prot::{Access, Prot};
use crate::sim::lwp::Lwp;
use crate::sim::mapping::{PAGE, range};
use crate::sim::model::{SAMPLES, Verdict};
use crate::sim::op::Whose;
use crate::sim::process::{Doing, Pair};
use crate::sim::run::Mode;

impl Lwp {
    /// What was lent stays as it was, whatever is stored meanwhile.
    pub(super) async fn loan(&self, pages: Range<u64>, micros: u64) {
        let loan = {
            let _turn = self.turn(pages.clone(), Doing::Changes).await;
            let result = self.process.space.loan(range(&pages)).await;
            // Each page is lent in an instant of its own, the last one now.
            let last = pages.end - 1;
            for (sample, offset) in SAMPLES.into_iter().enumerate() {
                match &result {
                    Ok(loan) => {
                        let byte = byte(loan, last - pages.start, offset);
                        let verdict = self
                            .process
                            .with(|m| m.judge_copy(last, sample, Prot::READ));
                        self.judge(last, Access::Read, &verdict, Ok(Some(byte)));
                    }
                    Err(error) => self.judge_lender(pages.clone(), *error),
                }
            }
            match result {
                Ok(loan) => loan,
                Err(_) => return,
            }
        };
        let all = || {
            let of = |page| SAMPLES.map(|offset| byte(&loan, page, offset));
            (0..pages.end - pages.start).map(of)
        };
        let before: alloc::vec::Vec<_> = all().collect();
        let executor = &self.shared.world.executor;
        executor.sleep(Duration::from_micros(micros)).await;
        if !all().eq(before) {
            self.fail(format_args!("{pages:x?}: what is on loan has changed"));
        }
    }

    /// Some page of a range must be why it cannot be lent.
    fn judge_lender(&self, mut pages: Range<u64>, error: FaultError) {
        match error {
            FaultError::OutOfMemory if self.shared.mode == Mode::Starved => return,
            FaultError::Killed if self.process.is_killed() => return,
            FaultError::Io if pages.clone().any(|page| self.may_fail(page)) => return,
            _ => {}
        }
        let verdict = |page| self.process.with(|m| m.judge_copy(page, 0, Prot::READ));
        let why = pages.any(|page| match verdict(page) {
            Verdict::Fails(wanted) => wanted == error,
            Verdict::Open => true,
            Verdict::Succeeds(_) => false,
        });
        if !why {
            self.fail(format_args!("{pages:x?} cannot be lent: {error:?}"));
        }
    }

    pub(super) async fn loan_to(&self, pages: Range<u64>, to: u64, whose: Whose) {
        let executor = &self.shared.world.executor;
        let Whose::Other(choice) = whose else {
            let pair = Pair::turn(executor, &self.process, None).await;
            return self.loan_between(&pair, pages, to).await;
        };
        if let Some((other, visitor)) = self.shared.visit(&self.process, choice) {
            let pair = Pair::turn(executor, &self.process, Some(&other)).await;
            self.loan_between(&pair, pages, to).await;
            drop(pair);
            self.shared.leave(&other, &visitor).await;
        }
    }

    /// Page by page, since each is lent in an instant of its own.
    async fn loan_between(&self, pair: &Pair<'_>, pages: Range<u64>, to: u64) {
        let (own, other) = (pair.own, pair.other);
        for (from, at) in pages.zip(to..) {
            let page = from..from + 1;
            let va = VirtAddr::new(at * PAGE);
            if self.shared.mode == Mode::Starved {
                // It may wait in between, with the page lent.
                own.with(|m| m.may_own(page.clone()));
            }
            let result = own.space.loan_to(range(&page), &other.space, va).await;
            let refusal = other.with(|m| match m.get(at) {
                None => Some(VmError::Unmapped),
                Some(page) if !page.private || !page.content.is_over_zeroes() => {
                    Some(VmError::Invalid)
                }
                Some(page) if page.wired > 0 => Some(VmError::Busy),
                Some(page) if !page.prot.contains(Prot::WRITE) => Some(VmError::Protection),
                Some(_) => None,
            });
            let bytes = own.with(|m| m.get(from).map(|p| p.content.bytes()));
            let shared = other.with(|m| m.get(at).is_some_and(|p| p.content.is_shared()));
            match result {
                Ok(()) if refusal.is_none() => {
                    let verdict = self.process.with(|m| m.judge_copy(from, 0, Prot::READ));
                    self.judge(from, Access::Read, &verdict, Ok(None));
                    if let Some(bytes) = bytes {
                        // Memory that was waited for may have been lent before the last store.
                        let sure = self.shared.mode != Mode::Starved;
                        other.with(|m| {
                            m.change(at..at + 1, |page| match sure {
                                true => page.content.replace(bytes),
                                false => page.content.forget(),
                            });
                        });
                    }
                }
                Err(LoanError::To(error)) if refusal == Some(error) => return,
                // Others who share it may have it wired.
                Err(LoanError::To(VmError::Busy)) if shared => return,
                Err(LoanError::To(error)) => return self.out_of_memory("loan to", error),
                Err(LoanError::From(error)) => return self.judge_lender(page, error),
                result => self.fail(format_args!(
                    "{from:#x} lent to {at:#x}: {result:?}, expected {refusal:?}"
                )),
            }
        }
    }
}

/// A byte of a page that is lent.
fn byte(loan: &KernelLoan, page: u64, offset: usize) -> u8 {
    let mut byte = [0];
    loan.read(page as usize * PAGE_SIZE + offset, &mut byte);
    byte[0]
}
