//! Pipes.
//!
//! A pipe is a ring of 64 KiB whose pages are allocated as data arrives and given back as it leaves, so an
//! idle pipe holds at most one. Both ends work on the ring under one spin lock: a reader consumes exactly
//! what its sink accepted, a writer publishes exactly what its source gave, and where a page of the user's
//! is missing the lock is dropped, the page awaited and the attempt repeated. Nothing is ever half there:
//! a write of at most [`PIPE_BUF`] bytes is published whole or not at all.

use super::FsError;
use super::file::Readiness;
use super::io::{IoSink, IoSource, Sleeper};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use executor::sync::{SpinLock, WaitQueue};
use uvm::Patience;

/// A write of at most this many bytes is never mixed with others'.
pub const PIPE_BUF: usize = 4096;
/// Bytes that a pipe holds before writers wait.
pub const CAPACITY: usize = 16 * RING_PAGE;

const RING_PAGE: usize = 4096;

struct Pipe {
    state: SpinLock<State>,
    /// Readers, for data or the last writer's leaving.
    readable: WaitQueue,
    /// Writers, for room or the last reader's leaving.
    writable: WaitQueue,
}

struct State {
    ring: Ring,
    readers: usize,
    writers: usize,
}

/// The end that is read. Clones count as one more reader.
pub struct Reader(Arc<Pipe>);

/// The end that is written. Clones count as one more writer.
pub struct Writer(Arc<Pipe>);

/// A new pipe, empty.
pub fn pipe() -> (Reader, Writer) {
    let pipe = Arc::new(Pipe {
        state: SpinLock::new(State {
            ring: Ring::default(),
            readers: 1,
            writers: 1,
        }),
        readable: WaitQueue::new("pipe data"),
        writable: WaitQueue::new("pipe room"),
    });
    (Reader(pipe.clone()), Writer(pipe))
}

/// What one attempt under the lock came to.
enum Attempt {
    /// So many bytes went over, and that was all there is to do now.
    Done(usize),
    /// So many bytes went over, then the user's buffer was not resident.
    Fault(usize),
    /// Nothing went over: empty or full.
    Wait,
    /// Nobody is left at the other end.
    Closed,
}

impl Reader {
    /// Reads what there is, at least one byte; 0 at the end, when no writer is left. Awaits data unless
    /// `wait` is [`Wait::Never`].
    ///
    /// # Errors
    /// [`FsError::WouldBlock`], [`FsError::Interrupted`], [`FsError::Fault`]: only if nothing was read.
    pub async fn read(
        &self,
        cx: &impl Sleeper,
        sink: &mut impl IoSink,
        wait: Wait,
    ) -> Result<usize, FsError> {
        let mut total = 0;
        if sink.remaining() == 0 {
            return Ok(0);
        }
        loop {
            match self.attempt(sink) {
                Attempt::Done(n) => return Ok(total + n),
                Attempt::Fault(n) => {
                    total += n;
                    match sink.fault_in().await {
                        Err(e) if total == 0 => return Err(e),
                        Err(_) => return Ok(total),
                        Ok(()) => {}
                    }
                }
                Attempt::Closed => return Ok(total),
                Attempt::Wait if total > 0 => return Ok(total),
                Attempt::Wait if wait == Wait::Never => return Err(FsError::WouldBlock),
                Attempt::Wait => {
                    let data = self.0.readable.wait_until(|| {
                        let state = self.0.state.lock();
                        (state.ring.len > 0 || state.writers == 0).then_some(())
                    });
                    cx.sleep(data).await?;
                }
            }
        }
    }

    fn attempt(&self, sink: &mut impl IoSink) -> Attempt {
        let mut state = self.0.state.lock();
        if state.ring.len == 0 {
            return match state.writers {
                0 => Attempt::Closed,
                _ => Attempt::Wait,
            };
        }
        let mut total = 0;
        let mut fault = false;
        while state.ring.len > 0 && sink.remaining() > 0 {
            let piece = state.ring.front();
            let want = piece.len().min(sink.remaining());
            let n = sink.put(&piece[..want]);
            state.ring.consume(n);
            total += n;
            if n < want {
                fault = true;
                break;
            }
        }
        drop(state);
        if total > 0 {
            self.0.writable.wake_all();
        }
        match fault {
            true => Attempt::Fault(total),
            false => Attempt::Done(total),
        }
    }

