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
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::sync::Arc;

    use executor::{Class, Executor};
    use kernel::arch::acpi::Firmware;
    use kernel::arch::boot::StartInfo;
    use kernel::arch::platform::Pc;
    use kernel::arch::time::TimeKind;
    use kernel::arch::{self, ExitCode, cpu, devices, heap, paging, time};
    use kernel::cmdline::CommandLine;
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
        // SAFETY: the one call; what the loader left is read through the direct map from here on.
        unsafe { paging::init(&mut memory) };
        heap::init(&mut memory);
        // SAFETY: the loader's structures are in reserved memory, which the direct map covers.
        let start = unsafe { start.through_direct_map() };
        let words: &'static str = Box::leak(String::from_utf8_lossy(start.command_line()).into());
        let words = CommandLine::new(words);
        log::info!("command line: {}", words.as_str());

        // SAFETY: the loader's address; the kernel's own page tables are in use.
        let firmware = unsafe { Firmware::read(start.rsdp()) }.expect("ACPI tables");
        // SAFETY: once, interrupts are off.
        let hardware = unsafe { devices::init(&firmware, memory) };
        let kind = if words.has("icount") {
            TimeKind::Counted
        } else {
            TimeKind::Real
        };
        // SAFETY: once, interrupts are off.
        unsafe { time::init(kind) };

        let executor = Executor::new(Arc::new(Pc));
        let ticking = executor.clone();
        time::start_timer(Box::leak(Box::new(move || ticking.tick())));
        let _ = hardware;
        let e = executor.clone();
        executor.spawn(Class::Daemon, "main", async move {
            for _ in 0..3 {
                e.sleep(core::time::Duration::from_millis(10)).await;
                log::info!("slept");
            }
            arch::exit(ExitCode::Success)
        });
        ::x86_64::instructions::interrupts::enable();
        executor.run()
    }
}
