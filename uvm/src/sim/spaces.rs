//! The operations of simulated programs on whole address spaces: fork, going over to another's, and going over to a copy of one's own.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use crate::map::VmError;
use crate::pdaemon::demand::Patience;
use crate::sim::lwp::Lwp;
use crate::sim::mapping::{ALL, range};
use crate::sim::model::Model;
use crate::sim::napping::Bed;
use crate::sim::process::{Doing, Process};

/// Address spaces alive at once, at most.
const MAX_SPACES: usize = 6;

impl Lwp {
    pub(super) async fn fork(&self, programs: usize) {
        if self.shared.spaces.load(Relaxed) >= MAX_SPACES {
            return;
        }
        // Counted at once: others fork meanwhile.
        self.shared.spaces.fetch_add(1, Relaxed);
        let _turn = self.turn(ALL, Doing::Forks).await;
        self.process.with(Model::fork_begins);
        // As the kernel's system calls do: where there is no memory at the moment, it waits for some.
        let (mut patience, space) = (Patience::new(), &self.process.space);
        let result = loop {
            match space.fork().await {
                Err(VmError::OutOfMemory) if patience.wait_in(space).await.is_ok() => {}
                result => break result,
            }
        };
        let (child, unsure) = self.process.with(Model::fork_ended);
        let space = match result {
            Ok(space) => space,
            Err(error) => {
                self.shared.spaces.fetch_sub(1, Relaxed);
                return self.out_of_memory("fork", error);
            }
        };
        for page in unsure {
            if let Err(error) = space.unmap(range(&(page..page + 1))).await {
                self.out_of_memory("unmap", error);
                space.teardown().await;
                self.shared.spaces.fetch_sub(1, Relaxed);
                return;
            }
        }
        self.shared.note(|o| o.forks += 1);
        self.shared.start(space, child, programs);
    }

    /// The same program as a guest in another process, which goes on until [`Self::leave`].
    pub(super) fn guest(&self, choice: u64) -> Option<Self> {
        let (process, holder) = self.shared.visit(&self.process, choice)?;
        Some(Self {
            shared: self.shared.clone(),
            program: self.program.in_space(&process.space),
            process,
            holder,
            bed: Bed::new(choice),
        })
    }

    /// The end of a guest.
    pub(super) async fn leave(self) {
        self.shared.leave(&self.process, &self.holder).await;
    }

    /// Goes over to another process, whose space is then this program's. The old space is freed if nobody else has it.
    pub(super) async fn join(&self, choice: u64) -> Option<Arc<Process>> {
        let (other, visitor) = self.shared.visit(&self.process, choice)?;
        self.holder.share(&visitor).await;
        self.shared.left(&self.process, &self.holder);
        other.came(self.holder.clone());
        self.shared.leave(&other, &visitor).await;
        Some(other)
    }

    /// Goes over to a copy of the space, which is a process of its own then, unless nobody else has the space.
    pub(super) async fn unshare(&self) -> Option<Arc<Process>> {
        if self.shared.spaces.load(Relaxed) >= MAX_SPACES {
            return None;
        }
        self.shared.spaces.fetch_add(1, Relaxed);
        let turn = self.turn(ALL, Doing::Forks).await;
        self.process.with(Model::fork_begins);
        let result = self.holder.unshare().await;
        let (child, unsure) = self.process.with(Model::fork_ended);
        drop(turn);
        let space = self.holder.space()?;
        if let Err(error) = result {
            self.out_of_memory("unshare", error);
        }
        if Arc::ptr_eq(&space, &self.process.space) {
            self.shared.spaces.fetch_sub(1, Relaxed);
            return None;
        }
        self.shared.left(&self.process, &self.holder);
        // Nobody else knows the new space yet.
        for page in unsure {
            while let Err(error) = space.unmap(range(&(page..page + 1))).await {
                self.out_of_memory("unmap", error);
                let executor = &self.shared.world.executor;
                executor.sleep(Duration::from_millis(1)).await;
            }
        }
        self.shared.note(|o| o.forks += 1);
        self.shared.process(self.holder.clone(), child)
    }
}
