//! What a program may ask about the machine, its limits and what it has used.

use super::Args;
use super::abi::{out, out_words, words};
use super::errno::{Errno, SysError, SysResult};
use crate::fs::fd::MAX_FILES;
use crate::proc::limits::Limit;
use crate::proc::usage::Used;
use crate::proc::{Current, Pid};
use linux_raw_sys::general as sys;

/// Bytes of each field of `struct utsname`.
const NAME_LEN: usize = 65;
/// What `uname` tells. Static C libraries look at the release: it must not be older than what they need.
const NAMES: [&str; 6] = ["auvm", "auvm", "6.1.0-auvm", "#1", "x86_64", "(none)"];
/// Most random bytes of one call; callers ask again for the rest.
const MAX_RANDOM: u64 = 1 << 16;
/// `RUSAGE_*` as an argument.
const SELF: i32 = sys::RUSAGE_SELF as i32;
const THREAD: i32 = sys::RUSAGE_THREAD as i32;
const CHILDREN: i32 = sys::RUSAGE_CHILDREN;
/// KiB in a page.
const KIB_PER_PAGE: u64 = uvm::PAGE_SIZE as u64 / 1024;

pub(super) async fn uname(current: &mut Current, [to, ..]: Args) -> SysResult {
    let mut at = to;
    for name in NAMES {
        let mut field = [0; NAME_LEN];
        field[..name.len()].copy_from_slice(name.as_bytes());
        out(current, at, &field).await?;
        at = at.wrapping_add(NAME_LEN as u64);
    }
    Ok(0)
}

pub(super) async fn sysinfo(current: &mut Current, [to, ..]: Args) -> SysResult {
    let system = current.system();
    let (exp, processes) = (system.uvm().uvmexp(), system.table().lock().len() as u64);
    let mut words = [0; 14];
    words[0] = system.executor().now() / 1_000_000_000;
    words[4] = exp.npages * exp.pagesize;
    words[5] = exp.free * exp.pagesize;
    words[10] = processes.min(u16::MAX.into());
    words[13] = 1;
    out_words(current, to, words).await?;
    Ok(0)
}

/// A `struct rusage`. What is not counted is 0, as on Linux.
pub(super) async fn usage_out(current: &Current, to: u64, used: Used) -> Result<(), SysError> {
    let [us, uu] = super::time::to_timeval(used.times.user);
    let [ss, su] = super::time::to_timeval(used.times.system);
    let mut words = [0; 18];
    words[..4].copy_from_slice(&[us, uu, ss, su]);
    words[4] = used.most_resident * KIB_PER_PAGE;
    words[8] = used.faults.minor;
    words[9] = used.faults.major;
    words[16] = used.waits;
    words[17] = used.given_way;
    out_words(current, to, words).await
}

/// What a process has used, with what of it the running thread has used in the poll under way.
pub(super) fn used_so_far(current: &Current) -> Used {
    current.charge_faults();
    current.process().usage().used().plus(under_way(current))
}

/// As [`used_so_far`], of the running thread alone.
pub(super) fn used_by_thread(current: &Current) -> Used {
    current.charge_faults();
    current.usage().used().plus(under_way(current))
}

fn under_way(current: &Current) -> Used {
    Used {
        times: current.time_under_way(),
        ..Used::default()
    }
}

pub(super) async fn getrusage(current: &mut Current, [who, to, ..]: Args) -> SysResult {
    let used = match who as i32 {
        CHILDREN => current.process().children_used(),
        SELF => used_so_far(current),
        THREAD => used_by_thread(current),
        _ => return Err(Errno::EINVAL.into()),
    };
    usage_out(current, to, used).await?;
    Ok(0)
}

pub(super) async fn getrlimit(current: &mut Current, [kind, to, ..]: Args) -> SysResult {
    prlimit64(current, [0, kind, 0, to, 0, 0]).await
}

pub(super) async fn setrlimit(current: &mut Current, [kind, from, ..]: Args) -> SysResult {
    prlimit64(current, [0, kind, from, 0, 0, 0]).await
}

