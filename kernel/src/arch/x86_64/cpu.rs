//! What the CPU can do, and its control registers: protection (WP, NX, SMEP, SMAP, UMIP), system calls,
//! and the FPU for ring 3.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use raw_cpuid::CpuId;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags, Msr};

use super::percpu::{KERNEL_CODE, KERNEL_DATA};
use super::trap::syscall_entry;
use super::{fpu, idt, percpu};

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;
pub(super) const MSR_FS_BASE: u32 = 0xc000_0100;
pub(super) const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Flags that `syscall` clears: TF, IF, DF, IOPL, NT, RF, AC.
const SYSCALL_FLAG_MASK: u64 = 0x300 | 1 << 10 | 3 << 12 | 1 << 14 | 1 << 16 | 1 << 18;

/// Whether user memory must be opened by `stac`. Read by the copy routines.
pub(super) static SMAP: AtomicBool = AtomicBool::new(false);
/// For the log: what was turned on.
static PROTECTION: AtomicU32 = AtomicU32::new(0);

/// Segments, interrupt table, control registers and system call registers of the boot CPU. From here on
/// a fault is reported rather than fatal to the machine, and [`PerCpu`](super::PerCpu) works.
///
/// # Safety
/// To be called once, first of all, by the boot CPU with interrupts off and on the kernel's own tables.
pub unsafe fn init() {
    // SAFETY: as the caller vouches; the order matters (gates name the GDT's code segment).
    unsafe {
        percpu::init_boot_cpu();
        idt::init();
        init_registers();
    }
}

/// # Safety
/// Segments and interrupt table are loaded.
unsafe fn init_registers() {
    let cpuid = CpuId::new();
    let extended = cpuid.get_extended_feature_info();
    let has = |test: fn(&raw_cpuid::ExtendedFeatures) -> bool| extended.as_ref().is_some_and(test);

    let mut cr4 =
        Cr4::read() | Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE | Cr4Flags::PAGE_GLOBAL;
    cr4.set(
        Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        has(|f| f.has_smep()),
    );
    cr4.set(
        Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
        has(|f| f.has_smap()),
    );
    cr4.set(
        Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION,
        has(|f| f.has_umip()),
    );
    // SAFETY: each bit is supported (asked above, or part of x86-64), and the kernel runs no code from user
    // pages and touches none outside `copy`, which honours SMAP.
    unsafe { Cr4::write(cr4) };
    SMAP.store(
        cr4.contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
        Ordering::Relaxed,
    );
    PROTECTION.store(cr4.bits() as u32, Ordering::Relaxed);

    let mut cr0 = Cr0::read()
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::NUMERIC_ERROR;
    cr0.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
    // Alignment checks are the user's to ask for, as on Linux.
    cr0.insert(Cr0Flags::ALIGNMENT_MASK);
    // SAFETY: caches and paging stay as they are; ring 3 may use the FPU and the kernel, built for soft
    // floats, does not.
    unsafe { Cr0::write(cr0) };

    // SAFETY: the selectors are the GDT's, and `syscall_entry` is made for this.
    unsafe {
        Efer::write(
            Efer::read() | EferFlags::SYSTEM_CALL_EXTENSIONS | EferFlags::NO_EXECUTE_ENABLE,
        );
        // sysret: SS = base + 8 (user data), CS = base + 16 (user code).
        Msr::new(MSR_STAR).write((u64::from(KERNEL_DATA) | 3) << 48 | u64::from(KERNEL_CODE) << 32);
        Msr::new(MSR_LSTAR).write(syscall_entry as *const () as u64);
        Msr::new(MSR_SFMASK).write(SYSCALL_FLAG_MASK);
        Msr::new(MSR_FS_BASE).write(0);
        Msr::new(MSR_KERNEL_GS_BASE).write(0);
        fpu::init(&cpuid);
    }
}

/// Says in the log what kind of CPU this is.
pub fn report() {
    let cpuid = CpuId::new();
    let brand = cpuid.get_processor_brand_string();
    let cr4 = Cr4Flags::from_bits_truncate(u64::from(PROTECTION.load(Ordering::Relaxed)));
    let on = |flag, name| if cr4.contains(flag) { name } else { "" };
    log::info!(
        "cpu: {}; NX WP{}{}{}; FPU state {} bytes{}",
        brand.as_ref().map_or("unknown", |b| b.as_str().trim()),
        on(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, " SMEP"),
        on(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, " SMAP"),
        on(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, " UMIP"),
        fpu::live_size(),
        if fpu::has_xsave() {
            " (XSAVE)"
        } else {
            " (FXSAVE)"
        },
    );
}

/// A number to begin random ones with: the CPU's own random number where it has one, and the time stamp counter.
pub fn seed() -> u64 {
    let has_rdrand = CpuId::new()
        .get_feature_info()
        .is_some_and(|features| features.has_rdrand());
    let mut random = 0u64;
    if has_rdrand {
        // SAFETY: the instruction is there; on failure it leaves 0 and clears the carry, which is as good as nothing.
        unsafe { core::arch::asm!("rdrand {}", out(reg) random, options(nomem, nostack)) };
    }
    // SAFETY: every x86-64 CPU has the counter, and ring 0 may always read it.
    random ^ unsafe { core::arch::x86_64::_rdtsc() }
}
