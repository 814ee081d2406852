//! File objects: pages read from a disk in clusters, and `read(2)` through them.
//!
//! Owns nothing beyond the object. The file system says where blocks are ([`FileMap`]); this module allocates the
//! frames, starts the reads and finishes them.
//!
//! # A read
//! 1. With nothing held: where are the blocks (may await indirect blocks), a request slot, one frame.
//! 2. Under the object's lock: is the page still missing? Then it goes in, BUSY and FAKE, with as many following ones as the
//!    disk has in a row and as frames can be had without waiting.
//! 3. Unlocked: start the request and return, holding the page that was asked for. The completion (`PageIn::finish`) validates or
//!    disowns the pages and wakes all who await them, the one that started the read among them. So two faults make one read, and
//!    an error reaches both.
//!
//! One bad block must not take its neighbours along: of a cluster that cannot be read nothing is kept, each of its waiters has its own
//! page read alone, and so are these pages from then on.
//!
//! A reader in order is read ahead for, in windows that double from 64 KiB to 512 KiB, while memory is plenty.

use alloc::boxed::Box;
use alloc::sync::Arc;

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, PageIndex};
use crate::io::{
    BlockDevice, Claim, Finish, IoError, MAX_CHAIN, MAX_SEGMENTS, Op, Order, Piece, Segment,
};
use crate::map::Advice;
use crate::meter::{Counter, Gauge};
use crate::object::{Behind, PageHold, Pager, PagerError, Resident, UvmObject};
use crate::page::PageFlags;
use crate::page::freelist::{AllocFor, Zero};
use crate::page::fresh::Fresh;
use crate::page::queues::Sort;
use crate::policy::nonresident::Key;
use crate::pool::{OutOfMemory, Ref};

/// Most pages in one read.
pub const CLUSTER: usize = MAX_SEGMENTS;
/// Largest read-ahead, in pages.
const AHEAD_MAX: u16 = 128;
/// Blocks in a page when they are smallest.
pub const MAX_BLOCKS: usize = MAX_CHAIN + 1;

/// Where pages of a file are on its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// `pages` pages in a row from byte `offset` of the device on.
    Run {
        /// First byte on the device.
        offset: u64,
        /// How many pages, at least 1.
        pages: usize,
    },
    /// One page made of equal blocks, in order; `None` is a hole.
    Blocks(ArrayVec<Option<u64>, MAX_BLOCKS>),
    /// `pages` pages, at least 1, without blocks: zeroes.
    Hole {
        /// How many pages.
        pages: usize,
    },
}

/// What a file system tells about one file.
#[async_trait::async_trait]
pub trait FileMap: Send + Sync + 'static {
    /// Where the pages from `first` on are; at most `max` are of interest. May await.
    ///
    /// # Errors
    /// [`IoError`] when the file system's own blocks cannot be read, or make no sense.
    async fn bmap(&self, first: PageIndex, max: usize) -> Result<Extent, IoError>;

    /// Whether the file may be written through mappings. `false` unless a file system says otherwise.
    fn is_writable(&self) -> bool {
        false
    }

    /// Gives each hole of page `index` that lies within the file a block. What the blocks hold does not matter: the page will be
    /// written to them. May await. A page without holes is no error.
    ///
    /// # Errors
    /// [`IoError`]; [`IoError::ReadOnly`] unless a file system can do it.
    async fn allocate(&self, index: PageIndex) -> Result<(), IoError> {
        let _ = index;
        Err(IoError::ReadOnly)
    }

    /// The disk.
    fn device(&self) -> &Arc<dyn BlockDevice>;
}

/// A file as a memory object: what the kernel's file node owns, and what is mapped.
pub struct VnodeObject {
    object: Ref<UvmObject>,
}

