//! System calls: Linux's numbers and structures on x86-64, answered by the rest of the kernel.
//!
//! One table, handlers by area. It has two halves. Calls that cannot wait are plain functions, answered
//! before any future is built ([`answer`]); the others are arms of one future ([`answer_waiting`]), whose
//! size is that of its largest arm: the few large ones are boxed. Each handler gets the running thread and
//! the six arguments, and checks them: everything that ring 3 says is suspect. An unknown call is `ENOSYS`,
//! logged once. A call for which there is no memory at the moment, and which has changed nothing, is made again when there is some
//! ([`SysError::Shortage`]).
//!
//! `errno` exists here and nowhere else ([`errno`]). Nothing here is shared, so nothing synchronises.

mod abi;
mod clone;
pub mod errno;
mod fdio;
mod files;
mod futex;
mod ids;
mod info;
mod memory;
mod names;
mod poll;
mod process;
mod residency;
mod restart;
mod signals;
mod time;
mod timers;
mod tty;
mod wait;

use crate::proc::Current;
use alloc::boxed::Box;
use errno::{Errno, SysError, SysResult};
use linux_raw_sys::general as sys;
use uvm::Patience;
use uvm::meter::Counter;

/// Arguments of a system call.
type Args = [u64; 6];

/// What an interrupted call returns once a handler has run.
pub const INTERRUPTED: u64 = Errno::EINTR.as_result();
/// The call by which an interrupted one goes on if none has.
pub const GO_ON: u64 = sys::__NR_restart_syscall as u64;

macro_rules! table {
    (
        plain { $($plain:ident => $answer:path,)* }
        waiting { $($waiting:ident => $future:path,)* }
        boxed { $($boxed:ident => $large:path,)* }
    ) => {
        /// Answers the call that the thread has trapped with, if it is one that cannot wait; `false` if not.
        #[inline]
        pub fn answer(current: &mut Current) -> bool {
            current.system().uvm().count(Counter::Syscalls);
            // The arguments are fetched by each arm: many a call has none.
            let result = match current.frame().syscall_number() as u32 {
                $(sys::$plain => {
                    let args = current.frame().syscall_args();
                    $answer(current, args)
                })*
                _ => return false,
            };
            match result {
                Ok(value) => current.frame().rax = value,
                // Once more, as one that can wait.
                Err(SysError::Shortage) => return false,
                Err(error) => settle(current, Err(error)),
            }
            true
        }

        async fn call(current: &mut Current, number: u64, args: Args) -> SysResult {
            match number as u32 {
                $(sys::$plain => $answer(current, args),)*
                $(sys::$waiting => $future(current, args).await,)*
                $(sys::$boxed => Box::pin($large(current, args)).await,)*
                _ => unknown(current, number),
            }
        }
    };
}

