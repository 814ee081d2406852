//! Delivering signals: default actions, frames for handlers, and the way back (`rt_sigreturn`).
//!
//! Runs in the LWP itself, between a trap and ring 3. Frames are built and copied in one go without
//! awaiting; where the program's stack is not resident, the page is faulted in and the frame built again,
//! so no large frame is kept across an await.

use super::Processes;
use super::body::Current;
use super::exit::End;
use super::lwp::Lwp;
use super::machine;
use super::process::Process;
use super::restart::Restart;
use super::sigframe::{self, AltStack, Context, Placement, RED_ZONE, UCONTEXT_LEN, fpu};
use super::signal::{Action, DefaultAction, Detail, Disposition, SigInfo, SigSet, Signal};
use super::stop::Over;
use super::table::ExitStatus;
use super::timers;
use super::usermem::{self, BadAddress};
use crate::syscall::{GO_ON, INTERRUPTED};
use alloc::sync::Arc;
use linux_raw_sys::general as sys;
use uvm::addr::VirtAddr;
use uvm::prot::Access;

/// Bytes of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

/// Delivers what is pending; `Some` ends the process. Also settles what becomes of an interrupted call.
pub(super) async fn pending(current: &mut Current) -> Option<End> {
    loop {
        current.lwp().look();
        if let Some(end) = current.must_leave() {
            return Some(end);
        }
        let (system, process) = (current.system().clone(), current.process().clone());
        if process.threads().is_copying() {
            // Cut short when it must leave, which is looked at next.
            let _ = current
                .lwp()
                .sleep_to_the_end(process.threads().copied())
                .await;
            continue;
        }
        if process.stop().is_on() {
            stopped(&system, current).await;
            continue;
        }
        let (info, action) = match take(&system, &process, current.lwp()) {
            None => break,
            Some(Taken::Signal(info, action)) => (info, action),
            Some(Taken::Stop(parent, signal)) => {
                let number = signal.number().into();
                tell_parent(parent, &process, sys::CLD_STOPPED, number);
                // Each stops on its own way.
                process.threads().iter().for_each(|lwp| lwp.look_up());
                continue;
            }
        };
        match action.disposition {
            Disposition::Ignore => {}
            Disposition::Handler(_) => {
                if let Some(end) = handle(current, info, action).await {
                    return Some(end);
                }
            }
            Disposition::Default => match info.signal.default_action() {
                DefaultAction::Terminate => {
                    return Some(End::Process(ExitStatus::Killed(info.signal)));
                }
                // Nobody would make an orphaned group go on: it does not stop.
                DefaultAction::Stop | DefaultAction::Ignore | DefaultAction::Continue => {}
            },
        }
    }
    if let Some(mask) = current.saved_mask.take() {
        current.lwp().set_mask(mask);
    }
    if let Some(restart) = current.restart.take() {
        let frame = current.frame();
        frame.rip = frame.rip.wrapping_sub(SYSCALL_LEN);
        if restart == Restart::GoOn {
            frame.rax = GO_ON;
        }
    }
    None
}

/// Delivers a signal that the program cannot go on without: a fault's. `Some` ends the process.
pub(super) async fn force(current: &mut Current, info: SigInfo) -> Option<End> {
    let action = forced(current, info);
    match action.disposition {
        Disposition::Handler(_) => handle(current, info, action).await,
        _ => Some(killed_by(current, info)),
    }
}

fn forced(current: &Current, info: SigInfo) -> Action {
    let mask = current.lwp().mask();
    current.process().signals().lock().force(info, mask)
}

/// Ends the process by a fault's signal, and says where it was.
fn killed_by(current: &mut Current, info: SigInfo) -> End {
    let frame = current.frame();
    let (rip, rsp) = (frame.rip, frame.rsp);
    log::info!(
        "{}[{}]: {} at {:#x}, code {}, ip {rip:#x} sp {rsp:#x}",
        current.process().name(),
        current.process().pid(),
        info.signal,
        match info.detail {
            Detail::Fault { address } => address,
            _ => 0,
        },
        info.code,
    );
    End::Process(ExitStatus::Killed(info.signal))
}

