//! The fence between a driver's store and its next load, for a device that looks the other way round.
//!
//! A processor's `mfence` is one. QEMU's emulator (TCG), when it has a single CPU to emulate, leaves every fence of the guest out, and
//! makes locked instructions plain ones: no other CPU could tell. But its devices run in threads of their own, on a host that does
//! move a store behind a later load. Then the device misses the wish, the driver misses the entry, and the request never comes back.
//! (QEMU 7.2; later versions keep fences.) What it cannot leave out is an access to a port: that takes a lock of the emulator, and so is a
//! fence of the host.

#[cfg(all(target_arch = "x86_64", target_os = "none"))]
use core::arch::x86_64::__cpuid;

#[cfg(all(target_arch = "x86_64", target_os = "none"))]
use x86_64::instructions::port::Port;

/// The port that firmware writes its progress to. Reading it does nothing.
#[cfg(all(target_arch = "x86_64", target_os = "none"))]
const POST: u16 = 0x80;

/// How to fence on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fence {
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "on the host a fence is a fence")
    )]
    emulated: bool,
}

impl Fence {
    /// Asks the processor whether it is emulated.
    pub(super) fn new() -> Self {
        Self {
            emulated: is_emulated(),
        }
    }

    /// Orders every store before it against every load after it, for the device as well.
    ///
    /// Not `atomic::fence`: on a target without SSE2 that is a locked instruction on the stack, which orders as much, but costs more.
    #[inline]
    pub(super) fn full(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every x86-64 processor has the instruction, and it changes nothing.
        unsafe {
            core::arch::asm!("mfence", options(nostack, preserves_flags));
        }
        #[cfg(not(target_arch = "x86_64"))]
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        #[cfg(all(target_arch = "x86_64", target_os = "none"))]
        if self.emulated {
            // SAFETY: reading this port has no effect.
            let _: u8 = unsafe { Port::new(POST).read() };
        }
    }
}

/// Whether QEMU's emulator is what runs this.
#[cfg(all(target_arch = "x86_64", target_os = "none"))]
fn is_emulated() -> bool {
    /// In leaf 1, ecx: somebody answers the leaves of hypervisors.
    const HYPERVISOR: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR == 0 {
        return false;
    }
    let leaf = __cpuid(0x4000_0000);
    [leaf.ebx, leaf.ecx, leaf.edx]
        .map(u32::to_le_bytes)
        .concat()
        == *b"TCGTCGTCGTCG"
}

#[cfg(not(all(target_arch = "x86_64", target_os = "none")))]
const fn is_emulated() -> bool {
    false
}
