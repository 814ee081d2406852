//! auvm's boot sequence, in order. On a hosted target there is nothing to boot.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a kernel: boot it with `cargo run`");
    std::process::exit(2);
}

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod boot {
    use kernel::arch::boot::StartInfo;
    use kernel::arch::{self, ExitCode, cpu, heap, paging};
    use kernel::memmap::{MemoryMap, Range};
    use log::LevelFilter;

    /// Called by the entry code on the boot stack, in 64-bit mode, on the boot page tables, with interrupts off.
    #[unsafe(no_mangle)]
    extern "C" fn kernel_main(start_info: u64) -> ! {
        kernel::log::init(LevelFilter::Info);
        log::info!("auvm {}", env!("CARGO_PKG_VERSION"));
        // SAFETY: first of all, once, as the entry code left the machine.
        unsafe { cpu::init() };
        cpu::report();

        // SAFETY: the loader's address, and the boot tables are active.
        let start = unsafe { StartInfo::read(start_info) };
        let mut memory = MemoryMap::new(start.ram());
        memory.reserve(paging::image());
        for (address, size) in start.occupied() {
            memory.reserve(Range::new(address, size));
        }
        for module in start.modules() {
            memory.reserve(Range::new(module.address, module.size));
        }
        for range in memory.ram() {
            log::info!("memory: {range:?}");
        }
        // SAFETY: the one call; nothing read so far is used through its old address from here on.
        unsafe { paging::init(&mut memory) };
        heap::init(&mut memory);
        for range in memory.free() {
            log::info!("free: {range:?}");
        }
        arch::exit(ExitCode::Success)
    }
}
