//! Commands that measure: `bench`.

mod life;

use super::{Command, FAILED, Status, run, usage};
use crate::fs::FsError;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::shell::Context;
use ::bench::env::Env;
use ::bench::fault::{self, Kind};
use ::bench::life::Run;
use ::bench::parts::{self, Part};
use ::bench::report::{self, Case};
use ::bench::swap;
use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::fmt;

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "bench",
    usage: "fault [--json] [--count N] [--file PATH] [CASE]... | swap [--json] | fork [--json] [--count N] | exec [--json] [--count N] | \
            executor [--json] [--count N] | memory [--json] [--count N]",
    summary: "measure page faults, swap, births and deaths of processes and threads, and what they are made of",
    details: "fault: prints nanoseconds (instructions under --icount): count, min, p50, p90, p99, max, mean, and a histogram for each case; \
              with --json an object a line. N samples a case, 1000 unless told. Ctrl-C ends it.\n\
              CASE is one of first-touch-zeroed, first-touch-unzeroed, read-unwritten, copy-on-write, file-resident and \
              file-from-disk; without one, all are measured. The last two read PATH, /bin/busybox unless told.\n\
              swap: the swap device itself (raw-write: 64 KiB in order, 16 at once; raw-read: 4 KiB at random, 64 at once), then a \
              mapping larger than memory (swap-out: one task fills it; swap-in: 64 tasks touch it at random), and for these two pages \
              a second in percent of the device's. Nothing on swap is lost. Needs 1.5 times as much free swap as there is memory.\n\
              fork: a program in ring 3 forks and waits (fork: the call alone; fork-exit-wait), creates and joins threads \
              (thread-create-join), and ends with much memory (exit-64-mib, N/20 times); N samples, 200 unless told. exec: the same for \
              vfork-exec-wait and fork-exec-wait. All but exit-64-mib are measured with u-areas from the cache and, -cold, with each made anew \
              (vm.uareakeep=0 meanwhile). With each: u-areas from the cache, made and released, and frames and tasks before and after.\n\
              executor: spawn (a task is started), spawn-join (and awaited), wake-to-poll, yield, timer (how late who sleeps is woken). \
              memory: frame-alloc, frame-free, heap-alloc-64, heap-free-64, map, unmap, pmap-extract, space-new, space-teardown.",
    run: run!(bench),
}];

/// Samples of a case, unless told.
const COUNT: usize = 1000;
/// The file that is read, unless told: there is one wherever programs can be run.
const FILE: &str = "/bin/busybox";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Fault(Faults),
    /// Whether as JSON.
    Swap(bool),
    Life(Lives),
    Part(Parts),
}

/// What was asked of `bench fault`.
#[derive(Debug, PartialEq, Eq)]
struct Faults {
    json: bool,
    count: usize,
    file: Option<String>,
    /// None: all.
    cases: Vec<Kind>,
}

/// What was asked of `bench fork` or `bench exec`.
#[derive(Debug, PartialEq, Eq)]
struct Lives {
    json: bool,
    count: usize,
    runs: &'static [Run],
}

/// What was asked of `bench executor` or `bench memory`.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    json: bool,
    count: usize,
    part: Part,
}

/// Understands what follows `bench`. An error is the reason why it cannot.
fn parse(args: &[String]) -> Result<Request, String> {
    let mut words = args.iter().map(String::as_str);
    match words.next() {
        Some("fault") => parse_fault(words).map(Request::Fault),
        Some("swap") => match words.collect::<Vec<_>>()[..] {
            [] => Ok(Request::Swap(false)),
            ["--json"] => Ok(Request::Swap(true)),
            _ => Err(String::from("swap takes --json and nothing else")),
        },
        Some("fork") => parse_lives(life::FORK, words).map(Request::Life),
        Some("exec") => parse_lives(life::EXEC, words).map(Request::Life),
        Some("executor") => parse_part(Part::Executor, words).map(Request::Part),
        Some("memory") => parse_part(Part::Memory, words).map(Request::Part),
        Some(other) => Err(format!("there is no benchmark `{other}`")),
        None => Err(String::from("takes the name of a benchmark")),
    }
}

