//! An append-only byte string held in pieces of one page: kernel heap blocks never exceed a page.
//!
//! Used for the arguments and environment of a program and for the image of its first stack. Growing is
//! fallible. No synchronisation: one owner.

use alloc::vec::Vec;
use uvm::PAGE_SIZE;

/// No memory for another piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory;

/// The byte string.
#[derive(Debug, Default)]
pub struct Chunks {
    pieces: Vec<Vec<u8>>,
    len: usize,
}

impl Chunks {
    /// The empty string; allocates nothing.
    #[must_use]
    pub const fn new() -> Chunks {
        Chunks {
            pieces: Vec::new(),
            len: 0,
        }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`OutOfMemory`]; what fitted stays appended.
    pub fn extend(&mut self, mut bytes: &[u8]) -> Result<(), OutOfMemory> {
        while !bytes.is_empty() {
            if self.len.is_multiple_of(PAGE_SIZE) {
                let mut piece = Vec::new();
                piece
                    .try_reserve_exact(PAGE_SIZE)
                    .map_err(|_| OutOfMemory)?;
                self.pieces.try_reserve(1).map_err(|_| OutOfMemory)?;
                self.pieces.push(piece);
            }
            let room = PAGE_SIZE - self.len % PAGE_SIZE;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(last) = self.pieces.last_mut() {
                last.extend_from_slice(now);
            }
            self.len += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// Appends a little-endian word.
    ///
    /// # Errors
    /// [`OutOfMemory`]
    pub fn word(&mut self, word: u64) -> Result<(), OutOfMemory> {
        self.extend(&word.to_le_bytes())
    }

    /// Appends all of `other`.
    ///
    /// # Errors
    /// [`OutOfMemory`]
    pub fn append(&mut self, other: &Chunks) -> Result<(), OutOfMemory> {
        other.pieces().try_for_each(|p| self.extend(p))
    }

    /// The pieces in order; all but the last are one page long.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Vec::as_slice)
    }

    /// The bytes in order.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.pieces().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_pages() {
        let mut c = Chunks::new();
        assert!(c.is_empty());
        let bytes: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        c.extend(&bytes[..5000]).unwrap();
        c.extend(&bytes[5000..]).unwrap();
        assert_eq!(c.len(), 10_000);
        assert_eq!(
            c.pieces().map(<[u8]>::len).collect::<Vec<_>>(),
            [4096, 4096, 1808]
        );
        assert!(c.bytes().eq(bytes.iter().copied()));
        let mut d = Chunks::new();
        d.word(7).unwrap();
        d.append(&c).unwrap();
        assert_eq!(d.len(), 10_008);
        assert!(d.bytes().skip(8).eq(bytes));
    }
}
