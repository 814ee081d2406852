//! Commands about the machine: `help`, `echo`, `sysctl`, `dmesg`, `uptime`, `poweroff`, `reboot`.

use super::{Command, FAILED, Status, all, find, run, usage};
use crate::shell::Context;
use crate::system::Exit;
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

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
        usage: "[NAME]...",
        summary: "show settings and counters of the kernel",
        details: "NAME may be a prefix, such as vm; without one, all are shown.",
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

async fn sysctl(shell: Context, args: Vec<String>) -> Status {
    let values = values(&shell);
    let matches = |name: &str, wanted: &str| {
        name.strip_prefix(wanted)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || wanted.ends_with('.'))
    };
    let mut status = 0;
    if args.is_empty() {
        for (name, value) in &values {
            shell.say(format_args!("{name} = {value}"));
        }
    }
    for wanted in &args {
        if let Some((name, _)) = wanted.split_once('=') {
            shell.say(format_args!(
                "sysctl: {name} cannot be set while the machine runs"
            ));
            status = FAILED;
            continue;
        }
        let mut found = false;
        for (name, value) in values.iter().filter(|(name, _)| matches(name, wanted)) {
            shell.say(format_args!("{name} = {value}"));
            found = true;
        }
        if !found {
            shell.say(format_args!(
                "sysctl: there is no `{wanted}`; `sysctl` shows all"
            ));
            status = FAILED;
        }
    }
    status
}

/// All names and their values, as text.
fn values(shell: &Context) -> BTreeMap<String, String> {
    let system = shell.system();
    let mut values = BTreeMap::new();
    let mut add = |name: &str, value: String| values.insert(String::from(name), value);
    add("kern.ostype", String::from(crate::system::OS_NAME));
    add("kern.osrelease", String::from(crate::system::OS_RELEASE));
    add("kern.cmdline", system.command_line.clone());
    add("kern.uptime_ns", format!("{}", system.executor.now()));
    add("hw.ncpu", format!("{}", system.uvm.cpus()));
    for (name, value, _) in system.uvm.uvmexp().iter() {
        add(&format!("vm.{name}"), format!("{value}"));
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
