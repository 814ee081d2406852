//! A sparse array: pages of an object by index, anons of an amap by slot.
//!
//! A radix tree of fan-out `N` (a power of two) that grows upwards from where it is used first: the path to an element is as long as the distance
//! between the indices used so far needs, and a few elements beside each other are one node, whatever their indices. Nodes come from a typed pool, so that
//! only touched parts cost memory; a node is freed with its last element. No synchronisation: the owner's lock.

use crate::Uvm;
use crate::pool::{OutOfMemory, Pool, PoolBox};

/// One node: `N` children, or `N` elements at the lowest level.
pub struct Node<V, const N: usize> {
    used: u16,
    slots: Slots<V, N>,
}

enum Slots<V, const N: usize> {
    Inner([Option<PoolBox<Node<V, N>>>; N]),
    Leaf([Option<V>; N]),
}

/// The pool that nodes come from.
pub type NodePool<V, const N: usize> = Pool<Node<V, N>>;

/// The array.
pub struct Radix<V, const N: usize> {
    root: Option<PoolBox<Node<V, N>>>,
    /// Levels below the root; 0: the root is a leaf.
    height: u8,
    len: u32,
    /// First index of those that the root stands for.
    base: u64,
}

impl<V, const N: usize> Node<V, N> {
    fn leaf() -> Self {
        Self {
            used: 0,
            slots: Slots::Leaf([const { None }; N]),
        }
    }

    fn inner() -> Self {
        Self {
            used: 0,
            slots: Slots::Inner([const { None }; N]),
        }
    }
}

impl<V, const N: usize> Default for Radix<V, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V, const N: usize> Radix<V, N> {
    const BITS: u32 = {
        assert!(N.is_power_of_two());
        N.trailing_zeros()
    };

