//! The loop of a run: which CPU, which task, and what is looked at after each poll.
//!
//! One thread plays all CPUs: a task is polled on one chosen by chance, as if it had been moved there since.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering::Relaxed;

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::sim::random::Random;
use crate::sim::shared::Shared;
use crate::testing::on_cpu;

/// Polls without an operation done after which nothing is taken to happen any more. Whoever waits for memory may have to wait for the end of
/// one who is killed, and that one in vain for its turn, some seconds each, while others look for theirs every millisecond.
const PATIENCE: u64 = 3_000_000;

/// Runs until all programs have ended and the disks are idle.
///
/// # Errors
/// What is wrong, if anything is.
pub(super) fn drive(shared: &Shared) -> Result<(), String> {
    let (plan, world) = (&shared.plan, &shared.world);
    let mut random = Random::new(plan.seed ^ 0x5eed);
    world.driver.ask_by_chance(plan.asks);
    let (mut polls, mut last, mut checked) = (0_u64, (0, 0), 0);
    while shared.is_running() {
        on_cpu(random.below(plan.cpus as u64) as usize);
        if !world.driver.step() && !world.driver.jump() {
            return Err(format!("nothing can run:\n{}", world.driver.report()));
        }
        polls += 1;
        if random.percent(plan.speculates) {
            on_cpu(random.below(plan.cpus as u64) as usize);
            let arena = &plan.arena;
            let page = match random.percent(15) {
                true => plan.stacks.end - 1 - random.below(40),
                false => arena.start + random.below(arena.end - arena.start),
            };
            world
                .machine
                .speculate(VirtAddr::new(page * PAGE_SIZE as u64));
        }
        let deferred = world.uvm.deferred_flushes();
        if deferred != 0 {
            return Err(format!("{deferred} deferred flushes after a poll"));
        }
        if polls.is_multiple_of(plan.audit_every)
            && let Some(stale) = world.machine.find_stale(&world.uvm)
        {
            return Err(format!("{stale:?}"));
        }
        let ops = shared.done().ops;
        if ops > last.0 {
            last = (ops, polls);
        } else if polls - last.1 > PATIENCE {
            return Err(format!("no progress:\n{}", world.driver.report()));
        }
        if ops >= checked + plan.check_every {
            checked = ops;
            shared.check()?;
        }
    }
    debug_assert_eq!(shared.spaces.load(Relaxed), 0);
    Ok(())
}
