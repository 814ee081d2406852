//! A sparse array: pages of an object by index, anons of an amap by slot.
//!
//! A radix tree of fan-out `N` (a power of two) that grows upwards from where it is used first: the path to an element is as long as the distance
//! between the indices used so far needs, and a few elements beside each other are one node, whatever their indices. Nodes come from a typed pool, so that
//! only touched parts cost memory; a node is freed with its last element. No synchronisation: the owner's lock.

use core::ops::{ControlFlow, Range};

use crate::Uvm;
use crate::pool::{OutOfMemory, Pool, PoolBox};

/// One node: `N` children, or `N` elements at the lowest level. How many there are of them lies beside what tells the two apart.
pub struct Node<V, const N: usize>(Kind<V, N>);

enum Kind<V, const N: usize> {
    Inner {
        used: u16,
        children: [Option<PoolBox<Node<V, N>>>; N],
    },
    Leaf {
        used: u16,
        values: [Option<V>; N],
    },
}

/// The pool that nodes come from.
pub type NodePool<V, const N: usize> = Pool<Node<V, N>>;

/// The array.
pub struct Radix<V, const N: usize> {
    root: Option<PoolBox<Node<V, N>>>,
    /// Bits of an index below the root's digit; 0: the root is a leaf.
    shift: u8,
    len: u32,
    /// First index of those that the root stands for.
    base: u64,
}

impl<V, const N: usize> Node<V, N> {
    fn leaf() -> Self {
        Self(Kind::Leaf {
            used: 0,
            values: [const { None }; N],
        })
    }

    fn inner() -> Self {
        Self(Kind::Inner {
            used: 0,
            children: [const { None }; N],
        })
    }
}

impl<V, const N: usize> Default for Radix<V, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V, const N: usize> Radix<V, N> {
    const BITS: u8 = {
        assert!(N.is_power_of_two());
        N.trailing_zeros() as u8
    };

