//! Memory that the kernel keeps for tasks that sleep.
//!
//! A sample is how much less memory is free when a batch of tasks has been made and has come to rest, by their number. What a
//! forked process writes before it sleeps, a page of its stack, is in it on either kernel.

use core::ptr::from_ref;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::mappings::touch;
use crate::PAGE;
use crate::bench::{Bench, Failure, Outcome};
use crate::child::Children;
use crate::gate::Gate;
use crate::sys::{self, Access, Sharing};

/// Tasks of a batch: many, for memory comes from the kernel's allocators in pages and more.
const BATCH: usize = 128;
/// Batches.
const BATCHES: usize = 8;
const TASKS: usize = BATCH * BATCHES;
/// Until tasks that have arrived at their gate are asleep, and what was given back meanwhile is free.
const REST_MS: u64 = 100;

/// Memory that is free in a machine at rest, in bytes.
fn free() -> Result<u64, Failure> {
    sys::sleep(REST_MS)?;
    let [_, free] = sys::memory()?;
    Ok(free)
}

/// Makes the batches with `make`, which is told a task's number and its gate, and takes the samples.
fn batches(
    bench: &mut Bench,
    mut make: impl FnMut(usize, &'static Gate) -> Outcome,
) -> Result<[&'static Gate; BATCHES], Failure> {
    let gates = [(); BATCHES].map(|()| Gate::new(BATCH));
    let mut made = [Gate::new(0)?; BATCHES];
    for (batch, gate) in gates.into_iter().enumerate() {
        let gate = gate?;
        let before = free()?;
        for task in 0..BATCH {
            make(batch * BATCH + task, gate)?;
        }
        gate.gather()?;
        let after = free()?;
        bench.keep(before.saturating_sub(after) / BATCH as u64);
        made[batch] = gate;
    }
    Ok(made)
}

pub(super) fn processes(bench: &mut Bench) -> Outcome {
    let mut children = Children::with_room(TASKS)?;
    let gates = batches(bench, |_, gate| {
        children.spawn(|| {
            gate.pass();
            Ok(())
        })
    })?;
    gates.into_iter().for_each(Gate::open);
    children.expect_exits()
}

extern "C" fn rest(gate: *mut ()) -> ! {
    // SAFETY: a gate stays for good.
    unsafe { &*gate.cast::<Gate>() }.pass();
    sys::exit_thread()
}

pub(super) fn threads(bench: &mut Bench) -> Outcome {
    let stacks = sys::map(TASKS, Access::ReadWrite, Sharing::Private)?;
    // SAFETY: made above. All of it is there before the first sample.
    unsafe { touch(stacks, TASKS) };
    let tids = [const { AtomicU32::new(0) }; TASKS];
    let gates = batches(bench, |task, gate| {
        // SAFETY: each thread has a page of its own, and a word; both stay until all have ended, below. If not all can be
        // made the process ends, and all its threads.
        unsafe {
            let end = stacks.add((task + 1) * PAGE);
            let gate = from_ref(gate).cast_mut().cast();
            sys::thread(rest, gate, end, tids[task].as_ptr())?;
        }
        Ok(())
    })?;
    gates.into_iter().for_each(Gate::open);
    for tid in &tids {
        while let thread @ 1.. = tid.load(SeqCst) {
            // The kernel wakes without the private flag. That the word has changed is an answer too.
            let _ = sys::futex_wait(tid.as_ptr(), thread, Sharing::Shared);
        }
    }
    Ok(())
}
