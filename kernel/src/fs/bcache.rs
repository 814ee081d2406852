//! The buffer cache: a file system's own blocks (superblock, tables, indirect blocks, directories) in
//! memory. File data is not here; it lives in the pages of the files' objects.
//!
//! Buffers are as large as the file system's blocks (512 bytes to a page) and are cut from whole frames,
//! which the cache takes as it grows, up to a bound. The first few are taken when it is made, so that
//! reading a block never has to wait for a free frame: page-in, which needs indirect blocks, cannot
//! deadlock on memory.
//!
//! ```text
//!            first reader           device            nobody has it, and room is wanted
//!   absent ---------------> reading ------> valid ------------------------------------> absent
//!                              `----------> failed --next reader--> reading
//! ```
//!
//! Each read is a task of its own: everybody who wants the block waits for the buffer's state, the one who
//! began it too, and may stop waiting at any time. So concurrent readers make one transfer, and dropping a
//! reader hurts nobody.
//!
//! Synchronisation: one spin lock guards the index and all changes of state but the end of a read, which is
//! one store by the read's task. A buffer is recycled only under that lock and only when nobody else has a
//! reference, and only the index makes new ones: a [`Block`] in hand stays valid.

use super::FsError;
use super::clock::ClockCache;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use executor::Class;
use executor::sync::{KeyedWaitQueue, SpinLock, WaitQueue};
use uvm::io::{BlockDevice, Op, Request, Segment};
use uvm::{AllocFor, Frame, PAGE_SIZE, PageFlags, Uvm, Zero};

/// Frames that a cache has from the start, for one lookup's worth of blocks.
const RESERVE: usize = 4;

/// The cache of one file system.
#[derive(Clone)]
pub struct BlockCache(Arc<Inner>);

struct Inner {
    uvm: Arc<Uvm>,
    device: Arc<dyn BlockDevice>,
    block_size: usize,
    max_frames: usize,
    index: SpinLock<Index>,
    /// Readers of one block, by its number.
    readers: KeyedWaitQueue,
    /// Readers that found every buffer in use.
    room: WaitQueue,
    starved: AtomicBool,
    reads: AtomicU64,
}

struct Index {
    buffers: ClockCache<u64, Arc<Buffer>>,
    /// Memory that belongs to no buffer.
    spare: Vec<Memory>,
    frames: Vec<Frame>,
}

/// Memory for one block: part of a frame of the cache's.
struct Memory {
    frame: Frame,
    offset: u32,
}

struct Buffer {
    block: u64,
    state: AtomicU8,
    memory: Memory,
}

const READING: u8 = 0;
const VALID: u8 = 1;
const FAILED: u8 = 2;

/// A block's bytes. They stay as they are for as long as this is held: not for long, never across a wait
/// for anything else, since buffers are few.
pub struct Block<'a> {
    cache: &'a Inner,
    /// `None` only while it is dropped.
    buffer: Option<Arc<Buffer>>,
}

/// What a cache has done and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStats {
    /// Reads from the device.
    pub reads: u64,
    /// Blocks in memory.
    pub buffers: usize,
    /// Frames taken.
    pub frames: usize,
}

impl BlockCache {
    /// A cache of blocks of `block_size` bytes (a power of two from 512 to a page) on `device`, in at most
    /// `max_frames` frames.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`] if not even the reserve can be had; [`FsError::Invalid`] for a block size
    /// that cannot be.
    pub fn new(
        uvm: Arc<Uvm>,
        device: Arc<dyn BlockDevice>,
        block_size: usize,
        max_frames: usize,
    ) -> Result<BlockCache, FsError> {
        if !block_size.is_power_of_two() || !(512..=PAGE_SIZE).contains(&block_size) {
            return Err(FsError::Invalid);
        }
        let inner = Inner {
            uvm,
            device,
            block_size,
            max_frames: max_frames.max(RESERVE),
            index: SpinLock::new(Index {
                buffers: ClockCache::new(),
                spare: Vec::new(),
                frames: Vec::new(),
            }),
            readers: KeyedWaitQueue::new("buffer"),
            room: WaitQueue::new("free buffer"),
            starved: AtomicBool::new(false),
            reads: AtomicU64::new(0),
        };
        for _ in 0..RESERVE {
            inner.grow(&mut inner.index.lock())?;
        }
        Ok(BlockCache(Arc::new(inner)))
    }

    /// Bytes in a block.
    pub fn block_size(&self) -> usize {
        self.0.block_size
    }

