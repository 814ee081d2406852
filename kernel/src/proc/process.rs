//! A process: what its threads share. Address space, open files, working directory, signals, limits, times.
//!
//! A [`Process`] lives from fork until its parent has collected it; what is large (address space, files)
//! goes earlier, in `super::exit`. Kinship and life are not here but in the [table](super::table).
//!
//! Synchronisation: each part has a short spin lock of its own, none is held across an await and none is
//! taken under another, except that `signals` may be taken under none but the table's.

use super::cpu_timers::CpuTimers;
use super::limits::{Limit, Limits};
use super::lwp::Lwp;
use super::pending::Full;
use super::signal::{Posted, SigInfo, SigSet, Signal, SignalState};
use super::stop::{Over, Stop};
use super::table::{ExitStatus, Pid};
use super::threads::Threads;
use super::timers::Timers;
use super::usage::{Usage, Used};
use crate::fs::fd::FdTable;
use crate::fs::mount::Location;
use alloc::boxed::Box;
use alloc::sync::Arc;
use conquer_once::spin::OnceCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use executor::sync::{SpinLock, WaitQueue};
use uvm::VmSpace;
use uvm::glue::SpaceRef;
use uvm::km::HeapRoom;

/// Longest name of a process in bytes (`prctl(PR_SET_NAME)`), its NUL not counted.
pub const NAME_MAX: usize = 15;

/// A process's name, as `ps` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl Name {
    /// The last component of a path, cut to [`NAME_MAX`] bytes.
    #[must_use]
    pub fn of_path(path: &[u8]) -> Name {
        Name::new(path.rsplit(|&b| b == b'/').next().unwrap_or(path))
    }

    /// The first [`NAME_MAX`] bytes of `name`, up to a NUL.
    #[must_use]
    pub fn new(name: &[u8]) -> Name {
        let mut out = Name::default();
        for (to, from) in out
            .bytes
            .iter_mut()
            .zip(name.iter().take_while(|&&b| b != 0))
        {
            *to = *from;
            out.len += 1;
        }
        out
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|&b| {
            let shown = if b.is_ascii_graphic() || b == b' ' {
                char::from(b)
            } else {
                '?'
            };
            fmt::Write::write_char(f, shown)
        })
    }
}

/// A process.
pub struct Process {
    pid: Pid,
    /// A copy of what the table says, for `getppid`.
    parent: AtomicU32,
    /// Its hold on its address space: none before the first program and after the end. A vfork child shares its parent's.
    space: SpaceRef,
    /// Set when a vfork child has let go of its parent's space.
    vfork_over: AtomicBool,
    files: FdTable,
    cwd: SpinLock<Option<Location>>,
    umask: AtomicU32,
    signals: SpinLock<SignalState>,
    threads: Threads,
    name: SpinLock<Name>,
    /// Shared with its parent until one of them changes theirs.
    limits: SpinLock<Arc<Limits>>,
    usage: Usage,
    /// There from its first child on.
    children_usage: OnceCell<Box<Usage>>,
    /// Woken when a child ends, stops or goes on.
    children: WaitQueue,
    stop: Stop,
    timers: OnceCell<Box<Timers>>,
    cpu_timers: CpuTimers,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({} {})", self.pid, self.name())
    }
}

/// What a new process starts with.
pub(super) struct Parts {
    pub space: SpaceRef,
    pub files: FdTable,
    pub cwd: Option<Location>,
    pub umask: u32,
    pub signals: SignalState,
    pub name: Name,
    pub limits: Arc<Limits>,
}

impl Process {
    /// A process without an LWP.
    pub(super) fn new(pid: Pid, parts: Parts, room: &HeapRoom<'_>) -> Arc<Process> {
        Arc::new(Process {
            pid,
            parent: AtomicU32::new(0),
            space: parts.space,
            vfork_over: AtomicBool::new(false),
            files: parts.files,
            cwd: SpinLock::new(parts.cwd),
            umask: AtomicU32::new(parts.umask),
            signals: SpinLock::new(parts.signals),
            threads: Threads::new(),
            name: SpinLock::new(parts.name),
            cpu_timers: CpuTimers::new(parts.limits.of_cpu(), room),
            limits: SpinLock::new(parts.limits),
            usage: Usage::default(),
            children_usage: OnceCell::uninit(),
            children: WaitQueue::new("child"),
            stop: Stop::new(),
            timers: OnceCell::uninit(),
        })
    }

