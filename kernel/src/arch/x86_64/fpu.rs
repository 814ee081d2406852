//! The user's x87, SSE and AVX registers. The kernel is built for soft floats and never touches them, so they
//! stay in the CPU while it runs; [`LwpMachineState::attach`](super::LwpMachineState::attach) moves them
//! when another LWP's turn comes.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use raw_cpuid::CpuId;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// Bytes of the legacy area, the XSAVE header and the AVX registers' upper halves. No further state
/// is offered to programs (XCR0 says so), which keeps this small and constant.
pub const FPU_AREA_SIZE: usize = 512 + 64 + 256;
const HEADER_OFFSET: usize = 512;
const XSAVE_AVX_OFFSET: usize = 512 + 64;
/// The state that programs get, where the CPU has it.
const OFFERED: XCr0Flags = XCr0Flags::X87.union(XCr0Flags::SSE).union(XCr0Flags::AVX);
const DEFAULT_CONTROL_WORD: u16 = 0x37f;
const DEFAULT_MXCSR: u32 = 0x1f80;
const MXCSR_OFFSET: usize = 24;
const MXCSR_MASK_OFFSET: usize = 28;

/// Whether XSAVE is used; else FXSAVE.
static XSAVE: AtomicBool = AtomicBool::new(false);
static LIVE_SIZE: AtomicUsize = AtomicUsize::new(512);

/// Bits of MXCSR that this CPU has; loading others faults.
static MXCSR_MASK: AtomicU32 = AtomicU32::new(0xffbf);

/// FPU registers as bytes, as XSAVE or FXSAVE lays them out, as long as this CPU's are: for signal frames.
#[derive(Clone)]
pub struct FpuState([u8; FPU_AREA_SIZE]);

impl AsRef<[u8]> for FpuState {
    fn as_ref(&self) -> &[u8] {
        &self.0[..live_size()]
    }
}

impl AsMut<[u8]> for FpuState {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0[..live_size()]
    }
}

/// Where an LWP's FPU registers are while another LWP has the CPU's.
#[repr(C, align(64))]
pub struct FpuArea(UnsafeCell<[u8; FPU_AREA_SIZE]>);

impl FpuArea {
    /// The state of a program that has just started.
    pub fn new() -> FpuArea {
        let mut bytes = [0; FPU_AREA_SIZE];
        bytes[..2].copy_from_slice(&DEFAULT_CONTROL_WORD.to_le_bytes());
        bytes[MXCSR_OFFSET..MXCSR_OFFSET + 4].copy_from_slice(&DEFAULT_MXCSR.to_le_bytes());
        FpuArea(UnsafeCell::new(bytes))
    }

    /// Takes over what `other` holds.
    pub(super) fn copy_from(&mut self, other: &mut FpuArea) {
        *self.0.get_mut() = *other.0.get_mut();
    }

    /// What it holds.
    pub(super) fn state(&mut self) -> FpuState {
        FpuState(*self.0.get_mut())
    }

    /// Takes over what a program wrote, without what the CPU would refuse to load.
    pub(super) fn set_state(&mut self, state: &FpuState) {
        let bytes = self.0.get_mut();
        *bytes = state.0;
        keep_bits(
            &mut bytes[MXCSR_OFFSET..MXCSR_OFFSET + 4],
            &MXCSR_MASK.load(Ordering::Relaxed).to_le_bytes(),
        );
        // The header: which parts are there, and otherwise zeroes.
        let (parts, reserved) = bytes[HEADER_OFFSET..XSAVE_AVX_OFFSET].split_at_mut(8);
        keep_bits(parts, &OFFERED.bits().to_le_bytes());
        reserved.fill(0);
        if live_size() < FPU_AREA_SIZE {
            keep_bits(parts, &(OFFERED - XCr0Flags::AVX).bits().to_le_bytes());
        }
    }

    /// Puts the CPU's registers here.
    #[inline]
    pub(super) fn save(&self) {
        let area = self.0.get();
        // SAFETY: the area is large enough for what XCR0 enables (`init` checked) and aligned to 64.
        unsafe {
            if has_xsave() {
                core::arch::asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX,
                    options(nostack, preserves_flags));
            } else {
                core::arch::asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
            }
        }
    }

    /// Loads the CPU's registers from here.
    #[inline]
    pub(super) fn restore(&self) {
        let area = self.0.get();
        // SAFETY: the contents come from `new` or `save`, so no reserved bit is set.
        unsafe {
            if has_xsave() {
                core::arch::asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX,
                    options(nostack, preserves_flags));
            } else {
                core::arch::asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags));
            }
        }
    }
}

fn keep_bits(bytes: &mut [u8], mask: &[u8]) {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte &= mask;
    }
}

impl Default for FpuArea {
    fn default() -> FpuArea {
        FpuArea::new()
    }
}

/// Turns on XSAVE where the CPU has it.
///
/// # Safety
/// To be called once per CPU, at boot, before ring 3 is entered.
pub(super) unsafe fn init(cpuid: &CpuId<raw_cpuid::CpuIdReaderNative>) {
    // FXSAVE says what MXCSR may hold; 0 stands for the oldest CPUs' set.
    let mut area = FpuArea::new();
    area.save();
    let bytes = area.0.get_mut();
    let mask = bytes[MXCSR_MASK_OFFSET..]
        .first_chunk()
        .map_or(0, |mask| u32::from_le_bytes(*mask));
    if mask != 0 {
        MXCSR_MASK.store(mask, Ordering::Relaxed);
    }
    if !cpuid.get_feature_info().is_some_and(|f| f.has_xsave()) {
        return;
    }
    // SAFETY: the CPU has XSAVE.
    unsafe { Cr4::write(Cr4::read() | Cr4Flags::OSXSAVE) };
    let avx = cpuid.get_feature_info().is_some_and(|f| f.has_avx());
    let mut state = XCr0Flags::X87 | XCr0Flags::SSE;
    let mut size = XSAVE_AVX_OFFSET;
    let avx_fits = cpuid
        .get_extended_state_info()
        .and_then(|info| info.iter().find(|state| state.subleaf == 2))
        .is_some_and(|state| state.offset() as usize == XSAVE_AVX_OFFSET && state.size() == 256);
    if avx && avx_fits {
        state |= XCr0Flags::AVX;
        size = FPU_AREA_SIZE;
    }
    // SAFETY: only state that the CPU has; x87 is always among it.
    unsafe { XCr0::write(state) };
    XSAVE.store(true, Ordering::Relaxed);
    LIVE_SIZE.store(size, Ordering::Relaxed);
}

/// Whether XSAVE is in use.
#[inline]
pub fn has_xsave() -> bool {
    XSAVE.load(Ordering::Relaxed)
}

/// Bytes of an [`FpuArea`] that this CPU uses.
pub fn live_size() -> usize {
    LIVE_SIZE.load(Ordering::Relaxed)
}
