//! What belongs to one CPU, reached through GS while the kernel runs: where `run_user` came from, the task
//! state segment, the segments themselves, the stacks for the worst exceptions, and what is loaded for
//! the current LWP.
//!
//! Every field is used by its own CPU only. Interrupt handlers touch none but the counters, so plain cells
//! do: [`PerCpu::current`] hands out a shared reference, and the type is never used across CPUs.

use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::model_specific::Msr;

use super::context::LwpMachineState;
use super::frame::{USER_CODE, USER_DATA};

pub(super) const KERNEL_CODE: u16 = 0x08;
pub(super) const KERNEL_DATA: u16 = 0x10;
/// IST slots (1-based, as gates count them).
pub(super) const IST_NMI: u8 = 1;
pub(super) const IST_DOUBLE_FAULT: u8 = 2;
pub(super) const IST_MACHINE_CHECK: u8 = 3;
const IST_STACKS: usize = 3;
const IST_STACK_SIZE: usize = 16 * 1024;

const TSS_SELECTOR: u16 = 0x28;
const MSR_GS_BASE: u32 = 0xc000_0101;

/// The 64-bit task state segment. It begins on an address that is 4 modulo 8, so that its stack pointers
/// are aligned.
#[repr(C, packed(4))]
struct TaskState {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map_base: u16,
}

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; IST_STACK_SIZE]>);

/// See the module.
#[repr(C, align(64))]
pub struct PerCpu {
    this: Cell<*const PerCpu>,
    /// Stack pointer of the `run_user` that is under way.
    kernel_rsp: Cell<u64>,
    /// The user's stack pointer for the few instructions of `syscall`'s entry that have no stack.
    user_rsp: Cell<u64>,
    /// An interrupt was taken in ring 0 since `run_user` last looked.
    pub(super) interrupted: Cell<bool>,
    padding: [u8; 3],
    task_state: UnsafeCell<TaskState>,
    gdt: UnsafeCell<[u64; 7]>,
    index: Cell<usize>,
    /// The LWP whose FPU registers are in this CPU; null for none.
    pub(super) fpu_owner: Cell<*mut LwpMachineState>,
    /// What the FS base register holds.
    pub(super) fs_base: Cell<u64>,
    /// What GS will be in ring 3.
    pub(super) user_gs_base: Cell<u64>,
    /// Physical address of the page tables in use.
    pub(super) root: Cell<u64>,
    /// Interrupts taken that nobody had asked for.
    pub(super) unexpected: AtomicU64,
    /// All interrupts taken.
    pub(super) interrupts: AtomicU64,
    stacks: [Stack; IST_STACKS],
}

// SAFETY: see the module: a value is used by the CPU it belongs to alone, except for its atomics.
unsafe impl Sync for PerCpu {}

pub(super) const KERNEL_RSP: usize = offset_of!(PerCpu, kernel_rsp);
pub(super) const USER_RSP: usize = offset_of!(PerCpu, user_rsp);
/// TSS.RSP0.
pub(super) const RSP0: usize = offset_of!(PerCpu, task_state) + offset_of!(TaskState, rsp);
pub(super) const INTERRUPTED: usize = offset_of!(PerCpu, interrupted);
pub(super) const GDT: usize = offset_of!(PerCpu, gdt);

static BOOT_CPU: PerCpu = PerCpu::new();

