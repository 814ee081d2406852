//! The two ends of a transfer, and the one who waits for it.
//!
//! A file never sees an address of the user's. It hands bytes to an [`IoSink`] and takes them from an
//! [`IoSource`]; the process's own implementation attempts the copy and stops short at the first byte that
//! is not resident (rule 7 of awaiting). The file then lets go of whatever it holds, awaits
//! [`fault_in`](IoSink::fault_in), and tries again. So the attempt may be made under a spin lock or on a
//! held page, the wait never is. Host tests pass vectors and slices, and `testing` has ends that fault.
//!
//! Waits that may last (for a pipe's other end, for a key) go through a [`Sleeper`]: an LWP breaks them off
//! when a signal comes.

use super::FsError;
use alloc::vec::Vec;
use core::future::Future;
use uvm::Patience;
use uvm::phys::PageBytes;

/// Where the bytes of a read go. Fills front to back.
pub trait IoSink: Send {
    /// How many bytes it still takes.
    fn remaining(&self) -> usize;

    /// Copies from the front of `bytes` and moves on past what was copied. Never waits, takes no lock.
    ///
    /// Returns how many bytes were copied: fewer than `bytes` when the sink is full, or when the next byte
    /// of the destination is not resident; then [`fault_in`](Self::fault_in) says which.
    fn put(&mut self, bytes: &[u8]) -> usize;

    /// Fills with zeroes like [`put`](Self::put), at most `len`. Returns how many bytes were written.
    fn put_zeroes(&mut self, len: usize) -> usize {
        static ZEROES: [u8; 512] = [0; 512];
        let mut done = 0;
        while done < len {
            let chunk = (len - done).min(ZEROES.len());
            let n = self.put(&ZEROES[..chunk]);
            done += n;
            if n < chunk {
                break;
            }
        }
        done
    }

    /// Copies `len` bytes from byte `start` of a page like [`put`](Self::put). The page is held, and may be
    /// written to by others meanwhile.
    fn put_page(&mut self, page: &PageBytes, start: usize, len: usize) -> usize {
        let mut chunk = [0; 512];
        let mut done = 0;
        while done < len {
            let chunk = &mut chunk[..(len - done).min(512)];
            page.read(start + done, chunk);
            let n = self.put(chunk);
            done += n;
            if n < chunk.len() {
                break;
            }
        }
        done
    }

    /// Awaits that the next byte of the destination can be written.
    ///
    /// # Errors
    /// [`FsError::Fault`] when it never can (no mapping, read-only, unreadable backing, out of memory).
    fn fault_in(&mut self) -> impl Future<Output = Result<(), FsError>> + Send;
}

/// Where the bytes of a write come from. Consumed front to back.
pub trait IoSource: Send {
    /// How many bytes it still has.
    fn remaining(&self) -> usize;

    /// Copies the bytes that follow the next `skip` ones into `buf`, *without* consuming any. Never waits,
    /// takes no lock.
    ///
    /// Returns how many bytes were copied: fewer than `buf` when the source ends there, or when the byte
    /// after them is not resident. What a short copy left in `buf` must not be published where the
    /// transfer has to be all or nothing.
    fn peek(&self, skip: usize, buf: &mut [u8]) -> usize;

    /// Consumes `len` bytes; at most [`remaining`](Self::remaining).
    fn advance(&mut self, len: usize);

    /// Awaits that the next `len` bytes (at most a page is sensible) can be read, all of them at once.
    ///
    /// # Errors
    /// [`FsError::Fault`] when some never can.
    fn fault_in(&mut self, len: usize) -> impl Future<Output = Result<(), FsError>> + Send;

    /// Awaits memory, for who has found too little for what it copies to, and holds nothing.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`] when there is nothing to wait for any more.
    fn await_memory(
        &mut self,
        patience: &mut Patience,
    ) -> impl Future<Output = Result<(), FsError>> + Send;
}

/// A wait was broken off by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl From<Interrupted> for FsError {
    fn from(_: Interrupted) -> FsError {
        FsError::Interrupted
    }
}

/// Who waits: an LWP, whose long waits a signal can break off.
pub trait Sleeper: Sync {
    /// Awaits `wait`, unless a signal comes first. Dropping `wait` must lose nothing: only waits on queues
    /// are passed here, never transfers.
    ///
    /// What others reach while it sleeps, nodes of queues and timers, must lie in `wait` itself, which is moved to where it may stay: never a reference to a
    /// future that the caller has pinned.
    fn sleep<T: Send>(
        &self,
        wait: impl Future<Output = T> + Send,
    ) -> impl Future<Output = Result<T, Interrupted>> + Send;
}

/// A sleeper that no signal reaches: kernel tasks and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uninterruptible;

impl Sleeper for Uninterruptible {
    async fn sleep<T: Send>(&self, wait: impl Future<Output = T> + Send) -> Result<T, Interrupted> {
        Ok(wait.await)
    }
}

