//! An ordered tree of disjoint intervals: map entries by address, reference runs of an amap by slot.
//!
//! Owns its nodes, which come from a typed pool and are made by the caller, so that nothing in here can fail. An AVL
//! tree in which each node also knows the extent of its subtree and the largest hole between two
//! neighbours in it; so a lookup and the search for a free place both take O(log n). No synchronisation: the owner's lock.
//!
//! Nodes never move while they are in the tree, which is what lets a map remember one as its hint.

use core::cmp::max;

use crate::pool::PoolBox;

/// Something that covers `start..end`.
pub trait Span {
    /// First position covered.
    fn start(&self) -> u64;
    /// First position past it; more than `start`.
    fn end(&self) -> u64;
    /// Positions before it that a search for room leaves free.
    fn margin(&self) -> u64 {
        0
    }
}

/// A node: a value and its place in the tree.
pub struct Node<T> {
    value: T,
    left: Link<T>,
    right: Link<T>,
    /// Extent of the subtree.
    first: u64,
    last: u64,
    /// Its largest hole, and its height in the uppermost byte: positions do not reach so far.
    hole_and_height: u64,
}

/// Where the height begins in [`Node::hole_and_height`].
const HEIGHT: u32 = 56;

type Link<T> = Option<PoolBox<Node<T>>>;

/// Intervals in order. None overlap.
pub struct Tree<T> {
    root: Link<T>,
    len: usize,
}

impl<T: Span> Node<T> {
    /// A node outside any tree, to be put into a pool and then inserted.
    pub fn new(value: T) -> Self {
        let (first, last) = (value.start(), value.end());
        Self {
            value,
            left: None,
            right: None,
            first,
            last,
            hole_and_height: 1 << HEIGHT,
        }
    }

    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The value of a node that is in no tree.
    pub fn value_mut(&mut self) -> &mut T {
        &mut self.value
    }

    fn refresh(&mut self) {
        let (start, end) = (self.value.start(), self.value.end());
        let (mut height, mut hole) = (0, 0);
        (self.first, self.last) = (start, end);
        if let Some(left) = &self.left {
            height = left.height();
            self.first = left.first;
            hole = max(left.hole(), start - left.last);
        }
        if let Some(right) = &self.right {
            height = max(height, right.height());
            self.last = right.last;
            hole = max(hole, max(right.hole(), right.first - end));
        }
        debug_assert!(hole >> HEIGHT == 0, "a position beyond all addresses");
        self.hole_and_height = u64::from(height + 1) << HEIGHT | hole;
    }

    fn height(&self) -> u8 {
        (self.hole_and_height >> HEIGHT) as u8
    }

    fn hole(&self) -> u64 {
        self.hole_and_height & ((1 << HEIGHT) - 1)
    }

    fn lean(&self) -> i32 {
        i32::from(self.left.as_ref().map_or(0, |n| n.height()))
            - i32::from(self.right.as_ref().map_or(0, |n| n.height()))
    }
}

fn rotate_right<T: Span>(mut node: PoolBox<Node<T>>) -> PoolBox<Node<T>> {
    let Some(mut up) = node.left.take() else {
        return node;
    };
    node.left = up.right.take();
    node.refresh();
    up.right = Some(node);
    up.refresh();
    up
}

fn rotate_left<T: Span>(mut node: PoolBox<Node<T>>) -> PoolBox<Node<T>> {
    let Some(mut up) = node.right.take() else {
        return node;
    };
    node.right = up.left.take();
    node.refresh();
    up.left = Some(node);
    up.refresh();
    up
}

fn balance<T: Span>(mut node: PoolBox<Node<T>>) -> PoolBox<Node<T>> {
    node.refresh();
    match node.lean() {
        2 => {
            if node.left.as_ref().is_some_and(|l| l.lean() < 0) {
                node.left = node.left.take().map(rotate_left);
            }
            rotate_right(node)
        }
        -2 => {
            if node.right.as_ref().is_some_and(|r| r.lean() > 0) {
                node.right = node.right.take().map(rotate_right);
            }
            rotate_left(node)
        }
        _ => node,
    }
}

