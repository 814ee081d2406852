//! The host's double of the machine: a program is a Rust function over its registers.

use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;

pub use crate::arch::{PageFaultCode, Trap, TrapFrame, UserFlags, vector};

/// First address that is not the user's.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// An access to user memory that did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first address that could not be accessed.
    pub va: u64,
    /// Bytes that were copied before, from the start.
    pub done: usize,
}

/// FPU registers as a signal frame holds them; the double has none.
pub type FpuState = [u8; 0];

/// Runs "ring 3" until its next trap. It is told its step: how many instructions of two bytes `rip` is behind
/// the program's beginning. A system call moves on by one, as `syscall` does.
pub type Program = Rc<dyn Fn(u64, &mut TrapFrame) -> Trap>;
/// The byte at a user address of the space that is loaded, if it can be accessed so.
pub type Memory = Box<dyn Fn(u64, Wants) -> Option<*mut u8>>;

/// What the timer interrupt's handler does.
pub type Tick = Box<dyn Fn()>;

/// How user memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// To read it.
    Read,
    /// To write it.
    Write,
}

std::thread_local! {
    static PROGRAMS: RefCell<BTreeMap<u64, Program>> = const { RefCell::new(BTreeMap::new()) };
    static MEMORY: RefCell<Option<Memory>> = const { RefCell::new(None) };
    static TICK: RefCell<Option<Tick>> = const { RefCell::new(None) };
    static CLOCK: RefCell<u64> = const { RefCell::new(0) };
}

/// From now on, on this thread, ring 3 from `start` on, up to the next one, is `program`.
pub fn set_program(start: u64, program: Program) {
    PROGRAMS.with_borrow_mut(|all| all.insert(start, program));
}

/// From now on, on this thread, user memory is what `memory` says.
pub fn set_memory(memory: Memory) {
    MEMORY.set(Some(memory));
}

/// From now on, on this thread, [`Trap::Interrupt`] is the timer's, and `tick` has been called by then.
pub fn set_tick(tick: Tick) {
    TICK.set(Some(tick));
}

/// Nanoseconds: moves on by one at each call.
pub fn now() -> u64 {
    CLOCK.with_borrow_mut(|now| {
        *now += 1;
        *now
    })
}

/// A counter of which a tick is a nanosecond: moves on like [`now`].
pub fn ticks() -> u64 {
    now()
}

/// Ticks in nanoseconds.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    ticks
}

/// Feature bits of the double's processor: none.
pub fn hwcap() -> u64 {
    0
}

/// The machine's part of an LWP.
pub struct LwpMachineState {
    frame: TrapFrame,
    fs_base: u64,
    gs_base: u64,
    attached: bool,
}

impl LwpMachineState {
    /// A thread that starts at `rip` with the stack at `rsp`.
    pub fn new(rip: u64, rsp: u64) -> LwpMachineState {
        LwpMachineState {
            frame: TrapFrame::new(rip, rsp),
            fs_base: 0,
            gs_base: 0,
            attached: false,
        }
    }

    /// A copy of all registers.
    pub fn duplicate(self: Pin<&mut Self>) -> LwpMachineState {
        LwpMachineState {
            frame: self.frame.clone(),
            fs_base: self.fs_base,
            gs_base: self.gs_base,
            attached: false,
        }
    }

    /// The registers.
    pub fn frame(self: Pin<&mut Self>) -> &mut TrapFrame {
        &mut self.get_mut().frame
    }

    /// Base of FS in ring 3.
    pub fn fs_base(&self) -> u64 {
        self.fs_base
    }

    /// Sets the base of FS.
    pub fn set_fs_base(mut self: Pin<&mut Self>, base: u64) {
        assert!(base < USER_END);
        self.fs_base = base;
        self.attached = false;
    }

    /// Base of GS in ring 3.
    pub fn gs_base(&self) -> u64 {
        self.gs_base
    }

    /// Sets the base of GS.
    pub fn set_gs_base(mut self: Pin<&mut Self>, base: u64) {
        assert!(base < USER_END);
        self.gs_base = base;
        self.attached = false;
    }

    /// Starts over with the registers of a new program.
    pub fn reset(self: Pin<&mut Self>, rip: u64, rsp: u64) {
        *self.get_mut() = LwpMachineState::new(rip, rsp);
    }