    /// What could be done now without waiting.
    pub fn readiness(&self) -> Readiness {
        let state = self.0.state.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, state.ring.len > 0);
        ready.set(Readiness::HANGUP, state.writers == 0);
        ready
    }

    /// Bytes that a read finds now.
    pub fn available(&self) -> usize {
        self.0.state.lock().ring.len
    }

    /// Woken whenever [`readiness`](Self::readiness) may have grown.
    pub(super) fn queue(&self) -> &WaitQueue {
        &self.0.readable
    }
}

impl Writer {
    /// Writes all of `source`. Awaits room unless `wait` is [`Wait::Never`].
    ///
    /// # Errors
    /// [`FsError::BrokenPipe`] when no reader is left; [`FsError::WouldBlock`], [`FsError::Interrupted`],
    /// [`FsError::Fault`], [`FsError::OutOfMemory`]: only if nothing was written, otherwise the count is
    /// the answer.
    pub async fn write(
        &self,
        cx: &impl Sleeper,
        source: &mut impl IoSource,
        wait: Wait,
    ) -> Result<usize, FsError> {
        let (mut total, mut patience) = (0, Patience::new());
        let atomic = source.remaining() <= PIPE_BUF;
        // Past the first byte an error is only the end of the count.
        let end = |total: usize, error: FsError| match total {
            0 => Err(error),
            _ => Ok(total),
        };
        while source.remaining() > 0 {
            let least = match atomic {
                true => source.remaining(),
                false => 1,
            };
            match self.attempt(source, least) {
                // Memory is short at the moment, and nothing is held: as long as some can be had by paging out this is no failure.
                Err(FsError::OutOfMemory) => {
                    if let Err(error) = source.await_memory(&mut patience).await {
                        return end(total, error);
                    }
                }
                Err(error) => return end(total, error),
                Ok(Attempt::Done(n)) => (total, patience) = (total + n, Patience::new()),
                Ok(Attempt::Fault(n)) => {
                    total += n;
                    let want = source.remaining().min(PIPE_BUF);
                    if let Err(error) = source.fault_in(want).await {
                        return end(total, error);
                    }
                }
                Ok(Attempt::Closed) => return end(total, FsError::BrokenPipe),
                Ok(Attempt::Wait) if wait == Wait::Never => return end(total, FsError::WouldBlock),
                Ok(Attempt::Wait) => {
                    let room = self.0.writable.wait_until(|| {
                        let state = self.0.state.lock();
                        (state.ring.room() >= least || state.readers == 0).then_some(())
                    });
                    if let Err(interrupted) = cx.sleep(room).await {
                        return end(total, interrupted.into());
                    }
                }
            }
        }
        Ok(total)
    }

    /// Puts into the ring what fits, but publishes nothing below `least` bytes.
    fn attempt(&self, source: &mut impl IoSource, least: usize) -> Result<Attempt, FsError> {
        let mut state = self.0.state.lock();
        if state.readers == 0 {
            return Ok(Attempt::Closed);
        }
        if state.ring.room() < least {
            return Ok(Attempt::Wait);
        }
        let want = state.ring.room().min(source.remaining());
        let mut copied = 0;
        let mut refused = None;
        while copied < want {
            let buf = match state.ring.space(copied, want - copied) {
                Ok(buf) => buf,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            };
            let n = source.peek(copied, buf);
            let short = n < buf.len();
            copied += n;
            if short {
                break;
            }
        }
        if copied < least {
            state.ring.forget_unpublished();
            return refused.map_or(Ok(Attempt::Fault(0)), Err);
        }
        state.ring.publish(copied);
        drop(state);
        source.advance(copied);
        self.0.readable.wake_all();
        Ok(match copied < want {
            true if refused.is_none() => Attempt::Fault(copied),
            _ => Attempt::Done(copied),
        })
    }