/// A kernel buffer as a sink: grows, up to `limit` bytes in all.
#[derive(Debug, Default)]
pub struct VecSink {
    /// What has arrived.
    pub bytes: Vec<u8>,
    limit: usize,
}

impl VecSink {
    /// A sink that takes `limit` bytes. Heap blocks are at most a page at run time, so `limit` is best
    /// no more than one.
    pub const fn new(limit: usize) -> VecSink {
        VecSink {
            bytes: Vec::new(),
            limit,
        }
    }
}

impl IoSink for VecSink {
    fn remaining(&self) -> usize {
        self.limit - self.bytes.len()
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.remaining());
        if self.bytes.try_reserve(n).is_err() {
            return 0;
        }
        self.bytes.extend_from_slice(&bytes[..n]);
        n
    }

    async fn fault_in(&mut self) -> Result<(), FsError> {
        // `put` stops short of the limit only where memory was refused.
        Err(FsError::OutOfMemory)
    }
}

/// A slice filled from its front.
impl IoSink for &mut [u8] {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.len());
        let (head, tail) = core::mem::take(self).split_at_mut(n);
        head.copy_from_slice(&bytes[..n]);
        *self = tail;
        n
    }

    async fn fault_in(&mut self) -> Result<(), FsError> {
        Ok(())
    }
}

/// A slice consumed from its front.
impl IoSource for &[u8] {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn peek(&self, skip: usize, buf: &mut [u8]) -> usize {
        let rest = self.get(skip..).unwrap_or_default();
        let n = buf.len().min(rest.len());
        buf[..n].copy_from_slice(&rest[..n]);
        n
    }

    fn advance(&mut self, len: usize) {
        *self = &self[len..];
    }

    async fn await_memory(&mut self, _: &mut Patience) -> Result<(), FsError> {
        Err(FsError::OutOfMemory)
    }

    async fn fault_in(&mut self, _len: usize) -> Result<(), FsError> {
        Ok(())
    }
}

/// Ends that are not resident at first, for tests of the retry paths.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// Takes or gives at most `step` bytes between two calls of `fault_in`; fails for good at `bad_at`.
    #[derive(Debug)]
    pub struct Faulty {
        /// What a sink received, or what a source holds.
        pub bytes: Vec<u8>,
        /// How far the transfer has come.
        pub done: usize,
        /// How much is resident beyond `done`.
        pub resident: usize,
        /// Bytes made resident by one `fault_in`.
        pub step: usize,
        /// Total length of the buffer.
        pub len: usize,
        /// The first byte that can never be reached.
        pub bad_at: usize,
        /// How often `fault_in` was called.
        pub faults: usize,
    }

    impl Faulty {
        /// A buffer of `len` bytes of which nothing is resident.
        pub fn sink(len: usize, step: usize) -> Faulty {
            Faulty {
                bytes: Vec::new(),
                done: 0,
                resident: 0,
                step,
                len,
                bad_at: usize::MAX,
                faults: 0,
            }
        }

        /// A source over `bytes`, none of them resident.
        pub fn source(bytes: &[u8], step: usize) -> Faulty {
            Faulty {
                bytes: bytes.to_vec(),
                ..Faulty::sink(bytes.len(), step)
            }
        }

        fn fault(&mut self, want: usize) -> Result<(), FsError> {
            self.faults += 1;
            let reach = want.max(self.step).min(self.len - self.done);
            let reach = reach.min(self.bad_at.saturating_sub(self.done));
            if reach == 0 || reach < want.min(self.len - self.done) {
                return Err(FsError::Fault);
            }
            self.resident = reach;
            Ok(())
        }
    }

    impl IoSink for Faulty {
        fn remaining(&self) -> usize {
            self.len - self.done
        }
        fn put(&mut self, bytes: &[u8]) -> usize {
            let n = bytes.len().min(self.resident);
            self.bytes.extend_from_slice(&bytes[..n]);
            self.done += n;
            self.resident -= n;
            n
        }
        async fn fault_in(&mut self) -> Result<(), FsError> {
            self.fault(1)
        }
    }

    impl IoSource for Faulty {
        fn remaining(&self) -> usize {
            self.len - self.done
        }
        fn peek(&self, skip: usize, buf: &mut [u8]) -> usize {
            let n = buf.len().min(self.resident.saturating_sub(skip));
            buf[..n].copy_from_slice(&self.bytes[self.done + skip..][..n]);
            n
        }
        fn advance(&mut self, len: usize) {
            self.done += len;
            self.resident = self.resident.saturating_sub(len);
        }
        async fn await_memory(&mut self, _: &mut Patience) -> Result<(), FsError> {
            Err(FsError::OutOfMemory)
        }

        async fn fault_in(&mut self, len: usize) -> Result<(), FsError> {
            self.fault(len)
        }
    }
}
