//! What the machine keeps for one LWP, and ring 3 as a function call.

use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr::{self, NonNull};

use x86_64::instructions::interrupts as cpu_interrupts;
use x86_64::registers::control::Cr2;
use x86_64::registers::model_specific::Msr;

use super::cpu::{MSR_FS_BASE, MSR_KERNEL_GS_BASE};
use super::fpu::{FpuArea, FpuState};
use super::frame::{PageFaultCode, Trap, TrapFrame, vector};
use super::interrupts;
use super::percpu::PerCpu;
use super::trap::{SYSCALL_VECTOR, WAS_INTERRUPTED, enter_user};

/// The machine's part of an LWP: registers, FPU registers, segment bases. Lives in the LWP's u-area.
///
/// Pinned, because a CPU may hold its FPU registers and will store them here when another LWP needs it:
/// [`attach`](Self::attach) them at the start of each poll; dropping gives them up. What a value does *not* say
/// is which page tables are loaded: that is `VmSpace::activate`.
pub struct LwpMachineState {
    frame: TrapFrame,
    fpu: FpuArea,
    fs_base: u64,
    gs_base: u64,
    _pinned: PhantomPinned,
}

// SAFETY: the pointer that a CPU keeps to it is cleared by `drop`, and is followed by that CPU only.
unsafe impl Send for LwpMachineState {}

impl LwpMachineState {
    /// A thread that starts at `rip` with the stack at `rsp`.
    pub fn new(rip: u64, rsp: u64) -> LwpMachineState {
        LwpMachineState {
            frame: TrapFrame::new(rip, rsp),
            fpu: FpuArea::new(),
            fs_base: 0,
            gs_base: 0,
            _pinned: PhantomPinned,
        }
    }

    /// A copy of all registers as ring 3 last saw them: for fork and clone.
    pub fn duplicate(self: Pin<&mut Self>) -> LwpMachineState {
        let this = self.with_fpu_saved();
        let mut copy = LwpMachineState::new(0, 0);
        copy.frame = this.frame.clone();
        copy.fpu.copy_from(&mut this.fpu);
        copy.fs_base = this.fs_base;
        copy.gs_base = this.gs_base;
        copy
    }

    /// The registers, to read and to change.
    #[inline]
    pub fn frame(self: Pin<&mut Self>) -> &mut TrapFrame {
        // SAFETY: the frame is not what pinning protects.
        unsafe { &mut self.get_unchecked_mut().frame }
    }

    /// The FPU registers, for a signal frame.
    pub fn fpu_state(self: Pin<&mut Self>) -> FpuState {
        self.with_fpu_saved().fpu.state()
    }

    /// Sets the FPU registers to what a program wrote; what the CPU would refuse is left out. The LWP must be
    /// [attached](Self::attach) again before it runs.
    pub fn set_fpu_state(self: Pin<&mut Self>, state: &FpuState) {
        self.as_ref().give_up_fpu();
        // SAFETY: the field is not what pinning protects, and no CPU will write to it any more.
        unsafe { self.get_unchecked_mut() }.fpu.set_state(state);
    }

    /// Base of FS in ring 3 (thread-local storage), in bytes.
    pub fn fs_base(&self) -> u64 {
        self.fs_base
    }

    /// Sets the base of FS, which must lie in the user's half. The LWP must be [attached](Self::attach)
    /// again before it runs.
    pub fn set_fs_base(self: Pin<&mut Self>, base: u64) {
        assert!(base < super::USER_END, "FS base outside of user space");
        // SAFETY: the field is not what pinning protects.
        unsafe { self.get_unchecked_mut() }.fs_base = base;
    }

    /// Base of GS in ring 3, in bytes.
    pub fn gs_base(&self) -> u64 {
        self.gs_base
    }

    /// Sets the base of GS, as [`set_fs_base`](Self::set_fs_base).
    pub fn set_gs_base(self: Pin<&mut Self>, base: u64) {
        assert!(base < super::USER_END, "GS base outside of user space");
        // SAFETY: the field is not what pinning protects.
        unsafe { self.get_unchecked_mut() }.gs_base = base;
    }

    /// Starts over with the registers of a new program: for exec. To be attached again before it runs.
    pub fn reset(self: Pin<&mut Self>, rip: u64, rsp: u64) {
        self.as_ref().give_up_fpu();
        // SAFETY: no CPU holds a pointer to it any more, so writing over it moves nothing that matters.
        let this = unsafe { self.get_unchecked_mut() };
        this.frame = TrapFrame::new(rip, rsp);
        this.fpu = FpuArea::new();
        this.fs_base = 0;
        this.gs_base = 0;
    }