    /// A process with nothing in it.
    #[cfg(test)]
    pub(super) fn for_test(pid: Pid) -> Arc<Process> {
        Process::new(
            pid,
            Parts {
                space: SpaceRef::empty(),
                files: FdTable::new(),
                cwd: None,
                umask: 0o22,
                signals: SignalState::new(),
                name: Name::new(b"test"),
                limits: Arc::default(),
            },
            &HeapRoom::at_boot(),
        )
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its parent's number, 0 if it has none.
    #[inline]
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent.load(Relaxed)
    }

    /// For the table, whose link this mirrors.
    pub(super) fn set_parent(&self, parent: Pid) {
        self.parent.store(parent.0, Relaxed);
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> Name {
        *self.name.lock()
    }

    /// Renames it.
    pub fn set_name(&self, name: Name) {
        *self.name.lock() = name;
    }

    /// Its address space, for who looks at it from outside; `None` once it has ended.
    #[must_use]
    pub fn space(&self) -> Option<Arc<VmSpace>> {
        self.space.space()
    }

    /// Its hold on its address space.
    pub(super) fn space_ref(&self) -> &SpaceRef {
        &self.space
    }

    /// Its open files.
    #[must_use]
    pub fn files(&self) -> &FdTable {
        &self.files
    }

    /// Its working directory; `None` for the kernel's own process and once it has ended.
    #[must_use]
    pub fn cwd(&self) -> Option<Location> {
        self.cwd.lock().clone()
    }

    /// Changes its working directory, or lets go of it.
    pub fn set_cwd(&self, cwd: Option<Location>) {
        // The old one is dropped after the lock: the last user of a vnode may do work.
        let _old = core::mem::replace(&mut *self.cwd.lock(), cwd);
    }

    /// Its file mode creation mask.
    #[must_use]
    pub fn umask(&self) -> u32 {
        self.umask.load(Relaxed)
    }

    /// Sets its file mode creation mask; returns the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Relaxed)
    }

