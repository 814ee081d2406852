//! How many entries show each slot of an amap, where not all slots are shown alike.
//!
//! Owns a tree of runs of equal counts that covers all slots. Synchronised by the amap's lock. Counting must not fail, but a
//! run needs memory: when there is none the count is *lost*, as in UVM: anons then stay until the whole amap goes.

use crate::Uvm;
use crate::map::tree::{Node, Span, Tree};
use crate::pool::OutOfMemory;

/// Slots `start..end`, shown by `count` entries each.
pub struct Run {
    start: u64,
    end: u64,
    count: u32,
}

impl Span for Run {
    fn start(&self) -> u64 {
        self.start
    }
    fn end(&self) -> u64 {
        self.end
    }
}

/// Counts per slot.
pub(crate) enum Runs {
    /// Every slot is shown by as many entries as there are references.
    Uniform,
    /// By range.
    Split(Tree<Run>),
    /// Unknown: at least one, for all that anyone can tell.
    Lost,
}

impl Runs {
    /// Goes over to counts by range: as of now `count` for all `slots`.
    pub(crate) fn materialise(&mut self, uvm: &Uvm, slots: u64, count: u32) {
        if matches!(self, Self::Uniform) {
            let mut tree = Tree::new();
            let run = Run {
                start: 0,
                end: slots,
                count,
            };
            *self = match uvm.upper.runs.alloc(uvm, Node::new(run)) {
                Ok(node) => {
                    tree.insert(node);
                    Self::Split(tree)
                }
                Err(OutOfMemory) => Self::Lost,
            };
        }
    }

    /// Adds `delta` to the counts of `len` slots from `slot` on.
    pub(crate) fn add(&mut self, uvm: &Uvm, slot: u64, len: u64, delta: i32) {
        let Self::Split(tree) = self else { return };
        if cut(tree, uvm, slot).is_err() || cut(tree, uvm, slot + len).is_err() {
            *self = Self::Lost;
            return;
        }
        let mut at = slot;
        while at < slot + len
            && let Some((start, end)) = tree.from(at).map(|run| (run.start, run.end))
        {
            tree.modify(start, |run| {
                run.count = run.count.saturating_add_signed(delta)
            });
            at = end;
        }
        // From one before to one after: what became equal becomes one run again.
        let mut at = slot.saturating_sub(1);
        while let Some((start, end, count)) = tree.from(at).map(|r| (r.start, r.end, r.count)) {
            if start >= slot + len {
                break;
            }
            match tree
                .from(end)
                .map(|next| (next.start, next.end, next.count))
            {
                Some((next, next_end, next_count)) if next_count == count => {
                    tree.remove(next);
                    tree.modify(start, |run| run.end = next_end);
                }
                _ => at = end,
            }
        }
    }

    /// Calls `f` with each range within the `len` slots from `slot` on that nobody shows.
    pub(crate) fn for_each_unused(&self, slot: u64, len: u64, mut f: impl FnMut(u64, u64)) {
        let Self::Split(tree) = self else { return };
        let mut at = slot;
        while at < slot + len
            && let Some(run) = tree.from(at)
        {
            if run.count == 0 {
                f(run.start.max(slot), run.end.min(slot + len));
            }
            at = run.end;
        }
    }

    /// How many entries show `slot`; `None` if that is not counted here.
    pub(crate) fn count_at(&self, slot: u64) -> Option<u32> {
        match self {
            Self::Split(tree) => tree.find(slot).map(|node| node.value().count),
            Self::Uniform | Self::Lost => None,
        }
    }
}

/// Makes a run begin at `at`.
fn cut(tree: &mut Tree<Run>, uvm: &Uvm, at: u64) -> Result<(), OutOfMemory> {
    let Some((start, end, count)) = tree
        .find(at)
        .map(|n| n.value())
        .map(|r| (r.start, r.end, r.count))
    else {
        return Ok(());
    };
    if start == at {
        return Ok(());
    }
    let upper = uvm.upper.runs.alloc(
        uvm,
        Node::new(Run {
            start: at,
            end,
            count,
        }),
    )?;
    tree.modify(start, |run| run.end = at);
    tree.insert(upper);
    Ok(())
}
