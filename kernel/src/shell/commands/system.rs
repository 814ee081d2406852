//! Commands about the machine: `help`, `echo`, `sysctl`, `dmesg`, `uptime`, `poweroff`, `reboot`.

use super::{Command, FAILED, Status, all, find, run, usage};
use crate::shell::Context;
use crate::system::Exit;
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use uvm::policy::Setting;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "help",
        usage: "[COMMAND]",
        summary: "list the commands, or explain one",
        details: "",
        run: run!(help),
    },
    Command {
        name: "echo",
        usage: "[WORD]...",
        summary: "print words",
        details: "`echo $?` prints the status of the last command.",
        run: run!(echo),
    },
    Command {
        name: "sysctl",
        usage: "[-d] [NAME | NAME=VALUE]...",
        summary: "show and change settings of the kernel, show its counters",
        details: "NAME may be a prefix, such as vm; without one, all are shown. NAME=VALUE changes a setting and shows what it was and is. -d tells \
                  what a name means, and which can be changed.",
        run: run!(sysctl),
    },
    Command {
        name: "dmesg",
        usage: "",
        summary: "print the last part of the kernel's log",
        details: "The whole log is in the launcher's --log file on the host.",
        run: run!(dmesg),
    },
    Command {
        name: "uptime",
        usage: "",
        summary: "show how long the machine has been up",
        details: "",
        run: run!(uptime),
    },
    Command {
        name: "poweroff",
        usage: "",
        summary: "end the machine",
        details: "Programs that still run are ended with it.",
        run: run!(poweroff),
    },
    Command {
        name: "reboot",
        usage: "",
        summary: "start the machine again",
        details: "Programs that still run are ended with it. Changes of the root disk are lost, as at power-off.",
        run: run!(reboot),
    },
];

async fn help(shell: Context, args: Vec<String>) -> Status {
    match args.as_slice() {
        [] => {
            for command in all() {
                shell.say(format_args!("  {:<10}{}", command.name, command.summary));
            }
            shell.say(format_args!(
                "`help COMMAND` explains one. Jobs end with ; or &, words are quoted with ' \" and \\, $? is the last status.\n\
                 Keys: arrows, Tab, Ctrl-A E K U W; Ctrl-C ends what runs, Ctrl-D powers off."
            ));
            0
        }
        [name] => match find(name) {
            Some(command) => {
                shell.say(format_args!("usage: {} {}", command.name, command.usage));
                shell.say(format_args!("{}", command.summary));
                if !command.details.is_empty() {
                    shell.say(format_args!("{}", command.details));
                }
                0
            }
            None => {
                shell.say(format_args!(
                    "help: there is no command `{name}`; `help` lists them"
                ));
                FAILED
            }
        },
        _ => usage(&shell, "help", format_args!("takes one command")),
    }
}

async fn echo(shell: Context, args: Vec<String>) -> Status {
    shell.say(format_args!("{}", args.join(" ")));
    0
}

async fn sysctl(shell: Context, mut args: Vec<String>) -> Status {
    let describe = args.first().is_some_and(|arg| arg == "-d");
    if describe {
        args.remove(0);
    }
    if let Some(option) = args.iter().find(|arg| arg.starts_with('-')) {
        return usage(
            &shell,
            "sysctl",
            format_args!("there is no option {option}"),
        );
    }
    if args.is_empty() {
        // Everything: the prefix of all names.
        args.push(String::new());
    }
    let mut status = 0;
    for wanted in &args {
        let outcome = match wanted.split_once('=') {
            Some((name, value)) if !describe => set(&shell, name.trim(), value.trim()),
            _ => show(&shell, wanted, describe),
        };
        if let Err(why) = outcome {
            shell.say(format_args!("sysctl: {why}"));
            status = FAILED;
        }
    }
    status
}

/// Something that `sysctl` shows: its value, and what it is.
struct Value {
    value: String,
    what: String,
}

