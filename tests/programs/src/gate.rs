//! A gate at which the children of a process wait for each other.
//!
//! Two pipes on which nothing is ever written: that the last writer has closed its end is the message. So nobody waits for a child that has
//! died, as it would for a byte.

use std::cell::Cell;
use std::io::{self, PipeReader, PipeWriter, Read};

/// Made before the children are started, and passed once by each.
pub struct Gate {
    /// Who has not come yet has the writing end open.
    coming: (PipeReader, Cell<Option<PipeWriter>>),
    /// Whose writing end is open as long as the gate is closed.
    closed: (PipeReader, Cell<Option<PipeWriter>>),
}

impl Gate {
    /// A closed gate.
    ///
    /// # Errors
    /// Those of pipe.
    pub fn new() -> io::Result<Gate> {
        let pipe = || io::pipe().map(|(reader, writer)| (reader, Cell::new(Some(writer))));
        Ok(Gate {
            coming: pipe()?,
            closed: pipe()?,
        })
    }

    /// In a child: comes to the gate, and goes on when it is open.
    ///
    /// # Errors
    /// Those of read.
    pub fn pass(&self) -> io::Result<()> {
        // The parent's alone from here on: before the parent hears of this child.
        self.closed.1.take();
        self.coming.1.take();
        end(&self.closed.0)
    }

    /// In the parent, when all children are started: waits until each has come, or has ended.
    ///
    /// # Panics
    /// If the pipe cannot be read.
    pub fn await_all(&self) {
        self.coming.1.take();
        end(&self.coming.0).expect("a pipe can be read");
    }

    /// In the parent: opens it for good.
    pub fn open(&self) {
        self.closed.1.take();
    }
}

/// Waits until nobody can write any more.
fn end(mut pipe: &PipeReader) -> io::Result<()> {
    pipe.read_exact(&mut [0])
        .or_else(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(()),
            _ => Err(error),
        })
}
