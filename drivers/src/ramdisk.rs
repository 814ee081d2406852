//! A disk in memory that completes by timer: the twin of Linux's `null_blk` with `completion_nsec`.
//!
//! Up to `depth` requests are *served* at once; each takes `latency` nanoseconds, at the end of which its data is moved
//! and its `Done` called. Further requests, up to 256 in all, wait in the order in which they came; one of them enters
//! service when another leaves it. With one executor and a virtual clock, or under counted instructions, the same requests
//! complete at the same times in the same order, always.
//!
//! # How it synchronises
//!
//! `queue`, a spin lock, covers both lists. Data is moved by the completion task alone, outside the lock: the requester has
//! lent its memory, and requests that overlap on the disk take effect one after the other, in the order of completion. As
//! all take equally long, that is the order of arrival, and the head of the list has the earliest deadline: the task
//! sleeps until then, and is woken only when a request finds the disk idle.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::future::poll_fn;
use core::ptr::NonNull;
use core::task::Poll;
use core::time::Duration;
use executor::sync::{AtomicWaker, SpinLock};
use executor::{Class, Executor, InFlight};

use crate::Dma;
use crate::block::{
    Counters, Disk, DiskStats, Features, MAX_IN_FLIGHT, MAX_SEGMENTS, Op, Request, SECTOR_SIZE,
};

/// Requests completed before the task lets others run.
const BATCH: usize = 32;

/// How a RAM disk behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamDiskConfig {
    /// How long a request is in service, in nanoseconds.
    pub latency_ns: u64,
    /// Requests in service at once: at least 1, at most [`MAX_IN_FLIGHT`]; other values are moved into that range.
    pub depth: usize,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// The memory of a RAM disk, as the kernel reaches it.
struct Memory {
    base: NonNull<u8>,
    len: u64,
}

// SAFETY: the memory is the disk's alone (`RamDisk::new`), and only the completion task touches it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// A disk in memory. Used through [`Disk`].
pub struct RamDisk {
    name: String,
    memory: Memory,
    config: RamDiskConfig,
    dma: &'static dyn Dma,
    executor: Arc<Executor>,
    queue: SpinLock<Queue>,
    arrival: AtomicWaker,
    counters: Counters,
}

/// Accepted requests.
struct Queue {
    /// In service, by deadline.
    serving: VecDeque<Serving>,
    /// Not yet in service, by arrival.
    waiting: VecDeque<Accepted>,
}

/// A request with its place in the count of what is under way.
struct Accepted {
    request: Request,
    under_way: InFlight,
}

/// A request in service until `deadline` (nanoseconds of the executor's clock).
struct Serving {
    deadline: u64,
    accepted: Accepted,
}

impl RamDisk {
    /// A disk of the `len` bytes of RAM at physical address `phys`, less what does not fill a sector. Spawns its
    /// completion task. The disk, and its memory with it, stay for good.
    ///
    /// # Safety
    /// The memory is RAM that `dma` reaches, and nobody else's from now on. Every segment of every request is memory that
    /// `dma` reaches and that nobody else touches until the request is done.
    pub unsafe fn new(
        name: &str,
        phys: u64,
        len: u64,
        config: RamDiskConfig,
        dma: &'static dyn Dma,
        executor: &Arc<Executor>,
    ) -> Option<Arc<RamDisk>> {
        let base = NonNull::new(dma.phys_to_virt(phys))?;
        let config = RamDiskConfig {
            depth: config.depth.clamp(1, MAX_IN_FLIGHT),
            ..config
        };
        let disk = Arc::new(RamDisk {
            name: String::from(name),
            memory: Memory {
                base,
                len: len / SECTOR_SIZE as u64 * SECTOR_SIZE as u64,
            },
            config,
            dma,
            executor: executor.clone(),
            queue: SpinLock::new(Queue {
                serving: VecDeque::with_capacity(config.depth),
                // Nobody waits while fewer than `depth` are in service.
                waiting: VecDeque::with_capacity(MAX_IN_FLIGHT - config.depth),
            }),
            arrival: AtomicWaker::new(),
            counters: Counters::default(),
        });
        let task = disk.clone();
        executor.spawn(
            Class::Completion,
            format_args!("{name} completion"),
            async move { task.complete().await },
        );
        Some(disk)
    }

    /// How the disk behaves.
    pub fn config(&self) -> RamDiskConfig {
        self.config
    }