    /// The device underneath.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.0.device
    }

    /// The block with that number. Awaits the device, or a buffer in which to read.
    ///
    /// # Errors
    /// [`FsError::Io`] if the device cannot read it (it is tried again at the next call), or there is no
    /// such block; [`FsError::OutOfMemory`] if not even the read could be begun.
    pub async fn read(&self, block: u64) -> Result<Block<'_>, FsError> {
        let inner = &*self.0;
        let buffer = match self.find_or_begin(block)? {
            Some(buffer) => buffer,
            None => {
                let found = inner.room.wait_until(|| {
                    inner.starved.store(true, Ordering::SeqCst);
                    self.find_or_begin(block).transpose()
                });
                found.await?
            }
        };
        if buffer.state.load(Ordering::Acquire) == VALID {
            let buffer = Some(buffer);
            return Ok(Block {
                cache: inner,
                buffer,
            });
        }
        // From here on dropping this future gives the buffer back.
        let held = Block {
            cache: inner,
            buffer: Some(buffer.clone()),
        };
        let state = move || match buffer.state.load(Ordering::Acquire) {
            READING => None,
            state => Some(state),
        };
        match inner.readers.wait(block, state).await {
            VALID => Ok(held),
            _ => Err(FsError::Io),
        }
    }

    /// The block's buffer, its read begun if it was absent; `None` when all buffers are in use.
    fn find_or_begin(&self, block: u64) -> Result<Option<Arc<Buffer>>, FsError> {
        let inner = &*self.0;
        let mut index = inner.index.lock();
        if let Some(buffer) = index.buffers.get(&block) {
            let buffer = buffer.clone();
            let again = buffer.state.load(Ordering::Acquire) == FAILED;
            if again {
                buffer.state.store(READING, Ordering::Relaxed);
            }
            drop(index);
            if again {
                self.begin(&buffer)?;
            }
            return Ok(Some(buffer));
        }
        let Some(memory) = inner.take_memory(&mut index) else {
            return Ok(None);
        };
        let buffer = Arc::new(Buffer {
            block,
            state: AtomicU8::new(READING),
            memory,
        });
        index.buffers.insert(block, buffer.clone());
        drop(index);
        self.begin(&buffer)?;
        Ok(Some(buffer))
    }

    /// Starts the read of a buffer that was just marked as being read.
    fn begin(&self, buffer: &Arc<Buffer>) -> Result<(), FsError> {
        let inner = self.0.clone();
        let reading = buffer.clone();
        inner.reads.fetch_add(1, Ordering::Relaxed);
        let executor = inner.uvm.executor().clone();
        let task = executor.try_spawn(Class::Daemon, "block read", async move {
            inner.fill(reading).await;
        });
        if task.is_err() {
            self.0.finish(buffer, FAILED);
            return Err(FsError::OutOfMemory);
        }
        Ok(())
    }

    /// What it has done and holds.
    pub fn stats(&self) -> CacheStats {
        let index = self.0.index.lock();
        CacheStats {
            reads: self.0.reads.load(Ordering::Relaxed),
            buffers: index.buffers.len(),
            frames: index.frames.len(),
        }
    }
}

impl Inner {
    /// Memory for a buffer: spare, fresh, or taken from a buffer that nobody uses.
    fn take_memory(&self, index: &mut Index) -> Option<Memory> {
        if let Some(memory) = index.spare.pop() {
            return Some(memory);
        }
        if index.frames.len() < self.max_frames && self.grow(index).is_ok() {
            return index.spare.pop();
        }
        let unused = |buffer: &mut Arc<Buffer>| Arc::strong_count(buffer) == 1;
        let buffer = index.buffers.evict(unused)?;
        // The count was 1 under the lock under which alone it could have grown.
        Arc::into_inner(buffer).map(|buffer| buffer.memory)
    }

    /// Cuts one more frame into spare memory.
    fn grow(&self, index: &mut Index) -> Result<(), FsError> {
        let blocks = PAGE_SIZE / self.block_size;
        // Capacity first: below nothing fails any more.
        index
            .spare
            .try_reserve(blocks)
            .map_err(|_| FsError::OutOfMemory)?;
        index
            .frames
            .try_reserve(1)
            .map_err(|_| FsError::OutOfMemory)?;
        let frame = self
            .uvm
            .alloc_frame(AllocFor::User, Zero::No)
            .ok_or(FsError::OutOfMemory)?;
        // From now on it holds the kernel's own data: no owner, never mapped, never paged out.
        let page = self.uvm.page(frame);
        page.set(PageFlags::KERNEL);
        page.clear(PageFlags::all().difference(PageFlags::KERNEL));
        index.frames.push(frame);
        index.spare.extend((0..blocks).map(|i| Memory {
            frame,
            offset: (i * self.block_size) as u32,
        }));
        Ok(())
    }

    /// Reads a buffer's block from the device. The buffer's task.
    async fn fill(&self, buffer: Arc<Buffer>) {
        let mut segments = ArrayVec::new();
        segments.push(Segment {
            frame: buffer.memory.frame,
            offset: buffer.memory.offset,
            len: self.block_size as u32,
        });
        let state = match buffer.block.checked_mul(self.block_size as u64) {
            Some(offset) => {
                let request = Request::transfer(Op::Read, offset, segments);
                match self.uvm.io().transfer(&self.device, request).await {
                    Ok(()) => VALID,
                    Err(_) => FAILED,
                }
            }
            None => FAILED,
        };
        self.finish(&buffer, state);
        drop(Block {
            cache: self,
            buffer: Some(buffer),
        });
    }

    fn finish(&self, buffer: &Buffer, state: u8) {
        buffer.state.store(state, Ordering::Release);
        self.readers.wake_all(buffer.block);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // No read is under way: its task would have a reference.
        for frame in core::mem::take(&mut self.index.get_mut().frames) {
            self.uvm.page(frame).clear(PageFlags::KERNEL);
            self.uvm.free_frame(frame);
        }
    }
}

impl Deref for Block<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(buffer) = &self.buffer else {
            return &[];
        };
        let base = self.cache.uvm.phys().ptr(buffer.memory.frame);
        // SAFETY: the bytes lie within a frame that belongs to the cache alone and is not freed before it.
        // The buffer was valid when this block was made (`read`), is not recycled while it is referenced,
        // and a valid buffer is never written.
        unsafe {
            core::slice::from_raw_parts(
                base.add(buffer.memory.offset as usize),
                self.cache.block_size,
            )
        }
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        self.buffer = None;
        if self.cache.starved.swap(false, Ordering::SeqCst) {
            self.cache.room.wake_all();
        }
    }
}

#[cfg(test)]
mod tests;