fn parse_fault<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Faults, String> {
    let mut request = Faults {
        json: false,
        count: COUNT,
        file: None,
        cases: Vec::new(),
    };
    while let Some(word) = words.next() {
        match word {
            "--json" => request.json = true,
            "--count" => {
                request.count = parse_count(words.next().unwrap_or_default())?;
            }
            "--file" => match words.next() {
                Some(path) => request.file = Some(String::from(path)),
                None => return Err(String::from("--file takes a path")),
            },
            option if option.starts_with('-') => {
                return Err(format!("there is no option {option}"));
            }
            name => match Kind::by_name(name) {
                Some(kind) if request.cases.contains(&kind) => {}
                Some(kind) => request.cases.push(kind),
                None => {
                    return Err(format!(
                        "there is no case `{name}`; `help bench` lists them"
                    ));
                }
            },
        }
    }
    Ok(request)
}

fn parse_lives<'a>(
    runs: &'static [Run],
    words: impl Iterator<Item = &'a str>,
) -> Result<Lives, String> {
    let (json, count) = parse_options(life::COUNT, words)?;
    Ok(Lives { json, count, runs })
}

fn parse_part<'a>(part: Part, words: impl Iterator<Item = &'a str>) -> Result<Parts, String> {
    let (json, count) = parse_options(COUNT, words)?;
    Ok(Parts { json, count, part })
}

/// `--json` and `--count N`, which is `count` unless told.
fn parse_options<'a>(
    mut count: usize,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(bool, usize), String> {
    let mut json = false;
    while let Some(word) = words.next() {
        match word {
            "--json" => json = true,
            "--count" => count = parse_count(words.next().unwrap_or_default())?,
            other => return Err(format!("there is no option {other}")),
        }
    }
    Ok((json, count))
}

fn parse_count(word: &str) -> Result<usize, String> {
    let most = fault::MAX_COUNT;
    match word.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("--count takes 1 to {most}, not `{word}`")),
    }
}

async fn bench(shell: Context, args: Vec<String>) -> Status {
    match parse(&args) {
        Ok(Request::Fault(faults)) => bench_fault(shell, faults).await,
        Ok(Request::Swap(json)) => bench_swap(shell, json).await,
        Ok(Request::Life(lives)) => life::bench(shell, lives).await,
        Ok(Request::Part(parts)) => bench_part(shell, parts).await,
        Err(why) => usage(&shell, "bench", format_args!("{why}")),
    }
}

/// This machine.
fn env(shell: &Context) -> Env {
    Env {
        uvm: shell.system().uvm.clone(),
        executor: shell.system().executor.clone(),
    }
}

async fn bench_swap(shell: Context, json: bool) -> Status {
    let env = env(&shell);
    // Dropped with this future at Ctrl-C, which makes it stop and clean up.
    let result = match swap::start(&env) {
        Ok(running) => running.finish().await,
        Err(trouble) => Err(trouble),
    };
    show(&shell, "swap", json, result)
}

async fn bench_part(shell: Context, Parts { json, count, part }: Parts) -> Status {
    let env = env(&shell);
    // As above.
    let result = match parts::start(&env, part, count) {
        Ok(running) => running.finish().await,
        Err(trouble) => Err(trouble),
    };
    show(&shell, part.name(), json, result)
}

/// Prints what was measured, or why it was not.
fn show<C: AsMut<[Case]>, E: fmt::Display>(
    shell: &Context,
    name: &str,
    json: bool,
    result: Result<C, E>,
) -> Status {
    match result {
        Ok(mut cases) => {
            let report = if json { report::json } else { report::table };
            print(shell, cases.as_mut(), report);
            0
        }
        Err(trouble) => {
            shell.say(format_args!("bench: {name}: {trouble}"));
            FAILED
        }
    }
}

async fn bench_fault(shell: Context, request: Faults) -> Status {
    let named = !request.cases.is_empty();
    let mut kinds = match named {
        true => request.cases,
        false => Vec::from(Kind::ALL),
    };
    let mut status = 0;
    let mut file = None;
    if kinds.iter().any(|kind| kind.needs_file()) {
        let path = request.file.as_deref().unwrap_or(FILE);
        match open(&shell, path).await {
            Ok(open) => file = Some(open),
            Err(error) => {
                kinds.retain(|kind| !kind.needs_file());
                if request.json {
                    shell.say(format_args!(
                        "{{\"left_out\":\"file cases\",\"why\":\"{error}\"}}"
                    ));
                } else {
                    shell.say(format_args!(
                        "bench: {path}: {error}; the file cases are left out, --file PATH names another file"
                    ));
                }
                // What was asked for by name is missed.
                if named || request.file.is_some() {
                    status = FAILED;
                }
            }
        }
    }
    let object = file.as_ref().and_then(|file| file.object().ok());
    let env = fault::Env {
        uvm: shell.system().uvm.clone(),
        executor: shell.system().executor.clone(),
        file: object.map(|object| object.object().clone()),
    };
    let mut cases: Vec<Case> = Vec::new();
    for kind in kinds {
        // Dropped with this future at Ctrl-C, which makes the case stop and clean up.
        let result = match fault::start(&env, kind, request.count) {
            Ok(running) => running.finish().await,
            Err(trouble) => Err(trouble),
        };
        match result {
            Ok(case) if request.json => print(&shell, &mut [case], report::json),
            Ok(case) => cases.push(case),
            Err(trouble) => {
                if request.json {
                    shell.say(format_args!(
                        "{{\"left_out\":\"{}\",\"why\":\"{trouble}\"}}",
                        kind.name()
                    ));
                } else {
                    shell.say(format_args!("bench: {}: {trouble}", kind.name()));
                }
                status = FAILED;
            }
        }
    }
    if !cases.is_empty() {
        print(&shell, &mut cases, report::table);
    }
    status
}

