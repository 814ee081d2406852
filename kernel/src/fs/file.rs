//! Open files: what a descriptor stands for.
//!
//! An [`OpenFile`] is shared by every descriptor that was duplicated or inherited from the one `open`
//! returned, and with it the offset. Reads and writes that move the offset take turns on it (an async lock,
//! FIFO); positioned ones do not touch it. Data of regular files goes from the pages of the file's object
//! straight to the sink.

use super::FsError;
use super::devfs::Device;
use super::io::{IoSink, IoSource, Sleeper};
use super::mount::Location;
use super::pipe::{Reader, Wait, Writer};
use super::tty::Tty;
use super::ubc::FileObject;
use super::vnode::{Attributes, Emit, Kind};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use executor::sync::{Mutex, WaitQueue};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use uvm::km::HeapRoom;

bitflags::bitflags! {
    /// How a file is opened. The bits are Linux's.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// For writing only.
        const WRITE_ONLY = 0o1;
        /// For reading and writing.
        const READ_WRITE = 0o2;
        /// Create it if it is missing.
        const CREATE = 0o100;
        /// It must be missing.
        const EXCLUSIVE = 0o200;
        /// Do not make it the controlling terminal (`O_NOCTTY`).
        const NO_TERMINAL = 0o400;
        /// Cut it to nothing.
        const TRUNCATE = 0o1000;
        /// Every write goes to the end.
        const APPEND = 0o2000;
        /// Never wait for the other end.
        const NONBLOCK = 0o4000;
        /// It must be a directory.
        const DIRECTORY = 0o200000;
        /// It must not be a symbolic link.
        const NOFOLLOW = 0o400000;
        /// Close it at `execve`. A property of the descriptor, not of the file.
        const CLOSE_ON_EXEC = 0o2000000;
    }
}

impl OpenFlags {
    /// What `F_SETFL` can change.
    pub const STATUS: OpenFlags = OpenFlags::APPEND.union(OpenFlags::NONBLOCK);

    /// Whether the file can be read.
    pub const fn reads(self) -> bool {
        !self.contains(OpenFlags::WRITE_ONLY)
    }

    /// Whether the file can be written.
    pub const fn writes(self) -> bool {
        self.intersects(OpenFlags::WRITE_ONLY.union(OpenFlags::READ_WRITE))
    }
}

bitflags::bitflags! {
    /// What can be done with a file without waiting. The bits are `poll`'s.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Readiness: u16 {
        /// Reading gives bytes, or the end.
        const IN = 0x1;
        /// Writing takes bytes.
        const OUT = 0x4;
        /// The other end is gone: writing fails.
        const ERROR = 0x8;
        /// The other end is gone: no more will come.
        const HANGUP = 0x10;
    }
}

/// Where `lseek` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The beginning.
    Start,
    /// Where the offset is.
    Current,
    /// The end of the file.
    End,
}

/// What is open.
pub enum Target {
    /// A regular file and its pages.
    Regular(Location, Arc<FileObject>),
    /// A directory.
    Directory(Location),
    /// A device and the node it was opened through.
    Device(Location, Device),
    /// The end of a pipe that is read.
    PipeReader(Reader),
    /// The end of a pipe that is written.
    PipeWriter(Writer),
    /// The terminal, opened by the kernel rather than through a name.
    Terminal(Arc<Tty>),
}

/// An open file.
pub struct OpenFile {
    target: Target,
    flags: AtomicU32,
    offset: Mutex<u64>,
}

impl OpenFile {
    /// `target`, open at its beginning.
    pub fn new(target: Target, flags: OpenFlags) -> Arc<OpenFile> {
        Arc::new(OpenFile {
            target,
            flags: AtomicU32::new(flags.bits()),
            offset: Mutex::new("file offset", 0),
        })
    }

