//! The virtio block device (virtio 1.2, section 5.2).
//!
//! Owns one device, one virtqueue and the headers of up to 256 requests in flight. [`Disk::start`] turns a request into
//! a chain (header, data, status byte), lends it to the queue and rings the doorbell if the device wants it. A task of
//! class `Completion`, spawned by [`VirtioBlk::new`], takes back what the device used and calls each request's `Done`.
//! A request that needs no device (refused, or a flush where nothing is cached) goes to the same task by way of a
//! bounded queue.
//!
//! # How it synchronises
//!
//! `ring`, a spin lock, covers the queue and the table of requests; nothing is called while it is held, and a request
//! stands in the table before the device can see it. Interrupt handlers take no lock: they count, raise a flag for a
//! configuration change, and wake the task. Before the task sleeps it registers its waker, asks the device for an
//! interrupt, and looks at the ring once more.
//!
//! # When the device fails
//!
//! A malformed used ring, or a device that asks for a reset, stops the device for good: reset, bus mastering off (so
//! that it touches no memory any more), every request in flight completes with [`DiskError::Failed`], and so does
//! every later one.

mod ring;
mod setup;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use ring::{header, request_type, status};
pub use setup::ProbeError;
#[cfg(test)]
pub(super) use setup::{blk_feature, config};

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::fmt;
use core::future::poll_fn;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU64};
use core::task::{Context, Poll};
use crossbeam_queue::ArrayQueue;
use executor::sync::{AtomicWaker, SpinLock};
use executor::{Class, Executor, InFlight};

use self::ring::{Ring, Taken};
use self::setup::Started;
use super::queue::Malformed;
use super::{Doorbell, Handlers, PciTransport, Signalling, Status, Transport};
use crate::block::{
    Counters, Disk, DiskError, DiskStats, Done, Features, MAX_IN_FLIGHT, Op, Request,
};
use crate::pci::Function;
use crate::{Dma, Interrupts};

const VENDOR: u16 = 0x1af4;
/// A block device that speaks virtio 1.x alone, and one that also has the legacy interface, which stays unused.
const DEVICES: [u16; 2] = [0x1042, 0x1001];

/// Completions taken from the ring in one hold of its lock, and delivered before the task yields.
const BATCH: usize = 32;

/// A virtio block device. Used through [`Disk`].
pub struct VirtioBlk {
    name: String,
    transport: Box<dyn Transport>,
    doorbell: Doorbell,
    signalling: Signalling,
    features: Features,
    sectors: AtomicU64,
    depth: usize,
    executor: Arc<Executor>,
    ring: SpinLock<Shared>,
    /// Requests that complete without the device.
    undelivered: ArrayQueue<Finished>,
    signals: &'static Signals,
    counters: Counters,
}

/// What the lock covers.
struct Shared {
    ring: Ring<Pending>,
    state: State,
}

/// A device's life: it works until it fails, and does not come back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    Failed,
}

/// What interrupt handlers tell the completion task.
#[derive(Default)]
struct Signals {
    waker: AtomicWaker,
    config_changed: AtomicBool,
    interrupts: AtomicU64,
}

impl Handlers for Signals {
    fn queue(&self) {
        self.interrupts.fetch_add(1, Relaxed);
        self.waker.wake();
    }

    fn config(&self) {
        self.interrupts.fetch_add(1, Relaxed);
        self.config_changed.store(true, Release);
        self.waker.wake();
    }
}

/// A request in the device's hands.
struct Pending {
    op: Op,
    sectors: u64,
    done: Done,
    under_way: InFlight,
}

/// A request with its result.
struct Finished {
    request: Pending,
    result: Result<(), DiskError>,
}

