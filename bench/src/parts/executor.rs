//! What the executor costs: to start a task, to wake one, to give way, to be woken by the clock.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ::executor::Class;
use ::executor::sync::WaitQueue;

use super::{Bench, Trouble};

const SPAWN: (&str, &str) = ("spawn", "start of a task, until the call returns");
const SPAWN_JOIN: (&str, &str) = (
    "spawn-join",
    "start of a task that ends at once, until who awaits it goes on",
);
const WAKE_TO_POLL: (&str, &str) = (
    "wake-to-poll",
    "from the wake-up of a task on a wait queue until it runs; nothing else is ready",
);
const YIELD: (&str, &str) = (
    "yield",
    "giving way, until the task goes on; nothing else is ready",
);
const TIMER: (&str, &str) = (
    "timer",
    "from a deadline until the task that slept runs; the machine is idle meanwhile",
);

pub(super) const CASES: [(&str, &str); 5] = [SPAWN, SPAWN_JOIN, WAKE_TO_POLL, YIELD, TIMER];

/// How far away a deadline is, in nanoseconds: the machine has long gone to sleep by then.
const AWAY: u64 = 100_000;

pub(super) async fn run(bench: &mut Bench) -> Result<(), Trouble> {
    spawn(bench).await?;
    spawn_join(bench).await?;
    wake_to_poll(bench).await?;
    yields(bench).await?;
    timer(bench).await
}

async fn spawn(bench: &mut Bench) -> Result<(), Trouble> {
    let mut samples = bench.samples()?;
    for _ in 0..bench.count {
        let start = bench.now();
        let task = bench
            .env
            .executor
            .try_spawn(Class::User, "bench: a task", async {})?;
        samples.push(bench.now().saturating_sub(start));
        task.await;
        bench.give_way().await?;
    }
    bench.add(SPAWN, samples);
    Ok(())
}

async fn spawn_join(bench: &mut Bench) -> Result<(), Trouble> {
    let mut samples = bench.samples()?;
    for _ in 0..bench.count {
        let start = bench.now();
        bench
            .env
            .executor
            .try_spawn(Class::User, "bench: a task", async {})?
            .await;
        samples.push(bench.now().saturating_sub(start));
        bench.give_way().await?;
    }
    bench.add(SPAWN_JOIN, samples);
    Ok(())
}

/// No time at all.
const SILENT: u64 = u64::MAX;

/// What a sleeper and its waker share.
struct Bell {
    /// When it was rung, by the clock, or [`SILENT`].
    rung: AtomicU64,
    /// How long it took until the sleeper ran.
    took: AtomicU64,
    sleepers: WaitQueue,
}

async fn wake_to_poll(bench: &mut Bench) -> Result<(), Trouble> {
    let mut samples = bench.samples()?;
    let bell = Arc::new(Bell {
        rung: AtomicU64::new(SILENT),
        took: AtomicU64::new(0),
        sleepers: WaitQueue::new("bench: a wake-up"),
    });
    for _ in 0..bench.count {
        let (here, executor) = (bell.clone(), bench.env.executor.clone());
        let sleeper =
            bench
                .env
                .executor
                .try_spawn(Class::User, "bench: a sleeper", async move {
                    let rung = || Some(here.rung.load(Relaxed)).filter(|&at| at != SILENT);
                    let at = here.sleepers.wait_until(rung).await;
                    here.took.store(executor.now().saturating_sub(at), Relaxed);
                })?;
        // It goes to sleep.
        ::executor::yield_now().await;
        bell.rung.store(bench.now(), Relaxed);
        bell.sleepers.wake_one();
        sleeper.await;
        samples.push(bell.took.load(Relaxed));
        bell.rung.store(SILENT, Relaxed);
        bench.give_way().await?;
    }
    bench.add(WAKE_TO_POLL, samples);
    Ok(())
}

async fn yields(bench: &mut Bench) -> Result<(), Trouble> {
    let mut samples = bench.samples()?;
    for _ in 0..bench.count {
        let start = bench.now();
        ::executor::yield_now().await;
        samples.push(bench.now().saturating_sub(start));
        bench.give_way().await?;
    }
    bench.add(YIELD, samples);
    Ok(())
}

async fn timer(bench: &mut Bench) -> Result<(), Trouble> {
    let mut samples = bench.samples()?;
    for _ in 0..bench.count {
        let deadline = bench.now() + AWAY;
        bench.env.executor.sleep_until(deadline).await;
        samples.push(bench.now().saturating_sub(deadline));
        bench.give_way().await?;
    }
    bench.add(TIMER, samples);
    Ok(())
}
