//! The command line of `cargo run`: what can be asked for, and which of it makes sense together.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::add::Add;
use crate::fail::Fail;
use crate::ramdisk::RamDisk;
use crate::swap::SwapArea;
use crate::units::Bytes;

/// Least memory that kernel and one program fit into.
const MIN_MEMORY: Bytes = Bytes::mib(16);

/// Build auvm, make its disk image and boot it in QEMU.
///
/// Without --exec you get auvm's shell on this terminal. Leave it with `poweroff`, or with Ctrl-A X.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "auvm",
    version,
    after_help = "Sizes: 512k, 64M, 1G (powers of two). Latencies: 500ns, 100us, 10ms.\n\n\
        Exit status: 0 all well; 1 the last command of --exec failed; 2 auvm was not started;\n\
        101 the kernel panicked; 102 QEMU ended without the kernel's word; 124 out of time."
)]
pub struct Options {
    /// Memory that the kernel has for itself and its programs
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub memory: Bytes,

    /// Processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,

    /// Add a disk with a swap area of this size, forgotten at the end; with --icount a RAM disk (may be repeated)
    #[arg(long, value_name = "SIZE")]
    pub swap: Vec<SwapArea>,

    /// Run these shell commands without a terminal, print what they print, and power off
    #[arg(long, value_name = "CMD; CMD")]
    pub exec: Option<String>,

    /// Kill the machine after this many seconds [default: 600 with --exec, else never]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,

    /// Open a window with auvm's screen and keyboard
    #[arg(long)]
    pub display: bool,

    /// Put a file or directory of this machine into the root image [default guest path: /data/NAME]
    #[arg(long, value_name = "HOSTPATH[:GUESTPATH]")]
    pub add: Vec<Add>,

    /// Show a directory of this machine inside auvm
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,

    /// More words for the kernel's command line, such as torture=evict
    #[arg(long, value_name = "WORDS")]
    pub append: Vec<String>,

    /// Let guest time count instructions, so that whole runs repeat bit for bit
    #[arg(long)]
    pub icount: bool,

    /// Add a disk in memory that answers after LATENCY and serves DEPTH requests at once (may be repeated)
    #[arg(long, value_name = "SIZE[:LATENCY[:DEPTH]][,swap|,fs]")]
    pub ramdisk: Vec<RamDisk>,

    /// Have these pages (of 4 KiB, from 0) of a disk of the host fail, for tests; disks are numbered root first, then --swap (may be repeated)
    #[arg(long, value_name = "virtioN:read|write:FIRST[-LAST]")]
    pub fail: Vec<Fail>,

    /// How guest code runs; auto takes KVM where the processor really offers it
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,

    /// Wait for a debugger on port 1234 before the first instruction
    #[arg(long)]
    pub gdb: bool,

    /// Where the kernel's log goes [default: target/auvm.log]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Keep the root disk in FILE, made on first use; otherwise changes are forgotten at power-off
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,

    /// Build the kernel without optimisation and with all assertions
    #[arg(long)]
    pub debug: bool,

    /// Build everything, boot nothing; a warning in the kernel's build is an error
    #[arg(long)]
    pub build_only: bool,

    /// Print the steps and QEMU's command line, do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Further arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    pub qemu: Vec<String>,
}

/// How QEMU executes guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where it works, else TCG.
    Auto,
    /// QEMU's translator: works everywhere.
    Tcg,
    /// The processor's own virtualisation.
    Kvm,
}

impl Options {
    /// Reads the program's arguments.
    ///
    /// # Errors
    /// One line saying what is wrong. `--help` and `--version` print and end the process.
    pub fn from_args() -> Result<Options, String> {
        Options::from_words(std::env::args_os())
    }

    /// The same from given words; the first is the program's name.
    ///
    /// # Errors
    /// One line saying what is wrong.
    pub fn from_words<W>(words: impl IntoIterator<Item = W>) -> Result<Options, String>
    where
        W: Into<std::ffi::OsString> + Clone,
    {
        let options = Options::try_parse_from(words).map_err(|error| {
            if !error.use_stderr() {
                error.exit();
            }
            // clap adds usage and hints below its first line.
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        })?;
        options.check()?;
        Ok(options)
    }

    /// The swap areas on disks of the host. With `icount` there are none: such a run has no disk of the host.
    pub fn swap_files(&self) -> &[SwapArea] {
        if self.icount { &[] } else { &self.swap }
    }

    /// The machine's RAM disks: those that were asked for, and behind them the swap areas that are on no disk of
    /// the host.
    pub fn ram_disks(&self) -> Vec<RamDisk> {
        let swap = if self.icount { &self.swap[..] } else { &[] };
        let swap = swap.iter().copied().map(RamDisk::with_swap);
        self.ramdisk.iter().cloned().chain(swap).collect()
    }