    /// Loads what belongs to a CPU.
    pub fn attach(mut self: Pin<&mut Self>) {
        self.attached = true;
    }

    /// The FPU registers.
    pub fn fpu_state(self: Pin<&mut Self>) -> FpuState {
        []
    }

    /// Sets the FPU registers.
    pub fn set_fpu_state(self: Pin<&mut Self>, _state: &FpuState) {}

    /// Runs the program that the frame's `rip` stands for until its next trap.
    pub fn run_user(self: Pin<&mut Self>) -> Trap {
        assert!(self.attached, "run_user before attach");
        let frame = &mut self.get_mut().frame;
        let found = PROGRAMS.with_borrow(|all| {
            let (start, program) = all.range(..=frame.rip).next_back()?;
            Some((*start, program.clone()))
        });
        let Some((start, program)) = found else {
            let code = PageFaultCode::USER | PageFaultCode::FETCH;
            return Trap::PageFault {
                va: frame.rip,
                code,
            };
        };
        let trap = program((frame.rip - start) / 2, frame);
        match trap {
            Trap::Syscall => frame.rip += 2,
            Trap::Interrupt => TICK.with_borrow(|tick| tick.iter().for_each(|tick| tick())),
            _ => {}
        }
        trap
    }
}

/// Takes FPU registers back from the CPU; the double has none.
pub fn take_fpu_from(_state: std::ptr::NonNull<u8>) {}

/// Copies by words of 8 bytes, as the machine does: what faults within a word is not copied at all.
fn each(at: u64, len: usize, wants: Wants, mut f: impl FnMut(usize, *mut u8)) -> Result<(), Fault> {
    MEMORY.with_borrow(|memory| {
        let byte = |done: usize| {
            let va = at.wrapping_add(done as u64);
            let byte = (va < USER_END)
                .then(|| memory.as_ref().and_then(|m| m(va, wants)))
                .flatten();
            byte.ok_or(va)
        };
        let mut done = 0;
        while done < len {
            let step = if len - done >= 8 { 8 } else { 1 };
            for i in done..done + step {
                byte(i).map_err(|va| Fault { va, done })?;
            }
            for i in done..done + step {
                byte(i).into_iter().for_each(|byte| f(i, byte));
            }
            done += step;
        }
        Ok(())
    })
}

/// Copies user memory at `from` into `to`.
pub fn copyin(to: &mut [u8], from: u64) -> Result<(), Fault> {
    each(from, to.len(), Wants::Read, |i, byte| {
        // SAFETY: the test's memory gives pointers that may be read.
        to[i] = unsafe { byte.read() }
    })
}

/// Copies `from` to user memory at `to`.
pub fn copyout(to: u64, from: &[u8]) -> Result<(), Fault> {
    each(to, from.len(), Wants::Write, |i, byte| {
        // SAFETY: the test's memory gives pointers that may be written.
        unsafe { byte.write(from[i]) }
    })
}

/// Copies `len` bytes to user memory at `to`.
///
/// # Safety
/// `from` must be valid for reads of `len` bytes.
pub unsafe fn copyout_raw(to: u64, from: *const u8, len: usize) -> Result<(), Fault> {
    each(to, len, Wants::Write, |i, byte| {
        // SAFETY: as the caller vouches; the test's memory gives pointers that may be written.
        unsafe { byte.write(from.add(i).read()) }
    })
}

/// Clears `len` bytes of user memory at `to`.
pub fn zero_user(to: u64, len: usize) -> Result<(), Fault> {
    each(to, len, Wants::Write, |_, byte| {
        // SAFETY: the test's memory gives pointers that may be written.
        unsafe { byte.write(0) }
    })
}

/// Reads a word of user memory.
pub fn load_user_u32(va: u64) -> Result<u32, Fault> {
    let mut word = [0; 4];
    copyin(&mut word, va)?;
    Ok(u32::from_le_bytes(word))
}

/// Replaces a word of user memory by `new` if it is `old`; gives what it was.
pub fn compare_exchange_user_u32(va: u64, old: u32, new: u32) -> Result<u32, Fault> {
    let found = load_user_u32(va)?;
    // It must be writable even if nothing is written, as for the instruction.
    let written = if found == old { new } else { found };
    copyout(va, &written.to_le_bytes())?;
    Ok(found)
}