/// Starts every virtio block device among `functions`, in their order; they are named `virtio0`, `virtio1`, and so on.
/// One that cannot be used is logged and left out.
pub fn probe(
    functions: &[Function],
    dma: &dyn Dma,
    interrupts: &dyn Interrupts,
    executor: &Arc<Executor>,
) -> Vec<Arc<VirtioBlk>> {
    let mut disks = Vec::new();
    for function in functions
        .iter()
        .filter(|f| f.vendor == VENDOR && DEVICES.contains(&f.device))
    {
        let name = format!("virtio{}", disks.len());
        let started = PciTransport::new(function, dma)
            .map_err(ProbeError::from)
            .and_then(|transport| {
                VirtioBlk::new(&name, Box::new(transport), dma, interrupts, executor)
            });
        match started {
            Ok(disk) => {
                log::info!("{function}: {disk}");
                disks.push(disk);
            }
            Err(error) => log::error!("{function}: virtio block device left out: {error}"),
        }
    }
    disks
}

impl VirtioBlk {
    /// Brings a device up and spawns its completion task. The device stays for good.
    ///
    /// # Errors
    /// See [`ProbeError`]; the device is then marked as failed and can touch no memory.
    pub fn new(
        name: &str,
        transport: Box<dyn Transport>,
        dma: &dyn Dma,
        interrupts: &dyn Interrupts,
        executor: &Arc<Executor>,
    ) -> Result<Arc<VirtioBlk>, ProbeError> {
        let signals: &'static Signals = Box::leak(Box::default());
        let started = setup::start(&*transport, dma, interrupts, signals).inspect_err(|_| {
            transport.set_status(Status::FAILED);
            transport.disconnect();
        })?;
        let Started {
            features,
            sectors,
            ring,
            doorbell,
            signalling,
        } = started;
        let disk = Arc::new(VirtioBlk {
            name: String::from(name),
            transport,
            doorbell,
            signalling,
            features,
            sectors: AtomicU64::new(sectors),
            depth: ring.depth(),
            executor: executor.clone(),
            ring: SpinLock::new(Shared {
                ring,
                state: State::Working,
            }),
            undelivered: ArrayQueue::new(MAX_IN_FLIGHT),
            signals,
            counters: Counters::default(),
        });
        let task = disk.clone();
        executor.spawn(Class::Completion, "virtio-blk", async move {
            task.complete().await
        });
        Ok(disk)
    }

    /// The completion task's body.
    async fn complete(&self) {
        loop {
            poll_fn(|cx| self.poll_work(cx)).await;
            self.deliver();
            // A full batch may have left something behind; others get their turn first.
            executor::yield_now().await;
        }
    }

