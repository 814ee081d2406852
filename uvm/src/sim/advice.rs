//! The operations of simulated programs that say how memory will be used, give it up, or write it back.

use core::ops::Range;

use crate::map::{Advice, Sync, VmError};
use crate::sim::lwp::Lwp;
use crate::sim::mapping::range;
use crate::sim::model::{Content, Discarded, ModelPage};
use crate::sim::op::Gives;
use crate::sim::process::Doing;

impl Lwp {
    pub(super) async fn advise(&self, pages: Range<u64>, advice: Advice) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        let result = self.process.space.advise(range(&pages), advice).await;
        self.needs_mapped("advise", pages, result);
    }

    /// A hint: where memory or request slots would get short it ends early, and then does not see a hole.
    pub(super) async fn will_need(&self, pages: Range<u64>) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        let result = self.process.space.will_need(range(&pages)).await;
        let mapped = self.process.with(|m| m.all(pages.clone()));
        match result {
            Ok(()) => {}
            Err(VmError::Unmapped) if !mapped => {}
            result => self.fail(format_args!(
                "will need {pages:x?}: {result:?}, mapped: {mapped}"
            )),
        }
    }

    pub(super) async fn sync(&self, pages: Range<u64>, how: Sync) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        let known = self.known(&pages);
        let (mapped, wired, written) = self.process.with(|m| {
            let wired = !m.each(known.clone(), |page| page.wired == 0);
            let object = |page: &ModelPage| matches!(page.content, Content::Object(_));
            let written = how.contains(Sync::WRITE) && !m.each(known, |page| !object(page));
            (m.all(pages.clone()), wired, written)
        });
        let result = self.process.space.sync(range(&pages), how).await;
        match result {
            Err(VmError::Busy) if wired && how.contains(Sync::INVALIDATE) => {}
            result if wired && how.contains(Sync::INVALIDATE) && !written => {
                self.fail(format_args!("sync of wired {pages:x?}: {result:?}"));
            }
            Ok(()) if mapped => {}
            Err(VmError::Unmapped) if !mapped => {}
            // There is nothing yet that writes files.
            Err(VmError::Io) if written => {}
            result => self.fail(format_args!(
                "sync {pages:x?}: {result:?}, mapped: {mapped}"
            )),
        }
    }

    /// Nothing past the first page that may not be given up is.
    pub(super) async fn discard(&self, pages: Range<u64>, gives: Gives) {
        let _turn = self.turn(pages.clone(), Doing::Changes).await;
        let known = self.known(&pages);
        let refuses = |page: &ModelPage| {
            let anonymous = page.private && page.content.is_over_zeroes();
            page.wired > 0 || (gives == Gives::Free && !anonymous)
        };
        let (mapped, first) = self.process.with(|m| {
            let mut within = m.within(known.clone());
            let first = within.find(|(_, page)| refuses(page)).map(|(at, _)| at);
            (m.all(pages.clone()), first)
        });
        let worked = known.start..first.unwrap_or(known.end);
        let mut before = alloc::vec::Vec::new();
        self.process.with(|m| {
            m.begin(worked.clone());
            m.change(worked.clone(), |page| {
                if page.private {
                    before.push(page.content.discarding());
                }
            });
        });
        let space = &self.process.space;
        let result = match gives {
            Gives::Up => space.dont_need(range(&pages)).await,
            Gives::Free => space.free(range(&pages)).await,
        };
        let done = match result {
            Err(VmError::OutOfMemory) => Discarded::Perhaps,
            _ => Discarded::Surely,
        };
        self.process.with(|m| {
            m.end(worked.clone());
            let mut before = before.into_iter();
            m.change(worked, |page| {
                if page.private {
                    page.content.discarded(before.next().unwrap_or(0), done);
                }
            });
        });
        match result {
            Err(VmError::OutOfMemory) => self.out_of_memory("discard", VmError::OutOfMemory),
            Err(VmError::Invalid) if first.is_some() => {}
            Err(VmError::Unmapped) if first.is_none() && !mapped => {}
            Ok(()) if first.is_none() && mapped => {}
            result => self.fail(format_args!(
                "{gives:?} {pages:x?}: {result:?}, mapped: {mapped}, refuses: {first:x?}"
            )),
        }
    }
}
