//! What can go wrong with files: one variant per thing that a caller would do differently.
//!
//! Errno numbers are not here: `syscall` maps each variant to one.

/// Why a file operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// No such file or directory.
    #[error("no such file or directory")]
    NotFound,
    /// A component of a path that had to be a directory is something else.
    #[error("not a directory")]
    NotDirectory,
    /// The operation wants something other than a directory.
    #[error("is a directory")]
    IsDirectory,
    /// The name is taken already.
    #[error("file exists")]
    Exists,
    /// More than [`MAX_SYMLINKS`](super::namei::MAX_SYMLINKS) symbolic links in one path.
    #[error("too many levels of symbolic links")]
    Loop,
    /// A component is longer than 255 bytes, or a path longer than 4095.
    #[error("file name too long")]
    NameTooLong,
    /// The file system cannot be written.
    #[error("read-only file system")]
    ReadOnly,
    /// The device could not read or write a block.
    #[error("input/output error")]
    Io,
    /// The file system's own data contradicts itself. The text says where.
    #[error("file system damaged: {0}")]
    Damaged(&'static str),
    /// An argument makes no sense for this file.
    #[error("invalid argument")]
    Invalid,
    /// The number names no open file, or one not open for this.
    #[error("bad file descriptor")]
    BadDescriptor,
    /// The process has as many files open as it may.
    #[error("too many open files")]
    TooManyFiles,
    /// The mode of the file does not allow it (executing a file without an `x` bit).
    #[error("permission denied")]
    Permission,
    /// Not a terminal.
    #[error("not a terminal")]
    NotTerminal,
    /// A pipe or a terminal has no offset to move.
    #[error("illegal seek")]
    IllegalSeek,
    /// Nobody will ever read what is written. The caller also owes the writer `SIGPIPE`.
    #[error("broken pipe")]
    BrokenPipe,
    /// It would wait, and the file was opened not to.
    #[error("operation would block")]
    WouldBlock,
    /// A signal arrived before anything was transferred.
    #[error("interrupted")]
    Interrupted,
    /// No memory for what was asked.
    #[error("out of memory")]
    OutOfMemory,
    /// The user's buffer cannot be read or written.
    #[error("bad address")]
    Fault,
    /// An offset or size does not fit.
    #[error("value too large")]
    Overflow,
    /// A device node without a device behind it.
    #[error("no such device or address")]
    NoDevice,
    /// The file system, or mount point, is in use.
    #[error("device or resource busy")]
    Busy,
    /// This kind of file cannot do this (mapping a terminal).
    #[error("operation not supported")]
    NotSupported,
}
