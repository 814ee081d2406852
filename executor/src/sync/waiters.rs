//! The list of those who wait: first in, first out, through nodes in the waiting futures.
//!
//! Every primitive here is such a [`Waiters`] list and its own state behind one spin lock. A node is in three states:
//!
//! ```text
//!   out --enter--> waiting --take--> taken --seen by its future--> out
//!    ^                |
//!    +----leave-------+   (its future was dropped, or needs to wait no longer)
//! ```
//!
//! `taken` means that somebody handed the node what it waited for. A future dropped in that state must pass it on.
//! Wakers leave the list together with their node, and are woken or dropped after the lock is released.

use core::marker::PhantomPinned;
use core::ptr;
use core::task::Waker;

use crate::shim::UnsafeCell;

/// A waiting future's place in a list. Its contents belong to the lock around the list.
pub(crate) struct Node {
    inner: UnsafeCell<Inner>,
    /// Others point here while it waits.
    _pinned: PhantomPinned,
}

// SAFETY: the contents are only touched under the list's lock.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

struct Inner {
    state: NodeState,
    waker: Option<Waker>,
    /// What the node waits for: a key, or a number of permits.
    tag: u64,
    next: *const Node,
    before: *const Node,
}

/// See the module's drawing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeState {
    Out,
    Waiting,
    Taken,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self {
            inner: UnsafeCell::new(Inner {
                state: NodeState::Out,
                waker: None,
                tag: 0,
                next: ptr::null(),
                before: ptr::null(),
            }),
            _pinned: PhantomPinned,
        }
    }
}

/// The list. All methods demand: nodes that wait stay where they are and belong to this list alone; `&mut self` comes from the lock.
pub(crate) struct Waiters {
    first: *const Node,
    last: *const Node,
}

// SAFETY: nodes may be used from any CPU under the lock.
unsafe impl Send for Waiters {}

impl Waiters {
    pub(crate) const fn new() -> Self {
        Self {
            first: ptr::null(),
            last: ptr::null(),
        }
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// What the node's future finds.
    ///
    /// # Safety
    /// See [`Waiters`].
    pub(crate) unsafe fn state(&mut self, node: &Node) -> NodeState {
        // SAFETY: as the caller says.
        unsafe { with(node, |inner| inner.state) }
    }

    /// Makes the node wait at the end of the list, or keeps its place if it waits; its waker becomes `waker`. Gives the waker it had.
    ///
    /// # Safety
    /// See [`Waiters`]; the node's future takes it out before it goes.
    pub(crate) unsafe fn enter(&mut self, node: &Node, tag: u64, waker: &Waker) -> Option<Waker> {
        // SAFETY: as the caller says.
        unsafe {
            let last = self.last;
            let (entered, old) = with(node, |inner| {
                let old = match &inner.waker {
                    Some(old) if old.will_wake(waker) => None,
                    _ => inner.waker.replace(waker.clone()),
                };
                let entered = inner.state != NodeState::Waiting;
                if entered {
                    inner.state = NodeState::Waiting;
                    inner.tag = tag;
                    inner.before = last;
                    inner.next = ptr::null();
                }
                (entered, old)
            });
            if entered {
                match last.as_ref() {
                    Some(last) => with(last, |inner| inner.next = node),
                    None => self.first = node,
                }
                self.last = node;
            }
            old
        }
    }

    /// Takes the node out if it waits. Gives the state that it had, and its waker.
    ///
    /// # Safety
    /// See [`Waiters`].
    pub(crate) unsafe fn leave(&mut self, node: &Node) -> (NodeState, Option<Waker>) {
        // SAFETY: as the caller says.
        unsafe {
            let state = with(node, |inner| inner.state);
            if state == NodeState::Waiting {
                self.unlink(node);
            }
            with(node, |inner| {
                inner.state = NodeState::Out;
                (state, inner.waker.take())
            })
        }
    }

    /// The tag of the node that waits longest.
    pub(crate) fn first_tag(&mut self) -> Option<u64> {
        // SAFETY: nodes in the list are alive; `&mut self` is the lock.
        unsafe {
            self.first
                .as_ref()
                .map(|first| with(first, |inner| inner.tag))
        }
    }

    /// Takes the node that waits longest, and gives its waker.
    pub(crate) fn take_first(&mut self) -> Option<Waker> {
        // SAFETY: nodes in the list are alive; `&mut self` is the lock.
        unsafe { self.first.as_ref().and_then(|first| self.take(first)) }
    }

    /// Takes the node that waits longest with this tag, and gives its waker.
    pub(crate) fn take_tagged(&mut self, tag: u64) -> Option<Waker> {
        let mut at = self.first;
        // SAFETY: nodes in the list are alive; `&mut self` is the lock.
        unsafe {
            while let Some(node) = at.as_ref() {
                if with(node, |inner| inner.tag) == tag {
                    return self.take(node);
                }
                at = with(node, |inner| inner.next);
            }
        }
        None
    }

    /// # Safety
    /// The node is in this list.
    unsafe fn take(&mut self, node: &Node) -> Option<Waker> {
        // SAFETY: as the caller says.
        unsafe {
            self.unlink(node);
            with(node, |inner| {
                inner.state = NodeState::Taken;
                inner.waker.take()
            })
        }
    }

    /// # Safety
    /// The node is in this list.
    unsafe fn unlink(&mut self, node: &Node) {
        // SAFETY: as the caller says; its neighbours are in the list too, and so alive.
        unsafe {
            let (before, next) = with(node, |inner| (inner.before, inner.next));
            match before.as_ref() {
                Some(before) => with(before, |inner| inner.next = next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => with(next, |inner| inner.before = before),
                None => self.last = before,
            }
        }
    }
}

/// # Safety
/// The caller holds the list's lock and is inside no other `with` of this node.
unsafe fn with<R>(node: &Node, f: impl FnOnce(&mut Inner) -> R) -> R {
    // SAFETY: as the caller says.
    node.inner.with_mut(|inner| f(unsafe { &mut *inner }))
}
