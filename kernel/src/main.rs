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
mod sequence {
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use drivers::pci::{self, ConfigSpace, Ecam, Function};
    use executor::{Class, Executor};
    use kernel::arch::acpi::Firmware;
    use kernel::arch::boot::StartInfo;
    use kernel::arch::devices::Hardware;
    use kernel::arch::platform::Pc;
    use kernel::arch::time::TimeKind;
    use kernel::arch::{cpu, devices, heap, paging, time};
    use kernel::boot::console::Devices;
    use kernel::boot::{disks, files, memory, shell, swap};
    use kernel::cmdline::CommandLine;
    use kernel::console::Audience;
    use kernel::fs::mount::Vfs;
    use kernel::memmap::{MemoryMap, Range};
    use kernel::proc::oom::OomKiller;
    use kernel::proc::{Processes, Resources};
    use kernel::system::{Exit, System};
    use log::LevelFilter;

    /// Called by the entry code on the boot stack, in 64-bit mode, on the boot page tables, with interrupts off.
    #[unsafe(no_mangle)]
    extern "C" fn kernel_main(start_info: u64) -> ! {
        kernel::log::init(LevelFilter::Info);
        log::info!("auvm {}", env!("CARGO_PKG_VERSION"));
        // SAFETY: first of all, once, as the entry code left the machine.
        unsafe { cpu::init() };
        cpu::report();

        // What memory there is, and page tables of our own.
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
        let root = unsafe { paging::init(&mut memory) };
        // SAFETY: the loader's structures are in reserved memory, which the direct map covers.
        let start = unsafe { start.through_direct_map() };
        // Disks live on the first piece of the heap, so they are counted before there is one.
        let more_disks = str::from_utf8(start.command_line())
            .map_or(0, |words| CommandLine::new(words).more_disks());
        heap::init(&mut memory, more_disks);
        let words: &'static str = Box::leak(String::from_utf8_lossy(start.command_line()).into());
        let words = CommandLine::new(words);
        log::info!("command line: {}", words.as_str());

        // Interrupts and time.
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

        // Tasks.
        let executor = Executor::new(Arc::new(Pc));
        let ticking = executor.clone();
        time::start_timer(Box::leak(Box::new(move || ticking.tick())));

        // Devices, then all memory that they left.
        let functions = pci_functions(&firmware, hardware);
        let console = Devices::find(&functions, hardware);
        let mut disks = disks::Sources {
            words,
            modules: start.modules(),
            functions: &functions,
            hardware,
            executor: &executor,
        }
        .start();
        let uvm = memory::start(hardware, root, &executor, torture(words));

        // Everything that waits for a device.
        let running = executor.clone();
        executor.spawn(Class::Daemon, "main", async move {
            let commands = words.exec();
            let audience = match commands {
                Ok(None) => Audience::Person,
                _ => Audience::Script,
            };
            let console = console.console(audience, &running);
            let fail = |what: &dyn core::fmt::Display| -> ! {
                log::error!("{what}");
                console.print(format_args!("auvm: {what}\n"));
                shell::exit(Exit::Failure)
            };
            let commands = commands.unwrap_or_else(|error| fail(&error));
            let vfs = Arc::new(Vfs::new());
            let swap_disks = core::mem::take(&mut disks.swaps);
            if let Err(why) = files::mount(uvm, &vfs, disks, console.tty().clone()).await {
                fail(&why);
            }
            swap::start(uvm, &running, &swap_disks).await;
            let processes = Processes::new(Resources {
                executor: running.clone(),
                uvm: uvm.clone(),
                vfs: vfs.clone(),
                epoch: time::unix_now() - time::now(),
                // A counted run repeats exactly.
                seed: if kind == TimeKind::Real {
                    cpu::seed()
                } else {
                    0
                },
            });
            uvm.set_killer(OomKiller::new(&processes, console.clone()));
            let system = Arc::new(System {
                uvm: uvm.clone(),
                executor: running,
                processes,
                vfs,
                console,
                swap_disks,
                command_line: words.as_str().into(),
                exit: shell::exit,
            });
            shell::route_signals(&system);
            heap::seal();
            shell::run(system, commands).await
        });
        ::x86_64::instructions::interrupts::enable();
        executor.run()
    }

    /// What is on PCI; nothing where there is no PCI Express.
    fn pci_functions(firmware: &Firmware, hardware: &'static Hardware) -> Vec<Function> {
        let Some(window) = &firmware.pci else {
            log::error!("pci: the firmware names no PCI Express configuration space");
            return Vec::new();
        };
        let (segment, buses) = (window.segment, window.buses.clone());
        let config: ConfigSpace =
            Arc::new(Ecam::new(hardware, window.address, segment, buses.clone()));
        let functions = pci::enumerate(&config, segment, buses);
        for function in &functions {
            log::info!("pci: {function}");
        }
        functions
    }

    /// Whether the pagedaemon shall evict all the time.
    fn torture(words: CommandLine<'_>) -> bool {
        match words.value("torture") {
            Ok(None) => false,
            Ok(Some(what)) if what == "evict" => true,
            Ok(Some(what)) => {
                log::error!("torture={what}: only `evict` is known");
                false
            }
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }
}