impl VnodeObject {
    /// The object of a file of `size` bytes. Costs no page until it is read.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(uvm: &Uvm, file: Arc<dyn FileMap>, size: u64) -> Result<Arc<Self>, OutOfMemory> {
        let pager = Arc::new(VnodePager { file });
        Ok(Arc::new(Self {
            object: UvmObject::make(uvm, Behind::Pager(pager), size)?,
        }))
    }

    /// What to map ([`crate::map::Backing::Object`]).
    #[must_use]
    pub fn object(&self) -> &Ref<UvmObject> {
        &self.object
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.object.size()
    }

    /// Brings page `index` in for `read(2)`: it stays in memory, and is not busy, while the hold lives.
    /// Copy from [`PageHold::bytes`]; before faulting in the user's buffer let go.
    ///
    /// # Errors
    /// [`PagerError`].
    pub async fn page_in(&self, uvm: &Arc<Uvm>, index: PageIndex) -> Result<PageHold, PagerError> {
        UvmObject::page_in(&self.object, uvm, index, Advice::Normal).await
    }

    /// Reads from byte `offset` on, at most `len` bytes, and hands them to `take` page by page; stops early at the end of
    /// the file or when `take` takes less than it was offered. Returns the bytes taken.
    ///
    /// # Errors
    /// [`PagerError`] if the first page cannot be had; a later one ends the read short.
    pub async fn read(
        &self,
        uvm: &Arc<Uvm>,
        offset: u64,
        len: usize,
        mut take: impl FnMut(&PageHold, core::ops::Range<usize>) -> usize,
    ) -> Result<usize, PagerError> {
        let end = offset.saturating_add(len as u64).min(self.size());
        let (mut at, mut done) = (offset, 0);
        while at < end {
            let hold = match self.page_in(uvm, PageIndex::containing(at)).await {
                Ok(hold) => hold,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let from = at as usize % PAGE_SIZE;
            let to = PAGE_SIZE.min(from + (end - at) as usize);
            let taken = take(&hold, from..to).min(to - from);
            done += taken;
            at += taken as u64;
            if taken < to - from {
                break;
            }
        }
        Ok(done)
    }
}

/// Reads files.
struct VnodePager {
    file: Arc<dyn FileMap>,
}

/// Pages that a read under way will make valid.
pub(crate) struct PageIn {
    object: Ref<UvmObject>,
    first: PageIndex,
    frames: ArrayVec<Frame, CLUSTER>,
    /// Last: the object lies in its memory.
    uvm: Arc<Uvm>,
}

#[async_trait::async_trait]
impl Pager for VnodePager {
    async fn get(
        &self,
        uvm: &Arc<Uvm>,
        object: &Ref<UvmObject>,
        wanted: PageIndex,
        advice: Advice,
    ) -> Result<Option<PageHold>, PagerError> {
        let max = if advice == Advice::Random { 1 } else { CLUSTER };
        let extent = self.file.bmap(wanted, max).await?;
        // The frame is nobody's yet: freed by whatever ends this before it has an owner.
        let frame = uvm.alloc_frame(AllocFor::User, Zero::No);
        let frame = Fresh::new(uvm, frame.ok_or(OutOfMemory)?);
        let claim = match extent {
            Extent::Hole { .. } => None,
            _ => Some(uvm.io().claim().await),
        };
        let (next, hold) = self.start(uvm, object, wanted, max, &extent, claim, frame)?;
        self.read_ahead(uvm, object, wanted, next, advice).await;
        Ok(hold)
    }

    fn is_writable(&self) -> bool {
        self.file.is_writable()
    }

    async fn allocate(
        &self,
        _uvm: &Arc<Uvm>,
        _object: &Ref<UvmObject>,
        index: PageIndex,
    ) -> Result<(), PagerError> {
        Ok(self.file.allocate(index).await?)
    }

    async fn put(
        &self,
        _uvm: &Arc<Uvm>,
        _object: &Ref<UvmObject>,
        _first: PageIndex,
        _count: u64,
    ) -> Result<(), PagerError> {
        Err(PagerError::ReadOnly)
    }
}

