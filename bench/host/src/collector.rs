//! Takes in what a machine prints while it runs the cases, and shows how far it is.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use bench_programs::cases::Case;

use crate::record::{Machine, Measured, Record};

/// Lines of a console that are shown when a run came to nothing.
const TAIL: usize = 20;

/// What a machine has said so far.
#[derive(Debug)]
pub struct Collector {
    kernel: &'static str,
    configuration: &'static str,
    expected: Vec<&'static str>,
    line: Vec<u8>,
    others: Vec<String>,
    machine: Option<Machine>,
    cases: Vec<Measured>,
    failures: Vec<(String, String)>,
    broken: Option<anyhow::Error>,
}

/// What a kernel's run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What it was measured on.
    pub machine: Machine,
    /// The cases that were measured.
    pub cases: Vec<Measured>,
    /// Those that were not, and why.
    pub failures: Vec<(String, String)>,
}

impl Collector {
    /// For a run of `cases` on `kernel`, on the machine of that name.
    pub fn new(
        kernel: &'static str,
        configuration: &'static str,
        cases: &[&'static Case],
    ) -> Collector {
        Collector {
            kernel,
            configuration,
            expected: cases.iter().map(|case| case.name).collect(),
            line: Vec::new(),
            others: Vec::new(),
            machine: None,
            cases: Vec::new(),
            failures: Vec::new(),
            broken: None,
        }
    }

    /// Takes a piece of output, wherever it is cut.
    pub fn take(&mut self, piece: &[u8]) {
        for &byte in piece {
            match byte {
                b'\n' => self.end_line(),
                _ => self.line.push(byte),
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        match Record::parse(&line) {
            None => self.others.push(line.trim_end().to_owned()),
            Some(Err(error)) => self.broken = Some(error),
            Some(Ok(Record::Machine(machine))) => self.machine = Some(machine),
            Some(Ok(Record::Case(case))) => self.cases.push(case),
            Some(Ok(Record::Failure { name, why })) => self.failures.push((name, why)),
        }
        self.show();
    }

    /// The line on standard error.
    pub fn show(&self) {
        let done = self.cases.len() + self.failures.len();
        let mut stderr = std::io::stderr().lock();
        let of = self.expected.len();
        let kernel = format_args!("{}, {} machine", self.kernel, self.configuration);
        let now = match (&self.machine, self.expected.get(done)) {
            (None, _) => "booting",
            (Some(_), Some(case)) => case,
            (Some(_), None) => "done",
        };
        // Nobody looks at what cannot be drawn over; and that nobody reads it is no reason to stop.
        let _ = match (stderr.is_terminal(), done == of && self.line.is_empty()) {
            (true, false) => write!(stderr, "\r\x1b[K{kernel}: {done} of {of} cases, {now}"),
            (true, true) => writeln!(stderr, "\r\x1b[K{kernel}: {done} of {of} cases"),
            (false, _) => Ok(()),
        };
    }

    /// The run, when the machine is off. A case of which nothing was heard counts as failed.
    ///
    /// # Errors
    /// The machine did not get as far as its first program, or a record was cut.
    pub fn finish(mut self) -> Result<Run> {
        if !self.line.is_empty() {
            self.end_line();
        }
        eprintln!(
            "{}, {} machine: {} of {} cases measured",
            self.kernel,
            self.configuration,
            self.cases.len(),
            self.expected.len()
        );
        let from = self.others.len().saturating_sub(TAIL);
        let tail = self.others[from..].join("\n");
        if let Some(broken) = self.broken {
            return Err(broken.context(format!("{} printed\n{tail}", self.kernel)));
        }
        let machine = self.machine.with_context(|| {
            format!(
                "{} did not get as far as running a program; it printed\n{tail}",
                self.kernel
            )
        })?;
        for name in self.expected {
            let heard = self.cases.iter().any(|case| case.name == name)
                || self.failures.iter().any(|(failed, _)| failed == name);
            if !heard {
                self.failures
                    .push((name.to_owned(), "the machine ended before".to_owned()));
            }
        }
        Ok(Run {
            machine,
            cases: self.cases,
            failures: self.failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use bench_programs::cases::CASES;

    use super::*;

    const MACHINE: &str = "{\"record\":\"machine\",\"kernel\":\"auvm\",\"release\":\"1\",\"version\":\"#1\",\
        \"memory\":2,\"free\":1,\"overhead\":4,\"ticks_per_million\":1000000}\n";

    #[test]
    fn pieces_are_cut_anywhere_and_silence_is_failure() {
        let mut collector = Collector::new("auvm", "plain", &[&CASES[0], &CASES[1]]);
        let failure = format!(
            "noise\n{MACHINE}{{\"record\":\"failure\",\"name\":\"{}\",\"why\":\"no\"}}\n",
            CASES[0].name
        );
        failure
            .as_bytes()
            .chunks(7)
            .for_each(|piece| collector.take(piece));
        let run = collector.finish().unwrap();
        assert_eq!(run.machine.kernel, "auvm");
        assert_eq!(run.failures[0], (CASES[0].name.to_owned(), "no".to_owned()));
        assert_eq!(run.failures[1].0, CASES[1].name);
    }

    #[test]
    fn a_machine_that_does_not_boot_shows_its_last_words() {
        let mut collector = Collector::new("Linux", "plain", &[]);
        collector.take(b"Kernel panic - not syncing\n");
        let error = collector.finish().unwrap_err().to_string();
        assert!(error.contains("Kernel panic"), "{error}");
    }
}
