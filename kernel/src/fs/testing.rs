//! What the tests of files share: a small machine, a disk in memory, and images made by mke2fs.

use alloc::sync::Arc;
use core::future::Future;
use executor::sync::SpinLock;
use executor::testing::Driver;
use executor::{Class, JoinHandle};
use std::boxed::Box;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::vec::Vec;
use std::{format, fs};
use uvm::Uvm;
use uvm::io::{BlockDevice, IoError, Op, PageIo};
use uvm::meter::Counter;
use uvm::testing::{Host, HostConfig};

/// A disk in the test's memory that completes at once, when told, or with an error.
pub struct MemoryDisk {
    uvm: Arc<Uvm>,
    bytes: SpinLock<Vec<u8>>,
    state: SpinLock<State>,
}

#[derive(Default)]
struct State {
    holds: bool,
    held: Vec<PageIo>,
    /// Byte offsets, in units of 512, that cannot be read.
    bad: BTreeSet<u64>,
    reads: u64,
}

impl MemoryDisk {
    /// A disk with that content.
    pub fn new(uvm: &Arc<Uvm>, bytes: Vec<u8>) -> Arc<MemoryDisk> {
        Arc::new(MemoryDisk {
            uvm: uvm.clone(),
            bytes: SpinLock::new(bytes),
            state: SpinLock::default(),
        })
    }

    /// From now on requests wait for [`release`](Self::release).
    pub fn hold(&self) {
        self.state.lock().holds = true;
    }

    /// Completes what was held, and no longer holds. Returns how many there were.
    pub fn release(&self) -> usize {
        let held = {
            let mut state = self.state.lock();
            state.holds = false;
            core::mem::take(&mut state.held)
        };
        let count = held.len();
        held.into_iter().for_each(|io| self.complete(io));
        count
    }

    /// Requests that are held.
    pub fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// Makes the sector at byte `offset` unreadable, or readable again.
    pub fn set_bad(&self, offset: u64, bad: bool) {
        let mut state = self.state.lock();
        match bad {
            true => state.bad.insert(offset / 512),
            false => state.bad.remove(&(offset / 512)),
        };
    }

    fn complete(&self, io: PageIo) {
        let request = io.request();
        let sectors = request.offset / 512..(request.offset + request.len).div_ceil(512);
        let is_bad = self.state.lock().bad.range(sectors).next().is_some();
        if is_bad || request.op != Op::Read {
            io.complete(Err(IoError::Device));
            return;
        }
        let bytes = self.bytes.lock();
        let mut at = request.offset as usize;
        for segment in &request.segments {
            let (start, len) = (segment.offset as usize, segment.len as usize);
            assert!(start + len <= uvm::PAGE_SIZE);
            let from = &bytes[at..at + len];
            // SAFETY: the submitter has lent this part of the frame to the device, which is this test.
            unsafe {
                let to = self.uvm.phys().ptr(segment.frame).add(start);
                core::ptr::copy_nonoverlapping(from.as_ptr(), to, len);
            }
            at += len;
        }
        drop(bytes);
        io.complete(Ok(()));
    }
}

impl BlockDevice for MemoryDisk {
    fn size(&self) -> u64 {
        self.bytes.lock().len() as u64
    }

    fn read_only(&self) -> bool {
        true
    }

    fn start(&self, io: PageIo) {
        let mut state = self.state.lock();
        state.reads += 1;
        if state.holds {
            state.held.push(io);
            return;
        }
        drop(state);
        self.complete(io);
    }
}

/// A seeded sequence for tests (xorshift).
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next value below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// An ext2 image of the files under `tree`, made by mke2fs with `blocks` blocks of `block_size` bytes.
pub fn make_image(tree: &Path, block_size: u32, blocks: u32, extra: &[&str]) -> Vec<u8> {
    install_e2fsprogs();
    let image = tree.with_extension(format!("{block_size}.ext2"));
    let output = Command::new("mke2fs")
        .env(
            "PATH",
            "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
        )
        .args(["-q", "-F", "-t", "ext2", "-m", "0", "-b"])
        .arg(format!("{block_size}"))
        .arg("-d")
        .arg(tree)
        .args(extra)
        .arg(&image)
        .arg(format!(
            "{}k",
            u64::from(blocks) * u64::from(block_size) / 1024
        ))
        .output()
        .expect("mke2fs starts");
    assert!(
        output.status.success(),
        "mke2fs: {}",
        std::string::String::from_utf8_lossy(&output.stderr)
    );
    let bytes = fs::read(&image).expect("mke2fs made the image");
    fs::remove_file(&image).expect("the image can be removed");
    bytes
}

/// mke2fs is in the package e2fsprogs: the same set-up as the launcher's brings it.
fn install_e2fsprogs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let missing = launcher::packages::missing(false);
        launcher::packages::install(&missing, &launcher::steps::Steps::new(false))
            .expect("the tests need the package e2fsprogs");
    });
}

/// A console that shows nothing.
pub struct NoConsole;

#[async_trait::async_trait]
impl super::tty::Console for NoConsole {
    fn write(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    async fn room(&self) {}
}

/// A machine without processes.
pub struct SmallMachine {
    /// Its memory system.
    pub uvm: Arc<Uvm>,
    driver: Driver,
    _host: Host,
}

/// A machine with `mib` MiB of memory.
pub fn small_machine(mib: usize) -> SmallMachine {
    let driver = Driver::new();
    let config = HostConfig {
        frames: mib * 256,
        ..HostConfig::default()
    };
    let host = Host::with_executor(&config, driver.executor().clone());
    let uvm = host.uvm.clone();
    // Files may be larger than its memory.
    let daemon = uvm::pagedaemon(uvm.clone());
    driver.executor().spawn(Class::Daemon, "pagedaemon", daemon);
    SmallMachine {
        uvm,
        driver,
        _host: host,
    }
}

impl SmallMachine {
    /// Runs `task` to its end.
    pub fn run<T>(&self, task: impl Future<Output = T>) -> T {
        self.driver.block_on(task)
    }

    /// A task that runs whenever the machine does.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.uvm.executor().spawn(Class::User, "test", task)
    }

    /// Runs all tasks until none can go on.
    pub fn run_until_stalled(&self) {
        self.driver.run_until_stalled();
    }

    /// What of its memory is in use: frames, without those that pools keep empty until somebody wants them, and objects in pools.
    pub fn in_use(&self) -> (usize, u64) {
        let meter = self.uvm.meter();
        let free = self.uvm.free_frames() + self.uvm.slab_pages();
        let objects = meter.get(Counter::PoolAllocs) - meter.get(Counter::PoolFrees);
        (self.uvm.pages().managed() - free, objects)
    }

    /// Verifies the invariants of its memory.
    pub fn check(&self) {
        if let Err(error) = self.uvm.check() {
            panic!("{error}");
        }
    }
}