impl PerCpu {
    const fn new() -> PerCpu {
        const EMPTY: Stack = Stack(UnsafeCell::new([0; IST_STACK_SIZE]));
        PerCpu {
            this: Cell::new(ptr::null()),
            kernel_rsp: Cell::new(0),
            user_rsp: Cell::new(0),
            interrupted: Cell::new(false),
            padding: [0; 3],
            task_state: UnsafeCell::new(TaskState {
                reserved0: 0,
                rsp: [0; 3],
                reserved1: 0,
                ist: [0; 7],
                reserved2: 0,
                reserved3: 0,
                io_map_base: size_of::<TaskState>() as u16,
            }),
            gdt: UnsafeCell::new([
                0,
                0x00af_9b00_0000_ffff, // kernel code
                0x00cf_9300_0000_ffff, // kernel data
                0x00cf_f300_0000_ffff, // user data
                0x00af_fb00_0000_ffff, // user code
                0,                     // task state, filled in by `load`
                0,
            ]),
            index: Cell::new(0),
            fpu_owner: Cell::new(ptr::null_mut()),
            fs_base: Cell::new(0),
            user_gs_base: Cell::new(0),
            root: Cell::new(0),
            unexpected: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            stacks: [EMPTY; IST_STACKS],
        }
    }

    /// This CPU's.
    #[inline]
    pub fn current() -> &'static PerCpu {
        let this: *const PerCpu;
        // SAFETY: `load` made GS point at a `PerCpu` whose first field is its own address, before any
        // other code of this kernel ran here; ring 3's GS is swapped away on entry.
        unsafe {
            core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly, pure));
            &*this
        }
    }

    /// Number of this CPU, from 0.
    #[inline]
    pub fn index(&self) -> usize {
        self.index.get()
    }

    /// Interrupts taken so far, and how many of them nobody had asked for.
    pub fn interrupt_counts(&self) -> (u64, u64) {
        (
            self.interrupts.load(Ordering::Relaxed),
            self.unexpected.load(Ordering::Relaxed),
        )
    }

    /// Fills in the descriptors and loads GDT, task register and GS.
    ///
    /// # Safety
    /// To be called once for each value, on the CPU that it shall belong to, with interrupts off.
    unsafe fn load(&'static self, index: usize) {
        self.this.set(self);
        self.index.set(index);
        // SAFETY: nobody else has a reference yet, as the caller vouches.
        let (task_state, gdt) = unsafe { (&mut *self.task_state.get(), &mut *self.gdt.get()) };
        for (slot, stack) in self.stacks.iter().enumerate() {
            task_state.ist[slot] = stack.0.get() as u64 + IST_STACK_SIZE as u64;
        }
        let base = self.task_state.get() as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        gdt[TSS_SELECTOR as usize / 8] =
            limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        gdt[TSS_SELECTOR as usize / 8 + 1] = base >> 32;

        #[repr(C, packed)]
        struct Pointer {
            limit: u16,
            base: u64,
        }
        let pointer = Pointer {
            limit: size_of::<[u64; 7]>() as u16 - 1,
            base: self.gdt.get() as u64,
        };
        // SAFETY: the table lives as long as the machine, its descriptors are right (above), and the code
        // segment's selector and meaning do not change under our feet.
        unsafe {
            core::arch::asm!(
                "lgdt [{pointer}]",
                "push {code}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov ds, {data:e}",
                "mov es, {data:e}",
                "mov ss, {data:e}",
                "xor {scratch:e}, {scratch:e}",
                "mov fs, {scratch:e}",
                "mov gs, {scratch:e}",
                "ltr {tss:x}",
                pointer = in(reg) &raw const pointer,
                code = const KERNEL_CODE,
                data = in(reg) u32::from(KERNEL_DATA),
                tss = in(reg) u32::from(TSS_SELECTOR),
                scratch = out(reg) _,
            );
            Msr::new(MSR_GS_BASE).write(&raw const *self as u64);
        }
    }
}

/// Makes the boot CPU's segments and per-CPU data current.
///
/// # Safety
/// To be called once, first of all, with interrupts off.
pub(super) unsafe fn init_boot_cpu() {
    const {
        assert!(
            RSP0.is_multiple_of(8),
            "stack pointers in the TSS are aligned"
        )
    };
    const { assert!(KERNEL_CODE == 0x08 && USER_DATA + 8 == USER_CODE) };
    // SAFETY: as the caller vouches.
    unsafe { BOOT_CPU.load(0) };
}
