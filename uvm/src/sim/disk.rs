//! A disk that completes when told, late, or with an error; and a file on it.
//!
//! Contents are computed, not stored: byte `n` of the disk is [`byte_at`]`(n)`, until it is written. Requests wait in order of arrival until
//! [`SimDisk::complete`] ends them, or, in automatic mode, a task does after a delay. What is written is what the page holds when the request ends, or, if chance
//! decides so, what it held when it began: a device reads memory at any time in between.
//!
//! A disk that has been told to ([`SimDisk::set_discards`]) takes discards, and takes them at their word: what is discarded is overwritten.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::time::Duration;
use std::sync::Mutex;

use arrayvec::ArrayVec;
use executor::{Class, Executor};

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, PageIndex};
use crate::io::{BlockDevice, Discards, IoError, Op, PageIo, Request, Segment};
use crate::object::vnode::{Extent, FileMap};
use crate::page::PageFlags;
use crate::sim::random::Random;
use crate::swap;

/// Each byte of what has been discarded.
const DISCARDED: u8 = 0xd1;

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
    /// By itself, as chance will have it: at once, soon, late, or long after everything else is done; not in order.
    Chance {
        /// Decides.
        seed: u64,
        /// Requests in a thousand that fail for no reason; of those to write, after which nothing is lost, four times as many.
        failing: u64,
    },
}

/// What a swap disk remembers of its requests.
#[derive(Default)]
struct Memory {
    /// Pages that can be written and not read again.
    unreadable: BTreeSet<u64>,
    /// Pages that could not be read when they were asked for alone.
    failed: BTreeSet<u64>,
    /// Pages that hold nothing: they were discarded, or could not be written, alone or with others, and have not been written since.
    nothing: BTreeSet<u64>,
    /// Reads that failed.
    errors: u64,
    /// Nobody uses it.
    closed: bool,
    /// What should not have been asked for.
    misuse: Option<String>,
}

/// The disk.
pub struct SimDisk {
    /// Not kept alive: as swap space the disk is a part of it.
    uvm: Weak<Uvm>,
    size: u64,
    mode: Mutex<Mode>,
    waiting: Mutex<VecDeque<PageIo>>,
    bad: Mutex<Vec<(u64, u64)>>,
    memory: Mutex<Memory>,
    random: Mutex<Random>,
    delayed: AtomicUsize,
    /// Whether it may be written, and the pages that were.
    writable: bool,
    written: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// What it says of discards, and which it has carried out: page and number.
    discards: Mutex<Discards>,
    discarded: Mutex<Vec<(u64, u64)>>,
    reads: AtomicUsize,
    writes: AtomicUsize,
    bytes: AtomicU64,
    most: AtomicUsize,
}

impl SimDisk {
    /// A disk of `size` bytes that can only be read.
    #[must_use]
    pub fn new(uvm: &Arc<Uvm>, size: u64, mode: Mode) -> Arc<Self> {
        Arc::new(Self::make(uvm, size, mode, false))
    }

    /// A disk of so many pages with the signature of swap space.
    #[must_use]
    pub fn swap(uvm: &Arc<Uvm>, pages: u32, mode: Mode) -> Arc<Self> {
        let disk = Self::make(uvm, u64::from(pages) * PAGE_SIZE as u64, mode, true);
        let header = swap::header::Header::page(pages).to_vec();
        disk.written.lock().expect("not poisoned").insert(0, header);
        Arc::new(disk)
    }

    /// It, as uvm sees it.
    #[must_use]
    pub fn device(self: &Arc<Self>) -> Arc<dyn BlockDevice> {
        Arc::new(Device {
            disk: self.clone(),
            executor: self.uvm().executor().clone(),
        })
    }

