//! All u-areas that have a [`Residence`], for who must find those that are out: swapoff and `check`.
//!
//! Owns weak references, in the order in which they were made: addresses of the heap would differ from run to run, and a walk with them. One spin lock, held for a few instructions. Their nodes come from a pool when a u-area gets its residence, so that
//! nothing is allocated when it goes out.

use alloc::sync::{Arc, Weak};

use super::Residence;
use crate::Uvm;
use crate::map::tree::{Node, Span, Tree};
use crate::pool::OutOfMemory;

/// All of them, and the number of the next.
pub(crate) struct Residences {
    tree: Tree<Listed>,
    next: u64,
}

/// A node of [`Residences`].
pub(crate) struct Listed {
    number: u64,
    residence: Weak<Residence>,
}

impl Span for Listed {
    fn start(&self) -> u64 {
        self.number
    }
    fn end(&self) -> u64 {
        self.start() + 1
    }
}

impl Residences {
    pub(crate) const fn new() -> Self {
        Self {
            tree: Tree::new(),
            next: 0,
        }
    }
}

impl Uvm {
    /// A number for a new one, which no other ever has.
    pub(super) fn number_of_residence(&self) -> u64 {
        let mut residences = self.upper.residences.lock();
        residences.next += 1;
        residences.next
    }

    /// Lists one that is new.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(super) fn list_residence(&self, residence: &Arc<Residence>) -> Result<(), OutOfMemory> {
        let node = Node::new(Listed {
            number: residence.number,
            residence: Arc::downgrade(residence),
        });
        let node = self.upper.listed_uareas.alloc(self, node)?;
        self.upper.residences.lock().tree.insert(node);
        Ok(())
    }

    /// Forgets one that is going away.
    pub(super) fn unlist_residence(&self, residence: &Residence) {
        let node = self.upper.residences.lock().tree.remove(residence.number);
        drop(node);
    }

    /// The first that is alive from `at` on, which moves behind it. For walks that await in between.
    pub(crate) fn next_residence(&self, at: &mut u64) -> Option<Arc<Residence>> {
        let residences = self.upper.residences.lock();
        loop {
            let listed = residences.tree.from(*at)?;
            *at = listed.end();
            if let Some(residence) = listed.residence.upgrade() {
                return Some(residence);
            }
        }
    }
}
