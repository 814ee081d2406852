//! All u-areas that have a [`Residence`], for who must find those that are out: swapoff and `check`.
//!
//! Owns weak references, by address. One spin lock, held for a few instructions. Their nodes come from a pool when a u-area gets its residence, so that
//! nothing is allocated when it goes out.

use alloc::sync::{Arc, Weak};

use super::Residence;
use crate::Uvm;
use crate::map::tree::{Node, Span, Tree};
use crate::pool::OutOfMemory;

/// All of them.
pub(crate) struct Residences(Tree<Listed>);

/// A node of [`Residences`].
pub(crate) struct Listed(Weak<Residence>);

impl Span for Listed {
    fn start(&self) -> u64 {
        self.0.as_ptr() as u64
    }
    fn end(&self) -> u64 {
        self.start() + 1
    }
}

impl Residences {
    pub(crate) const fn new() -> Self {
        Self(Tree::new())
    }
}

impl Uvm {
    /// Lists one that is new.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(super) fn list_residence(&self, residence: &Arc<Residence>) -> Result<(), OutOfMemory> {
        let node = Node::new(Listed(Arc::downgrade(residence)));
        let node = self.upper.listed_uareas.alloc(self, node)?;
        self.upper.residences.lock().0.insert(node);
        Ok(())
    }

    /// Forgets one that is going away.
    pub(super) fn unlist_residence(&self, residence: &Residence) {
        let at = core::ptr::from_ref(residence) as u64;
        let node = self.upper.residences.lock().0.remove(at);
        drop(node);
    }

    /// The first that is alive from `at` on, which moves behind it. For walks that await in between.
    pub(crate) fn next_residence(&self, at: &mut u64) -> Option<Arc<Residence>> {
        let residences = self.upper.residences.lock();
        loop {
            let listed = residences.0.from(*at)?;
            *at = listed.end();
            if let Some(residence) = listed.0.upgrade() {
                return Some(residence);
            }
        }
    }
}