    /// Loads what belongs to a CPU and differs from what it holds: FPU registers, bases of FS and GS. To be
    /// called at the start of each poll, before [`run_user`](Self::run_user).
    #[inline]
    pub fn attach(self: Pin<&mut Self>) {
        let cpu = PerCpu::current();
        // SAFETY: nothing is moved.
        let this = unsafe { self.get_unchecked_mut() };
        let owner = cpu.fpu_owner.get();
        if !ptr::eq(owner, this) {
            if !owner.is_null() {
                // SAFETY: an owner is pinned, and clears the pointer when it is dropped.
                unsafe { (*owner).fpu.save() };
            }
            this.fpu.restore();
            cpu.fpu_owner.set(this);
        }
        if cpu.fs_base.get() != this.fs_base {
            // SAFETY: the kernel does not use FS; `set_fs_base` admits only canonical addresses.
            unsafe { Msr::new(MSR_FS_BASE).write(this.fs_base) };
            cpu.fs_base.set(this.fs_base);
        }
        if cpu.user_gs_base.get() != this.gs_base {
            // SAFETY: this is the user's GS while the kernel runs; `set_gs_base` admits only canonical addresses.
            unsafe { Msr::new(MSR_KERNEL_GS_BASE).write(this.gs_base) };
            cpu.user_gs_base.set(this.gs_base);
        }
    }

    /// Runs the LWP in ring 3 until its next trap. An interrupt has been served when this returns.
    ///
    /// The LWP must have been [attached](Self::attach) in this poll and its address space be active. Interrupts
    /// are on before and after.
    #[inline]
    pub fn run_user(self: Pin<&mut Self>) -> Trap {
        // SAFETY: nothing is moved.
        let this = unsafe { self.get_unchecked_mut() };
        debug_assert!(
            ptr::eq(PerCpu::current().fpu_owner.get(), this),
            "run_user before attach"
        );
        let frame = &mut this.frame;
        // SAFETY: GS is the kernel's own since boot, and every page table there is maps the kernel.
        unsafe { enter_user(frame) };
        if frame.vector == SYSCALL_VECTOR {
            cpu_interrupts::enable();
            return Trap::Syscall;
        }
        match frame.vector as u8 {
            vector::PAGE_FAULT => {
                let va = Cr2::read_raw();
                cpu_interrupts::enable();
                Trap::PageFault {
                    va,
                    code: PageFaultCode::from_bits_truncate(frame.error),
                }
            }
            number if number >= interrupts::FIRST_VECTOR => {
                if frame.vector != WAS_INTERRUPTED {
                    interrupts::dispatch(number);
                }
                cpu_interrupts::enable();
                Trap::Interrupt
            }
            number => {
                cpu_interrupts::enable();
                Trap::Exception {
                    vector: number,
                    code: frame.error,
                }
            }
        }
    }

    /// Stores the FPU registers if this CPU holds them, and keeps them loaded.
    fn with_fpu_saved(self: Pin<&mut Self>) -> &mut LwpMachineState {
        // SAFETY: nothing is moved.
        let this = unsafe { self.get_unchecked_mut() };
        if ptr::eq(PerCpu::current().fpu_owner.get(), this) {
            this.fpu.save();
        }
        this
    }

    fn give_up_fpu(self: Pin<&Self>) {
        let cpu = PerCpu::current();
        if ptr::eq(cpu.fpu_owner.get(), &raw const *self) {
            cpu.fpu_owner.set(ptr::null_mut());
        }
    }
}

/// Stores FPU registers that this CPU holds for the LWP whose state lies at `state`, if any, and holds them no more: its memory may go then. For who makes sure that it
/// does not run meanwhile. Other CPUs are not asked: an LWP whose registers they hold must stay.
pub fn take_fpu_from(state: NonNull<u8>) {
    let cpu = PerCpu::current();
    let owner = cpu.fpu_owner.get();
    if ptr::addr_eq(owner, state.as_ptr()) {
        // SAFETY: an owner is pinned, in memory until this has been called, and clears the pointer when it is dropped.
        unsafe { (*owner).fpu.save() };
        cpu.fpu_owner.set(ptr::null_mut());
    }
}

impl Drop for LwpMachineState {
    fn drop(&mut self) {
        // SAFETY: a value that is being dropped does not move any more.
        unsafe { Pin::new_unchecked(&*self) }.give_up_fpu();
    }
}