    /// Both ends of a new pipe; of `flags`, [`OpenFlags::NONBLOCK`] counts.
    pub fn pipe(flags: OpenFlags, _room: &HeapRoom<'_>) -> (Arc<OpenFile>, Arc<OpenFile>) {
        let (reader, writer) = super::pipe::pipe();
        let flags = flags & OpenFlags::NONBLOCK;
        (
            OpenFile::new(Target::PipeReader(reader), flags),
            OpenFile::new(Target::PipeWriter(writer), flags | OpenFlags::WRITE_ONLY),
        )
    }

    /// What is open.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How it was opened, and the status since set.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_truncate(self.flags.load(Relaxed))
    }

    /// Sets those of [`OpenFlags::STATUS`], and no others (`F_SETFL`).
    pub fn set_status(&self, status: OpenFlags) {
        let status = (status & OpenFlags::STATUS).bits();
        let kept = !OpenFlags::STATUS.bits();
        // The closure always answers `Some`: this cannot fail.
        let _ = self
            .flags
            .fetch_update(Relaxed, Relaxed, |flags| Some(flags & kept | status));
    }

    /// The name through which it was opened; pipes have none.
    pub fn location(&self) -> Option<&Location> {
        match &self.target {
            Target::Regular(location, _)
            | Target::Directory(location)
            | Target::Device(location, _) => Some(location),
            Target::PipeReader(_) | Target::PipeWriter(_) | Target::Terminal(_) => None,
        }
    }

    /// The directory that it is (for `openat`, `fchdir`).
    ///
    /// # Errors
    /// [`FsError::NotDirectory`].
    pub fn directory(&self) -> Result<&Location, FsError> {
        match &self.target {
            Target::Directory(location) => Ok(location),
            _ => Err(FsError::NotDirectory),
        }
    }

    /// The pages to map.
    ///
    /// # Errors
    /// [`FsError::NotSupported`] for all but regular files.
    pub fn object(&self) -> Result<&Arc<FileObject>, FsError> {
        match &self.target {
            Target::Regular(_, object) => Ok(object),
            _ => Err(FsError::NotSupported),
        }
    }

    /// Whether it is `/dev/zero`, whose mappings are anonymous memory.
    pub fn is_zero_device(&self) -> bool {
        matches!(self.target, Target::Device(_, Device::Zero))
    }

    /// The terminal that it is.
    ///
    /// # Errors
    /// [`FsError::NotTerminal`].
    pub fn terminal(&self) -> Result<&Arc<Tty>, FsError> {
        match &self.target {
            Target::Device(_, Device::Tty(tty)) | Target::Terminal(tty) => Ok(tty),
            _ => Err(FsError::NotTerminal),
        }
    }

    /// Whether it is `/dev/tty`, which must yet become its opener's own terminal
    /// ([`with_terminal`](Self::with_terminal)); until then it can be neither read nor written.
    pub fn is_own_terminal(&self) -> bool {
        matches!(self.target, Target::Device(_, Device::OwnTty))
    }

    /// The same, just opened, with `tty` as its device.
    pub fn with_terminal(&self, tty: Arc<Tty>) -> Arc<OpenFile> {
        let target = match self.location() {
            Some(location) => Target::Device(location.clone(), Device::Tty(tty)),
            None => Target::Terminal(tty),
        };
        OpenFile::new(target, self.flags())
    }

    /// What `fstat` tells.
    pub fn attributes(&self) -> Attributes {
        if let Some(location) = self.location() {
            return location.vnode().attributes();
        }
        let (kind, represents) = match self.target {
            Target::Terminal(_) => (Kind::CharDevice, super::devfs::CONSOLE),
            _ => (Kind::Fifo, Default::default()),
        };
        Attributes {
            device: 0,
            ino: 0,
            kind,
            permissions: 0o600,
            links: 1,
            uid: 0,
            gid: 0,
            represents,
            size: 0,
            block_size: 4096,
            blocks: 0,
            accessed: Default::default(),
            modified: Default::default(),
            changed: Default::default(),
        }
    }

    /// Bytes that a read finds now (`FIONREAD`).
    ///
    /// # Errors
    /// [`FsError::NotTerminal`], Linux's answer for what does not count them.
    pub async fn available(&self) -> Result<u64, FsError> {
        match &self.target {
            Target::PipeReader(pipe) => Ok(pipe.available() as u64),
            Target::Regular(_, object) => {
                Ok(object.size().saturating_sub(*self.offset.lock().await))
            }
            _ => Ok(self.terminal()?.available() as u64),
        }
    }

    /// Reads at the offset and moves it. Returns how many bytes; 0 at the end. Awaits pages, data, and the
    /// sink's own memory.
    ///
    /// # Errors
    /// [`FsError::BadDescriptor`] if it is not open for reading, [`FsError::IsDirectory`], and
    /// [`FsError::Io`], [`FsError::Fault`], [`FsError::Interrupted`], [`FsError::WouldBlock`] if nothing
    /// was read before.
    pub async fn read(&self, cx: &impl Sleeper, sink: &mut impl IoSink) -> Result<usize, FsError> {
        let flags = self.flags();
        if !flags.reads() {
            return Err(FsError::BadDescriptor);
        }
        match &self.target {
            Target::Regular(_, object) => {
                let mut offset = self.offset.lock().await;
                let n = object.read(*offset, sink).await?;
                *offset += n as u64;
                Ok(n)
            }
            Target::Directory(_) => Err(FsError::IsDirectory),
            Target::Device(_, Device::OwnTty) => Err(FsError::NoDevice),
            Target::Device(_, Device::Null) => Ok(0),
            Target::Device(_, Device::Zero) => read_zeroes(sink).await,
            Target::Device(_, Device::Tty(tty)) | Target::Terminal(tty) => {
                tty.read(cx, sink, wait(flags)).await
            }
            Target::PipeReader(pipe) => pipe.read(cx, sink, wait(flags)).await,
            Target::PipeWriter(_) => Err(FsError::BadDescriptor),
        }
    }

    /// Reads at `offset` and leaves the file's own alone (`pread`).
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`FsError::IllegalSeek`] for pipes and terminals.
    pub async fn read_at(&self, sink: &mut impl IoSink, offset: u64) -> Result<usize, FsError> {
        if !self.flags().reads() {
            return Err(FsError::BadDescriptor);
        }
        match &self.target {
            Target::Regular(_, object) => object.read(offset, sink).await,
            Target::Directory(_) => Err(FsError::IsDirectory),
            Target::Device(_, Device::Null) => Ok(0),
            Target::Device(_, Device::Zero) => read_zeroes(sink).await,
            _ => Err(FsError::IllegalSeek),
        }
    }

    /// Writes all of `source`, unless something stops it midway. Awaits room, and the source's own memory.
    ///
    /// # Errors
    /// [`FsError::BadDescriptor`] if it is not open for writing, [`FsError::BrokenPipe`] (the caller owes
    /// the writer a `SIGPIPE`), and [`FsError::Fault`], [`FsError::Interrupted`], [`FsError::WouldBlock`]
    /// if nothing was written before.
    pub async fn write(
        &self,
        cx: &impl Sleeper,
        source: &mut impl IoSource,
    ) -> Result<usize, FsError> {
        let flags = self.flags();
        if !flags.writes() {
            return Err(FsError::BadDescriptor);
        }
        match &self.target {
            Target::Device(_, Device::Null | Device::Zero) => {
                let len = source.remaining();
                source.advance(len);
                Ok(len)
            }
            Target::Device(_, Device::Tty(tty)) | Target::Terminal(tty) => {
                tty.write(cx, source, wait(flags)).await
            }
            Target::Device(_, Device::OwnTty) => Err(FsError::NoDevice),
            Target::PipeWriter(pipe) => pipe.write(cx, source, wait(flags)).await,
            // No file of these kinds is ever opened for writing.
            Target::Regular(..) | Target::Directory(_) | Target::PipeReader(_) => {
                Err(FsError::BadDescriptor)
            }
        }
    }

    /// Moves the offset and returns where it is now, in bytes.
    ///
    /// # Errors
    /// [`FsError::IllegalSeek`] for pipes and terminals, [`FsError::Invalid`] for a place before the
    /// beginning, [`FsError::Overflow`].
    pub async fn seek(&self, distance: i64, whence: Whence) -> Result<u64, FsError> {
        let end = match &self.target {
            Target::Regular(_, object) => object.size(),
            Target::Directory(location) => location.vnode().attributes().size,
            Target::Device(_, Device::Null | Device::Zero) => return Ok(0),
            _ => return Err(FsError::IllegalSeek),
        };
        let mut offset = self.offset.lock().await;
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => *offset,
            Whence::End => end,
        };
        let base = i64::try_from(base).map_err(|_| FsError::Overflow)?;
        let place = base.checked_add(distance).ok_or(FsError::Overflow)?;
        *offset = u64::try_from(place).map_err(|_| FsError::Invalid)?;
        Ok(*offset)
    }

    /// Emits names of a directory from the offset on, and moves it past those that were taken.
    ///
    /// # Errors
    /// [`FsError::NotDirectory`], and what reading a directory can meet.
    pub async fn read_dir(&self, emit: &mut Emit<'_>) -> Result<(), FsError> {
        let location = self.directory()?;
        let mut offset = self.offset.lock().await;
        *offset = location.vnode().read_dir(*offset, emit).await?;
        Ok(())
    }

    /// What can be done now without waiting.
    pub fn readiness(&self) -> Readiness {
        match &self.target {
            Target::PipeReader(pipe) => pipe.readiness(),
            Target::PipeWriter(pipe) => pipe.readiness(),
            Target::Device(_, Device::Tty(tty)) | Target::Terminal(tty) => tty.readiness(),
            _ => Readiness::IN | Readiness::OUT,
        }
    }

    /// Awaits that some of `interest` can be done, or that the other end is gone. Dropping the wait loses
    /// nothing.
    pub async fn wait_ready(&self, interest: Readiness) -> Readiness {
        let wanted = interest | Readiness::ERROR | Readiness::HANGUP;
        let look = || {
            let ready = self.readiness() & wanted;
            (!ready.is_empty()).then_some(ready)
        };
        match self.queue() {
            Some(queue) => queue.wait_until(look).await,
            // What has no queue never waits.
            None => self.readiness() & wanted,
        }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        match &self.target {
            Target::PipeReader(pipe) => Some(pipe.queue()),
            Target::PipeWriter(pipe) => Some(pipe.queue()),
            Target::Device(_, Device::Tty(tty)) | Target::Terminal(tty) => Some(tty.queue()),
            _ => None,
        }
    }
}

/// Awaits that any of `files` is ready for what stands beside it (`poll`, without its time limit: race it
/// against a timer, dropping it loses nothing). Never ends if `files` is empty.
pub async fn wait_any(files: &[(Arc<OpenFile>, Readiness)]) {
    let mut waits: FuturesUnordered<_> = files
        .iter()
        .map(|(file, interest)| file.wait_ready(*interest))
        .collect();
    match waits.next().await {
        Some(_) => {}
        None => core::future::pending().await,
    }
}

fn wait(flags: OpenFlags) -> Wait {
    match flags.contains(OpenFlags::NONBLOCK) {
        true => Wait::Never,
        false => Wait::Allowed,
    }
}

async fn read_zeroes(sink: &mut impl IoSink) -> Result<usize, FsError> {
    let mut total = 0;
    while sink.remaining() > 0 {
        total += sink.put_zeroes(sink.remaining());
        if sink.remaining() > 0 {
            match sink.fault_in().await {
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests;