    /// An empty array.
    pub const fn new() -> Self {
        Self {
            root: None,
            shift: 0,
            len: 0,
            base: 0,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Number of nodes: a walk over all of them.
    pub(crate) fn nodes(&self) -> usize {
        fn below<V, const N: usize>(node: &Node<V, N>) -> usize {
            match &node.0 {
                Kind::Leaf { .. } => 1,
                Kind::Inner { children, .. } => {
                    1 + children.iter().flatten().map(|c| below(c)).sum::<usize>()
                }
            }
        }
        self.root.as_deref().map_or(0, below)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the root stands for `index`, too.
    #[inline]
    fn fits(&self, index: u64) -> bool {
        // Two shifts: together they may be 64 bits or more.
        (index ^ self.base) >> self.shift >> Self::BITS == 0
    }

    /// The first index that a root of this shift stands for, if `index` is among its own.
    fn base_of(index: u64, shift: u8) -> u64 {
        let bits = u32::from(shift) + u32::from(Self::BITS);
        index & u64::MAX.checked_shl(bits).unwrap_or(0)
    }

    #[inline]
    fn digit(index: u64, shift: u8) -> usize {
        (index >> shift) as usize & (N - 1)
    }

    /// The element at `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&V> {
        self.leaf_of(index)?[Self::digit(index, 0)].as_ref()
    }

    /// The leaf in which an element at `index` is, if it is there.
    #[inline]
    fn leaf_of(&self, index: u64) -> Option<&[Option<V>; N]> {
        if !self.fits(index) {
            return None;
        }
        let mut node = self.root.as_deref()?;
        let mut shift = self.shift;
        loop {
            match &node.0 {
                Kind::Inner { children, .. } => {
                    node = children[Self::digit(index, shift)].as_deref()?;
                }
                Kind::Leaf { values, .. } => return Some(values),
            }
            shift -= Self::BITS;
        }
    }

    /// For who looks up many that lie beside each other.
    pub(crate) fn around(&self) -> Around<'_, V, N> {
        Around {
            radix: self,
            base: 0,
            leaf: None,
        }
    }

    /// The element at `index`, to be changed.
    pub fn get_mut(&mut self, index: u64) -> Option<&mut V> {
        if !self.fits(index) {
            return None;
        }
        let mut shift = self.shift;
        let mut node = self.root.as_deref_mut()?;
        loop {
            match &mut node.0 {
                Kind::Inner { children, .. } => {
                    node = children[Self::digit(index, shift)].as_deref_mut()?;
                }
                Kind::Leaf { values, .. } => return values[Self::digit(index, 0)].as_mut(),
            }
            shift -= Self::BITS;
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
            (self.shift, self.base) = (0, Self::base_of(index, 0));
        }
        while !self.fits(index) {
            let mut up = pool.alloc(uvm, Node::inner())?;
            if let Kind::Inner { used, children } = &mut up.0 {
                *used = 1;
                children[Self::digit(self.base, self.shift + Self::BITS)] = self.root.take();
            }
            self.root = Some(up);
            self.shift += Self::BITS;
            self.base = Self::base_of(self.base, self.shift);
        }
        let mut shift = self.shift;
        let mut node = self.root.as_deref_mut().ok_or(OutOfMemory)?;
        loop {
            match &mut node.0 {
                Kind::Inner { used, children } => {
                    let child = &mut children[Self::digit(index, shift)];
                    shift -= Self::BITS;
                    if child.is_none() {
                        *child = Some(new_node(shift, uvm, pool)?);
                        *used += 1;
                    }
                    node = child.as_deref_mut().ok_or(OutOfMemory)?;
                }
                Kind::Leaf { used, values } => {
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
            shift: u8,
        ) -> Option<V> {
            let node = link.as_deref_mut()?;
            let digit = Radix::<V, N>::digit(index, shift);
            let (left, value) = match &mut node.0 {
                Kind::Leaf { used, values } => {
                    let value = values[digit].take();
                    *used -= u16::from(value.is_some());
                    (*used, value)
                }
                Kind::Inner { used, children } => {
                    let there = children[digit].is_some();
                    let value = go(&mut children[digit], index, shift - Radix::<V, N>::BITS);
                    *used -= u16::from(there && children[digit].is_none());
                    (*used, value)
                }
            };
            if left == 0 {
                *link = None;
            }
            value
        }
        if !self.fits(index) {
            return None;
        }
        let value = go(&mut self.root, index, self.shift);
        self.len -= u32::from(value.is_some());
        value
    }

    /// Calls `f` with each element in `range`, in order, until it breaks off; those that it takes are gone. As many calls of
    /// [`Self::remove`] do the same, each from the root down.
    pub(crate) fn take_some(
        &mut self,
        range: Range<u64>,
        mut f: impl FnMut(u64, &mut Option<V>) -> ControlFlow<()>,
    ) {
        fn go<V, const N: usize>(
            link: &mut Option<PoolBox<Node<V, N>>>,
            range: &Range<u64>,
            (base, shift): (u64, u8),
            taken: &mut u32,
            f: &mut impl FnMut(u64, &mut Option<V>) -> ControlFlow<()>,
        ) -> ControlFlow<()> {
            let Some(node) = link.as_deref_mut() else {
                return ControlFlow::Continue(());
            };
            let first = if range.start <= base {
                0
            } else {
                Radix::<V, N>::digit(range.start, shift)
            };
            let here = |digit: usize| base + ((digit as u64) << shift);
            let digits = (first..N).take_while(|&digit| here(digit) < range.end);
            let mut flow = ControlFlow::Continue(());
            let left = match &mut node.0 {
                Kind::Leaf { used, values } => {
                    for digit in digits {
                        let value = &mut values[digit];
                        if value.is_none() {
                            continue;
                        }
                        flow = f(here(digit), value);
                        if value.is_none() {
                            *used -= 1;
                            *taken += 1;
                        }
                        if flow.is_break() {
                            break;
                        }
                    }
                    *used
                }
                Kind::Inner { used, children } => {
                    for digit in digits {
                        let child = &mut children[digit];
                        if child.is_none() {
                            continue;
                        }
                        let below = (here(digit), shift - Radix::<V, N>::BITS);
                        flow = go(child, range, below, taken, f);
                        *used -= u16::from(child.is_none());
                        if flow.is_break() {
                            break;
                        }
                    }
                    *used
                }
            };
            if left == 0 {
                *link = None;
            }
            flow
        }
        let range = range.start.max(self.base)..range.end;
        if !self.fits(range.start) {
            return;
        }
        let mut taken = 0;
        // How far it came is the caller's to know.
        let _ = go(
            &mut self.root,
            &range,
            (self.base, self.shift),
            &mut taken,
            &mut f,
        );
        self.len -= taken;
    }

    /// The first element at `index` or later, and where it is.
    pub fn next_from(&self, index: u64) -> Option<(u64, &V)> {
        fn go<V, const N: usize>(
            node: &Node<V, N>,
            from: u64,
            base: u64,
            shift: u8,
        ) -> Option<(u64, &V)> {
            let first = if from <= base {
                0
            } else {
                Radix::<V, N>::digit(from, shift)
            };
            for digit in first..N {
                let here = base + ((digit as u64) << shift);
                let found = match &node.0 {
                    Kind::Leaf { values, .. } => values[digit].as_ref().map(|v| (here, v)),
                    Kind::Inner { children, .. } => children[digit]
                        .as_deref()
                        .and_then(|c| go(c, from, here, shift - Radix::<V, N>::BITS)),
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
        go(self.root.as_deref()?, index, self.base, self.shift)
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

/// Looks up elements of an array, and remembers the leaf that it was at last.
pub(crate) struct Around<'a, V, const N: usize> {
    radix: &'a Radix<V, N>,
    base: u64,
    leaf: Option<&'a [Option<V>; N]>,
}

impl<'a, V, const N: usize> Around<'a, V, N> {
    /// The element at `index`.
    #[inline]
    pub(crate) fn get(&mut self, index: u64) -> Option<&'a V> {
        let base = Radix::<V, N>::base_of(index, 0);
        if self.leaf.is_none() || self.base != base {
            (self.base, self.leaf) = (base, self.radix.leaf_of(index));
        }
        self.leaf?[Radix::<V, N>::digit(index, 0)].as_ref()
    }
}

fn new_node<V, const N: usize>(
    shift: u8,
    uvm: &Uvm,
    pool: &NodePool<V, N>,
) -> Result<PoolBox<Node<V, N>>, OutOfMemory> {
    pool.alloc(
        uvm,
        if shift == 0 {
            Node::leaf()
        } else {
            Node::inner()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Indices near each other, near both ends, and anywhere.
    fn index() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..40_u64,
            (0..40_u64).prop_map(|n| u64::MAX - n),
            (0..3000_u64).prop_map(|n| 0x1234_5678 + n),
            any::<u64>(),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((any::<bool>(), index()), 0..300)) {
            let host = Host::new(1024);
            let pool: NodePool<u64, 8> = Pool::new("nodes", 1);
            let mut radix = Radix::<u64, 8>::new();
            let mut map = BTreeMap::new();
            for (put, index) in steps {
                // Half of the time what is there already.
                let index = match map.range(index..).next() {
                    Some((&near, _)) if index % 2 == 0 => near,
                    _ => index,
                };
                if put {
                    let old = radix.insert(index, !index, &host.uvm, &pool).unwrap();
                    prop_assert_eq!(old, map.insert(index, !index));
                } else {
                    prop_assert_eq!(radix.remove(index), map.remove(&index));
                }
                prop_assert_eq!(radix.len(), map.len());
                prop_assert_eq!(radix.get(index), map.get(&index));
                prop_assert_eq!(radix.get(index ^ 0x800), map.get(&(index ^ 0x800)));
                let mut around = radix.around();
                for near in (index.saturating_sub(9)..=index).rev() {
                    prop_assert_eq!(around.get(near), map.get(&near));
                }
                let next = map.range(index / 2..).next();
                prop_assert_eq!(radix.next_from(index / 2), next.map(|(&k, v)| (k, v)));
            }
            prop_assert!(radix.iter_from(0).eq(map.iter().map(|(&k, v)| (k, v))));
            // In two parts, each of what is left there but for what the callback leaves.
            for (at, most) in [(u64::MAX / 2, 3), (0, usize::MAX)] {
                let range = at..u64::MAX;
                let mut keys: Vec<_> = map.range(range.clone()).map(|(&key, _)| key).collect();
                keys.truncate(most);
                let mut met = Vec::new();
                radix.take_some(range, |index, value| {
                    met.push(index);
                    if index % 3 != 0 {
                        assert_eq!(value.take(), map.remove(&index));
                    }
                    match met.len() < most {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                });
                prop_assert_eq!(met, keys);
                prop_assert_eq!(radix.len(), map.len());
                prop_assert!(radix.iter_from(0).eq(map.iter().map(|(&k, v)| (k, v))));
            }
            for &index in map.keys() {
                radix.remove(index);
            }
            prop_assert!(radix.is_empty());
            prop_assert_eq!(pool.in_use(), 0, "nodes go with their last element");
        }
    }
}
