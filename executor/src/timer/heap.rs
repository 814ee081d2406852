//! A pairing heap of deadlines (Fredman, Sedgewick, Sleator, Tarjan 1986), through links in its nodes.
//!
//! Entering costs O(1), taking the first or leaving from anywhere O(log n) amortised, and nothing is ever allocated. Equal deadlines
//! leave in the order in which they entered.

use core::cmp::Ordering;
use core::marker::PhantomPinned;
use core::ptr::{self, NonNull};
use core::task::Waker;

use crate::shim::UnsafeCell;

/// A deadline in, or not yet in, the heap. Its links belong to the lock around the [`Timers`].
pub(crate) struct Node {
    deadline: u64,
    links: UnsafeCell<Links>,
    /// Others point here while it is in the heap.
    _pinned: PhantomPinned,
}

// SAFETY: the deadline never changes, the links are only touched under the heap's lock.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

struct Links {
    /// Order of entering, among equal deadlines.
    sequence: u64,
    waker: Option<Waker>,
    inside: bool,
    /// First of the nodes below.
    child: *const Node,
    /// The next node with the same parent.
    next: *const Node,
    /// The node before with the same parent; for the first of them, the parent.
    before: *const Node,
}

/// Whether [`Timers::enter`] put the node in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It was not in the heap.
    Entered,
    /// It was there already.
    Kept,
}

impl Node {
    pub(crate) fn new(deadline: u64) -> Self {
        Self {
            deadline,
            links: UnsafeCell::new(Links {
                sequence: 0,
                waker: None,
                inside: false,
                child: ptr::null(),
                next: ptr::null(),
                before: ptr::null(),
            }),
            _pinned: PhantomPinned,
        }
    }

    pub(crate) fn deadline(&self) -> u64 {
        self.deadline
    }
}

/// The heap.
pub(crate) struct Timers {
    root: *const Node,
    entered: u64,
}

// SAFETY: nodes may be used from any CPU under the lock.
unsafe impl Send for Timers {}

impl Timers {
    pub(crate) const fn new() -> Self {
        Self {
            root: ptr::null(),
            entered: 0,
        }
    }

    /// The earliest deadline; `u64::MAX` if there is none.
    pub(crate) fn first_deadline(&self) -> u64 {
        // SAFETY: nodes in the heap are alive, as `enter` demands.
        NonNull::new(self.root.cast_mut())
            .map_or(u64::MAX, |root| unsafe { root.as_ref() }.deadline)
    }

    /// Puts a node in, if it is not in, and says whom to wake. Gives the waker that it had.
    ///
    /// # Safety
    /// The node stays where it is until it has left, and is in no other heap. So for all methods: nodes in the heap are alive.
    pub(crate) unsafe fn enter(&mut self, node: &Node, waker: &Waker) -> (Place, Option<Waker>) {
        // SAFETY: `&mut self` is the lock of the node's links.
        unsafe {
            let old = with(node, |links| match &links.waker {
                Some(old) if old.will_wake(waker) => None,
                _ => links.waker.replace(waker.clone()),
            });
            if with(node, |links| links.inside) {
                return (Place::Kept, old);
            }
            self.entered += 1;
            with(node, |links| {
                links.inside = true;
                links.sequence = self.entered;
            });
            self.root = merge(self.root, node);
            (Place::Entered, old)
        }
    }

    /// Takes a node out, if it is in. Gives its waker.
    ///
    /// # Safety
    /// As [`enter`](Self::enter).
    pub(crate) unsafe fn leave(&mut self, node: &Node) -> Option<Waker> {
        // SAFETY: `&mut self` is the lock of the nodes' links, and linked nodes are alive.
        unsafe {
            if !with(node, |links| core::mem::take(&mut links.inside)) {
                return with(node, |links| links.waker.take());
            }
            let below = pair(with(node, |links| {
                core::mem::replace(&mut links.child, ptr::null())
            }));
            if ptr::eq(self.root, node) {
                self.root = below;
            } else {
                cut(node);
                self.root = merge(self.root, below);
            }
            with(node, |links| links.waker.take())
        }
    }

    /// Takes the first node out if its deadline is `now` or earlier; gives its waker.
    ///
    /// # Safety
    /// As [`enter`](Self::enter).
    pub(crate) unsafe fn pop_due(&mut self, now: u64) -> Option<Option<Waker>> {
        if self.first_deadline() > now || self.root.is_null() {
            return None;
        }
        // SAFETY: the root is in the heap, so alive.
        unsafe { Some(self.leave(&*self.root)) }
    }
}

