//! Simulated programs that are killed when memory and swap are full.
//!
//! Owns nothing. A process that is killed goes on until its programs have come to the end of what they are doing; from then on they do
//! nothing more, and the last to leave frees the space. While they have not, their faults may say that they are killed, and those of
//! nobody else; where a fault of theirs finds no memory it must say so.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering::Relaxed;

use crate::map::VmSpace;
use crate::pdaemon::victim::{Gain, Killer};
use crate::sim::lwp::Lwp;
use crate::sim::shared::Shared;

/// Kills for the pagedaemon.
pub(super) struct Axe(Weak<Shared>);

impl Axe {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self(Arc::downgrade(shared)))
    }
}

impl Killer for Axe {
    /// A space in the making belongs to nobody yet.
    fn kill(&self, space: &Arc<VmSpace>, _: Gain) -> bool {
        let Some(shared) = self.0.upgrade() else {
            return false;
        };
        let process = shared.process_in(space);
        if let Some(process) = &process {
            process.kill();
            shared.note(|o| o.kills += 1);
        }
        process.is_some()
    }
}

impl Lwp {
    /// Whether the program ends because its process is killed. The last one goes on all the same: somebody has to.
    pub(super) fn dies(&self) -> bool {
        let programs = &self.shared.programs;
        let dies = self.process.is_killed() && programs.load(Relaxed) > 1;
        programs.fetch_sub(usize::from(dies), Relaxed);
        dies
    }
}
