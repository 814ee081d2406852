//! What a process costs in kernel memory, for who looks at it from outside (`ps -v`).
//!
//! Owns nothing: it is counted when it is asked for, in whole blocks of the heap and parts of pages of pools. Of what several processes have in common each has its
//! share, or nobody (open files, the program's pages). Places in trees of the heap, which are about half full, are counted twice.

use super::body;
use super::lwp::Lwp;
use super::process::Process;
use super::table::{self, Pid};
use alloc::sync::Arc;
use uvm::km::{arc_bytes, block_bytes};

impl Process {
    /// Bytes of kernel memory that are in memory for it. Awaits its turn.
    pub async fn kernel_bytes(&self) -> u64 {
        let own = arc_bytes::<Process>() + self.files().heap_bytes() + 2 * table::ENTRY_BYTES;
        let lwps: usize = self.threads().iter().map(|lwp| lwp.kernel_bytes()).sum();
        let space = match self.space() {
            Some(space) => space.kernel_bytes().await / u64::from(space.holders().max(1)),
            None => 0,
        };
        (own + lwps) as u64 + space
    }

    /// How many of its LWPs are out of memory, and what of the kernel's is in memory for these alone, in bytes.
    #[must_use]
    pub fn lwps_out(&self) -> (usize, usize) {
        let out = self.threads().iter().filter(|lwp| !lwp.is_in());
        out.fold((0, 0), |(n, bytes), lwp| {
            (n + 1, bytes + lwp.kernel_bytes())
        })
    }
}

impl Lwp {
    /// Bytes of kernel memory that are in memory for it alone.
    #[must_use]
    pub fn kernel_bytes(&self) -> usize {
        let wait = match self.wait_bytes() {
            0 => 0,
            bytes => block_bytes(bytes),
        };
        let task = block_bytes(body::task_bytes());
        // Its places among the threads of its process, and of all.
        let places = 2 * (size_of::<(Pid, Arc<Lwp>)>() + size_of::<(Pid, Pid)>());
        arc_bytes::<Lwp>() + self.residence().kernel_bytes() + task + wait + places
    }
}
