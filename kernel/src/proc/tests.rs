//! Processes as a whole on the host: a simulated machine, a file system made by mke2fs, and programs that are
//! Rust functions over their registers ([`super::machine`]).

mod jobs;
mod life;
mod rows;
mod signals;
mod threads;
mod timers;

use super::elf::tests::{file, phdr};
use super::machine::{self, PageFaultCode, Trap, TrapFrame, Wants};
use super::*;
use crate::fs::ext2::Ext2;
use crate::fs::mount::Location;
use crate::fs::testing::{MemoryDisk, make_image};
use ::elf::abi;
use executor::testing::Driver;
use linux_raw_sys::general as sys;
use std::boxed::Box;
use std::format;
use std::rc::Rc;
use std::vec::Vec;
use uvm::Access;
use uvm::addr::VirtAddr;
use uvm::testing::{Host, HostConfig};

#[test]
fn a_thread_fits_its_uarea() {
    let spare = super::body::spare();
    std::println!("{spare} bytes of a u-area to spare");
    assert!(
        spare >= 2048,
        "the LWP's future has grown: box its largest arm ({spare} bytes left)"
    );
}

/// Where program number `n` begins.
const fn entry(n: u64) -> u64 {
    0x40_1000 + n * 0x10_0000
}

/// A machine with four programs, `/0` to `/3`, each a file of its own with one page of text.
struct World {
    driver: Driver,
    host: Host,
    processes: Arc<Processes>,
    root: Location,
}

impl World {
    fn new(seed: u64) -> World {
        let driver = Driver::seeded(seed);
        let config = HostConfig {
            frames: 4096,
            ..HostConfig::default()
        };
        let host = Host::with_executor(&config, driver.executor().clone());
        let cpu = host.machine.clone();
        machine::set_memory(Box::new(move |va, wants| {
            let access = if wants == Wants::Write {
                Access::Write
            } else {
                Access::Read
            };
            cpu.translate(VirtAddr::try_new(va).ok()?, access, true)
                .ok()
        }));
        let executor = driver.executor().clone();
        machine::set_tick(Box::new(move || executor.tick()));
        let disk = MemoryDisk::new(&host.uvm, image());
        let vfs = Arc::new(Vfs::new());
        let uvm = host.uvm.clone();
        let mounting = vfs.clone();
        driver.run_until(async move {
            let ext2 = Ext2::mount(&uvm, disk, 1)
                .await
                .expect("the image is sound");
            mounting.mount_root(ext2).expect("there is no root yet");
        });
        let root = vfs.root().expect("just mounted");
        let resources = Resources {
            executor: driver.executor().clone(),
            uvm: host.uvm.clone(),
            vfs,
            epoch: 1_000_000_000,
            seed: 1,
        };
        let processes = Processes::new(resources);
        World {
            driver,
            host,
            processes,
            root,
        }
    }

    /// Starts program `n`.
    fn spawn(&mut self, n: u64) -> Result<Child, SpawnError> {
        let (processes, cwd) = (self.processes.clone(), self.root.clone());
        self.driver.run_until(async move {
            let path = format!("/{n}");
            let argv: [&[u8]; 2] = [path.as_bytes(), b"argument"];
            let program = Program {
                path: path.as_bytes(),
                argv: &argv,
                env: &[b"A=1"],
                cwd,
                files: &[],
                front: None,
            };
            processes.spawn(program).await
        })
    }

    /// Starts program `n` and waits for it.
    fn run(&mut self, n: u64) -> ExitStatus {
        let child = self.spawn(n).expect("the program starts");
        self.driver.run_until(child.wait())
    }

    /// Nothing is left of what ran: no process, no thread, no contradiction.
    fn check(&mut self) {
        self.driver.run_until_stalled();
        assert_eq!(self.processes.table().lock().len(), 1, "only init is left");
        if let Err(error) = self.host.uvm.check() {
            panic!("{error}");
        }
    }
}

/// Statically linked files that hold one page of text each and differ in where it goes.
fn image() -> Vec<u8> {
    static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let made = IMAGE.get_or_init(|| {
        let tree = tempfile::tempdir().expect("a place for files");
        let root = tree.path().join("root");
        std::fs::create_dir(&root).expect("the directory is new");
        for n in 0..4 {
            let text = phdr(
                abi::PT_LOAD,
                abi::PF_R | abi::PF_X,
                0,
                entry(n) - 0x1000,
                0x1800,
                0x1800,
            );
            let data = phdr(
                abi::PT_LOAD,
                abi::PF_R | abi::PF_W,
                0x1800,
                entry(n) + 0x1_0800,
                0x100,
                0x3000,
            );
            let mut bytes = file(abi::ET_EXEC, entry(n), &[text, data]);
            bytes.resize(0x1800, 0);
            bytes.resize(0x1900, n as u8 + 1);
            std::fs::write(root.join(format!("{n}")), bytes).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(root.join(format!("{n}")), mode).expect("our own file");
        }
        std::fs::write(root.join("text"), "no program\n").expect("written");
        let script = root.join("script");
        std::fs::write(&script, "#!/2 one two\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).expect("our own file");
        make_image(&root, 4096, 256, &[])
    });
    made.clone()
}

/// From now on program `n` is this: told its step and its registers, it answers with its next trap.
fn program(n: u64, body: impl Fn(u64, &mut TrapFrame) -> Trap + 'static) {
    machine::set_program(entry(n), Rc::new(body));
}

/// A system call.
fn call(frame: &mut TrapFrame, number: u32, args: &[u64]) -> Trap {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    frame.rax = number.into();
    [
        frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9,
    ] = all;
    Trap::Syscall
}

fn exit(frame: &mut TrapFrame, code: u64) -> Trap {
    call(frame, sys::__NR_exit_group, &[code])
}

/// A store of the program's. `Some` is the fault to trap with; the step is then run again.
fn store(at: u64, bytes: &[u8]) -> Option<Trap> {
    let code = PageFaultCode::USER | PageFaultCode::WRITE;
    machine::copyout(at, bytes)
        .err()
        .map(|fault| Trap::PageFault { va: fault.va, code })
}

/// A load of the program's, of a word.
fn load(at: u64) -> Result<u64, Trap> {
    let mut bytes = [0; 8];
    let code = PageFaultCode::USER;
    let loaded =
        machine::copyin(&mut bytes, at).map_err(|fault| Trap::PageFault { va: fault.va, code });
    loaded.map(|()| u64::from_le_bytes(bytes))
}

/// `errno` as a call returns it.
fn error(number: u32) -> u64 {
    u64::from(number).wrapping_neg()
}