async fn open(shell: &Context, path: &str) -> Result<Arc<OpenFile>, FsError> {
    let vfs = &shell.system().vfs;
    let file = vfs
        .open(&vfs.root()?, path.as_bytes(), OpenFlags::empty())
        .await?;
    // A file without memory is none to measure.
    file.object()?;
    Ok(file)
}

/// Prints a report on the console as it is made: a whole one may be longer than a heap block.
fn print(
    shell: &Context,
    cases: &mut [Case],
    report: fn(&mut [Case], &mut dyn fmt::Write) -> fmt::Result,
) {
    // The console cannot fail.
    let _ = report(cases, &mut Out(shell));
}

struct Out<'a>(&'a Context);

impl fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.print(format_args!("{text}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn parsed(line: &str) -> Result<Request, String> {
        let words: Vec<String> = line.split_whitespace().map(ToString::to_string).collect();
        parse(&words)
    }

    #[test]
    fn options_and_cases_may_stand_in_any_order() {
        let all = Faults {
            json: false,
            count: COUNT,
            file: None,
            cases: Vec::new(),
        };
        assert_eq!(parsed("swap"), Ok(Request::Swap(false)));
        assert_eq!(parsed("swap --json"), Ok(Request::Swap(true)));
        assert_eq!(parsed("fault"), Ok(Request::Fault(all)));
        let lives = Lives {
            json: true,
            count: 7,
            runs: life::FORK,
        };
        assert_eq!(parsed("fork --count 7 --json"), Ok(Request::Life(lives)));
        let lives = Lives {
            json: false,
            count: life::COUNT,
            runs: life::EXEC,
        };
        assert_eq!(parsed("exec"), Ok(Request::Life(lives)));
        let parts = Parts {
            json: true,
            count: COUNT,
            part: Part::Memory,
        };
        assert_eq!(parsed("memory --json"), Ok(Request::Part(parts)));
        let some = Faults {
            json: true,
            count: 5,
            file: Some("/a".into()),
            cases: [Kind::CopyOnWrite, Kind::FileResident].into(),
        };
        assert_eq!(
            parsed("fault copy-on-write --count 5 file-resident --json copy-on-write --file /a"),
            Ok(Request::Fault(some))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, part) in [
            ("", "name of a benchmark"),
            ("disk", "no benchmark `disk`"),
            ("fault --fast", "no option --fast"),
            ("fault first-touch", "no case `first-touch`"),
            ("fault --count", "not ``"),
            ("fault --count 0", "not `0`"),
            ("fault --count 1000000000", "not `1000000000`"),
            ("fault --file", "takes a path"),
            ("swap --json --json", "nothing else"),
            ("swap raw-read", "nothing else"),
            ("fork --count 0", "not `0`"),
            ("exec vfork", "no option vfork"),
            ("executor spawn", "no option spawn"),
        ] {
            let why = parsed(line).unwrap_err();
            assert!(why.contains(part), "{line}: {why}");
        }
    }

    #[test]
    fn help_names_every_case() {
        for kind in Kind::ALL {
            assert!(COMMANDS[0].details.contains(kind.name()), "{}", kind.name());
        }
        for run in life::FORK.iter().chain(life::EXEC) {
            for series in run.kind.series() {
                assert!(COMMANDS[0].details.contains(series.name), "{series:?}");
            }
        }
        for (name, _) in Part::Executor.cases().iter().chain(Part::Memory.cases()) {
            assert!(COMMANDS[0].details.contains(name), "{name}");
        }
        for kind in swap::Kind::ALL {
            assert!(COMMANDS[0].details.contains(kind.name()), "{}", kind.name());
        }
    }
}