    /// Ready when there is something to deliver; otherwise the next interrupt or refused request wakes.
    fn poll_work(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.signals.waker.register(cx.waker());
        let ready = self.signals.config_changed.load(Acquire) || !self.undelivered.is_empty() || {
            let mut shared = self.ring.lock();
            shared.state == State::Working && shared.ring.arm()
        };
        if ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Delivers up to a batch of completions.
    fn deliver(&self) {
        let mut batch: ArrayVec<Finished, BATCH> = ArrayVec::new();
        let malformed = self.collect(&mut batch);
        for finished in batch {
            self.finish(finished);
        }
        for _ in 0..BATCH {
            let Some(finished) = self.undelivered.pop() else {
                break;
            };
            self.finish(finished);
        }
        if let Some(malformed) = malformed {
            log::error!(
                "{}: the device broke its protocol: {malformed:?}",
                self.name
            );
            self.fail();
        } else if self.signals.config_changed.swap(false, Acquire) {
            self.reconfigure();
        }
    }

    /// Moves completions from the ring to `batch`, until that is full or the ring is empty or makes no sense.
    fn collect(&self, batch: &mut ArrayVec<Finished, BATCH>) -> Option<Malformed> {
        let mut shared = self.ring.lock();
        if shared.state == State::Failed {
            return None;
        }
        shared.ring.disarm();
        while !batch.is_full() {
            match shared.ring.take() {
                Ok(Some(Taken { tag, result })) => batch.push(Finished {
                    request: tag,
                    result,
                }),
                Ok(None) => break,
                Err(malformed) => return Some(malformed),
            }
        }
        None
    }

    /// Tells the requester. No lock is held.
    fn finish(&self, finished: Finished) {
        let Finished {
            request:
                Pending {
                    op,
                    sectors,
                    done,
                    under_way,
                },
            result,
        } = finished;
        self.counters.finished(op, sectors, result);
        done.complete(result);
        // Counted as under way until the requester knows, so that nobody takes the gap for a standstill.
        drop(under_way);
    }

    /// The device says that its configuration changed, or that it needs a reset.
    fn reconfigure(&self) {
        if self.transport.status().contains(Status::NEEDS_RESET) {
            log::error!("{}: the device needs a reset", self.name);
            self.fail();
        } else if let Some(sectors) = setup::read_capacity(&*self.transport) {
            let before = self.sectors.swap(sectors, Relaxed);
            if before != sectors {
                log::info!("{}: resized from {before} to {sectors} sectors", self.name);
            }
        }
    }

    /// Stops the device for good and fails what it had.
    fn fail(&self) {
        self.ring.lock().state = State::Failed;
        if !setup::reset(&*self.transport) {
            log::error!("{}: the device ignores a reset", self.name);
        }
        self.transport.disconnect();
        loop {
            let abandoned = self.ring.lock().ring.abandon();
            let Some(request) = abandoned else { break };
            self.finish(Finished {
                request,
                result: Err(DiskError::Failed),
            });
        }
    }

    fn pending(&self, request: &Request) -> Pending {
        Pending {
            op: request.op,
            sectors: request.sector_count(),
            done: request.done,
            under_way: self.executor.in_flight(),
        }
    }

    /// Has the completion task deliver `result` without asking the device.
    #[expect(
        clippy::result_large_err,
        reason = "the request is handed back, as `Disk::start` does"
    )]
    fn finish_later(&self, request: Request, result: Result<(), DiskError>) -> Result<(), Request> {
        self.counters.started();
        if self
            .undelivered
            .push(Finished {
                request: self.pending(&request),
                result,
            })
            .is_err()
        {
            self.counters.withdrawn();
            return Err(request);
        }
        self.signals.waker.wake();
        Ok(())
    }
}

impl Disk for VirtioBlk {
    fn name(&self) -> &str {
        &self.name
    }

    fn sectors(&self) -> u64 {
        self.sectors.load(Relaxed)
    }

    fn features(&self) -> Features {
        self.features
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn start(&self, request: Request) -> Result<(), Request> {
        if let Err(error) = request.check(self.sectors(), &self.features) {
            return self.finish_later(request, Err(error));
        }
        if request.op == Op::Flush && !self.features.write_cache {
            return self.finish_later(request, Ok(()));
        }
        let doorbell = {
            let mut shared = self.ring.lock();
            if shared.state == State::Failed {
                drop(shared);
                return self.finish_later(request, Err(DiskError::Failed));
            }
            if !shared.ring.has_room() {
                return Err(request);
            }
            self.counters.started();
            shared.ring.start(&request, self.pending(&request))
        };
        if doorbell {
            self.counters.doorbells.fetch_add(1, Relaxed);
            self.transport.notify(self.doorbell);
        }
        Ok(())
    }

    fn stats(&self) -> DiskStats {
        DiskStats {
            interrupts: self.signals.interrupts.load(Relaxed),
            ..self.counters.snapshot()
        }
    }
}

/// One line for the log: name, size, what it can do.
impl fmt::Display for VirtioBlk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Features {
            read_only,
            write_cache,
            max_discard_sectors,
            max_write_zeroes_sectors,
            ..
        } = self.features;
        write!(
            f,
            "{}: {} sectors, {} in flight, {:?}",
            self.name,
            self.sectors(),
            self.depth,
            self.signalling
        )?;
        let traits = [
            (read_only, "read-only"),
            (write_cache, "flush"),
            (max_discard_sectors > 0, "discard"),
            (max_write_zeroes_sectors > 0, "write-zeroes"),
        ];
        for (_, name) in traits.iter().filter(|(has, _)| *has) {
            write!(f, ", {name}")?;
        }
        Ok(())
    }
}