    /// Refuses what does not exist yet and what contradicts itself.
    fn check(&self) -> Result<(), String> {
        if self.cpus > 1 {
            return Err(format!(
                "--cpus {} is not supported yet: the kernel runs on one processor",
                self.cpus
            ));
        }
        if let Some(dir) = &self.share {
            return Err(format!(
                "--share {} is not supported yet: there is no 9p file system",
                dir.display()
            ));
        }
        if self.memory < MIN_MEMORY {
            return Err(format!(
                "--memory {} is too little: auvm needs at least {MIN_MEMORY}",
                self.memory
            ));
        }
        if self.icount && self.accel == Accel::Kvm {
            return Err("--icount counts instructions, which --accel kvm cannot do".to_owned());
        }
        if self.icount && self.disk.is_some() {
            return Err("--disk cannot be used with --icount: a run with a disk of the host does not repeat".to_owned());
        }
        let disks = if self.icount { 0 } else { 1 + self.swap.len() };
        if let Some(fail) = self.fail.iter().find(|fail| fail.disk >= disks) {
            return Err(match disks {
                0 => "--fail cannot be used with --icount: there is no disk of the host".to_owned(),
                _ => format!(
                    "--fail: there is no disk virtio{}, the last is virtio{}",
                    fail.disk,
                    disks - 1
                ),
            });
        }
        let graphical = ["DISPLAY", "WAYLAND_DISPLAY"]
            .map(std::env::var_os)
            .iter()
            .any(Option::is_some);
        if self.display && !graphical && !self.dry_run {
            return Err(
                "--display needs a graphical session: neither DISPLAY nor WAYLAND_DISPLAY is set"
                    .to_owned(),
            );
        }
        if self.display && self.exec.is_some() {
            return Err("--display cannot be used with --exec: nobody is there to look".to_owned());
        }
        if let Some(disk) = self
            .disk
            .as_ref()
            .filter(|disk| disk.exists() && !self.add.is_empty())
        {
            return Err(format!(
                "--add has no effect on --disk {}, which exists already",
                disk.display()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ramdisk::Carries;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::from_words(["auvm"].iter().chain(words))
    }

    #[test]
    fn every_option_parses() {
        let options = parse(&[
            "--memory",
            "1G",
            "--cpus",
            "1",
            "--exec",
            "ls; ps",
            "--timeout",
            "5",
            "--add",
            "/bin/true:/x",
            "--append",
            "torture=evict",
            "--icount",
            "--swap",
            "256M",
            "--ramdisk",
            "64M:10ms:16,fs",
            "--ramdisk",
            "1M",
            "--accel",
            "tcg",
            "--gdb",
            "--log",
            "/tmp/log",
            "--debug",
            "--dry-run",
            "--",
            "-monitor",
            "none",
        ])
        .unwrap();
        assert_eq!(options.memory, Bytes::mib(1024));
        assert_eq!(options.exec.as_deref(), Some("ls; ps"));
        assert_eq!(options.ramdisk.len(), 2);
        assert_eq!(options.qemu, ["-monitor", "none"]);
        parse(&["--display", "--dry-run", "--disk", "/nosuch/disk.img"]).unwrap();
    }

    #[test]
    fn swap_is_on_the_host_unless_a_run_must_repeat() {
        let words = ["--swap", "1M", "--ramdisk", "2M,swap", "--swap", "3M"];
        let sizes = |disks: Vec<RamDisk>| disks.iter().map(|disk| disk.size.0 >> 20).collect();
        let options = parse(&words).unwrap();
        let sizes_then: Vec<u64> = sizes(options.ram_disks());
        assert_eq!((options.swap_files().len(), sizes_then), (2, vec![2]));
        let options = parse(&[&words[..], &["--icount"]].concat()).unwrap();
        let sizes_then: Vec<u64> = sizes(options.ram_disks());
        assert_eq!((options.swap_files().len(), sizes_then), (0, vec![2, 1, 3]));
        assert!(
            options
                .ram_disks()
                .iter()
                .all(|disk| disk.carries == Carries::Swap)
        );
    }

    #[test]
    fn wrong_ones_get_one_line() {
        for (words, line) in [
            (
                &["--memory", "many"][..],
                "invalid value 'many' for '--memory <SIZE>': expected a number with a unit",
            ),
            (
                &["--memory", "256"],
                "--memory 256 is too little: auvm needs at least 16M",
            ),
            (
                &["--cpus", "2"],
                "--cpus 2 is not supported yet: the kernel runs on one processor",
            ),
            (
                &["--cpus", "0"],
                "invalid value '0' for '--cpus <N>': 0 is not in 1..=64",
            ),
            (
                &["--share", "."],
                "--share . is not supported yet: there is no 9p file system",
            ),
            (
                &["--swap", "8k"],
                "invalid value '8k' for '--swap <SIZE>': a swap area has at least 40k",
            ),
            (
                &["--ramdisk", "8k,swap"],
                "invalid value '8k,swap' for '--ramdisk <SIZE[:LATENCY[:DEPTH]][,swap|,fs]>': size: a swap area has at least 40k",
            ),
            (
                &["--icount", "--accel", "kvm"],
                "--icount counts instructions, which --accel kvm cannot do",
            ),
            (&["--nonsense"], "unexpected argument '--nonsense' found"),
        ] {
            assert_eq!(parse(words).unwrap_err(), line);
        }
    }
}