/// What there is to do about a signal.
enum Taken {
    /// Answer it.
    Signal(SigInfo, Action),
    /// It has stopped the process, whose parent wants to know.
    Stop(Option<Arc<Process>>, Signal),
}

/// Takes the next signal. A stop begins here: under the lock of the signals, so that a SIGCONT posted later ends
/// it, and under the table's, so that a group that is being orphaned either does not stop or is found stopped.
fn take(system: &Processes, process: &Process, lwp: &Lwp) -> Option<Taken> {
    let pid = process.pid();
    let mut table = None;
    loop {
        let mut signals = process.signals().lock();
        let mut own = lwp.pending().lock();
        // The table's lock comes first, and is taken only where a stop may come of it.
        let pending = signals.pending().union(own.set());
        if table.is_none() && pending.intersects(SigSet::STOPPING) {
            drop((own, signals));
            table = Some(system.table().lock());
            continue;
        }
        let (info, action) = signals.take(lwp.mask(), &mut own)?;
        let signal = info.signal;
        let stops = action.disposition == Disposition::Default
            && signal.default_action() == DefaultAction::Stop
            && !process
                .timers()
                .is_some_and(|timers| timers.is_stale(&info));
        let stop = match &mut table {
            Some(table) if stops && (signal == Signal::STOP || !table.is_orphaned(pid)) => {
                process.stop().begin();
                Some(Taken::Stop(table.stop(pid, signal), signal))
            }
            _ => None,
        };
        drop((own, signals));
        // A timer goes on, or has been set anew since: then this is nothing any more.
        match (timers::took(system, lwp, info), stop) {
            (_, Some(stop)) => return Some(stop),
            (Some(info), None) => return Some(Taken::Signal(info, action)),
            (None, None) => {}
        }
    }
}

/// Waits in a stop until it is over. The first thread that goes on says so.
async fn stopped(system: &Processes, current: &Current) {
    let process = current.process();
    let over = process.stop().until_over(process.threads().queue());
    if current.lwp().sleep_to_the_end(over).await == Ok(Over::Continued) {
        let parent = system.table().lock().go_on(process.pid());
        let number = Signal::CONT.number().into();
        tell_parent(parent, process, sys::CLD_CONTINUED, number);
    }
}

/// Tells a parent that its child stopped or goes on.
fn tell_parent(parent: Option<Arc<Process>>, child: &Process, code: u32, status: i32) {
    let Some(parent) = parent else { return };
    if !parent
        .signals()
        .lock()
        .action(Signal::CHLD)
        .has(sys::SA_NOCLDSTOP)
    {
        let detail = Detail::Child {
            pid: child.pid().0,
            status,
        };
        parent.post(SigInfo {
            signal: Signal::CHLD,
            code: code as i32,
            detail,
        });
    }
    parent.children().wake_all();
}

/// Makes the program run a handler. If its stack cannot take the frame, it gets a SIGSEGV, whose handler may have another stack; `Some`
/// ends the process.
async fn handle(current: &mut Current, info: SigInfo, action: Action) -> Option<End> {
    if let Some(restart) = current.restart.take() {
        let again = restart == Restart::UnlessHandlerSays && action.has(sys::SA_RESTART);
        let frame = current.frame();
        if again {
            frame.rip = frame.rip.wrapping_sub(SYSCALL_LEN);
        } else {
            frame.rax = INTERRUPTED;
        }
    }
    let (mut info, mut action) = (info, action);
    while !frame_pushed(current, &info, &action).await {
        let refused = info.signal;
        info = SigInfo::from_kernel(Signal::SEGV);
        action = forced(current, info);
        // A second SIGSEGV would fare no better.
        if refused == Signal::SEGV || !matches!(action.disposition, Disposition::Handler(_)) {
            return Some(killed_by(current, info));
        }
    }
    current.saved_mask = None;
    let mut mask = current.lwp().mask().union(action.mask);
    if !action.has(sys::SA_NODEFER) {
        mask = mask.union(SigSet::only(info.signal));
    }
    current.lwp().set_mask(mask);
    if current.alt_stack.disarms_itself() {
        current.alt_stack = AltStack::NONE;
    }
    None
}

