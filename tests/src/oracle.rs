//! Linux as the oracle: a program runs on this host first, and must do the same on auvm.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use launcher::compile::{self, Linking, Program};
use launcher::packages::BUSYBOX;
use launcher::steps::Steps;
use launcher::toolchain::Toolchain;

use crate::Auvm;

/// Lines that tell the output of programs apart.
const BEGIN: &str = "-- begin";
const END: &str = "-- end";

/// The programs of `tests/programs`, in both kinds.
///
/// # Panics
/// They do not build.
pub fn programs() -> &'static [Program] {
    static PROGRAMS: OnceLock<Vec<Program>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let toolchain = Toolchain::current().expect("there is a compiler");
        let steps = Steps::new(false);
        // The launcher sets up what the host's side of a test needs too: busybox.
        launcher::set_up(&toolchain, crate::workspace(), false, &steps)
            .expect("the set-up is complete");
        compile::programs(crate::workspace(), &toolchain, &steps).expect("the programs build")
    })
}

/// One run of a program, described for both sides.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The program's name.
    pub program: &'a str,
    /// Its arguments. A name in `files` stands for that file's path.
    pub arguments: &'a [&'a str],
    /// Its environment, besides what each side has anyway.
    pub environment: &'a [&'a str],
    /// Files of this host that it reads, by their name.
    pub files: &'a [&'a Path],
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Result {
    output: String,
    status: i32,
}

/// Runs a program of both kinds on this host and on auvm, and compares.
///
/// # Panics
/// They differ; or auvm had other troubles.
pub fn compare(run: Run) {
    compare_all(&[run]);
}

/// As [`compare`], for several runs on one machine, one after the other.
///
/// # Panics
/// One differs; or auvm had other troubles.
pub fn compare_all(runs: &[Run]) {
    let mut machine = Auvm::new();
    let mut pairs = Vec::new();
    for run in runs {
        for file in run.files {
            machine = machine.option("--add", *file);
        }
        let kinds = programs()
            .iter()
            .filter(|program| program.name == run.program);
        let before = pairs.len();
        pairs.extend(kinds.map(|program| (run, program)));
        assert_eq!(pairs.len() - before, 2, "no program {}", run.program);
    }
    let commands = pairs.iter().map(|(run, program)| {
        let line = run.line(&program.guest(), |file| format!("/data/{file}"));
        format!("echo '{BEGIN}'; run {line}; echo '{END}' $?")
    });
    let outcome = machine.exec(&commands.collect::<Vec<_>>().join("; "));
    let mut rest = outcome.stdout.as_str();
    for (run, program) in pairs {
        let linux = run.on_this_host(program);
        let Some((auvm, after)) = parted(rest) else {
            panic!(
                "{} {:?} ({:?}) did not come to its end: {outcome}",
                program.name, run.arguments, program.linking
            );
        };
        rest = after;
        assert!(
            auvm == linux,
            "{} {:?} ({:?})\n--- Linux, status {}\n{}\n--- auvm, status {}\n{}\n--- log\n{}",
            program.name,
            run.arguments,
            program.linking,
            linux.status,
            linux.output,
            auvm.status,
            auvm.output,
            crate::tail(&outcome.log)
        );
    }
    outcome.success();
}

impl Run<'_> {
    /// The command line, words quoted as every shell understands.
    fn line(&self, program: &str, place: impl Fn(&str) -> String) -> String {
        let names: Vec<_> = self
            .files
            .iter()
            .filter_map(|file| file.file_name()?.to_str())
            .collect();
        let arguments = self
            .arguments
            .iter()
            .map(|argument| match names.contains(argument) {
                true => place(argument),
                false => (*argument).to_owned(),
            });
        let environment = self
            .environment
            .iter()
            .map(|variable| (*variable).to_owned());
        // Both sides start the program in the same way.
        let words = [BUSYBOX.to_owned(), "env".to_owned()]
            .into_iter()
            .chain(environment)
            .chain([program.to_owned()]);
        words
            .chain(arguments)
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn on_this_host(&self, program: &Program) -> Result {
        let directory = self
            .files
            .first()
            .and_then(|file| file.parent())
            .unwrap_or(Path::new("/"));
        let line = self.line(&program.host.to_string_lossy(), |file| {
            directory.join(file).display().to_string()
        });
        // As auvm starts programs: with no variables but its own, and one channel for all output.
        let mut shell = Command::new(BUSYBOX);
        shell
            .args(["sh", "-c", &format!("exec {line} 2>&1")])
            .env_clear()
            .stdin(Stdio::null());
        let output = shell.output().expect("busybox starts");
        let status = output
            .status
            .code()
            .expect("programs of the oracle end by themselves");
        Result {
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            status,
        }
    }
}

/// Cuts the first program's result out of what auvm printed.
fn parted(text: &str) -> Option<(Result, &str)> {
    let (_, text) = text.split_once(&format!("{BEGIN}\n"))?;
    let (output, text) = text.split_once(&format!("{END} "))?;
    let (status, rest) = text.split_once('\n')?;
    Some((
        Result {
            output: output.to_owned(),
            status: status.parse().ok()?,
        },
        rest,
    ))
}

/// Whether both kinds are what they claim to be, going by their ELF headers.
///
/// # Panics
/// One is not.
pub fn assert_kinds() {
    const ET_EXEC: u8 = 2;
    const ET_DYN: u8 = 3;
    for program in programs() {
        let file = std::fs::read(&program.host).expect("it was built");
        let expected = match program.linking {
            Linking::StaticPie => ET_DYN,
            Linking::Fixed => ET_EXEC,
        };
        assert_eq!(file[16], expected, "{}", program.host.display());
    }
}
