//! Descriptor tables: small numbers for open files.
//!
//! A table belongs to a process and may be shared by its threads: all operations go through one spin lock,
//! and what they take out is handed to the caller, so that no file is closed (which may wake others) under
//! it. Slots come in chunks of 64, allocated as numbers are used.

use super::FsError;
use super::file::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use executor::sync::SpinLock;

/// Most descriptors of one table; also the default limit (`RLIMIT_NOFILE`).
pub const MAX_FILES: u32 = CHUNK as u32 * CHUNKS as u32;

const CHUNK: usize = 64;
const CHUNKS: usize = 16;

/// A file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub u32);

/// Whether a descriptor survives `execve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExec {
    /// It does.
    Keep,
    /// `FD_CLOEXEC`: it does not.
    Close,
}

/// The open files of a process.
pub struct FdTable {
    slots: SpinLock<Slots>,
}

struct Slots {
    /// At most [`CHUNKS`].
    chunks: Vec<Chunk>,
    limit: u32,
}

#[derive(Default)]
struct Chunk {
    /// As long as the highest number used so far demands, at most [`CHUNK`].
    files: Vec<Option<Arc<OpenFile>>>,
    used: u64,
    close_on_exec: u64,
}

impl Default for FdTable {
    fn default() -> FdTable {
        FdTable::new()
    }
}

impl FdTable {
    /// A table with nothing open.
    pub fn new() -> FdTable {
        FdTable {
            slots: SpinLock::new(Slots {
                chunks: Vec::new(),
                limit: MAX_FILES,
            }),
        }
    }

    /// The file behind `fd`.
    ///
    /// # Errors
    /// [`FsError::BadDescriptor`].
    pub fn get(&self, fd: Fd) -> Result<Arc<OpenFile>, FsError> {
        let slots = self.slots.lock();
        let file = slots.at(fd).and_then(|(chunk, i)| chunk.files[i].clone());
        file.ok_or(FsError::BadDescriptor)
    }

    /// Gives `file` the lowest free number that is at least `least`.
    ///
    /// # Errors
    /// [`FsError::TooManyFiles`], [`FsError::OutOfMemory`]; [`FsError::Invalid`] if `least` is beyond the
    /// limit.
    pub fn insert(&self, file: Arc<OpenFile>, least: Fd, on_exec: OnExec) -> Result<Fd, FsError> {
        let mut slots = self.slots.lock();
        if least.0 >= slots.limit {
            return Err(FsError::Invalid);
        }
        let fd = slots.lowest_free(least.0);
        if fd >= slots.limit {
            return Err(FsError::TooManyFiles);
        }
        slots.set(fd, file, on_exec)?;
        Ok(Fd(fd))
    }

    /// Gives `file` the number `fd` (`dup2`). Returns the file that had it: drop it at leisure.
    ///
    /// # Errors
    /// [`FsError::BadDescriptor`] if the number is beyond the limit, [`FsError::OutOfMemory`].
    pub fn replace(
        &self,
        fd: Fd,
        file: Arc<OpenFile>,
        on_exec: OnExec,
    ) -> Result<Option<Arc<OpenFile>>, FsError> {
        let mut slots = self.slots.lock();
        if fd.0 >= slots.limit {
            return Err(FsError::BadDescriptor);
        }
        slots.set(fd.0, file, on_exec)
    }

    /// Frees `fd` and returns the file it stood for, which closes when the last holder drops it.
    ///
    /// # Errors
    /// [`FsError::BadDescriptor`].
    pub fn close(&self, fd: Fd) -> Result<Arc<OpenFile>, FsError> {
        let mut slots = self.slots.lock();
        slots.take(fd).ok_or(FsError::BadDescriptor)
    }

    /// What `execve` does to `fd`.
    ///
    /// # Errors
    /// [`FsError::BadDescriptor`].
    pub fn on_exec(&self, fd: Fd) -> Result<OnExec, FsError> {
        let slots = self.slots.lock();
        let (chunk, i) = slots.at(fd).ok_or(FsError::BadDescriptor)?;
        Ok(match chunk.close_on_exec & 1 << i {
            0 => OnExec::Keep,
            _ => OnExec::Close,
        })
    }

    /// Sets what `execve` does to `fd`.
    ///
    /// # Errors
    /// [`FsError::BadDescriptor`].
    pub fn set_on_exec(&self, fd: Fd, on_exec: OnExec) -> Result<(), FsError> {
        let mut slots = self.slots.lock();
        slots.at(fd).ok_or(FsError::BadDescriptor)?;
        slots.mark(fd.0, on_exec);
        Ok(())
    }

    /// A table with the same files, sharing their offsets (`fork`).
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub fn fork(&self) -> Result<FdTable, FsError> {
        let slots = self.slots.lock();
        let mut copy = Slots {
            chunks: with_room_for(slots.chunks.len())?,
            limit: slots.limit,
        };
        for chunk in &slots.chunks {
            let mut files = with_room_for(chunk.files.len())?;
            files.extend(chunk.files.iter().cloned());
            copy.chunks.push(Chunk {
                files,
                used: chunk.used,
                close_on_exec: chunk.close_on_exec,
            });
        }
        Ok(FdTable {
            slots: SpinLock::new(copy),
        })
    }