pub(super) async fn prlimit64(current: &mut Current, [pid, kind, from, to, ..]: Args) -> SysResult {
    let process = match pid as u32 {
        0 => current.process().clone(),
        // Any of its threads stands for it.
        tid => match current.system().find_lwp(Pid(tid)) {
            Some((process, _)) => process,
            None => current.system().find(Pid(tid)).ok_or(Errno::ESRCH)?,
        },
    };
    let kind = u64::from(kind as u32);
    let mut old = process.limits().get(kind).ok_or(Errno::EINVAL)?;
    if from != 0 {
        let [soft, hard] = words(current, from).await?;
        let files = kind == u64::from(sys::RLIMIT_NOFILE);
        if soft > hard {
            return Err(Errno::EINVAL.into());
        }
        if files && hard > u64::from(MAX_FILES) {
            return Err(Errno::EPERM.into());
        }
        let room = current.system().uvm().heap_room()?;
        let changed = process.change_limit(kind, Limit { soft, hard }, &room);
        old = changed.ok_or(Errno::EINVAL)?;
        if files {
            process.files().set_limit(soft as u32);
        }
    }
    if to != 0 {
        out_words(current, to, [old.soft, old.hard]).await?;
    }
    Ok(0)
}

pub(super) async fn getrandom(current: &mut Current, [to, len, flags, ..]: Args) -> SysResult {
    let known = sys::GRND_NONBLOCK | sys::GRND_RANDOM | sys::GRND_INSECURE;
    if flags & !u64::from(known) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let len = len.min(MAX_RANDOM);
    let mut done = 0;
    while done < len {
        let mut bytes = [0; 64];
        let piece = (len - done).min(bytes.len() as u64) as usize;
        current.system().random(&mut bytes[..piece]);
        out(current, to.wrapping_add(done), &bytes[..piece]).await?;
        done += piece as u64;
    }
    Ok(len)
}

pub(super) async fn sched_getaffinity(
    current: &mut Current,
    [pid, len, to, ..]: Args,
) -> SysResult {
    if len < 8 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL.into());
    }
    if pid as u32 != 0 && current.system().find(Pid(pid as u32)).is_none() {
        return Err(Errno::ESRCH.into());
    }
    let cpus = current.system().uvm().cpus();
    let mask = if cpus >= 64 {
        u64::MAX
    } else {
        (1 << cpus) - 1
    };
    out_words(current, to, [mask]).await?;
    Ok(8)
}

pub(super) async fn getcpu(current: &mut Current, [cpu, node, ..]: Args) -> SysResult {
    let here = current.system().uvm().cpu() as u32;
    for (at, value) in [(cpu, here), (node, 0)]
        .into_iter()
        .filter(|(at, _)| *at != 0)
    {
        out(current, at, &value.to_le_bytes()).await?;
    }
    Ok(0)
}

/// All threads are of the ordinary class, whose priorities are from 0 to 0.
pub(super) fn no_priorities(_: &mut Current, [class, ..]: Args) -> SysResult {
    match class as u32 {
        sys::SCHED_NORMAL | sys::SCHED_BATCH | sys::SCHED_IDLE => Ok(0),
        sys::SCHED_FIFO | sys::SCHED_RR => Ok(1),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Nobody is nicer than anybody: 20 - 0, as the kernel encodes it.
pub(super) fn getpriority(_: &mut Current, [which, ..]: Args) -> SysResult {
    if which as u32 <= sys::PRIO_USER {
        Ok(20)
    } else {
        Err(Errno::EINVAL.into())
    }
}

/// Niceness is taken and without effect.
pub(super) fn setpriority(_: &mut Current, [which, ..]: Args) -> SysResult {
    if which as u32 <= sys::PRIO_USER {
        Ok(0)
    } else {
        Err(Errno::EINVAL.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_linux_sizes() {
        use linux_raw_sys::system;
        assert_eq!(size_of::<system::new_utsname>(), NAME_LEN * NAMES.len());
        assert!(NAMES.iter().all(|n| n.len() < NAME_LEN));
        assert_eq!(size_of::<sys::rusage>(), 18 * 8);
        assert_eq!(core::mem::offset_of!(sys::rusage, ru_maxrss), 4 * 8);
        assert_eq!(core::mem::offset_of!(sys::rusage, ru_minflt), 8 * 8);
        assert_eq!(core::mem::offset_of!(sys::rusage, ru_nvcsw), 16 * 8);
        assert_eq!(core::mem::offset_of!(system::sysinfo, mem_unit), 13 * 8);
        assert_eq!(core::mem::offset_of!(system::sysinfo, procs), 10 * 8);
    }
}