    /// Its resource limits.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.lock().clone()
    }

    /// Changes one of its resource limits, for all that it binds but the descriptors. Gives the old one, or `None` if the new one cannot be
    /// (see [`Limits::set`]).
    #[must_use]
    pub fn change_limit(&self, kind: u64, new: Limit, room: &HeapRoom<'_>) -> Option<Limit> {
        let (old, limits) = {
            let mut limits = self.limits.lock();
            let old = limits.get(kind)?;
            if !Arc::make_mut(&mut limits).set(kind, new) {
                return None;
            }
            (old, limits.clone())
        };
        if let Some(space) = self.space() {
            space.set_limits(limits.of_space());
        }
        self.cpu_timers.set_limit(limits.of_cpu(), room);
        Some(old)
    }

    /// The soft limit on processor time was reached: the next warning is a second away.
    pub(super) fn extend_cpu_limit(&self) {
        // Who shares them with its parent gets its own: one block at most, of the heap's reserve if it must be.
        Arc::make_mut(&mut self.limits.lock()).extend_cpu();
    }

    /// Its timers by the clock, if it has ever had any.
    #[must_use]
    pub fn timers(&self) -> Option<&Timers> {
        self.timers.get().map(|timers| &**timers)
    }

    /// The same, made if it has none.
    pub(super) fn timers_or_new(&self, _room: &HeapRoom<'_>) -> &Timers {
        self.timers.get_or_init(|| Box::new(Timers::new()))
    }

    /// Its timers by used time.
    #[must_use]
    pub fn cpu_timers(&self) -> &CpuTimers {
        &self.cpu_timers
    }

    /// What it has used.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// What children have used that it has collected, and theirs.
    #[must_use]
    pub fn children_used(&self) -> Used {
        let usage = self.children_usage.get();
        usage.map_or(Used::default(), |usage| usage.used())
    }

    /// It is about to have a child.
    pub(super) fn expect_child(&self, _room: &HeapRoom<'_>) {
        self.children_usage.get_or_init(Box::default);
    }

    /// Adds what a child has used that it has collected.
    pub(super) fn add_childs_use(&self, used: Used) {
        if let Some(usage) = self.children_usage.get() {
            usage.add(used);
        }
    }

    /// Its answers to signals and what is pending.
    #[must_use]
    pub fn signals(&self) -> &SpinLock<SignalState> {
        &self.signals
    }

    /// Woken when a child ends, stops or goes on.
    #[must_use]
    pub fn children(&self) -> &WaitQueue {
        &self.children
    }

    /// Sends it a signal: from any task, never from an interrupt handler.
    pub fn post(&self, info: SigInfo) {
        // What the kernel and `kill` send finds room always.
        let _ = self.send(info, None);
    }

    /// Sends a signal to it, or to one LWP of it.
    ///
    /// # Errors
    /// [`Full`]: too many real-time signals wait already.
    pub fn send(&self, info: SigInfo, to: Option<&Arc<Lwp>>) -> Result<(), Full> {
        let Some(main) = to.cloned().or_else(|| self.threads.first()) else {
            return Ok(());
        };
        let cancelled = SignalState::cancelled_by(info.signal);
        if !cancelled.is_empty() {
            self.forget_signals(cancelled);
        }
        let posted = {
            let mut signals = self.signals.lock();
            match to {
                Some(lwp) => signals.post(info, lwp.mask(), Some(&mut lwp.pending().lock()))?,
                None => signals.post(info, main.mask(), None)?,
            }
        };
        if info.signal == Signal::KILL {
            self.end(ExitStatus::Killed(Signal::KILL));
        } else if posted == Posted::Continue {
            self.end_stop(Over::Continued);
        }
        if posted != Posted::Ignored {
            let takes = |lwp: &Arc<Lwp>| lwp.wants(info.signal);
            let taker = match to {
                Some(_) => main,
                None => self.threads.iter().find(takes).unwrap_or(main),
            };
            taker.notify();
        }
        Ok(())
    }

    /// Drops signals that wait for single LWPs.
    pub fn forget_signals(&self, which: SigSet) {
        (self.threads.iter()).for_each(|lwp| lwp.pending().lock().drop_all(which));
    }

    /// Has others look at the signals that wait for the process, since the LWP `tid` may have been told of them and does not take them.
    pub(super) fn retarget(&self, tid: Pid) {
        if self.threads.len() < 2 || self.signals.lock().pending().is_empty() {
            return;
        }
        (self.threads.iter().filter(|lwp| lwp.tid() != tid)).for_each(|lwp| lwp.notify());
    }

    /// Has all its LWPs end, and itself with them; returns how, which is as the first caller said. From any task.
    pub(super) fn end(&self, status: ExitStatus) -> ExitStatus {
        let status = self.threads.end(status);
        self.end_stop(Over::Killed);
        // No LWP shall wait for memory that it will not use; a vfork parent's is another's as well.
        if let Some(space) = self.space().filter(|space| space.is_held_once()) {
            space.doom();
        }
        status
    }

    fn end_stop(&self, how: Over) {
        self.stop.end(how);
        self.threads.queue().wake_all();
    }

    /// Its LWPs.
    pub(super) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Whether all its LWPs sleep.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.threads.iter().all(|lwp| lwp.asleep_since().is_some())
    }

    /// How many LWPs live in it.
    #[must_use]
    pub fn lwps(&self) -> usize {
        self.threads.len()
    }

    /// The living LWP with this number.
    #[must_use]
    pub fn lwp(&self, tid: Pid) -> Option<Arc<Lwp>> {
        self.threads.find(tid)
    }

    /// Whether it is stopped.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Says that this process, a vfork child, has let go of its parent's address space.
    pub(super) fn end_vfork(&self) {
        self.vfork_over.store(true, Relaxed);
        self.threads.queue().wake_all();
    }

    /// Awaits that this vfork child has let go of the caller's address space.
    pub(super) async fn vfork_over(&self) {
        self.threads
            .queue()
            .wait_until(|| self.vfork_over.load(Relaxed).then_some(()))
            .labelled("vfork child")
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Name::of_path(b"/bin/busybox").as_bytes(), b"busybox");
        assert_eq!(Name::of_path(b"sh").as_bytes(), b"sh");
        assert_eq!(
            Name::new(b"a-very-long-name-indeed").as_bytes(),
            b"a-very-long-nam"
        );
        assert_eq!(std::format!("{}", Name::new(b"a\x1bb\0c")), "a?b");
    }
}