impl VnodePager {
    /// Puts pages in from `wanted` on, as far as `extent` goes, and starts to read them. `frame` is for the first.
    /// Returns the index after the last, and the first page unless another has brought it meanwhile. It is held from before the
    /// read starts: a device that answers at once must not take the page, and the error with it, from under the caller.
    #[allow(clippy::too_many_arguments, reason = "the parts of one read")]
    fn start(
        &self,
        uvm: &Arc<Uvm>,
        object: &Ref<UvmObject>,
        wanted: PageIndex,
        max: usize,
        extent: &Extent,
        claim: Option<Claim>,
        frame: Fresh<'_>,
    ) -> Result<(PageIndex, Option<PageHold>), OutOfMemory> {
        let limit = match extent {
            Extent::Run { pages, .. } => (*pages).min(max),
            Extent::Blocks(_) | Extent::Hole { .. } => 1,
        };
        let limit = (limit as u64)
            .min(object.pages().saturating_sub(wanted.0))
            .max(1);
        let mut frames = ArrayVec::<Frame, CLUSTER>::new();
        let hold = {
            let mut pages = object.lock();
            if !matches!(pages.at(uvm, wanted), Resident::Missing) {
                return Ok((wanted + 1, None));
            }
            let limit = pages.undoubted(wanted, limit);
            UvmObject::insert(object, &mut pages, uvm, wanted, frame.frame())?;
            frames.push(frame.frame());
            frame.keep();
            while (frames.len() as u64) < limit {
                let index = wanted + frames.len() as u64;
                if !matches!(pages.at(uvm, index), Resident::Missing) {
                    break;
                }
                let Some(next) = uvm.alloc_frame(AllocFor::User, Zero::No) else {
                    break;
                };
                if UvmObject::insert(object, &mut pages, uvm, index, next).is_err() {
                    uvm.free_frame(next);
                    break;
                }
                frames.push(next);
            }
            // The read's own hold, so that `finish` can disown a page under the feet of its waiters.
            for &frame in &frames {
                uvm.page(frame).loan();
            }
            PageHold::new(uvm, frames[0])
        };
        let next = wanted + frames.len() as u64;
        uvm.meter()
            .raise_with_max(Gauge::PagingIn, Gauge::PagingInMax, frames.len() as u64);
        let read = PageIn {
            uvm: uvm.clone(),
            object: object.clone(),
            first: wanted,
            frames,
        };
        match (extent, claim) {
            (Extent::Run { offset, .. }, Some(claim)) => {
                self.submit(uvm, claim, read, |order, frames| {
                    let segments = frames.iter().map(|&f| Segment::page(f));
                    order.request.fill(Op::Read, *offset, segments);
                });
            }
            (Extent::Blocks(blocks), Some(claim)) => {
                self.start_blocks(uvm, claim, blocks, read);
            }
            _ => {
                uvm.bytes(read.frames[0]).zero();
                uvm.page(read.frames[0]).set(PageFlags::RDONLY);
                read.finish(Ok(()));
            }
        }
        Ok((next, Some(hold)))
    }

    /// Reads a page block by block; what has no block is zeroed now.
    fn start_blocks(
        &self,
        uvm: &Arc<Uvm>,
        claim: Claim,
        blocks: &ArrayVec<Option<u64>, MAX_BLOCKS>,
        read: PageIn,
    ) {
        let frame = read.frames[0];
        let len = PAGE_SIZE / blocks.len().max(1);
        let mut pieces = ArrayVec::<Piece, MAX_BLOCKS>::new();
        for (i, block) in blocks.iter().enumerate() {
            match *block {
                Some(offset) => {
                    let last = pieces.last_mut().filter(|p: &&mut Piece| {
                        p.offset + u64::from(p.segment.len) == offset
                            && (p.segment.offset + p.segment.len) as usize == i * len
                    });
                    match last {
                        Some(last) => last.segment.len += len as u32,
                        None => pieces.push(Piece {
                            offset,
                            segment: Segment {
                                frame,
                                offset: (i * len) as u32,
                                len: len as u32,
                            },
                        }),
                    }
                }
                None => {
                    // One block missing is enough: a write must not go where there is none.
                    uvm.page(frame).set(PageFlags::RDONLY);
                    uvm.bytes(frame).clear(i * len, len);
                }
            }
        }
        if pieces.is_empty() {
            uvm.bytes(frame).zero();
            uvm.page(frame).set(PageFlags::RDONLY);
            read.finish(Ok(()));
            return;
        }
        let first = pieces.remove(0);
        self.submit(uvm, claim, read, |order, _| {
            order.request.fill(Op::Read, first.offset, [first.segment]);
            order.chain.extend(pieces.into_iter().rev());
        });
    }

