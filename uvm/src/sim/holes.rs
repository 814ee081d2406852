//! A file that can be written through mappings: all holes at first, each page's block made when it is asked for.
//!
//! Whether and when a block can be had is the test's to say ([`SparseFile::answer`]). A new block holds what the disk happens to hold
//! there, as on any disk, so that a page that is read again instead of kept shows.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

use executor::sync::WaitQueue;

use crate::addr::PageIndex;
use crate::io::{BlockDevice, IoError};
use crate::object::vnode::{Extent, FileMap};
use crate::sim::disk::{Layout, SimDisk, SimFile};

/// The file.
pub struct SparseFile {
    device: Arc<dyn BlockDevice>,
    /// Where on the disk page 0 goes, in bytes.
    base: u64,
    placed: Mutex<BTreeSet<u64>>,
    asked: AtomicUsize,
    /// `None`: whoever asks waits.
    answer: Mutex<Option<Result<(), IoError>>>,
    waiting: WaitQueue,
}

impl SparseFile {
    /// A file without blocks, which get their places in order from byte `base` of the disk on. Who asks for one waits for an answer.
    #[must_use]
    pub fn new(disk: &Arc<SimDisk>, base: u64) -> Arc<Self> {
        Arc::new(Self {
            device: SimFile::new(disk, Layout::Contiguous(0)).device().clone(),
            base,
            placed: Mutex::new(BTreeSet::new()),
            asked: AtomicUsize::new(0),
            answer: Mutex::new(None),
            waiting: WaitQueue::new("block"),
        })
    }

    /// What all who ask for blocks hear from now on, those who wait already among them.
    pub fn answer(&self, answer: Result<(), IoError>) {
        *self.answer.lock().expect("not poisoned") = Some(answer);
        self.waiting.wake_all();
    }

    /// How often a block was asked for.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }

    /// Whether page `index` has its block.
    #[must_use]
    pub fn is_placed(&self, index: u64) -> bool {
        self.placed.lock().expect("not poisoned").contains(&index)
    }
}

#[async_trait::async_trait]
impl FileMap for SparseFile {
    async fn bmap(&self, first: PageIndex, max: usize) -> Result<Extent, IoError> {
        let placed = self.placed.lock().expect("not poisoned");
        let pages = (first.0..).take(max).take_while(|i| placed.contains(i));
        Ok(match pages.count() {
            0 => Extent::Hole { pages: 1 },
            pages => Extent::Run {
                offset: self.base + first.bytes(),
                pages,
            },
        })
    }

    fn is_writable(&self) -> bool {
        true
    }

    async fn allocate(&self, index: PageIndex) -> Result<(), IoError> {
        self.asked.fetch_add(1, Relaxed);
        let answer = || *self.answer.lock().expect("not poisoned");
        self.waiting.wait_until(answer).await?;
        self.placed.lock().expect("not poisoned").insert(index.0);
        Ok(())
    }

    fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }
}
