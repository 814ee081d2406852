//! An LWP's body: the loop between ring 3 and the kernel, as one future.
//!
//! [`Current`] is what a running thread alone has: its registers, its hold on the address space, the few
//! things that die with it. Handlers of system calls get it as `&mut`. The loop never boxes and never
//! queues on its short ways: calls that cannot wait are answered by plain functions before any future is
//! built, and a fault on resident memory ends in its first poll.

use super::Processes;
use super::deliver;
use super::exit::{self, End};
use super::fatal;
use super::lwp::Lwp;
use super::machine::{self, LwpMachineState, PageFaultCode, Trap, TrapFrame};
use super::process::Process;
use super::restart::{Restart, Resume};
use super::sigframe::AltStack;
use super::signal::{SigSet, Signal};
use super::table::ExitStatus;
use super::uarea::{Machine, UareaBox};
use super::usage::{Account, Times, Usage};
use crate::syscall;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use uvm::VmSpace;
use uvm::addr::VirtAddr;
use uvm::glue::SpaceRef;
use uvm::prot::Access;

/// The running thread.
pub struct Current {
    lwp: Arc<Lwp>,
    system: Arc<Processes>,
    space: Arc<VmSpace>,
    machine: Machine,
    /// The alternate signal stack.
    pub(super) alt_stack: AltStack,
    /// The mask to go back to once a signal has ended `rt_sigsuspend` or `ppoll`.
    pub(super) saved_mask: Option<SigSet>,
    /// The call under way was interrupted.
    pub(super) restart: Option<Restart>,
    /// What `restart_syscall` goes on with.
    resume: Option<Resume>,
    /// Set by the call that ends the thread or the process.
    end: Option<End>,
    /// Cleared and woken when the thread ends (`set_tid_address`); 0 for none.
    clear_tid: u64,
    /// Where the list of locks begins that it may hold when it ends (`set_robust_list`); 0 for none.
    robust_list: u64,
    /// Last faulting address, for signal frames.
    pub(super) fault_address: u64,
}

impl Current {
    /// The thread's header.
    #[must_use]
    pub fn lwp(&self) -> &Arc<Lwp> {
        &self.lwp
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        self.lwp.process()
    }

    /// All processes, and what they share.
    #[must_use]
    pub fn system(&self) -> &Arc<Processes> {
        &self.system
    }

    /// Its address space.
    #[must_use]
    pub fn space(&self) -> &Arc<VmSpace> {
        &self.space
    }

    /// Its registers.
    #[inline]
    pub fn frame(&mut self) -> &mut TrapFrame {
        self.machine.pin().frame()
    }

    /// What it counts of its own doing.
    pub(super) fn account(&self) -> &Account {
        self.machine.account()
    }

