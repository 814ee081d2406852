//! A disk that completes when told, late, or with an error; and a file on it.
//!
//! Contents are computed, not stored: byte `n` of the disk is always [`byte_at`]`(n)`. Requests wait in order of arrival until
//! [`SimDisk::complete`] ends them, or, in automatic mode, a task does after a delay.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::time::Duration;
use std::sync::Mutex;

use arrayvec::ArrayVec;
use executor::{Class, Executor};

use crate::Uvm;
use crate::addr::PageIndex;
use crate::io::{BlockDevice, IoError, Op, PageIo};
use crate::object::vnode::{Extent, FileMap};

/// What the disk holds at byte `n`.
#[must_use]
pub fn byte_at(n: u64) -> u8 {
    let mixed = (n / 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n;
    (mixed >> 24) as u8 | 1
}

/// When a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Before the request has been started, for its submitter.
    AtOnce,
    /// When the test says so.
    Told,
    /// By itself, after so long.
    After(Duration),
}

/// The disk.
pub struct SimDisk {
    uvm: Arc<Uvm>,
    size: u64,
    mode: Mode,
    waiting: Mutex<VecDeque<PageIo>>,
    bad: Mutex<Vec<(u64, u64)>>,
    reads: AtomicUsize,
    bytes: AtomicU64,
    most: AtomicUsize,
}

impl SimDisk {
    /// A disk of `size` bytes.
    #[must_use]
    pub fn new(uvm: &Arc<Uvm>, size: u64, mode: Mode) -> Arc<Self> {
        Arc::new(Self {
            uvm: uvm.clone(),
            size,
            mode,
            waiting: Mutex::new(VecDeque::new()),
            bad: Mutex::new(Vec::new()),
            reads: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            most: AtomicUsize::new(0),
        })
    }

    /// Requests started since it was made.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.load(Relaxed)
    }

    /// Bytes asked for since it was made.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Requests not ended yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queue().len()
    }

    /// Most requests that ever were under way at once.
    #[must_use]
    pub fn most_pending(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// From now on requests that touch `start..end` fail.
    pub fn spoil(&self, start: u64, end: u64) {
        self.bad.lock().expect("not poisoned").push((start, end));
    }

    /// All of the disk is readable again.
    pub fn mend(&self) {
        self.bad.lock().expect("not poisoned").clear();
    }

    /// Ends the `n` oldest requests. Returns how many there were to end.
    pub fn complete(&self, n: usize) -> usize {
        for done in 0..n {
            let Some(io) = self.queue().pop_front() else {
                return done;
            };
            self.finish(io);
        }
        n
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<PageIo>> {
        self.waiting.lock().expect("not poisoned")
    }

    fn finish(&self, io: PageIo) {
        let request = io.request();
        let range = (request.offset, request.offset + request.len);
        let bad = self
            .bad
            .lock()
            .expect("not poisoned")
            .iter()
            .any(|b| b.0 < range.1 && range.0 < b.1);
        if bad || request.op != Op::Read {
            io.complete(Err(IoError::Device));
            return;
        }
        let mut at = request.offset;
        for segment in &request.segments {
            let data: Vec<u8> = (at..at + u64::from(segment.len)).map(byte_at).collect();
            self.uvm
                .bytes(segment.frame)
                .write(segment.offset as usize, &data);
            at += u64::from(segment.len);
        }
        io.complete(Ok(()));
    }
}

/// A [`SimDisk`] as uvm sees it.
pub struct Device {
    disk: Arc<SimDisk>,
    executor: Arc<Executor>,
}

impl BlockDevice for Device {
    fn size(&self) -> u64 {
        self.disk.size
    }

    fn read_only(&self) -> bool {
        true
    }

    fn start(&self, io: PageIo) {
        let disk = &self.disk;
        disk.reads.fetch_add(1, Relaxed);
        disk.bytes.fetch_add(io.request().len, Relaxed);
        disk.queue().push_back(io);
        disk.most.fetch_max(disk.pending(), Relaxed);
        match disk.mode {
            Mode::Told => {}
            Mode::AtOnce => {
                disk.complete(1);
            }
            Mode::After(delay) => {
                let (disk, executor) = (disk.clone(), self.executor.clone());
                self.executor.spawn(Class::Completion, "disk", async move {
                    executor.sleep(delay).await;
                    disk.complete(1);
                });
            }
        }
    }
}

/// How a [`SimFile`] lies on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In one piece, from this byte on.
    Contiguous(u64),
    /// Every third page is a hole; from this byte on.
    Holes(u64),
    /// Each page in four blocks, backwards, the third of them a hole; from this byte on.
    Blocks(u64),
}

/// A file on a [`SimDisk`].
pub struct SimFile {
    device: Arc<dyn BlockDevice>,
    layout: Layout,
}

/// Bytes in a block of [`Layout::Blocks`].
const BLOCK: u64 = 1024;

impl SimFile {
    /// A file that lies so.
    #[must_use]
    pub fn new(disk: &Arc<SimDisk>, layout: Layout) -> Arc<Self> {
        let executor = disk.uvm.executor().clone();
        Arc::new(Self {
            device: Arc::new(Device {
                disk: disk.clone(),
                executor,
            }),
            layout,
        })
    }

    /// What it holds at byte `n`.
    #[must_use]
    pub fn byte(&self, n: u64) -> u8 {
        match self.layout {
            Layout::Contiguous(base) => byte_at(base + n),
            Layout::Holes(base) => match PageIndex::containing(n).0 % 3 {
                2 => 0,
                _ => byte_at(base + n),
            },
            Layout::Blocks(base) => {
                let page = PageIndex::containing(n).bytes();
                let block = (n - page) / BLOCK;
                match block {
                    2 => 0,
                    _ => byte_at(base + page + (3 - block) * BLOCK + n % BLOCK),
                }
            }
        }
    }
}

#[async_trait::async_trait]
impl FileMap for SimFile {
    async fn bmap(&self, first: PageIndex, max: usize) -> Result<Extent, IoError> {
        Ok(match self.layout {
            Layout::Contiguous(base) => Extent::Run {
                offset: base + first.bytes(),
                pages: max,
            },
            Layout::Holes(base) => match first.0 % 3 {
                2 => Extent::Hole { pages: 1 },
                n => Extent::Run {
                    offset: base + first.bytes(),
                    pages: max.min(2 - n as usize),
                },
            },
            Layout::Blocks(base) => {
                let block = |n: u64| (n != 2).then(|| base + first.bytes() + (3 - n) * BLOCK);
                Extent::Blocks((0..4).map(block).collect::<ArrayVec<_, 8>>())
            }
        })
    }

    fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }
}