fn insert<T: Span>(link: Link<T>, new: PoolBox<Node<T>>) -> PoolBox<Node<T>> {
    let Some(mut node) = link else { return new };
    if new.value.end() <= node.value.start() {
        node.left = Some(insert(node.left.take(), new));
    } else {
        debug_assert!(new.value.start() >= node.value.end(), "intervals overlap");
        node.right = Some(insert(node.right.take(), new));
    }
    balance(node)
}

/// Takes the leftmost node out of a subtree: (it, the rest).
fn take_first<T: Span>(mut node: PoolBox<Node<T>>) -> (PoolBox<Node<T>>, Link<T>) {
    match node.left.take() {
        Some(left) => {
            let (first, rest) = take_first(left);
            node.left = rest;
            (first, Some(balance(node)))
        }
        None => {
            let rest = node.right.take();
            (node, rest)
        }
    }
}

fn remove<T: Span>(link: Link<T>, start: u64, out: &mut Link<T>) -> Link<T> {
    let mut node = link?;
    if start < node.value.start() {
        node.left = remove(node.left.take(), start, out);
    } else if start > node.value.start() {
        node.right = remove(node.right.take(), start, out);
    } else {
        let (left, right) = (node.left.take(), node.right.take());
        node.refresh();
        *out = Some(node);
        let Some(right) = right else { return left };
        let (mut up, rest) = take_first(right);
        up.left = left;
        up.right = rest;
        return Some(balance(up));
    }
    Some(balance(node))
}

fn modify<T: Span, R>(link: &mut Link<T>, start: u64, f: impl FnOnce(&mut T) -> R) -> Option<R> {
    let node = link.as_deref_mut()?;
    let result = if start < node.value.start() {
        modify(&mut node.left, start, f)
    } else if start > node.value.start() {
        modify(&mut node.right, start, f)
    } else {
        Some(f(&mut node.value))
    };
    node.refresh();
    result
}

/// Room that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// How much.
    pub len: u64,
    /// It begins at a multiple of this power of two.
    pub align: u64,
    /// It lies within `low..high`.
    pub low: u64,
    /// See `low`.
    pub high: u64,
}

/// Where to look first.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// At the top.
    High,
    /// At the bottom.
    Low,
}

impl Room {
    /// Its place within the hole `a..b`.
    fn fit(&self, side: Side, a: u64, b: u64) -> Option<u64> {
        let mask = self.align - 1;
        let at = match side {
            Side::High => b.checked_sub(self.len)? & !mask,
            Side::Low => a.checked_add(mask)? & !mask,
        };
        (at >= a && at.checked_add(self.len)? <= b).then_some(at)
    }
}

/// One walk over holes of at least `need`.
struct Search {
    need: u64,
    side: Side,
    room: Room,
}

/// What lies around the holes of a subtree.
#[derive(Clone, Copy)]
struct Within {
    /// Where what is before it ends, and what is behind it begins.
    low: u64,
    high: u64,
    /// What that wants to be left free before it.
    margin: u64,
}

/// What `accept` says of the first hole that it takes, in the subtree `link`.
fn hole<T: Span, R>(
    link: &Link<T>,
    within: Within,
    search: &Search,
    accept: &impl Fn(u64, u64) -> Option<R>,
) -> Option<R> {
    let &Search { need, side, room } = search;
    let Within { low, high, margin } = within;
    if low >= room.high || high <= room.low {
        return None;
    }
    let Some(node) = link else {
        let (a, b) = (
            low.max(room.low),
            high.saturating_sub(margin).min(room.high),
        );
        // A margin may leave less than nothing.
        return if b.saturating_sub(a) >= need {
            accept(a, b)
        } else {
            None
        };
    };
    if max(node.hole(), max(node.first - low, high - node.last)) < need {
        return None;
    }
    let value = &node.value;
    let left = || {
        let within = Within {
            low,
            high: value.start(),
            margin: value.margin(),
        };
        hole(&node.left, within, search, accept)
    };
    let right = || {
        let low = value.end();
        hole(&node.right, Within { low, ..within }, search, accept)
    };
    match side {
        Side::High => right().or_else(left),
        Side::Low => left().or_else(right),
    }
}