/// # Safety
/// The caller holds the lock of the heap and is inside no other `with` of this node.
unsafe fn with<R>(node: &Node, f: impl FnOnce(&mut Links) -> R) -> R {
    // SAFETY: as the caller says.
    node.links.with_mut(|links| f(unsafe { &mut *links }))
}

/// Which of two leaves first.
///
/// # Safety
/// As [`with`].
unsafe fn order(a: &Node, b: &Node) -> Ordering {
    // SAFETY: as the caller says.
    let sequence = |node| unsafe { with(node, |links| links.sequence) };
    a.deadline
        .cmp(&b.deadline)
        .then_with(|| sequence(a).cmp(&sequence(b)))
}

/// Joins two heaps, either of which may be empty; their roots have no neighbours. Gives the root of both.
///
/// # Safety
/// As [`with`], for all nodes of both.
unsafe fn merge(a: *const Node, b: *const Node) -> *const Node {
    // SAFETY: as the caller says.
    unsafe {
        let (Some(a_node), Some(b_node)) = (a.as_ref(), b.as_ref()) else {
            return if a.is_null() { b } else { a };
        };
        let (above, below) = match order(a_node, b_node) {
            Ordering::Greater => (b_node, a_node),
            _ => (a_node, b_node),
        };
        let child = with(above, |links| core::mem::replace(&mut links.child, below));
        with(below, |links| {
            links.next = child;
            links.before = above;
        });
        if let Some(child) = child.as_ref() {
            with(child, |links| links.before = below);
        }
        above
    }
}

/// Makes one heap of a list of heaps, two by two and then from the back. Gives its root.
///
/// # Safety
/// As [`with`], for all nodes of all.
unsafe fn pair(mut list: *const Node) -> *const Node {
    // SAFETY: as the caller says.
    unsafe {
        // Pairs, chained backwards through `next`.
        let mut pairs: *const Node = ptr::null();
        while let Some(first) = list.as_ref() {
            let second = with(first, detach);
            list = match second.as_ref() {
                Some(second) => with(second, detach),
                None => ptr::null(),
            };
            let merged = merge(first, second);
            if let Some(merged) = merged.as_ref() {
                with(merged, |links| links.next = pairs);
            }
            pairs = merged;
        }
        let mut root: *const Node = ptr::null();
        while let Some(heap) = pairs.as_ref() {
            pairs = with(heap, detach);
            root = merge(root, heap);
        }
        root
    }
}

/// Forgets a node's neighbours; gives the next one.
fn detach(links: &mut Links) -> *const Node {
    links.before = ptr::null();
    core::mem::replace(&mut links.next, ptr::null())
}

/// Takes a node that is not the root, with all below it, out of its parent's list.
///
/// # Safety
/// As [`with`], for the node and its neighbours.
unsafe fn cut(node: &Node) {
    // SAFETY: as the caller says.
    unsafe {
        let before = with(node, |links| links.before);
        let next = with(node, detach);
        if let Some(before) = before.as_ref() {
            with(before, |links| {
                if ptr::eq(links.child, node) {
                    links.child = next;
                } else {
                    links.next = next;
                }
            });
        }
        if let Some(next) = next.as_ref() {
            with(next, |links| links.before = before);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    /// Random entering and leaving against a sorted list.
    #[test]
    fn leaves_in_the_order_of_deadlines_then_of_entering() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..200 {
            let mut timers = Timers::new();
            let mut nodes: Vec<Box<Node>> = Vec::new();
            let mut model: Vec<(u64, usize)> = Vec::new();
            for _ in 0..random(60) + 1 {
                if random(4) == 0 && !model.is_empty() {
                    let (_, index) = model.remove(random(model.len() as u64) as usize);
                    // SAFETY: boxed nodes stay where they are and outlive the heap.
                    unsafe { timers.leave(&nodes[index]) };
                } else {
                    nodes.push(Box::new(Node::new(random(20))));
                    let node = nodes.last().unwrap();
                    // SAFETY: as above.
                    let (place, _) = unsafe { timers.enter(node, Waker::noop()) };
                    assert_eq!(place, Place::Entered);
                    model.push((node.deadline, nodes.len() - 1));
                }
            }
            model.sort();
            for (deadline, index) in model {
                assert_eq!(timers.first_deadline(), deadline);
                assert!(ptr::eq(timers.root, &*nodes[index]));
                // SAFETY: as above.
                assert!(unsafe { timers.pop_due(deadline) }.is_some());
            }
            assert_eq!(timers.first_deadline(), u64::MAX);
        }
    }
}