/// Puts the frame of a handler on its stack, page by page if need be. Whether it could be.
async fn frame_pushed(current: &mut Current, info: &SigInfo, action: &Action) -> bool {
    loop {
        match push_frame(current, info, action) {
            Ok(()) => return true,
            Err(None) => return false,
            Err(Some(va)) => {
                let space = current.space().clone();
                let Ok(at) = VirtAddr::try_new(va) else {
                    return false;
                };
                if space.fault(at, Access::Write).await.is_err() {
                    return false;
                }
            }
        }
    }
}

/// Builds the frame, copies it and turns the registers to the handler; the error is the address that
/// could not be written, `None` if there is no room at all.
fn push_frame(current: &mut Current, info: &SigInfo, action: &Action) -> Result<(), Option<u64>> {
    let Disposition::Handler(entry) = action.disposition else {
        return Ok(());
    };
    let sp = current.frame().rsp;
    let alt = current.alt_stack;
    let nested = alt.is_in_use(sp);
    let enters = action.has(sys::SA_ONSTACK) && alt.size != 0 && !nested;
    // A handler returns to its restorer, or nowhere.
    if !action.has(sys::SA_RESTORER) {
        return Err(None);
    }
    let top = if enters {
        alt.base.wrapping_add(alt.size)
    } else {
        sp.wrapping_sub(RED_ZONE)
    };
    let state = current.machine().fpu_state();
    let place = Placement::below(top, fpu::frame_len(state.as_ref().len())).ok_or(None)?;
    // What lies below an alternate stack is the program's.
    if (enters || nested) && !alt.contains(place.frame) {
        return Err(None);
    }
    let mask = current.saved_mask.unwrap_or(current.lwp().mask());
    let fault_address = current.fault_address;
    let context = Context::of(current.frame(), fault_address, mask, alt, place.fpstate);
    let at = |stop: machine::Fault| Some(stop.va);
    fpu::write(state.as_ref(), |offset, bytes| {
        machine::copyout(place.fpstate + offset as u64, bytes)
    })
    .map_err(at)?;
    machine::copyout(
        place.frame,
        &sigframe::frame_bytes(action.restorer, &context, info),
    )
    .map_err(at)?;

    let frame = current.frame();
    frame.rdi = info.signal.number().into();
    frame.rsi = place.frame + sigframe::SIGINFO_AT as u64;
    frame.rdx = place.frame + sigframe::UCONTEXT_AT as u64;
    frame.rax = 0;
    frame.rsp = place.frame;
    frame.rip = entry;
    let kept = machine::UserFlags::from_bits_truncate(frame.flags());
    let cleared = machine::UserFlags::DF | machine::UserFlags::RF | machine::UserFlags::TF;
    frame.set_flags(kept.difference(cleared));
    frame.restore_all_registers();
    Ok(())
}

/// Back from a handler (`rt_sigreturn`): the frame lies at the stack pointer, its first word popped.
///
/// # Errors
/// [`BadAddress`]: the frame is gone or damaged; the program gets a SIGSEGV.
pub async fn sigreturn(current: &mut Current) -> Result<(), BadAddress> {
    let at = current.frame().rsp;
    let mut bytes = [0; UCONTEXT_LEN];
    let space = current.space().clone();
    usermem::copy_in(&space, &mut bytes, at).await?;
    let context = Context::from_bytes(&bytes);
    if context.fpstate != 0 {
        loop {
            let mut state = current.machine().fpu_state();
            match fpu::read(state.as_mut(), |offset, to| {
                machine::copyin(to, context.fpstate.wrapping_add(offset as u64))
            }) {
                Ok(()) => {
                    current.machine().set_fpu_state(&state);
                    current.machine().attach();
                    break;
                }
                Err(stop) => {
                    let va = VirtAddr::try_new(stop.va).map_err(|_| BadAddress)?;
                    space
                        .fault(va, Access::Read)
                        .await
                        .map_err(|_| BadAddress)?;
                }
            }
        }
    }
    context.apply(current.frame());
    current.lwp().set_mask(context.mask);
    current.forget_resume();
    let sp = current.frame().rsp;
    // As `sigaltstack` would; what it would refuse leaves things as they are.
    if !current.alt_stack.is_in_use(sp)
        && let Ok(stack) = context.stack.asked()
    {
        current.alt_stack = stack;
    }
    Ok(())
}
