//! The last step: the shell, on the console or with commands given beforehand.

use alloc::string::String;
use alloc::sync::Arc;

use crate::arch::{self, ExitCode};
use crate::fs::tty;
use crate::proc::Pid;
use crate::proc::signal::{SigInfo, Signal};
use crate::shell::Shell;
use crate::system::{Exit, System};

/// Sends what Ctrl-C and its kin mean to the programs in the foreground.
pub fn route_signals(system: &System) {
    let processes = system.processes.clone();
    system.console.route_signals(move |group, signal| {
        let signal = match signal {
            tty::Signal::Interrupt => Signal::INT,
            tty::Signal::Quit => Signal::QUIT,
            tty::Signal::Suspend => Signal::TSTP,
            tty::Signal::Window => Signal::WINCH,
        };
        processes.kill_group(Pid(group), SigInfo::from_kernel(signal));
    });
}

/// Runs `commands` and ends the machine with their outcome; without, talks to who sits at the console.
pub async fn run(system: Arc<System>, commands: Option<String>) -> ! {
    let shell = Shell::new(system.clone());
    if let Some(commands) = commands {
        let status = shell.run_line(&commands).await;
        system.exit(if status == 0 {
            Exit::Success
        } else {
            Exit::Failure
        });
    }
    system.console.print(format_args!(
        "auvm {}: {} KiB of memory; `help` lists the commands\n",
        env!("CARGO_PKG_VERSION"),
        system.uvm.uvmexp().npages * uvm::PAGE_SIZE as u64 / 1024,
    ));
    loop {
        shell.clone().interact().await;
    }
}

/// Ends the machine so that the launcher hears how.
pub fn exit(how: Exit) -> ! {
    match how {
        Exit::Success => arch::exit(ExitCode::Success),
        Exit::Failure => arch::exit(ExitCode::CommandFailed),
        Exit::Reboot => arch::reboot(),
    }
}