    /// Closes what `execve` is to close.
    pub fn close_on_exec(&self) {
        loop {
            let mut slots = self.slots.lock();
            let marked = slots.chunks.iter().position(|c| c.close_on_exec != 0);
            let Some(at) = marked else { return };
            let fd = at * CHUNK + slots.chunks[at].close_on_exec.trailing_zeros() as usize;
            let file = slots.take(Fd(fd as u32));
            drop(slots);
            drop(file);
        }
    }

    /// Closes everything (exit).
    pub fn close_all(&self) {
        let empty = Slots {
            chunks: Vec::new(),
            limit: 0,
        };
        let mut slots = self.slots.lock();
        let limit = slots.limit;
        let old = core::mem::replace(&mut *slots, empty);
        slots.limit = limit;
        drop(slots);
        drop(old);
    }

    /// The numbers in use, in order, from `from` on: the first of them.
    pub fn next_open(&self, from: Fd) -> Option<Fd> {
        let slots = self.slots.lock();
        (from.0..slots.chunks.len() as u32 * CHUNK as u32)
            .map(Fd)
            .find(|&fd| slots.at(fd).is_some())
    }

    /// Bytes of heap that it takes.
    pub fn heap_bytes(&self) -> usize {
        let block = |len: usize, size: usize| match len * size {
            0 => 0,
            bytes => uvm::km::block_bytes(bytes),
        };
        let slots = self.slots.lock();
        let files =
            |chunk: &Chunk| block(chunk.files.capacity(), size_of::<Option<Arc<OpenFile>>>());
        let chunks = block(slots.chunks.capacity(), size_of::<Chunk>());
        chunks + slots.chunks.iter().map(files).sum::<usize>()
    }

    /// How many descriptors there may be (`RLIMIT_NOFILE`).
    pub fn limit(&self) -> u32 {
        self.slots.lock().limit
    }

    /// Sets how many there may be; at most [`MAX_FILES`]. Numbers in use beyond it stay.
    pub fn set_limit(&self, limit: u32) {
        self.slots.lock().limit = limit.min(MAX_FILES);
    }
}

impl Slots {
    /// The chunk and slot of a number in use.
    fn at(&self, fd: Fd) -> Option<(&Chunk, usize)> {
        let chunk = self.chunks.get(fd.0 as usize / CHUNK)?;
        let i = fd.0 as usize % CHUNK;
        (chunk.used & 1 << i != 0).then_some((chunk, i))
    }

    fn lowest_free(&self, least: u32) -> u32 {
        let mut fd = least as usize;
        while let Some(chunk) = self.chunks.get(fd / CHUNK) {
            // Numbers below the least count as used.
            let taken = chunk.used | ((1u64 << (fd % CHUNK)) - 1);
            if taken != u64::MAX {
                return (fd / CHUNK * CHUNK) as u32 + taken.trailing_ones();
            }
            fd = (fd / CHUNK + 1) * CHUNK;
        }
        fd as u32
    }

    fn set(
        &mut self,
        fd: u32,
        file: Arc<OpenFile>,
        on_exec: OnExec,
    ) -> Result<Option<Arc<OpenFile>>, FsError> {
        let (at, i) = (fd as usize / CHUNK, fd as usize % CHUNK);
        if self.chunks.len() <= at {
            let more = at + 1 - self.chunks.len();
            self.chunks
                .try_reserve_exact(more)
                .map_err(|_| FsError::OutOfMemory)?;
            self.chunks.resize_with(at + 1, Chunk::default);
        }
        let chunk = &mut self.chunks[at];
        if chunk.files.len() <= i {
            let more = i + 1 - chunk.files.len();
            chunk
                .files
                .try_reserve(more)
                .map_err(|_| FsError::OutOfMemory)?;
            chunk.files.resize(i + 1, None);
        }
        chunk.used |= 1 << i;
        let old = chunk.files[i].replace(file);
        self.mark(fd, on_exec);
        Ok(old)
    }

    fn take(&mut self, fd: Fd) -> Option<Arc<OpenFile>> {
        let chunk = self.chunks.get_mut(fd.0 as usize / CHUNK)?;
        let i = fd.0 as usize % CHUNK;
        chunk.used &= !(1 << i);
        chunk.close_on_exec &= !(1 << i);
        chunk.files.get_mut(i)?.take()
    }

    fn mark(&mut self, fd: u32, on_exec: OnExec) {
        let bit = 1 << (fd as usize % CHUNK);
        let chunk = &mut self.chunks[fd as usize / CHUNK];
        match on_exec {
            OnExec::Keep => chunk.close_on_exec &= !bit,
            OnExec::Close => chunk.close_on_exec |= bit,
        }
    }
}

fn with_room_for<T>(count: usize) -> Result<Vec<T>, FsError> {
    let mut list = Vec::new();
    list.try_reserve_exact(count)
        .map_err(|_| FsError::OutOfMemory)?;
    Ok(list)
}

#[cfg(test)]
mod tests;
