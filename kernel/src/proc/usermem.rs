//! The memory of the program that the running LWP belongs to, as the kernel reads and writes it.
//!
//! Rule 7 of awaiting: nothing is checked in advance. A copy is attempted ([`machine::copyin`],
//! [`machine::copyout`]); where it faults, the async caller lets UVM fault the page in and goes on from
//! there. [`UserBuffer`] gives `fs` the same two steps as sink and source. Everything here works on the
//! address space that is loaded on this CPU, so it is for the LWP itself and for no other task.

use super::machine;
use crate::fs::FsError;
use crate::fs::io::{IoSink, IoSource};
use alloc::sync::Arc;
use alloc::vec::Vec;
use uvm::addr::VirtAddr;
use uvm::phys::PageBytes;
use uvm::pool::OutOfMemory;
use uvm::prot::Access;
use uvm::{Patience, VmSpace};

/// An address that the program gave cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad address")]
pub struct BadAddress;

/// Brings the page of `va` in for `access`.
async fn fault(space: &Arc<VmSpace>, va: u64, access: Access) -> Result<(), BadAddress> {
    let va = VirtAddr::try_new(va).map_err(|_| BadAddress)?;
    space.fault(va, access).await.map_err(|_| BadAddress)
}

/// Copies `dst.len()` bytes from `src`. Awaits page-ins.
///
/// # Errors
/// [`BadAddress`]; some of `dst` may have been written.
pub async fn copy_in(space: &Arc<VmSpace>, dst: &mut [u8], src: u64) -> Result<(), BadAddress> {
    let mut done = 0;
    while let Err(stop) = machine::copyin(&mut dst[done..], src.wrapping_add(done as u64)) {
        done += stop.done;
        fault(space, stop.va, Access::Read).await?;
    }
    Ok(())
}

/// Copies `src` to `dst`. Awaits page-ins.
///
/// # Errors
/// [`BadAddress`]; some may have been copied.
pub async fn copy_out(space: &Arc<VmSpace>, dst: u64, src: &[u8]) -> Result<(), BadAddress> {
    let mut done = 0;
    while let Err(stop) = machine::copyout(dst.wrapping_add(done as u64), &src[done..]) {
        done += stop.done;
        fault(space, stop.va, Access::Write).await?;
    }
    Ok(())
}

/// Reads an array of words, `N` of them.
///
/// # Errors
/// [`BadAddress`]
pub async fn words_in<const N: usize>(
    space: &Arc<VmSpace>,
    src: u64,
) -> Result<[u64; N], BadAddress> {
    let mut words = [0; N];
    copy_in(space, zerocopy::IntoBytes::as_mut_bytes(&mut words), src).await?;
    Ok(words)
}

/// Appends a NUL-terminated string to what `piece` collects, at most up to the NUL; awaits page-ins.
///
/// `piece` gets the string in pieces and says whether it wants more.
///
/// # Errors
/// [`BadAddress`], or what `piece` answers.
pub async fn string_in<E: From<BadAddress>>(
    space: &Arc<VmSpace>,
    mut src: u64,
    mut piece: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut buf = [0; 64];
    loop {
        // Never across a page's end: the next page may be none of the program's.
        let len = buf
            .len()
            .min(uvm::PAGE_SIZE - src as usize % uvm::PAGE_SIZE);
        copy_in(space, &mut buf[..len], src).await?;
        match buf[..len].iter().position(|&b| b == 0) {
            Some(end) => return piece(&buf[..end]),
            None => piece(&buf[..len])?,
        }
        src = src.checked_add(len as u64).ok_or(BadAddress)?;
    }
}

/// One piece of a scattered buffer: Linux's `struct iovec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub at: u64,
    /// Bytes.
    pub len: u64,
}

/// A program's buffer, perhaps in pieces, as the source or sink of a transfer.
pub struct UserBuffer<'a> {
    space: &'a Arc<VmSpace>,
    now: Piece,
    /// The pieces behind `now`, last first.
    later: Vec<Piece>,
    remaining: usize,
    /// Where the last copy into it stopped: up to 7 bytes further on than `now`, since copies go by words,
    /// and so perhaps in the next page.
    stopped_at: Option<u64>,
}