impl<T: Span> Default for Tree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Span> Tree<T> {
    /// An empty tree.
    pub const fn new() -> Self {
        Self { root: None, len: 0 }
    }

    /// Number of intervals.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a node in. It overlaps nothing that is there.
    pub fn insert(&mut self, mut node: PoolBox<Node<T>>) {
        // Its value may have changed since it was made.
        node.refresh();
        self.root = Some(insert(self.root.take(), node));
        self.len += 1;
    }

    /// Takes out the node that begins at `start`.
    pub fn remove(&mut self, start: u64) -> Option<PoolBox<Node<T>>> {
        let mut out = None;
        self.root = remove(self.root.take(), start, &mut out);
        self.len -= usize::from(out.is_some());
        out
    }

    /// Changes the interval that begins at `start`. Its extent may change, its order must not.
    pub fn modify<R>(&mut self, start: u64, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        modify(&mut self.root, start, f)
    }

    /// The node that covers `at`.
    #[inline]
    pub fn find(&self, at: u64) -> Option<&Node<T>> {
        let mut link = &self.root;
        while let Some(node) = link {
            if at < node.value.start() {
                link = &node.left;
            } else if at >= node.value.end() {
                link = &node.right;
            } else {
                return Some(node);
            }
        }
        None
    }

    /// The first interval that ends after `at`: the one that covers it or the next one.
    pub fn from(&self, at: u64) -> Option<&T> {
        let (mut link, mut best) = (&self.root, None);
        while let Some(node) = link {
            if node.value.end() > at {
                best = Some(&node.value);
                link = &node.left;
            } else {
                link = &node.right;
            }
        }
        best
    }

    /// The last interval that begins before `at`.
    pub fn before(&self, at: u64) -> Option<&T> {
        let (mut link, mut best) = (&self.root, None);
        while let Some(node) = link {
            if node.value.start() < at {
                best = Some(&node.value);
                link = &node.right;
            } else {
                link = &node.left;
            }
        }
        best
    }

    /// All intervals in order. Each step is a lookup, so that it needs no stack.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.iter_from(0)
    }

    /// Those that end after `at`, likewise.
    pub fn iter_from(&self, mut at: u64) -> impl Iterator<Item = &T> {
        core::iter::from_fn(move || {
            let item = self.from(at)?;
            at = item.end();
            Some(item)
        })
    }

    /// Whether any interval meets `start..end`.
    pub fn overlaps(&self, start: u64, end: u64) -> bool {
        self.from(start).is_some_and(|item| item.start() < end)
    }

    /// A place for `room`: in the highest hole that is large enough, or the lowest, where it fits there aligned;
    /// else in any hole where it does. If there is one it is found.
    pub fn find_room(&self, room: Room, side: Side) -> Option<u64> {
        let fit = |a, b| room.fit(side, a, b);
        let everywhere = Within {
            low: 0,
            high: u64::MAX,
            margin: 0,
        };
        let search = |need| Search { need, side, room };
        // The first hole that is large enough ends the search, aligned or not: O(log n).
        let first = hole(&self.root, everywhere, &search(room.len), &|a, b| {
            Some(fit(a, b))
        })?;
        // One that is large enough wherever it begins: the same. Only where there is none are all that might do looked at.
        first
            .or_else(|| {
                let need = room.len.saturating_add(room.align - 1);
                hole(&self.root, everywhere, &search(need), &fit)
            })
            .or_else(|| hole(&self.root, everywhere, &search(room.len), &fit))
    }
}