    /// Starts the read that `fill` makes an order of, for the frames of `read`.
    fn submit(
        &self,
        uvm: &Uvm,
        claim: Claim,
        read: PageIn,
        fill: impl FnOnce(&mut Order, &[Frame]),
    ) {
        uvm.count(Counter::Pageins);
        uvm.count_n(Counter::Pgswapin, read.frames.len());
        // Nobody awaits the transfer: whoever wants a page awaits the page.
        drop(claim.start(self.file.device(), |order| {
            fill(order, &read.frames);
            order.finish = Finish::PageIn(read);
        }));
    }

    /// After a miss at `wanted`, read up to `next`: was this where a sequential reader would miss? Then start on what it will
    /// want. Everything here is tried and nothing is waited for but block numbers.
    async fn read_ahead(
        &self,
        uvm: &Arc<Uvm>,
        object: &Ref<UvmObject>,
        wanted: PageIndex,
        next: PageIndex,
        advice: Advice,
    ) {
        let window = {
            let mut pages = object.lock();
            let (expected, window) = pages.ahead;
            let window = match advice {
                Advice::Random => 0,
                _ if expected == wanted && wanted.0 > 0 => {
                    (window * 2).clamp(CLUSTER as u16, AHEAD_MAX)
                }
                Advice::Sequential => CLUSTER as u16,
                Advice::Normal => 0,
            };
            pages.ahead = (next, window);
            window
        };
        let end = PageIndex((next.0 + u64::from(window)).min(object.pages()));
        let mut at = next;
        while at < end && uvm.memory_is_plenty() {
            let max = CLUSTER.min((end - at) as usize);
            let Ok(extent) = self.file.bmap(at, max).await else {
                break;
            };
            let Some(claim) = uvm.io().try_claim() else {
                break;
            };
            let Some(frame) = uvm.alloc_frame(AllocFor::User, Zero::No) else {
                break;
            };
            let frame = Fresh::new(uvm, frame);
            match self.start(uvm, object, at, max, &extent, Some(claim), frame) {
                Ok((next, _)) => at = next,
                Err(OutOfMemory) => break,
            }
        }
        if at > next {
            object.lock().ahead.0 = at;
        }
    }
}

impl PageIn {
    /// The read has ended: makes its pages valid, or takes them out. Wakes all who await them. Never waits.
    pub(crate) fn finish(self, result: Result<(), IoError>) {
        let Self {
            uvm,
            object,
            first,
            frames,
        } = self;
        let size = object.size();
        let mut refault = None;
        uvm.meter().lower(Gauge::PagingIn, frames.len() as u64);
        {
            let mut pages = object.lock();
            let cluster_failed = result.is_err() && frames.len() > 1;
            if cluster_failed {
                pages.doubted = first.0..first.0 + frames.len() as u64;
            }
            for (i, &frame) in frames.iter().enumerate() {
                let index = first + i as u64;
                let page = uvm.page(frame);
                if result.is_ok() {
                    let tail = size.saturating_sub(index.bytes());
                    if tail < PAGE_SIZE as u64 {
                        // What the last block has after the file's end must not be seen in a mapping.
                        uvm.bytes(frame)
                            .clear(tail as usize, PAGE_SIZE - tail as usize);
                    }
                    page.clear(PageFlags::FAKE | PageFlags::ZERO);
                    page.set(PageFlags::CLEAN);
                    let away = uvm.upper.memory.gone.take(Key::file(&uvm, &object, index));
                    if uvm.page_returns(frame, away) {
                        refault = Some(Sort::of(page));
                    }
                } else {
                    if cluster_failed {
                        page.set(PageFlags::RELEASED);
                    }
                    object.remove(&mut pages, &uvm, index);
                }
                uvm.unbusy(frame);
            }
        }
        if let Some(sort) = refault {
            uvm.note_refault_cost(sort);
        }
        for frame in frames {
            uvm.let_go(frame);
        }
    }
}