    fn make(uvm: &Arc<Uvm>, size: u64, mode: Mode, writable: bool) -> Self {
        Self {
            uvm: Arc::downgrade(uvm),
            size,
            mode: Mutex::new(mode),
            waiting: Mutex::new(VecDeque::new()),
            bad: Mutex::new(Vec::new()),
            memory: Mutex::default(),
            random: Mutex::new(Random::new(match mode {
                Mode::Chance { seed, .. } => seed,
                _ => 0,
            })),
            delayed: AtomicUsize::new(0),
            writable,
            written: Mutex::new(BTreeMap::new()),
            discards: Mutex::new(Discards::Unsupported),
            discarded: Mutex::new(Vec::new()),
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            most: AtomicUsize::new(0),
        }
    }

    /// How requests end from now on.
    pub fn set_mode(&self, mode: Mode) {
        *self.mode.lock().expect("not poisoned") = mode;
    }

    /// What it makes of discards, for who asks from now on.
    pub fn set_discards(&self, discards: Discards) {
        *self.discards.lock().expect("not poisoned") = discards;
    }

    /// What it has discarded: first page, and how many, in the order in which they ended.
    #[must_use]
    pub fn discarded(&self) -> Vec<(u64, u64)> {
        self.discarded.lock().expect("not poisoned").clone()
    }

    /// Requests to write that have ended well.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.writes.load(Relaxed)
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
        self.queue().len() + self.delayed.load(Relaxed)
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

    /// From now on page `page` can be written, but not read.
    pub fn spoil_reads(&self, page: u64) {
        self.memory().unreadable.insert(page);
    }

    /// Reads that have failed.
    #[must_use]
    pub fn read_errors(&self) -> u64 {
        self.memory().errors
    }

    /// Whether page `page` has been asked for alone since the disk was opened, in vain.
    #[must_use]
    pub fn has_failed(&self, page: u64) -> bool {
        self.memory().failed.contains(&page)
    }

    /// Nobody uses it any more: what it holds, but for its first page, is lost, and whatever is asked for is a mistake.
    pub fn close(&self) {
        self.memory().closed = true;
        let mut written = self.written.lock().expect("not poisoned");
        written.retain(|&page, _| page == 0);
    }

    /// It is used again, from the start.
    pub fn open(&self) {
        let mut memory = self.memory();
        *memory = Memory {
            unreadable: core::mem::take(&mut memory.unreadable),
            errors: memory.errors,
            misuse: memory.misuse.take(),
            ..Memory::default()
        };
    }

    /// What should not have been asked for, if anything was: a request to a closed disk, a page written, or discarded, that could not be read, or one
    /// read that holds nothing.
    #[must_use]
    pub fn misuse(&self) -> Option<String> {
        self.memory().misuse.clone()
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().expect("not poisoned")
    }

    /// Looks whether a request should have been made.
    fn judge(&self, request: &Request) {
        let mut memory = self.memory();
        let size = PAGE_SIZE as u64;
        let pages = request.offset / size..(request.offset + request.len).div_ceil(size);
        let lost = memory.failed.range(pages.clone()).next().is_some();
        let nothing = memory.nothing.range(pages).next().is_some();
        let wrong = match request.op {
            _ if memory.closed => Some("it is closed"),
            Op::Discard
                if *self.discards.lock().expect("not poisoned") == Discards::Unsupported =>
            {
                Some("it takes none")
            }
            Op::Write | Op::Discard if lost => Some("it could not be read"),
            Op::Read if nothing => Some("it holds nothing"),
            _ => None,
        };
        if let Some(why) = wrong {
            let (op, at) = (request.op, request.offset / size);
            memory.misuse = Some(format!("{op:?} of page {at} of a disk: {why}"));
        }
    }

    /// Ends a request in vain.
    fn fail(&self, io: PageIo) {
        let request = io.request();
        let size = PAGE_SIZE as u64;
        let pages = request.offset / size..(request.offset + request.len).div_ceil(size);
        let mut memory = self.memory();
        match request.op {
            Op::Read => {
                memory.errors += 1;
                if request.len == size {
                    memory.failed.extend(pages);
                }
            }
            Op::Write => memory.nothing.extend(pages),
            _ => {}
        }
        drop(memory);
        io.complete(Err(IoError::Device));
    }

