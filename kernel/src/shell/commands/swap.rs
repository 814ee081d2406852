//! `swapctl`: swap space.

use super::{Command, FAILED, Status, run, usage};
use crate::shell::Context;
use alloc::{string::String, vec::Vec};
use core::fmt;
use uvm::swap::{SwapDevice, SwapError};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "swapctl",
    usage: "[-l | -s | -a [-p PRIORITY] DISK | -d DISK | -p PRIORITY DISK]",
    summary: "show and change swap space",
    details: "-l lists the devices with sizes in KiB (so does no option), -s sums them up. -a uses a disk as swap space, -d takes it away \
              and awaits that what is on it is back in memory, -p changes its priority: lower numbers are filled first, those of \
              the same take turns. Disks are those that the machine was started with for swap (--swap, --ramdisk SIZE,swap).",
    run: run!(swapctl),
}];

/// What is asked for.
enum Request {
    List,
    Sum,
    Add(String, i16),
    Remove(String),
    Priority(String, i16),
}

fn parse(args: &[String]) -> Result<Request, String> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |word: &str| {
        word.parse()
            .map_err(|_| alloc::format!("`{word}` is not a priority (-32768 to 32767)"))
    };
    Ok(match *words.as_slice() {
        [] | ["-l"] => Request::List,
        ["-s"] => Request::Sum,
        ["-a", "-p", priority, disk] => Request::Add(disk.into(), number(priority)?),
        ["-a", disk] => Request::Add(disk.into(), 0),
        ["-d", disk] => Request::Remove(disk.into()),
        ["-p", priority, disk] => Request::Priority(disk.into(), number(priority)?),
        _ => return Err("these options do not go together".into()),
    })
}

async fn swapctl(shell: Context, args: Vec<String>) -> Status {
    let request = match parse(&args) {
        Ok(request) => request,
        Err(why) => return usage(&shell, "swapctl", format_args!("{why}")),
    };
    let uvm = &shell.system().uvm;
    let (disk, result) = match request {
        Request::List => {
            list(&shell);
            return 0;
        }
        Request::Sum => {
            let (devices, total) = sum(&shell);
            shell.say(format_args!(
                "total: {} KiB, {} KiB used, {} KiB available, {devices} devices",
                kib(total.pages),
                kib(total.used),
                kib(total.pages - total.used)
            ));
            return 0;
        }
        Request::Add(disk, priority) => {
            let known = shell.system().swap_disks.iter().find(|d| d.name == disk);
            let result = match known {
                Some(known) => uvm.swapon(known.device.clone(), &disk, priority).await,
                None => {
                    shell.say(format_args!(
                        "swapctl: there is no disk {disk} for swap; the machine was started with {}",
                        Names(&shell)
                    ));
                    return FAILED;
                }
            };
            (disk, result)
        }
        Request::Remove(disk) => {
            let result = uvm.swapoff(&disk).await;
            (disk, result)
        }
        Request::Priority(disk, priority) => {
            let result = uvm.set_swap_priority(&disk, priority);
            (disk, result)
        }
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            complain(&shell, &disk, error);
            FAILED
        }
    }
}

fn complain(shell: &Context, disk: &str, error: SwapError) {
    let hint = match error {
        SwapError::Unknown => "; `swapctl -l` lists what is",
        SwapError::OutOfMemory => "; what is on it does not fit anywhere else",
        _ => "",
    };
    shell.say(format_args!("swapctl: {disk}: {error}{hint}"));
}

const fn kib(pages: usize) -> usize {
    pages * uvm::PAGE_SIZE / 1024
}

fn list(shell: &Context) {
    shell.say(format_args!(
        "{:<12}{:>12}{:>12}{:>12}{:>9}{:>9}",
        "DISK", "KiB", "USED", "AVAILABLE", "BAD", "PRIORITY"
    ));
    for device in shell.system().uvm.swap_devices() {
        let SwapDevice {
            name,
            priority,
            pages,
            used,
            bad,
        } = device;
        shell.say(format_args!(
            "{name:<12}{:>12}{:>12}{:>12}{:>9}{priority:>9}",
            kib(pages),
            kib(used),
            kib(pages - used),
            kib(bad),
        ));
    }
}

/// Pages of all devices.
struct Total {
    pages: usize,
    used: usize,
}

fn sum(shell: &Context) -> (usize, Total) {
    let devices = shell.system().uvm.swap_devices();
    let total = Total {
        pages: devices.iter().map(|device| device.pages).sum(),
        used: devices.iter().map(|device| device.used).sum(),
    };
    (devices.len(), total)
}

/// The disks that there are for swap.
struct Names<'a>(&'a Context);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disks = &self.0.system().swap_disks;
        if disks.is_empty() {
            return f.write_str("none");
        }
        for (i, disk) in disks.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, disk.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_together_in_few_ways() {
        let words = |text: &str| {
            parse(
                &text
                    .split_whitespace()
                    .map(String::from)
                    .collect::<Vec<_>>(),
            )
        };
        assert!(matches!(words(""), Ok(Request::List)));
        assert!(matches!(words("-s"), Ok(Request::Sum)));
        assert!(matches!(words("-a ram0"), Ok(Request::Add(disk, 0)) if disk == "ram0"));
        assert!(matches!(words("-a -p -3 ram0"), Ok(Request::Add(_, -3))));
        assert!(matches!(words("-p 7 ram0"), Ok(Request::Priority(_, 7))));
        assert!(matches!(words("-d ram0"), Ok(Request::Remove(_))));
        for wrong in [
            "-a",
            "-d",
            "-p 1",
            "-p much ram0",
            "-l -s",
            "ram0",
            "-a -p 99999 ram0",
        ] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }
}
