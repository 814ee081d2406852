//! `swapctl`: swap space.

use super::{Command, FAILED, Status, run, usage};
use crate::disk::NamedDisk;
use crate::shell::Context;
use alloc::{string::String, vec::Vec};
use core::fmt;
use uvm::Uvm;
use uvm::io::{self, BlockDevice};
use uvm::swap::{Discarding, SwapDevice, SwapError};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "swapctl",
    usage: "[-l | -s | -a DISK [-p PRIORITY] [-o OPTION] | -d DISK | DISK [-p PRIORITY] [-o OPTION]]",
    summary: "show and change swap space",
    details: "-l lists the devices with sizes in KiB (so does no option), -s sums them up. -a uses a disk as swap space, -d takes it away \
              and awaits that what is on it is back in memory, -p changes its priority: lower numbers are filled first, those of \
              the same take turns. With -o discard the disk hears, when there is nothing else to do, which of its pages are free, so that whose \
              space it is has it back; -o nodiscard ends that. Where this gains something it is on from the start; for a disk in memory it is \
              off. Disks are those that the machine was started with for swap (--swap, --ramdisk SIZE,swap).",
    run: run!(swapctl),
}];

/// What is asked for.
enum Request {
    List,
    Sum,
    Add(String, Changes),
    Remove(String),
    Change(String, Changes),
}

/// What is to be otherwise with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Changes {
    priority: Option<i16>,
    discards: Option<Discards>,
}

/// Whether a disk hears of what is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Discards {
    Yes,
    No,
}

impl Changes {
    /// Of a disk that is swap space.
    fn apply(self, uvm: &Uvm, disk: &str) -> Result<(), SwapError> {
        match self.discards {
            Some(Discards::Yes) => uvm.start_discards(disk)?,
            Some(Discards::No) => uvm.stop_discards(disk)?,
            None => {}
        }
        match self.priority {
            Some(priority) => uvm.set_swap_priority(disk, priority),
            None => Ok(()),
        }
    }
}

fn parse(args: &[String]) -> Result<Request, String> {
    let confused = || "these options do not go together".into();
    let (mut action, mut disk, mut changes) = (None, None, Changes::default());
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let taken = match word {
            "-p" => changes.priority.replace(priority(words.next())?).is_some(),
            "-o" => changes.discards.replace(discards(words.next())?).is_some(),
            "-l" | "-s" | "-a" | "-d" => action.replace(word).is_some(),
            word => disk.replace(String::from(word)).is_some(),
        };
        if taken {
            return Err(confused());
        }
    }
    let same = changes == Changes::default();
    Ok(match (action, disk) {
        (None | Some("-l"), None) if same => Request::List,
        (Some("-s"), None) if same => Request::Sum,
        (Some("-a"), Some(disk)) => Request::Add(disk, changes),
        (Some("-d"), Some(disk)) if same => Request::Remove(disk),
        (None, Some(disk)) if !same => Request::Change(disk, changes),
        _ => return Err(confused()),
    })
}

fn priority(word: Option<&str>) -> Result<i16, String> {
    let word = word.ok_or("-p wants a priority")?;
    word.parse()
        .map_err(|_| alloc::format!("`{word}` is not a priority (-32768 to 32767)"))
}

fn discards(word: Option<&str>) -> Result<Discards, String> {
    match word {
        Some("discard") => Ok(Discards::Yes),
        Some("nodiscard") => Ok(Discards::No),
        _ => Err("-o wants `discard` or `nodiscard`".into()),
    }
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
        Request::Add(disk, changes) => {
            let known = shell.system().swap_disks.iter().find(|d| d.name == disk);
            let result = match known {
                Some(known) => add(uvm, known, changes).await,
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
        Request::Change(disk, changes) => {
            let result = changes.apply(uvm, &disk);
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

/// Uses a disk as swap space; not if that cannot be as it was asked for.
async fn add(uvm: &Uvm, disk: &NamedDisk, changes: Changes) -> Result<(), SwapError> {
    let wanted = changes.discards == Some(Discards::Yes);
    if wanted && disk.device.discards() == io::Discards::Unsupported {
        return Err(SwapError::NoDiscard);
    }
    let priority = changes.priority.unwrap_or(0);
    let device = disk.device.clone();
    uvm.swapon(device, &disk.name, priority).await?;
    let rest = Changes {
        priority: None,
        ..changes
    };
    rest.apply(uvm, &disk.name)
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
        "{:<12}{:>12}{:>12}{:>12}{:>9}{:>9}{:>9}",
        "DISK", "KiB", "USED", "AVAILABLE", "BAD", "PRIORITY", "DISCARD"
    ));
    for device in shell.system().uvm.swap_devices() {
        let SwapDevice {
            name,
            priority,
            pages,
            used,
            bad,
            discarding,
        } = device;
        let discarding = match discarding {
            Discarding::Unsupported => "-",
            Discarding::Off => "off",
            Discarding::On => "on",
            Discarding::Failed => "failed",
        };
        shell.say(format_args!(
            "{name:<12}{:>12}{:>12}{:>12}{:>9}{priority:>9}{discarding:>9}",
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
        let as_it_is = Changes::default();
        let all = |priority, discards| Changes {
            priority: Some(priority),
            discards: Some(discards),
        };
        assert!(
            matches!(words("-a ram0"), Ok(Request::Add(disk, changes)) if disk == "ram0" && changes == as_it_is)
        );
        for text in [
            "-a -p -3 -o discard ram0",
            "-a ram0 -o discard -p -3",
            "ram0 -p -3 -o discard -a",
        ] {
            let expected = all(-3, Discards::Yes);
            assert!(
                matches!(words(text), Ok(Request::Add(disk, changes)) if disk == "ram0" && changes == expected),
                "{text}"
            );
        }
        let expected = all(7, Discards::No);
        assert!(
            matches!(words("-p 7 -o nodiscard ram0"), Ok(Request::Change(_, changes)) if changes == expected)
        );
        assert!(matches!(words("-d ram0"), Ok(Request::Remove(_))));
        for wrong in [
            "-a",
            "-d",
            "-p 1",
            "-p much ram0",
            "-l -s",
            "ram0",
            "-a -p 99999 ram0",
            "-a -d ram0",
            "-d -o discard ram0",
            "-l -o discard",
            "-o discard",
            "ram0 -o",
            "ram0 -o trim",
            "ram0 ram1 -o discard",
            "ram0 -p 1 -p 2",
        ] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }
}