    /// All of the disk is readable again.
    pub fn mend(&self) {
        self.bad.lock().expect("not poisoned").clear();
        self.memory().unreadable.clear();
    }

    /// Ends the `n` oldest requests. Returns how many there were to end.
    pub fn complete(&self, n: usize) -> usize {
        for done in 0..n {
            let Some(io) = self.queue().pop_front() else {
                return done;
            };
            self.finish(io, None);
        }
        n
    }

    /// Whether a request for `start..end` fails always.
    #[must_use]
    pub fn is_bad(&self, start: u64, end: u64) -> bool {
        let bad = self.bad.lock().expect("not poisoned");
        bad.iter().any(|b| b.0 < end && start < b.1)
    }

    /// Whether bad pages are nothing to a request: what cannot be written may well be given up, and by chance that fails anyway. Else nearly all discards of
    /// a bad disk would, and with the first one it is told of no more.
    fn leaves_it_to_chance(&self, op: Op) -> bool {
        let mode = *self.mode.lock().expect("not poisoned");
        op == Op::Discard && matches!(mode, Mode::Chance { .. })
    }

    /// How long the next request of [`Mode::Chance`] takes, whether it fails, and whether it takes what it writes from memory at once.
    /// Discards take long: much is to happen meanwhile.
    fn chance(&self, op: Op, failing: u64) -> (Duration, bool, bool) {
        let mut random = self.random.lock().expect("not poisoned");
        let micros = match random.below(20) {
            0..10 if op == Op::Discard => 1_000 + random.below(20_000),
            0..2 => 0,
            2..14 => 1 + random.below(200),
            14..19 => 1_000 + random.below(1_000),
            _ => 20_000,
        };
        let failing = match op {
            Op::Write => 4 * failing,
            _ => failing,
        };
        let (fails, early) = (random.below(1000) < failing, random.percent(50));
        (
            Duration::from_micros(micros),
            fails,
            early && op == Op::Write,
        )
    }

    fn uvm(&self) -> Arc<Uvm> {
        self.uvm.upgrade().expect("the machine of the disk")
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<PageIo>> {
        self.waiting.lock().expect("not poisoned")
    }

    /// Ends a request well. Of a write `taken` is what it has taken from memory already, page by page.
    fn finish(&self, io: PageIo, taken: Option<Vec<Vec<u8>>>) {
        let request = io.request();
        let end = request.offset + request.len;
        let size = PAGE_SIZE as u64;
        let unreadable = {
            let memory = self.memory();
            let pages = request.offset / size..end.div_ceil(size);
            request.op == Op::Read && memory.unreadable.range(pages).next().is_some()
        };
        if unreadable || self.is_bad(request.offset, end) && !self.leaves_it_to_chance(request.op) {
            return self.fail(io);
        }
        let uvm = self.uvm();
        let mut written = self.written.lock().expect("not poisoned");
        if request.op == Op::Discard {
            let pages = request.offset / size..end / size;
            self.memory().nothing.extend(pages.clone());
            written.extend(pages.map(|page| (page, alloc::vec![DISCARDED; PAGE_SIZE])));
            let mut discarded = self.discarded.lock().expect("not poisoned");
            discarded.push((request.offset / size, request.len / size));
        }
        let mut at = request.offset;
        let mut taken = taken.into_iter().flatten();
        for segment in &request.segments {
            let first = segment.offset as usize;
            let page = at / PAGE_SIZE as u64;
            let data = match (request.op, written.get(&page)) {
                (Op::Read, Some(page)) => {
                    page.get(at as usize % PAGE_SIZE..).unwrap_or(&[]).to_vec()
                }
                (Op::Read, None) => (at..at + u64::from(segment.len)).map(byte_at).collect(),
                _ => {
                    self.memory().nothing.remove(&page);
                    // Whole pages: nobody else writes.
                    let now = page_of(&uvm, segment.frame);
                    written.insert(page, taken.next().unwrap_or(now));
                    Vec::new()
                }
            };
            if request.op == Op::Read {
                let bytes = uvm.bytes(segment.frame);
                bytes.write(first, &data[..data.len().min(segment.len as usize)]);
            }
            at += u64::from(segment.len);
        }
        drop(written);
        self.writes
            .fetch_add(usize::from(request.op == Op::Write), Relaxed);
        io.complete(Ok(()));
    }
}

/// The bytes of a page that is written: data, or what an LWP keeps in its u-area.
fn page_of(uvm: &Uvm, frame: Frame) -> Vec<u8> {
    assert!(
        !uvm.page(frame).has(PageFlags::FREE),
        "{frame:?} is written and free"
    );
    let mut data = alloc::vec![0; PAGE_SIZE];
    // SAFETY: RAM of the simulated machine, which is read byte by byte as a device does, whatever it holds.
    unsafe { uvm.phys().bytes(frame) }.read(0, &mut data);
    data
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
        !self.disk.writable
    }

