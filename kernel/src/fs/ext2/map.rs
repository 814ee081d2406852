//! Where a file's blocks are: direct, indirect, doubly and triply indirect.
//!
//! A lookup reads one indirect block after the other through the buffer cache and lets go of each before it
//! awaits the next. It answers with a run as long as the last of them shows, so that reads can be
//! clustered.

use super::Core;
use super::disk::DIRECT;
use crate::fs::FsError;
use alloc::boxed::Box;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use async_trait::async_trait;
use uvm::io::{BlockDevice, IoError};
use uvm::object::vnode::{Extent, FileMap};
use uvm::{PAGE_SIZE, PageIndex};

/// Neighbouring blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// First block on the disk; `None` for a hole.
    pub(super) start: Option<u32>,
    /// How many blocks follow on each other.
    pub(super) count: u64,
}

/// Where one file's blocks are.
pub(super) struct BlockMap {
    pub(super) core: Arc<Core>,
    /// The inode's block numbers, unchecked.
    pub(super) roots: [u32; DIRECT + 3],
    /// Blocks that the file's size covers.
    pub(super) blocks: u64,
}

impl BlockMap {
    /// The run that starts at block `first` of the file, at most `max` blocks. Awaits indirect blocks.
    ///
    /// # Errors
    /// [`FsError::Damaged`] for block numbers that cannot be, [`FsError::Io`].
    pub(super) async fn run(&self, first: u64, max: u64) -> Result<Run, FsError> {
        let max = max.min(self.blocks.saturating_sub(first)).max(1);
        if let Some(direct) = self.roots[..DIRECT].get(first as usize..)
            && !direct.is_empty()
        {
            return self.run_of(direct.iter().copied(), max);
        }
        let per_block = self.core.geometry.pointers_per_block();
        // Which tree, and where in it.
        let mut index = first - DIRECT as u64;
        let mut depth = 0;
        let mut span = per_block;
        while index >= span {
            index -= span;
            span *= per_block;
            depth += 1;
            if depth == 3 {
                return Err(FsError::Damaged("file longer than a block map"));
            }
        }
        let mut block = self.roots[DIRECT + depth];
        loop {
            if block == 0 {
                // All that this tree would cover from here on is a hole.
                let count = (span - index).min(max);
                return Ok(Run { start: None, count });
            }
            if !self.core.geometry.holds_data(block) {
                return Err(FsError::Damaged("indirect block number"));
            }
            let pointers = self.core.cache.read(u64::from(block)).await?;
            span /= per_block;
            let at = (index / span) as usize;
            index %= span;
            let numbers = pointers[4 * at..].chunks_exact(4);
            let mut numbers = numbers.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            if span == 1 {
                return self.run_of(numbers, max);
            }
            block = numbers.next().unwrap_or(0);
        }
    }

    /// The run at the front of some block numbers that follow each other in the file.
    fn run_of(&self, numbers: impl Iterator<Item = u32>, max: u64) -> Result<Run, FsError> {
        let mut run = Run {
            start: None,
            count: 0,
        };
        for number in numbers.take(max as usize) {
            if number != 0 && !self.core.geometry.holds_data(number) {
                return match run.count {
                    0 => Err(FsError::Damaged("block number")),
                    // Its own reader will meet it.
                    _ => Ok(run),
                };
            }
            if run.count == 0 {
                run.start = (number != 0).then_some(number);
            } else {
                let next = run.start.map_or(0, |start| start + run.count as u32);
                if number != next {
                    break;
                }
            }
            run.count += 1;
        }
        Ok(run)
    }

    fn byte_offset(&self, block: u32) -> u64 {
        u64::from(block) * u64::from(self.core.geometry.block_size)
    }
}

#[async_trait]
impl FileMap for BlockMap {
    async fn bmap(&self, first: PageIndex, max: usize) -> Result<Extent, IoError> {
        let per_page = PAGE_SIZE as u64 / u64::from(self.core.geometry.block_size);
        let block = first.0.saturating_mul(per_page);
        if block >= self.blocks {
            return Ok(Extent::Hole { pages: max });
        }
        let run = self.run(block, (max as u64).saturating_mul(per_page)).await;
        let run = run.map_err(io_error)?;
        // A last page of less than its blocks is no whole page of a run.
        let pages = (run.count / per_page) as usize;
        match run.start {
            Some(start) if pages > 0 => {
                let offset = self.byte_offset(start);
                return Ok(Extent::Run { offset, pages });
            }
            None if pages > 0 => return Ok(Extent::Hole { pages }),
            _ => {}
        }
        let mut blocks = ArrayVec::new();
        let mut next = Some(run);
        while (blocks.len() as u64) < per_page {
            let at = block + blocks.len() as u64;
            let run = match next.take() {
                Some(run) => run,
                None if at < self.blocks => {
                    let rest = per_page - blocks.len() as u64;
                    self.run(at, rest).await.map_err(io_error)?
                }
                None => Run {
                    start: None,
                    count: per_page,
                },
            };
            let room = per_page - blocks.len() as u64;
            for i in 0..run.count.min(room) {
                blocks.push(run.start.map(|start| self.byte_offset(start + i as u32)));
            }
        }
        Ok(Extent::Blocks(blocks))
    }

    fn device(&self) -> &Arc<dyn BlockDevice> {
        self.core.cache.device()
    }
}

fn io_error(error: FsError) -> IoError {
    match error {
        FsError::Damaged(_) => IoError::Damaged,
        _ => IoError::Device,
    }
}
