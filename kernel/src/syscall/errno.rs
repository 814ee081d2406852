//! Linux's error numbers, and which of them each of the kernel's errors is. Nowhere else in the kernel.

use crate::fs::FsError;
use crate::fs::io::Interrupted;
use crate::proc::exec::ExecError;
use crate::proc::fork::ForkError;
use crate::proc::job::Background;
use crate::proc::sigframe::AltStackError;
use crate::proc::stack::StringsError;
use crate::proc::table::session::TerminalError;
use crate::proc::table::{SetGroupError, TableError};
use crate::proc::timers::TimerError;
use crate::proc::usermem::BadAddress;
use crate::proc::wait::WaitError;
use crate::proc::{Restart, elf::ElfError};
use linux_raw_sys::errno as sys;
use uvm::OutOfMemory;
use uvm::fault::FaultError;
use uvm::map::VmError;

/// An error number, 1 to 4095.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub const $name: Errno = Errno(sys::$name as u16);
            )*
        }
    };
}

errnos! {
    E2BIG EACCES EAGAIN EBADF EBUSY ECHILD EEXIST EFAULT EINTR EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE
    ENAMETOOLONG ENODEV ENOENT ENOEXEC ENOMEM ENOSYS ENOTDIR ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE
    ERANGE EROFS ESPIPE ESRCH ETIMEDOUT EUCLEAN
}

impl Errno {
    /// What a system call returns in its place.
    #[must_use]
    pub const fn as_result(self) -> u64 {
        (self.0 as u64).wrapping_neg()
    }
}

/// How a system call ends when it does not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysError {
    /// With an error number.
    Errno(Errno),
    /// A signal came first.
    Interrupted(Restart),
    /// There is no memory for it at the moment, and nothing has changed: it is made again when there is some, and only if that goes on too
    /// long, or nothing can be paged out any more, is it `ENOMEM`.
    Shortage,
}

/// What a handler of a system call returns.
pub type SysResult = Result<u64, SysError>;

impl From<Errno> for SysError {
    fn from(errno: Errno) -> SysError {
        SysError::Errno(errno)
    }
}

/// The common case: started over unless a handler says otherwise.
impl From<Interrupted> for SysError {
    fn from(_: Interrupted) -> SysError {
        SysError::Interrupted(Restart::UnlessHandlerSays)
    }
}

impl From<OutOfMemory> for SysError {
    fn from(_: OutOfMemory) -> SysError {
        SysError::Shortage
    }
}

impl From<FsError> for SysError {
    fn from(error: FsError) -> SysError {
        let errno = match error {
            FsError::Interrupted => return Interrupted.into(),
            FsError::OutOfMemory => return SysError::Shortage,
            FsError::NotFound => Errno::ENOENT,
            FsError::NotDirectory => Errno::ENOTDIR,
            FsError::IsDirectory => Errno::EISDIR,
            FsError::Exists => Errno::EEXIST,
            FsError::Loop => Errno::ELOOP,
            FsError::NameTooLong => Errno::ENAMETOOLONG,
            FsError::ReadOnly => Errno::EROFS,
            FsError::Io => Errno::EIO,
            FsError::Damaged(_) => Errno::EUCLEAN,
            FsError::Invalid => Errno::EINVAL,
            FsError::BadDescriptor => Errno::EBADF,
            FsError::TooManyFiles => Errno::EMFILE,
            FsError::Permission => Errno::EACCES,
            FsError::NotTerminal => Errno::ENOTTY,
            FsError::IllegalSeek => Errno::ESPIPE,
            FsError::BrokenPipe => Errno::EPIPE,
            FsError::WouldBlock => Errno::EAGAIN,
            FsError::Fault => Errno::EFAULT,
            FsError::Overflow => Errno::EOVERFLOW,
            FsError::NoDevice => Errno::ENXIO,
            FsError::Busy => Errno::EBUSY,
            FsError::NotSupported => Errno::ENODEV,
        };
        errno.into()
    }
}

