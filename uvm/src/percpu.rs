//! One of something for each CPU.
//!
//! The first stands in the structure itself and the others behind a pointer: on one CPU, where
//! [`crate::Uvm::cpu`] is a constant, no index is computed and nothing extra is loaded. Elements
//! synchronise themselves; that one is *meant* for a CPU only makes its locks uncontended.

use alloc::boxed::Box;

/// An element for each CPU.
pub(crate) struct PerCpu<T> {
    first: T,
    others: Box<[T]>,
}

impl<T> PerCpu<T> {
    /// As many as there are CPUs, at least one.
    pub(crate) fn new(cpus: usize, mut make: impl FnMut() -> T) -> Self {
        Self {
            first: make(),
            others: (1..cpus).map(|_| make()).collect(),
        }
    }

    /// That of `cpu`.
    #[inline]
    pub(crate) fn get(&self, cpu: usize) -> &T {
        if cpu == 0 {
            &self.first
        } else {
            &self.others[cpu - 1]
        }
    }

    /// That of `cpu`, through an exclusive reference.
    pub(crate) fn get_mut(&mut self, cpu: usize) -> &mut T {
        if cpu == 0 {
            &mut self.first
        } else {
            &mut self.others[cpu - 1]
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        core::iter::once(&self.first).chain(&self.others)
    }
}