    fn discards(&self) -> Discards {
        *self.disk.discards.lock().expect("not poisoned")
    }

    fn start(&self, io: PageIo) {
        let disk = &self.disk;
        disk.judge(&io.request());
        disk.reads.fetch_add(1, Relaxed);
        disk.bytes.fetch_add(io.request().len, Relaxed);
        let later = |delay: Duration, end: Box<dyn FnOnce(&SimDisk) + Send>| {
            let (disk, executor) = (disk.clone(), self.executor.clone());
            self.executor.spawn(Class::Completion, "disk", async move {
                executor.sleep(delay).await;
                end(&disk);
            });
        };
        let mode = *disk.mode.lock().expect("not poisoned");
        if let Mode::Chance { failing, .. } = mode {
            let (delay, fails, early) = disk.chance(io.request().op, failing);
            let taken = early.then(|| {
                let (uvm, segments) = (disk.uvm(), &io.request().segments);
                let page = |segment: &Segment| page_of(&uvm, segment.frame);
                segments.iter().map(page).collect()
            });
            disk.delayed.fetch_add(1, Relaxed);
            let end = move |disk: &SimDisk| {
                disk.delayed.fetch_sub(1, Relaxed);
                if fails {
                    disk.fail(io);
                } else {
                    disk.finish(io, taken);
                }
            };
            if delay.is_zero() {
                end(disk);
            } else {
                later(delay, Box::new(end));
            }
        } else {
            disk.queue().push_back(io);
        }
        disk.most.fetch_max(disk.pending(), Relaxed);
        match mode {
            Mode::Told | Mode::Chance { .. } => {}
            Mode::AtOnce => {
                disk.complete(1);
            }
            Mode::After(delay) => {
                let end = |disk: &SimDisk| {
                    disk.complete(1);
                };
                later(delay, Box::new(end));
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
        Arc::new(Self {
            device: disk.device(),
            layout,
        })
    }

    /// Whether page `index` lies on a part of `disk`, its own, that cannot be read.
    #[must_use]
    pub fn is_bad(&self, disk: &SimDisk, index: u64) -> bool {
        let page = PageIndex(index).bytes();
        let size = PAGE_SIZE as u64;
        match self.layout {
            Layout::Contiguous(base) => disk.is_bad(base + page, base + page + size),
            Layout::Holes(base) => index % 3 != 2 && disk.is_bad(base + page, base + page + size),
            // Its third block is a hole; that is the second on the disk.
            Layout::Blocks(base) => {
                let at = base + page;
                disk.is_bad(at, at + BLOCK) || disk.is_bad(at + 2 * BLOCK, at + size)
            }
        }
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
