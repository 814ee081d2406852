//! Stacks of simulated programs: what an access below one makes of it.
//!
//! A stack grows in the middle of a fault, as far as what is mapped then lets it. So an access to where stacks are has a turn: others
//! that may let them grow go beside it, those that change mappings there do not.

use core::ops::Range;
use core::time::Duration;

use crate::fault::FaultError;
use crate::map::Inherit;
use crate::sim::lwp::Lwp;
use crate::sim::mapping::{PAGE, range};
use crate::sim::model::{Content, ModelPage};
use crate::sim::op::Spot;
use crate::sim::process::{Doing, Turn};
use crate::sim::run::Mode;

impl Lwp {
    /// Awaits its turn if there are stacks where an access goes.
    pub(super) async fn turn_to_grow(&self, at: Spot) -> Option<Turn<'_>> {
        let stacks = self.shared.plan.stacks.clone();
        if !stacks.contains(&at.page) {
            return None;
        }
        let turn = self.turn(stacks.clone(), Doing::Grows).await;
        if self
            .process
            .with(|m| m.each(stacks.clone(), |page| page.wired == 0))
        {
            return Some(turn);
        }
        // What a wired one grows by is wired some time after it is there.
        drop(turn);
        Some(self.turn(stacks, Doing::Changes).await)
    }

    /// Notes by what a stack has grown in an access to `page` just now, and compares that with what it had to. Returns the new pages that
    /// may be wired or not.
    pub(super) fn note_growth(
        &self,
        page: u64,
        turn: Option<&Turn<'_>>,
        error: Option<FaultError>,
    ) -> Option<Range<u64>> {
        let turn = turn?;
        let plan = &self.shared.plan;
        if self.process.with(|m| m.get(page).is_some()) {
            return None;
        }
        let is_there = (self.process.space)
            .mincore(range(&(page..page + 1)), &mut [0])
            .is_ok();
        let (growth, fits) = self
            .process
            .with(|m| {
                let growth = m.growth(page, plan.stack)?;
                let more = growth.end - growth.start;
                let wired = m.get(growth.end).is_some_and(|stack| stack.wired > 0);
                let (size, locked) = (m.len() + more, m.locked());
                let fits = size * PAGE <= plan.limit
                    && (!wired || (locked + more) * PAGE <= plan.locked.max(locked * PAGE));
                Some((growth, fits))
            })
            .unzip();
        let fits = fits.unwrap_or(false);
        // What others map, unmap and wire elsewhere counts or not.
        let sure = turn.is_alone();
        let starved = self.shared.mode == Mode::Starved;
        // What others have wired since it grew may have used the limit up, and then it is not.
        let unsure = starved || !sure;
        let fails = matches!(error, Some(FaultError::OutOfMemory | FaultError::Killed)) && starved;
        let right = match is_there {
            true => growth.is_some() && (fits || !sure),
            false => !fits || !sure || fails,
        };
        if !right {
            self.fail(format_args!(
                "a stack at page {page:#x}: {error:?}, there: {is_there}, expected {growth:x?}, fits: {fits}"
            ));
        }
        let growth = growth.filter(|_| is_there)?;
        self.shared.note(|o| o.growths += 1);
        self.process.with(|m| {
            let stack = m.get(growth.end)?.clone();
            let wired = if error.is_none() { stack.wired } else { 0 };
            for page in growth.clone() {
                let content = match stack.inherit {
                    Inherit::Share => Content::shared(),
                    _ => Content::zeroes(),
                };
                let mut new = ModelPage {
                    content,
                    wired: 0,
                    ..stack.clone()
                };
                if unsure {
                    new.content.blur();
                } else {
                    (0..wired).for_each(|_| new.wire());
                }
                m.insert(page, new);
            }
            (wired > 0 && unsure).then_some(growth)
        })
    }

    /// Unwires what nobody knows to be wired or not.
    pub(super) async fn unwire_growth(&self, grown: Option<Range<u64>>) {
        let Some(pages) = grown else { return };
        self.process.with(|m| m.begin(pages.clone()));
        while let Err(error) = self.process.space.munlock(range(&pages)).await {
            self.out_of_memory("munlock", error);
            let executor = &self.shared.world.executor;
            executor.sleep(Duration::from_millis(1)).await;
        }
        self.process.with(|m| {
            m.end(pages.clone());
            m.change(pages, |page| page.wired = 0);
        });
    }
}