impl From<BadAddress> for SysError {
    fn from(_: BadAddress) -> SysError {
        Errno::EFAULT.into()
    }
}

impl From<VmError> for SysError {
    fn from(error: VmError) -> SysError {
        let errno = match error {
            VmError::OutOfMemory => return SysError::Shortage,
            VmError::TooLarge | VmError::Unmapped | VmError::Limit | VmError::Fault(_) => {
                Errno::ENOMEM
            }
            VmError::Exists => Errno::EEXIST,
            VmError::Invalid => Errno::EINVAL,
            VmError::Protection => Errno::EACCES,
            VmError::Busy => Errno::EBUSY,
            VmError::Io => Errno::EIO,
        };
        errno.into()
    }
}

impl From<StringsError> for SysError {
    fn from(error: StringsError) -> SysError {
        match error {
            StringsError::TooLong => Errno::E2BIG.into(),
            StringsError::OutOfMemory => SysError::Shortage,
        }
    }
}

impl From<ExecError> for SysError {
    fn from(error: ExecError) -> SysError {
        match error {
            ExecError::File(error) => error.into(),
            ExecError::Format(ElfError::NeedsInterpreter) => Errno::ELIBBAD.into(),
            ExecError::Format(_) => Errno::ENOEXEC.into(),
            ExecError::Strings(error) => error.into(),
            ExecError::TooManyScripts => Errno::ELOOP.into(),
            ExecError::Memory(error) => error.into(),
            ExecError::Fault(FaultError::OutOfMemory) => Errno::ENOMEM.into(),
            ExecError::Fault(_) => Errno::EIO.into(),
            ExecError::Ending => Errno::EINTR.into(),
        }
    }
}

impl From<ForkError> for SysError {
    fn from(error: ForkError) -> SysError {
        match error {
            ForkError::OutOfMemory => SysError::Shortage,
            ForkError::TooLarge => Errno::ENOMEM.into(),
            ForkError::NoPid | ForkError::Ending => Errno::EAGAIN.into(),
        }
    }
}

impl From<WaitError> for SysError {
    fn from(error: WaitError) -> SysError {
        match error {
            WaitError::NoChild => Errno::ECHILD.into(),
            WaitError::Interrupted => Interrupted.into(),
        }
    }
}

impl From<TimerError> for SysError {
    fn from(error: TimerError) -> SysError {
        match error {
            TimerError::Unknown => Errno::EINVAL.into(),
            TimerError::TooMany => Errno::EAGAIN.into(),
            TimerError::OutOfMemory => SysError::Shortage,
        }
    }
}

impl From<AltStackError> for SysError {
    fn from(error: AltStackError) -> SysError {
        let errno = match error {
            AltStackError::Flags => Errno::EINVAL,
            AltStackError::TooSmall => Errno::ENOMEM,
        };
        errno.into()
    }
}

impl From<SetGroupError> for SysError {
    fn from(error: SetGroupError) -> SysError {
        let errno = match error {
            SetGroupError::NoSuchProcess => Errno::ESRCH,
            SetGroupError::NotPermitted => Errno::EPERM,
            SetGroupError::Executed => Errno::EACCES,
        };
        errno.into()
    }
}

impl From<TerminalError> for SysError {
    fn from(error: TerminalError) -> SysError {
        let errno = match error {
            TerminalError::NotMine => Errno::ENOTTY,
            TerminalError::NotPermitted => Errno::EPERM,
            TerminalError::NoSuchGroup => Errno::ESRCH,
        };
        errno.into()
    }
}

impl From<Background> for SysError {
    fn from(error: Background) -> SysError {
        match error {
            Background::Refused => Errno::EIO.into(),
            Background::Signalled => Interrupted.into(),
        }
    }
}

impl From<TableError> for SysError {
    fn from(error: TableError) -> SysError {
        let errno = match error {
            TableError::NoSuchProcess => Errno::ESRCH,
            TableError::NoChild => Errno::ECHILD,
            TableError::NotPermitted => Errno::EPERM,
            TableError::Full => Errno::EAGAIN,
        };
        errno.into()
    }
}