    /// An empty array.
    pub const fn new() -> Self {
        Self {
            root: None,
            height: 0,
            len: 0,
            base: 0,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the root stands for `index`, too.
    #[inline]
    fn fits(&self, index: u64) -> bool {
        let bits = Self::BITS * (u32::from(self.height) + 1);
        bits >= u64::BITS || (index ^ self.base) >> bits == 0
    }

    /// The first index that a root of this height stands for, if `index` is among its own.
    fn base_of(index: u64, height: u8) -> u64 {
        let bits = Self::BITS * (u32::from(height) + 1);
        index & u64::MAX.checked_shl(bits).unwrap_or(0)
    }

    #[inline]
    fn digit(index: u64, level: u8) -> usize {
        (index >> (Self::BITS * u32::from(level))) as usize & (N - 1)
    }

    /// The element at `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&V> {
        if !self.fits(index) {
            return None;
        }
        let mut node = self.root.as_deref()?;
        let mut level = self.height;
        loop {
            match &node.slots {
                Slots::Inner(children) => node = children[Self::digit(index, level)].as_deref()?,
                Slots::Leaf(values) => return values[Self::digit(index, 0)].as_ref(),
            }
            level -= 1;
        }
    }

    /// The element at `index`, to be changed.
    pub fn get_mut(&mut self, index: u64) -> Option<&mut V> {
        if !self.fits(index) {
            return None;
        }
        let mut level = self.height;
        let mut node = self.root.as_deref_mut()?;
        loop {
            match &mut node.slots {
                Slots::Inner(children) => {
                    node = children[Self::digit(index, level)].as_deref_mut()?;
                }
                Slots::Leaf(values) => return values[Self::digit(index, 0)].as_mut(),
            }
            level -= 1;
        }
    }

    /// Puts `value` at `index`; returns what was there.
    ///
    /// # Errors
    /// [`OutOfMemory`], and nothing has changed, when a node was needed and could not be had.
    pub fn insert(
        &mut self,
        index: u64,
        value: V,
        uvm: &Uvm,
        pool: &NodePool<V, N>,
    ) -> Result<Option<V>, OutOfMemory> {
        let result = self.try_insert(index, value, uvm, pool);
        if result.is_err() {
            // Nodes made on the way down before the one that failed.
            self.remove(index);
        }
        result
    }

    fn try_insert(
        &mut self,
        index: u64,
        value: V,
        uvm: &Uvm,
        pool: &NodePool<V, N>,
    ) -> Result<Option<V>, OutOfMemory> {
        if self.root.is_none() {
            self.root = Some(new_node(0, uvm, pool)?);
            (self.height, self.base) = (0, Self::base_of(index, 0));
        }
        while !self.fits(index) {
            let mut up = pool.alloc(uvm, Node::inner())?;
            up.used = 1;
            if let Slots::Inner(children) = &mut up.slots {
                children[Self::digit(self.base, self.height + 1)] = self.root.take();
            }
            self.root = Some(up);
            self.height += 1;
            self.base = Self::base_of(self.base, self.height);
        }
        let mut level = self.height;
        let mut node = self.root.as_deref_mut().ok_or(OutOfMemory)?;
        loop {
            let Node { used, slots } = node;
            match slots {
                Slots::Inner(children) => {
                    let child = &mut children[Self::digit(index, level)];
                    level -= 1;
                    if child.is_none() {
                        *child = Some(new_node(level, uvm, pool)?);
                        *used += 1;
                    }
                    node = child.as_deref_mut().ok_or(OutOfMemory)?;
                }
                Slots::Leaf(values) => {
                    let old = values[Self::digit(index, 0)].replace(value);
                    if old.is_none() {
                        *used += 1;
                        self.len += 1;
                    }
                    return Ok(old);
                }
            }
        }
    }

    /// Takes the element at `index` out. Frees nodes that are empty now.
    pub fn remove(&mut self, index: u64) -> Option<V> {
        fn go<V, const N: usize>(
            link: &mut Option<PoolBox<Node<V, N>>>,
            index: u64,
            level: u8,
        ) -> Option<V> {
            let node = link.as_deref_mut()?;
            let digit = Radix::<V, N>::digit(index, level);
            let value = match &mut node.slots {
                Slots::Leaf(values) => {
                    let value = values[digit].take();
                    node.used -= u16::from(value.is_some());
                    value
                }
                Slots::Inner(children) => {
                    let there = children[digit].is_some();
                    let value = go(&mut children[digit], index, level - 1);
                    node.used -= u16::from(there && children[digit].is_none());
                    value
                }
            };
            if node.used == 0 {
                *link = None;
            }
            value
        }
        if !self.fits(index) {
            return None;
        }
        let value = go(&mut self.root, index, self.height);
        self.len -= u32::from(value.is_some());
        value
    }

    /// The first element at `index` or later, and where it is.
    pub fn next_from(&self, index: u64) -> Option<(u64, &V)> {
        fn go<V, const N: usize>(
            node: &Node<V, N>,
            from: u64,
            base: u64,
            level: u8,
        ) -> Option<(u64, &V)> {
            let bits = Radix::<V, N>::BITS * u32::from(level);
            let first = if from <= base {
                0
            } else {
                Radix::<V, N>::digit(from, level)
            };
            for digit in first..N {
                let here = base + ((digit as u64) << bits);
                let found = match &node.slots {
                    Slots::Leaf(values) => values[digit].as_ref().map(|v| (here, v)),
                    Slots::Inner(children) => children[digit]
                        .as_deref()
                        .and_then(|c| go(c, from, here, level - 1)),
                };
                if found.is_some() {
                    return found;
                }
            }
            None
        }
        let index = index.max(self.base);
        if !self.fits(index) {
            return None;
        }
        go(self.root.as_deref()?, index, self.base, self.height)
    }

    /// All elements in order, from `start` on.
    pub fn iter_from(&self, start: u64) -> impl Iterator<Item = (u64, &V)> {
        let mut at = Some(start);
        core::iter::from_fn(move || {
            let (index, value) = self.next_from(at?)?;
            at = index.checked_add(1);
            Some((index, value))
        })
    }
}

fn new_node<V, const N: usize>(
    level: u8,
    uvm: &Uvm,
    pool: &NodePool<V, N>,
) -> Result<PoolBox<Node<V, N>>, OutOfMemory> {
    pool.alloc(
        uvm,
        if level == 0 {
            Node::leaf()
        } else {
            Node::inner()
        },
    )
}