    /// What it has used in all the polls before this one, and in this one so far as it is counted by `charge_faults`.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        self.account().own()
    }

    /// Adds the faults of the poll under way to what the thread and its process have used: before somebody looks.
    pub fn charge_faults(&self) {
        self.lwp.charge_faults(self.account());
    }

    /// Time used in the poll under way, in nanoseconds.
    #[must_use]
    pub fn time_under_way(&self) -> Times {
        self.account().under_way(machine::now())
    }

    /// All of the machine's part.
    pub(super) fn machine(&mut self) -> Pin<&mut LwpMachineState> {
        self.machine.pin()
    }

    /// Arguments of the system call under way.
    #[inline]
    pub fn args(&mut self) -> [u64; 6] {
        self.frame().syscall_args()
    }

    /// Base of FS.
    #[must_use]
    pub fn fs_base(&self) -> u64 {
        self.machine.get().fs_base()
    }

    /// Base of GS.
    #[must_use]
    pub fn gs_base(&self) -> u64 {
        self.machine.get().gs_base()
    }

    /// Sets the base of FS, which must lie below [`machine::USER_END`].
    pub fn set_fs_base(&mut self, base: u64) {
        self.machine.pin().set_fs_base(base);
        self.machine.pin().attach();
    }

    /// Sets the base of GS, which must lie below [`machine::USER_END`].
    pub fn set_gs_base(&mut self, base: u64) {
        self.machine.pin().set_gs_base(base);
        self.machine.pin().attach();
    }

    /// Ends the thread, or the process, once the call under way returns.
    pub fn end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// How it must end, if others have it so: its process ends, or another thread wants to be alone.
    pub(super) fn must_leave(&self) -> Option<End> {
        let ends = self.process().threads().ends().map(End::Process);
        let leaves = || (self.lwp.must_leave()).then_some(End::Thread(ExitStatus::Exited(0)));
        ends.or_else(leaves)
    }

    /// Where the list of locks that it may hold begins.
    pub fn robust_list(&self) -> u64 {
        self.robust_list
    }

    /// Says where that is.
    pub fn set_robust_list(&mut self, head: u64) {
        self.robust_list = head;
    }

    /// The word to clear when the thread ends.
    pub fn set_clear_tid(&mut self, at: u64) {
        self.clear_tid = at;
    }

    pub(super) fn clear_tid(&self) -> u64 {
        self.clear_tid
    }

    /// The alternate signal stack in force.
    #[must_use]
    pub fn alt_stack(&self) -> AltStack {
        self.alt_stack
    }

    /// Sets the alternate signal stack.
    pub fn set_alt_stack(&mut self, stack: AltStack) {
        self.alt_stack = stack;
    }

    /// Holds back `mask` until a signal ends the wait that follows, then what was held back before.
    pub fn mask_for_wait(&mut self, mask: SigSet) {
        if self.saved_mask.is_none() {
            self.saved_mask = Some(self.lwp.mask());
        }
        self.lwp.set_mask(mask);
    }

    /// Ends [`mask_for_wait`](Self::mask_for_wait) where the wait ended without a signal.
    pub fn unmask_after_wait(&mut self) {
        if let Some(mask) = self.saved_mask.take() {
            self.lwp.set_mask(mask);
        }
    }

    /// Says what to do about the call under way, which a signal interrupted.
    pub fn interrupted(&mut self, restart: Restart) {
        self.restart = Some(restart);
    }

    /// Keeps what an interrupted call goes on with, until the next one does.
    pub fn keep(&mut self, resume: Resume) {
        self.resume = Some(resume);
    }

    /// What the last call that was to go on goes on with; none after a handler.
    #[must_use]
    pub fn resume(&self) -> Option<Resume> {
        self.resume
    }

    /// Nothing goes on any more: a handler has run.
    pub(super) fn forget_resume(&mut self) {
        self.resume = None;
    }

    /// Enters a new program: registers and address space. Awaits the end of the old one, if nobody else has that.
    pub(super) async fn enter(&mut self, space: Arc<VmSpace>, entry: u64, sp: u64) {
        self.machine.pin().reset(entry, sp);
        self.alt_stack = AltStack::default();
        (self.clear_tid, self.robust_list, self.resume) = (0, 0, None);
        let process = self.process().clone();
        let new = SpaceRef::new(space.clone());
        self.lwp.set_space(Some(space.clone()));
        self.space = space;
        self.lwp.activate();
        self.machine.pin().attach();
        process.space_ref().share(&new).await;
        process.end_vfork();
    }

    /// The loop: ring 3, what it wants, signals, and whether another's turn has come.
    async fn live(&mut self) -> End {
        loop {
            self.space.assert_settled();
            let entered = machine::ticks();
            let trap = self.machine.pin().run_user();
            let left = machine::ticks();
            self.machine.account().in_ring3(left.wrapping_sub(entered));
            match trap {
                Trap::Syscall => {
                    if !syscall::answer(self) {
                        // It came this far in ring 3: what its last faults brought in may go while it waits.
                        self.space.made_progress();
                        syscall::answer_waiting(self).await;
                        if let Some(end) = self.end {
                            return end;
                        }
                    }
                }
                Trap::PageFault { va, code } => {
                    let access = access_of(code);
                    let outcome = if va < machine::USER_END {
                        let at = VirtAddr::new(va);
                        match self.space.fault_at_once(at, access) {
                            Ok(()) => {
                                self.machine.account().minor_fault();
                                Ok(())
                            }
                            Err(unresolved) => {
                                let polls = self.machine.account().polls();
                                let rest = self.space.fault_wait(at, access, unresolved);
                                let outcome = rest.await.map_err(Some);
                                self.machine.account().fault_since(polls);
                                outcome
                            }
                        }
                    } else {
                        Err(None)
                    };
                    if let Err(error) = outcome {
                        self.fault_address = va;
                        match fatal::of_fault(self.process(), va, error) {
                            Some(info) => {
                                if let Some(end) = deliver::force(self, info).await {
                                    return end;
                                }
                            }
                            None => return End::Process(ExitStatus::Killed(Signal::KILL)),
                        }
                    }
                }
                Trap::Interrupt => {}
                Trap::Exception { vector, .. } => {
                    let info = fatal::of_exception(vector, self.machine.pin());
                    if let Some(end) = deliver::force(self, info).await {
                        return end;
                    }
                }
            }
            if self.system.executor().need_resched() {
                self.machine.account().gives_way();
                self.system.executor().reschedule_if_asked().await;
            }
            // Last: what came while others had their turn is heeded, too.
            if self.lwp.must_look()
                && let Some(end) = deliver::pending(self).await
            {
                return end;
            }
        }
    }
}