    /// What could be done now without waiting.
    pub fn readiness(&self) -> Readiness {
        let state = self.0.state.lock();
        let mut ready = Readiness::empty();
        ready.set(
            Readiness::OUT,
            state.ring.room() >= PIPE_BUF || state.readers == 0,
        );
        ready.set(Readiness::ERROR, state.readers == 0);
        ready
    }

    /// Woken whenever [`readiness`](Self::readiness) may have grown.
    pub(super) fn queue(&self) -> &WaitQueue {
        &self.0.writable
    }
}

/// Whether to wait for what is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it comes.
    Allowed,
    /// Answer [`FsError::WouldBlock`] (`O_NONBLOCK`).
    Never,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.readers -= 1;
        let last = state.readers == 0;
        drop(state);
        if last {
            self.0.writable.wake_all();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.writers -= 1;
        let last = state.writers == 0;
        drop(state);
        if last {
            self.0.readable.wake_all();
        }
    }
}

/// The bytes on their way, in pages that exist only where there are bytes (and one spare).
#[derive(Default)]
struct Ring {
    pages: [Option<Box<[u8]>>; CAPACITY / RING_PAGE],
    /// Where the first byte is.
    head: usize,
    /// How many bytes there are.
    len: usize,
    /// Pages that are not to be had, before one is.
    #[cfg(test)]
    refusals: usize,
}

impl Ring {
    fn room(&self) -> usize {
        CAPACITY - self.len
    }

    /// The bytes at the front, up to the end of their page.
    fn front(&self) -> &[u8] {
        let (page, at) = (self.head / RING_PAGE, self.head % RING_PAGE);
        let end = (at + self.len).min(RING_PAGE);
        self.pages[page].as_deref().map_or(&[], |p| &p[at..end])
    }

    fn consume(&mut self, len: usize) {
        let page = self.head / RING_PAGE;
        self.len -= len;
        if self.len == 0 {
            // Start again at the front of the page that is there already: a ping-pong stays in one page.
            let spare = self.pages[page].take();
            self.pages = Default::default();
            self.pages[0] = spare;
            self.head = 0;
            return;
        }
        self.head = (self.head + len) % CAPACITY;
        let tail_page = ((self.head + self.len - 1) % CAPACITY) / RING_PAGE;
        // Only when the ring is nearly full does the tail stand in the page that the head just left.
        if self.head / RING_PAGE != page && tail_page != page {
            self.pages[page] = None;
        }
    }

    /// Room for the bytes that follow the published ones and `ahead` more: at most `len`, up to the end of
    /// a page.
    fn space(&mut self, ahead: usize, len: usize) -> Result<&mut [u8], FsError> {
        let start = (self.head + self.len + ahead) % CAPACITY;
        let (page, at) = (start / RING_PAGE, start % RING_PAGE);
        if self.pages[page].is_none() {
            #[cfg(test)]
            if let Some(fewer) = self.refusals.checked_sub(1) {
                self.refusals = fewer;
                return Err(FsError::OutOfMemory);
            }
            let mut fresh = Vec::new();
            fresh
                .try_reserve_exact(RING_PAGE)
                .map_err(|_| FsError::OutOfMemory)?;
            fresh.resize(RING_PAGE, 0);
            self.pages[page] = Some(fresh.into_boxed_slice());
        }
        let end = (at + len).min(RING_PAGE);
        match &mut self.pages[page] {
            Some(bytes) => Ok(&mut bytes[at..end]),
            None => Err(FsError::OutOfMemory),
        }
    }

    fn publish(&mut self, len: usize) {
        self.len += len;
    }

    /// Gives back the pages behind the published bytes, but for the spare one.
    fn forget_unpublished(&mut self) {
        let first = self.head / RING_PAGE;
        let in_use = (self.head % RING_PAGE + self.len)
            .div_ceil(RING_PAGE)
            .max(1);
        for i in in_use..self.pages.len() {
            self.pages[(first + i) % (CAPACITY / RING_PAGE)] = None;
        }
    }
}

#[cfg(test)]
mod tests;