impl<'a> UserBuffer<'a> {
    /// The `len` bytes at `at`.
    #[must_use]
    pub fn new(space: &'a Arc<VmSpace>, at: u64, len: usize) -> UserBuffer<'a> {
        UserBuffer {
            space,
            now: Piece {
                at,
                len: len as u64,
            },
            later: Vec::new(),
            remaining: len,
            stopped_at: None,
        }
    }

    /// The bytes of several pieces, one after the other. The sum of their lengths must fit an `isize`.
    #[must_use]
    pub fn scattered(space: &'a Arc<VmSpace>, mut pieces: Vec<Piece>) -> UserBuffer<'a> {
        let remaining = pieces.iter().map(|p| p.len as usize).sum();
        pieces.reverse();
        let now = pieces.pop().unwrap_or(Piece { at: 0, len: 0 });
        let mut buffer = UserBuffer {
            space,
            now,
            later: pieces,
            remaining,
            stopped_at: None,
        };
        buffer.skip_empty();
        buffer
    }

    fn skip_empty(&mut self) {
        while self.now.len == 0 {
            match self.later.pop() {
                Some(piece) => self.now = piece,
                None => break,
            }
        }
    }

    fn moved(&mut self, len: usize) {
        self.now.at = self.now.at.wrapping_add(len as u64);
        self.now.len -= len as u64;
        self.remaining -= len;
        self.skip_empty();
    }

    /// The pieces still to come, first to last.
    fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        core::iter::once(self.now).chain(self.later.iter().rev().copied())
    }
}

impl UserBuffer<'_> {
    /// Fills from the front, at most `len` bytes, by `copy`, which is told where to put how many bytes and how
    /// many it has had before. Returns how many bytes were filled.
    fn fill(
        &mut self,
        len: usize,
        copy: impl Fn(u64, usize, usize) -> Result<(), machine::Fault>,
    ) -> usize {
        let mut done = 0;
        while done < len && self.remaining > 0 {
            let step = (self.now.len as usize).min(len - done);
            let copied = match copy(self.now.at, done, step) {
                Ok(()) => step,
                Err(stop) => {
                    self.stopped_at = Some(stop.va);
                    stop.done
                }
            };
            self.moved(copied);
            done += copied;
            if copied < step {
                break;
            }
        }
        done
    }
}

impl IoSink for UserBuffer<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        self.fill(bytes.len(), |to, done, len| {
            machine::copyout(to, &bytes[done..done + len])
        })
    }

    fn put_zeroes(&mut self, len: usize) -> usize {
        self.fill(len, |to, _, len| machine::zero_user(to, len))
    }

    fn put_page(&mut self, page: &PageBytes, start: usize, len: usize) -> usize {
        assert!(
            start <= uvm::PAGE_SIZE && len <= uvm::PAGE_SIZE - start,
            "past the end of a page"
        );
        self.fill(len, |to, done, len| {
            // SAFETY: within the page by the check above; it is held, so its memory stays. A page of plain
            // bytes may be read while others write it: the copy is the machine's, not a Rust reference.
            unsafe { machine::copyout_raw(to, page.as_ptr().add(start + done), len) }
        })
    }

    async fn fault_in(&mut self) -> Result<(), FsError> {
        let at = self.stopped_at.take().unwrap_or(self.now.at);
        fault(self.space, at, Access::Write)
            .await
            .map_err(|_| FsError::Fault)
    }
}

impl IoSource for UserBuffer<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn peek(&self, mut skip: usize, buf: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces() {
            let skipped = skip.min(piece.len as usize);
            skip -= skipped;
            let len = (piece.len as usize - skipped).min(buf.len() - done);
            if let Err(stop) =
                machine::copyin(&mut buf[done..done + len], piece.at + skipped as u64)
            {
                return done + stop.done;
            }
            done += len;
            if done == buf.len() {
                break;
            }
        }
        done
    }

    fn advance(&mut self, len: usize) {
        let mut left = len.min(self.remaining);
        while left > 0 {
            let step = left.min(self.now.len as usize);
            self.moved(step);
            left -= step;
        }
    }

    async fn await_memory(&mut self, patience: &mut Patience) -> Result<(), FsError> {
        let room = patience.wait_in(self.space).await;
        room.map_err(|OutOfMemory| FsError::OutOfMemory)
    }

    async fn fault_in(&mut self, len: usize) -> Result<(), FsError> {
        let mut left = len.min(self.remaining) as u64;
        // The pieces stay as they are while their pages come in; only copies of two numbers are kept.
        let mut index = 0;
        while left > 0 {
            let Some(piece) = self.pieces().nth(index) else {
                break;
            };
            let end = piece
                .at
                .checked_add(piece.len.min(left))
                .ok_or(FsError::Fault)?;
            let mut at = piece.at;
            while at < end {
                let mut byte = [0];
                if machine::copyin(&mut byte, at).is_err() {
                    fault(self.space, at, Access::Read)
                        .await
                        .map_err(|_| FsError::Fault)?;
                }
                at = uvm::addr::trunc_page(at) + uvm::PAGE_SIZE as u64;
            }
            left -= piece.len.min(left);
            index += 1;
        }
        Ok(())
    }
}