/// Shows what is called `wanted` or stands below it.
fn show(shell: &Context, wanted: &str, describe: bool) -> Result<(), String> {
    let below = |name: &str| {
        name.strip_prefix(wanted).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('.') || wanted.is_empty() || wanted.ends_with('.')
        })
    };
    let mut found = false;
    for (name, Value { value, what }) in values(shell).iter().filter(|(name, _)| below(name)) {
        match describe {
            true => shell.say(format_args!("{name}: {what}")),
            false => shell.say(format_args!("{name} = {value}")),
        }
        found = true;
    }
    match found {
        true => Ok(()),
        false => Err(format!("there is no `{wanted}`; `sysctl` shows all")),
    }
}

/// Changes a setting and says so.
fn set(shell: &Context, name: &str, value: &str) -> Result<(), String> {
    let uvm = &shell.system().uvm;
    let Some(setting) = Setting::ALL.iter().find(|setting| setting.name() == name) else {
        return Err(match values(shell).contains_key(name) {
            true => format!("{name} cannot be set; `sysctl -d` tells what can"),
            false => format!("there is no `{name}`; `sysctl` shows all"),
        });
    };
    let number = value
        .parse()
        .map_err(|_| format!("{name}: `{value}` is not a number"))?;
    let before = uvm.setting(*setting);
    uvm.set_setting(*setting, number)
        .map_err(|why| format!("{name}: {number} {why}"))?;
    shell.say(format_args!(
        "{name}: {before} -> {}",
        uvm.setting(*setting)
    ));
    Ok(())
}

/// All names, in the order of the alphabet.
fn values(shell: &Context) -> BTreeMap<String, Value> {
    let system = shell.system();
    let mut values = BTreeMap::new();
    let mut add = |name: &str, value: String, what: &str| {
        let what = String::from(what);
        values.insert(String::from(name), Value { value, what })
    };
    for (name, value, what) in [
        ("kern.ostype", crate::system::OS_NAME, "the system's name"),
        ("kern.osrelease", crate::system::OS_RELEASE, "its version"),
        (
            "kern.cmdline",
            &system.command_line,
            "words from the launcher",
        ),
    ] {
        add(name, String::from(value), what);
    }
    let now = system.executor.now();
    add("kern.uptime_ns", format!("{now}"), "nanoseconds since boot");
    add("hw.ncpu", format!("{}", system.uvm.cpus()), "processors");
    for (name, value, what) in system.uvm.uvmexp().iter() {
        add(&format!("vm.{name}"), format!("{value}"), what);
    }
    // Some are gauges too, and then told as what can be set.
    for setting in Setting::ALL {
        let value = format!("{}", system.uvm.setting(*setting));
        let what = format!("{} (can be set)", setting.describe());
        add(setting.name(), value, &what);
    }
    values
}

async fn dmesg(shell: Context, args: Vec<String>) -> Status {
    if !args.is_empty() {
        return usage(&shell, "dmesg", format_args!("takes no arguments"));
    }
    let mut at = 0;
    let mut chunk = [0; 512];
    loop {
        let (next, len) = crate::log::read(at, &mut chunk);
        if len == 0 {
            return 0;
        }
        shell.system().console.print_bytes(&chunk[..len]);
        at = next;
    }
}

async fn uptime(shell: Context, args: Vec<String>) -> Status {
    if !args.is_empty() {
        return usage(&shell, "uptime", format_args!("takes no arguments"));
    }
    let ns = shell.system().executor.now();
    let seconds = ns / 1_000_000_000;
    shell.say(format_args!(
        "up {}:{:02}:{:02}.{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        ns / 1_000_000 % 1000
    ));
    0
}

async fn poweroff(shell: Context, args: Vec<String>) -> Status {
    if !args.is_empty() {
        return usage(&shell, "poweroff", format_args!("takes no arguments"));
    }
    shell.system().exit(Exit::Success)
}

async fn reboot(shell: Context, args: Vec<String>) -> Status {
    if !args.is_empty() {
        return usage(&shell, "reboot", format_args!("takes no arguments"));
    }
    shell.system().exit(Exit::Reboot)
}
