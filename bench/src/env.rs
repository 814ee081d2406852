//! What benchmarks run on.

use alloc::sync::Arc;
use core::fmt;

use executor::Executor;
use uvm::Uvm;

/// A machine: its memory, and whose tasks run on it.
#[derive(Clone)]
pub struct Env {
    /// Memory.
    pub uvm: Arc<Uvm>,
    /// Whose tasks the benchmarks become, and whose clock is read.
    pub executor: Arc<Executor>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}
