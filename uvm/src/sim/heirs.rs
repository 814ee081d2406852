//! Simulated programs that share memory with one child and leave a copy of it to another.

use core::ops::Range;

use crate::map::Inherit;
use crate::sim::lwp::Lwp;
use crate::sim::op::{Op, Spot};

/// Processes that are looked at.
const LOOKS: u64 = 3;

impl Lwp {
    /// What is stored at last the partner sees, and the heir does not.
    pub(super) async fn bequeath(&self, pages: Range<u64>, byte: u8) {
        self.fill(pages.clone(), byte).await;
        self.inherit(pages.clone(), Inherit::Share).await;
        self.fork(1).await;
        self.inherit(pages.clone(), Inherit::Copy).await;
        self.fork(1).await;
        self.fill(pages.clone(), byte.wrapping_add(1)).await;
        self.compare_others(&pages, byte.into()).await;
    }

    /// Reads the same pages of a few other processes, as a debugger does.
    async fn compare_others(&self, pages: &Range<u64>, choice: u64) {
        for choice in choice..choice + LOOKS {
            let Some(guest) = self.guest(choice) else {
                return;
            };
            for page in pages.clone() {
                let spot = Spot { page, sample: 0 };
                guest.touch(Op::ReadBytes(spot, 1)).await;
            }
            guest.leave().await;
        }
    }
}