table! {
    plain {
        __NR_getpid => ids::getpid,
        __NR_gettid => ids::gettid,
        __NR_getppid => ids::getppid,
        __NR_getuid => ids::superuser,
        __NR_geteuid => ids::superuser,
        __NR_getgid => ids::superuser,
        __NR_getegid => ids::superuser,
        __NR_getpgrp => ids::getpgrp,
        __NR_getpgid => ids::getpgid,
        __NR_getsid => ids::getsid,
        __NR_setsid => ids::setsid,
        __NR_setpgid => ids::setpgid,
        __NR_setuid => ids::become_superuser,
        __NR_setgid => ids::become_superuser,
        __NR_setgroups => ids::setgroups,
        __NR_getgroups => ids::getgroups,
        __NR_set_tid_address => ids::set_tid_address,
        __NR_set_robust_list => ids::set_robust_list,
        __NR_umask => ids::umask,
        __NR_kill => signals::kill,
        __NR_tkill => signals::tkill,
        __NR_tgkill => signals::tgkill,
        __NR_alarm => timers::alarm,
        __NR_timer_getoverrun => timers::timer_getoverrun,
        __NR_timer_delete => timers::timer_delete,
        __NR_close => files::close,
        __NR_dup => files::dup,
        __NR_dup2 => files::dup2,
        __NR_dup3 => files::dup3,
        __NR_fcntl => files::fcntl,
        __NR_sync => files::sync,
        __NR_fsync => files::fsync,
        __NR_fdatasync => files::fsync,
        __NR_fadvise64 => files::fadvise,
        __NR_sched_get_priority_max => info::no_priorities,
        __NR_sched_get_priority_min => info::no_priorities,
        __NR_getpriority => info::getpriority,
        __NR_setpriority => info::setpriority,
    }
    waiting {
        __NR_read => fdio::read,
        __NR_write => fdio::write,
        __NR_readv => fdio::readv,
        __NR_writev => fdio::writev,
        __NR_pread64 => fdio::pread64,
        __NR_lseek => fdio::lseek,
        __NR_sendfile => fdio::sendfile,
        __NR_getdents64 => fdio::getdents64,
        __NR_open => files::open,
        __NR_openat => files::openat,
        __NR_pipe => files::pipe,
        __NR_pipe2 => files::pipe2,
        __NR_ioctl => tty::ioctl,
        __NR_stat => names::stat,
        __NR_lstat => names::lstat,
        __NR_fstat => names::fstat,
        __NR_newfstatat => names::newfstatat,
        __NR_statx => names::statx,
        __NR_statfs => names::statfs,
        __NR_fstatfs => names::fstatfs,
        __NR_access => names::access,
        __NR_faccessat => names::faccessat,
        __NR_faccessat2 => names::faccessat,
        __NR_readlink => names::readlink,
        __NR_readlinkat => names::readlinkat,
        __NR_getcwd => names::getcwd,
        __NR_chdir => names::chdir,
        __NR_fchdir => names::fchdir,
        __NR_mkdir => names::create,
        __NR_mkdirat => names::create_at,
        __NR_rmdir => names::remove,
        __NR_unlink => names::remove,
        __NR_unlinkat => names::remove_at,
        __NR_poll => poll::poll,
        __NR_ppoll => poll::ppoll,
        __NR_select => poll::select,
        __NR_pselect6 => poll::pselect6,
        __NR_brk => memory::brk,
        __NR_mmap => memory::mmap,
        __NR_munmap => memory::munmap,
        __NR_mprotect => memory::mprotect,
        __NR_mremap => memory::mremap,
        __NR_madvise => residency::madvise,
        __NR_msync => residency::msync,
        __NR_mlock => residency::mlock,
        __NR_mlock2 => residency::mlock2,
        __NR_munlock => residency::munlock,
        __NR_mlockall => residency::mlockall,
        __NR_munlockall => residency::munlockall,
        __NR_mincore => residency::mincore,
        __NR_fork => process::fork,
        __NR_vfork => process::vfork,
        __NR_clone => clone::clone,
        __NR_clone3 => clone::clone3,
        __NR_get_robust_list => ids::get_robust_list,
        __NR_wait4 => wait::wait4,
        __NR_waitid => wait::waitid,
        __NR_exit => process::exit,
        __NR_exit_group => process::exit_group,
        __NR_prctl => process::prctl,
        __NR_sched_yield => process::sched_yield,
        __NR_rt_sigaction => signals::rt_sigaction,
        __NR_rt_sigprocmask => signals::rt_sigprocmask,
        __NR_rt_sigpending => signals::rt_sigpending,
        __NR_rt_sigsuspend => signals::rt_sigsuspend,
        __NR_rt_sigtimedwait => signals::rt_sigtimedwait,
        __NR_rt_sigqueueinfo => signals::rt_sigqueueinfo,
        __NR_rt_tgsigqueueinfo => signals::rt_tgsigqueueinfo,
        __NR_rt_sigreturn => signals::rt_sigreturn,
        __NR_sigaltstack => signals::sigaltstack,
        __NR_pause => signals::pause,
        __NR_nanosleep => time::nanosleep,
        __NR_clock_nanosleep => time::clock_nanosleep,
        __NR_restart_syscall => restart::restart_syscall,
        __NR_setitimer => timers::setitimer,
        __NR_getitimer => timers::getitimer,
        __NR_timer_create => timers::timer_create,
        __NR_timer_settime => timers::timer_settime,
        __NR_timer_gettime => timers::timer_gettime,
        __NR_clock_gettime => time::clock_gettime,
        __NR_clock_getres => time::clock_getres,
        __NR_gettimeofday => time::gettimeofday,
        __NR_time => time::time,
        __NR_times => time::times,
        __NR_getrusage => info::getrusage,
        __NR_sysinfo => info::sysinfo,
        __NR_uname => info::uname,
        __NR_getrlimit => info::getrlimit,
        __NR_setrlimit => info::setrlimit,
        __NR_prlimit64 => info::prlimit64,
        __NR_getrandom => info::getrandom,
        __NR_sched_getaffinity => info::sched_getaffinity,
        __NR_getcpu => info::getcpu,
        __NR_arch_prctl => ids::arch_prctl,
        __NR_getresuid => ids::getres,
        __NR_getresgid => ids::getres,
        __NR_futex => futex::futex,
    }
    boxed {
        __NR_execve => process::execve,
    }
}

/// Answers the call that the thread has trapped with. Awaits whatever the call awaits.
pub async fn answer_waiting(current: &mut Current) {
    let frame = current.frame();
    let (number, args) = (frame.syscall_number(), frame.syscall_args());
    let mut patience = Patience::new();
    let result = loop {
        let result = match has_room(current, number) {
            true => call(current, number, args).await,
            false => Err(SysError::Shortage),
        };
        if result != Err(SysError::Shortage) || patience.wait_in(current.space()).await.is_err() {
            break result;
        }
    };
    settle(current, result);
}

/// Whether there is room for the small blocks that a call makes in the kernel's heap before it awaits anything; calls that give memory back
/// are made in any case.
fn has_room(current: &Current, number: u64) -> bool {
    GIVE_BACK.contains(&(number as u32)) || current.system().uvm().heap_room().is_ok()
}

/// Calls by which memory gets free, or that must not wait for any.
const GIVE_BACK: &[u32] = &[
    sys::__NR_exit,
    sys::__NR_exit_group,
    sys::__NR_munmap,
    sys::__NR_wait4,
    sys::__NR_rt_sigreturn,
];

/// Puts a call's result where the program finds it; one that was interrupted is settled with the signal.
#[inline]
fn settle(current: &mut Current, result: SysResult) {
    match result {
        Ok(value) => current.frame().rax = value,
        Err(SysError::Errno(errno)) => current.frame().rax = errno.as_result(),
        Err(SysError::Interrupted(restart)) => current.interrupted(restart),
        Err(SysError::Shortage) => current.frame().rax = Errno::ENOMEM.as_result(),
    }
}

/// Known calls whose `ENOSYS` programs expect and cope with: not worth a line in the log.
const EXPECTED: &[u32] = &[sys::__NR_rseq, sys::__NR_membarrier, sys::__NR_close_range];

fn unknown(current: &mut Current, number: u64) -> SysResult {
    if !EXPECTED.contains(&(number as u32)) && current.system().is_new_unknown(number) {
        let process = current.process();
        log::warn!(
            "{}[{}]: system call {number} is not implemented",
            process.name(),
            process.pid()
        );
    }
    Err(Errno::ENOSYS.into())
}