fn access_of(code: PageFaultCode) -> Access {
    if code.contains(PageFaultCode::WRITE) {
        Access::Write
    } else if code.contains(PageFaultCode::FETCH) {
        Access::Exec
    } else {
        Access::Read
    }
}

/// The whole life of a thread.
async fn body(mut current: Current) {
    let end = current.live().await;
    exit::exit(current, end).await;
}

/// Makes the future of a new thread in its u-area: what the executor polls.
pub(super) fn thread(
    system: &Arc<Processes>,
    machine: LwpMachineState,
    lwp: Arc<Lwp>,
    space: Arc<VmSpace>,
    inherited: Inherited,
) -> impl Future<Output = ()> + Send + 'static {
    let system = system.clone();
    UareaBox::new(lwp.clone(), system.clone(), machine, move |mut machine| {
        if let Some(child) = inherited.registers {
            child.apply(machine.pin());
        }
        body(Current {
            lwp,
            system,
            space,
            machine,
            alt_stack: inherited.alt_stack,
            saved_mask: None,
            restart: None,
            resume: None,
            end: None,
            clear_tid: inherited.clear_tid,
            robust_list: 0,
            fault_address: 0,
        })
    })
}

/// What a new thread has from the one that made it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inherited {
    /// The alternate signal stack (fork keeps it).
    pub alt_stack: AltStack,
    /// `CLONE_CHILD_CLEARTID`'s address.
    pub clear_tid: u64,
    /// How its registers differ, if they are a copy of its parent's.
    pub registers: Option<ChildRegisters>,
}

/// How a child's registers differ from its parent's, besides the 0 that fork returns.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChildRegisters {
    /// Another stack pointer.
    pub stack: Option<u64>,
    /// Another FS base.
    pub tls: Option<u64>,
}

impl ChildRegisters {
    fn apply(self, mut machine: Pin<&mut LwpMachineState>) {
        let frame = machine.as_mut().frame();
        frame.rax = 0;
        frame.rsp = self.stack.unwrap_or(frame.rsp);
        if let Some(tls) = self.tls {
            machine.set_fs_base(tls);
        }
    }
}

/// Bytes of a thread's task.
pub(super) fn task_bytes() -> usize {
    const fn of<F: Future<Output = ()>>(_: &impl Fn(Current) -> F) -> usize {
        executor::task_bytes::<UareaBox<F>>()
    }
    of(&body)
}

/// Bytes of a u-area that stay unused.
#[cfg(test)]
pub(super) fn spare() -> usize {
    const fn of<F: Future<Output = ()>>(_: &impl Fn(Current) -> F) -> usize {
        UareaBox::<F>::spare()
    }
    of(&body)
}
