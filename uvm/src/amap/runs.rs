//! How many entries show each slot of an amap, where not all slots are shown alike.
//!
//! Owns a tree of runs of equal counts that covers all slots. Synchronised by the amap's lock. Counting must not fail, but a
//! run needs memory: when there is none the count is *lost*, as in UVM: anons then stay until the whole amap goes.

use core::ops::Range;

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
    pub(crate) fn materialise(&mut self, uvm: &Uvm, slots: Range<u64>, count: u32) {
        if matches!(self, Self::Uniform) {
            let mut tree = Tree::new();
            let run = Run {
                start: slots.start,
                end: slots.end,
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
        unite(tree, slot, slot + len);
    }

    /// Counts new slots, right before or behind all others (`slots`, as of now shown by `count`): one entry shows them.
    /// Returns whether there was memory for that; nothing has changed if not.
    pub(crate) fn claim(
        &mut self,
        uvm: &Uvm,
        slots: Range<u64>,
        count: u32,
        new: Range<u64>,
    ) -> bool {
        let (start, end) = (new.start, new.end);
        let run = Run {
            start,
            end,
            count: 1,
        };
        let Ok(node) = uvm.upper.runs.alloc(uvm, Node::new(run)) else {
            return false;
        };
        self.materialise(uvm, slots, count);
        if let Self::Split(tree) = self {
            tree.insert(node);
            unite(tree, start, end);
        }
        true
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

/// Makes one of neighbouring runs with equal counts, from one before `start` to one after `end`.
fn unite(tree: &mut Tree<Run>, start: u64, end: u64) {
    let mut at = start.saturating_sub(1);
    while let Some((from, to, count)) = tree.from(at).map(|r| (r.start, r.end, r.count)) {
        if from >= end {
            break;
        }
        match tree.from(to).map(|next| (next.start, next.end, next.count)) {
            Some((next, next_end, next_count)) if next_count == count => {
                tree.remove(next);
                tree.modify(from, |run| run.end = next_end);
            }
            _ => at = to,
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