    /// The completion task's body.
    async fn complete(&self) {
        loop {
            let deadline = poll_fn(|cx| {
                self.arrival.register(cx.waker());
                let queue = self.queue.lock();
                queue
                    .serving
                    .front()
                    .map_or(Poll::Pending, |first| Poll::Ready(first.deadline))
            })
            .await;
            self.executor.sleep_until(deadline).await;
            let due = core::iter::from_fn(|| self.take_due()).take(BATCH);
            if due.map(|accepted| self.finish(accepted)).count() == BATCH {
                executor::yield_now().await;
            }
        }
    }

    /// Takes a request whose time has come out of service, and lets the next one in.
    fn take_due(&self) -> Option<Accepted> {
        let now = self.executor.now();
        let mut queue = self.queue.lock();
        let Serving { accepted, .. } = queue.serving.pop_front_if(|first| first.deadline <= now)?;
        if let Some(next) = queue.waiting.pop_front() {
            let deadline = now.saturating_add(self.config.latency_ns);
            queue.serving.push_back(Serving {
                deadline,
                accepted: next,
            });
        }
        Some(accepted)
    }

    /// Does the work and tells the requester. No lock is held.
    fn finish(&self, accepted: Accepted) {
        let Accepted { request, under_way } = accepted;
        let result = request.check(self.sectors(), &self.features());
        if result.is_ok() {
            self.carry_out(&request);
        }
        self.counters
            .finished(request.op, request.sector_count(), result);
        request.done.complete(result);
        // Counted as under way until the requester knows, so that nobody takes the gap for a standstill.
        drop(under_way);
    }

    /// Moves the data of a sound request.
    ///
    /// Blocks are whole sectors in all but odd cases, and `copy_nonoverlapping` of them compiles to the target's `memcpy`,
    /// which moves eight bytes at a time and more.
    fn carry_out(&self, request: &Request) {
        let mut at = request.sector * SECTOR_SIZE as u64;
        match request.op {
            Op::Read | Op::Write => {
                for segment in &request.segments {
                    let len = segment.len as usize;
                    let memory = self.dma.phys_to_virt(segment.phys);
                    // SAFETY: `check` found that the request ends within the disk.
                    let disk = unsafe { self.memory.base.as_ptr().add(at as usize) };
                    let (from, to) = if request.op == Op::Read {
                        (disk, memory)
                    } else {
                        (memory, disk)
                    };
                    // SAFETY: `len` bytes on the disk by the same check, `len` bytes of lent memory by the promise made
                    // to `new`; the disk's memory is lent to nobody, so the two do not overlap.
                    unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
                    at += u64::from(segment.len);
                }
            }
            Op::Discard | Op::WriteZeroes => {
                let len = request.sectors as usize * SECTOR_SIZE;
                // SAFETY: `check` found that the range ends within the disk.
                unsafe {
                    self.memory
                        .base
                        .as_ptr()
                        .add(at as usize)
                        .write_bytes(0, len)
                };
            }
            Op::Flush => {}
        }
    }
}

impl Disk for RamDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn sectors(&self) -> u64 {
        self.memory.len / SECTOR_SIZE as u64
    }

    fn features(&self) -> Features {
        Features {
            read_only: self.config.read_only,
            write_cache: false,
            block_size: SECTOR_SIZE as u32,
            max_segments: MAX_SEGMENTS,
            max_segment_bytes: u32::MAX,
            max_discard_sectors: u32::MAX,
            discard_gains: false,
            max_write_zeroes_sectors: u32::MAX,
        }
    }

    fn depth(&self) -> usize {
        MAX_IN_FLIGHT
    }

    fn start(&self, request: Request) -> Result<(), Request> {
        let mut queue = self.queue.lock();
        let now = self.executor.now();
        if queue.serving.len() + queue.waiting.len() >= MAX_IN_FLIGHT {
            return Err(request);
        }
        self.counters.started();
        let accepted = Accepted {
            request,
            under_way: self.executor.in_flight(),
        };
        if queue.serving.len() >= self.config.depth {
            queue.waiting.push_back(accepted);
            return Ok(());
        }
        let idle = queue.serving.is_empty();
        let deadline = now.saturating_add(self.config.latency_ns);
        queue.serving.push_back(Serving { deadline, accepted });
        drop(queue);
        if idle {
            self.arrival.wake();
        }
        Ok(())
    }

    fn stats(&self) -> DiskStats {
        self.counters.snapshot()
    }
}

/// One line for the log.
impl fmt::Display for RamDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RamDiskConfig {
            latency_ns,
            depth,
            read_only,
        } = self.config;
        let latency = Duration::from_nanos(latency_ns);
        write!(
            f,
            "{}: {} sectors, {latency:?} each, {depth} at once",
            self.name,
            self.sectors()
        )?;
        if read_only {
            f.write_str(", read-only")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
