//! What the programs print, read: one JSON object a line, among whatever else comes through a console.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How every record begins.
const BEGIN: &str = "{\"record\":";

/// A line of a program.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// What the machine is.
    Machine(Machine),
    /// A case's samples.
    Case(Measured),
    /// A case that came to nothing, and why.
    Failure {
        /// Its name.
        name: String,
        /// The reason.
        why: String,
    },
}

/// What a run was measured on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's name.
    pub kernel: String,
    /// Its release, such as `6.1.0-50-cloud-amd64`.
    pub release: String,
    /// Its build.
    pub version: String,
    /// Bytes of memory that the kernel has.
    pub memory: u64,
    /// Bytes of it that are free as the first case begins.
    pub free: u64,
    /// Ticks of a pair of stamps, taken off every sample.
    pub overhead: u64,
    /// Ticks of the time-stamp counter in a million instructions.
    pub ticks_per_million: u64,
}

/// A case's samples, summed up. All in the case's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The case.
    pub name: String,
    /// What a number counts.
    pub unit: String,
    /// Samples.
    pub count: u64,
    /// The least.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// Nine in ten are at most this.
    pub p90: u64,
    /// 99 in a hundred are.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
    /// Page faults around all the samples, as the process's own count has it.
    pub faults: u64,
}

impl Record {
    /// Reads a line; `None` if it is no record.
    ///
    /// # Errors
    /// It begins as one and is none.
    pub fn parse(line: &str) -> Option<Result<Record>> {
        let line = line.trim();
        line.starts_with(BEGIN)
            .then(|| read(line).with_context(|| format!("a record that cannot be read: {line}")))
    }
}

fn read(line: &str) -> Result<Record> {
    let value: Value = serde_json::from_str(line)?;
    Ok(match text(&value, "record")?.as_str() {
        "machine" => Record::Machine(machine(&value)?),
        "case" => Record::Case(measured(&value)?),
        "failure" => Record::Failure {
            name: text(&value, "name")?,
            why: text(&value, "why")?,
        },
        other => bail!("there is no record '{other}'"),
    })
}

/// A machine out of its object.
///
/// # Errors
/// A field is missing or of another type.
pub fn machine(value: &Value) -> Result<Machine> {
    Ok(Machine {
        kernel: text(value, "kernel")?,
        release: text(value, "release")?,
        version: text(value, "version")?,
        memory: number(value, "memory")?,
        free: number(value, "free")?,
        overhead: number(value, "overhead")?,
        ticks_per_million: number(value, "ticks_per_million")?,
    })
}

/// A case's samples out of their object.
///
/// # Errors
/// A field is missing or of another type.
pub fn measured(value: &Value) -> Result<Measured> {
    Ok(Measured {
        name: text(value, "name")?,
        unit: text(value, "unit")?,
        count: number(value, "count")?,
        min: number(value, "min")?,
        p50: number(value, "p50")?,
        p90: number(value, "p90")?,
        p99: number(value, "p99")?,
        max: number(value, "max")?,
        mean: value["mean"].as_f64().context("'mean' is no number")?,
        faults: number(value, "faults")?,
    })
}

fn text(value: &Value, field: &str) -> Result<String> {
    let text = value[field].as_str();
    Ok(text
        .with_context(|| format!("'{field}' is no text"))?
        .to_owned())
}

fn number(value: &Value, field: &str) -> Result<u64> {
    value[field]
        .as_u64()
        .with_context(|| format!("'{field}' is no whole number"))
}

/// Records for tests.
#[cfg(test)]
pub(crate) mod example {
    use super::{Machine, Measured};

    pub(crate) fn machine(kernel: &str) -> Machine {
        Machine {
            kernel: kernel.to_owned(),
            release: "6.1".to_owned(),
            version: "#1".to_owned(),
            memory: 256 << 20,
            free: 200 << 20,
            overhead: 4,
            ticks_per_million: 1_000_004,
        }
    }

    /// All samples but the mean are `p50`.
    pub(crate) fn case(name: &str, p50: u64, mean: f64) -> Measured {
        Measured {
            name: name.to_owned(),
            unit: "instructions".to_owned(),
            count: 1000,
            min: p50,
            p50,
            p90: p50,
            p99: p50,
            max: p50,
            mean,
            faults: 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_write_is_read() {
        let mut bench = bench_programs::bench::Bench::new().unwrap();
        (0..3).for_each(|ticks| bench.record(10_000 + ticks, 1));
        let mut line = String::new();
        bench_programs::record::case(&mut line, "a", "instructions", &mut bench).unwrap();
        let Record::Case(case) = Record::parse(&line).unwrap().unwrap() else {
            panic!("no case: {line}");
        };
        assert_eq!((case.name.as_str(), case.count), ("a", 3));
        assert_eq!(case.p50, 10_001 - bench.overhead());
        assert_eq!(case.mean, case.p50 as f64);

        let mut line = String::new();
        bench_programs::machine::describe(&mut line).unwrap();
        let Record::Machine(machine) = Record::parse(&line).unwrap().unwrap() else {
            panic!("no machine: {line}");
        };
        assert_eq!(machine.kernel, "Linux");

        let mut line = String::new();
        let why = bench_programs::bench::Failure::Wrong("no luck");
        bench_programs::record::failure(&mut line, "a", why).unwrap();
        let (name, why) = ("a".to_owned(), "no luck".to_owned());
        assert_eq!(
            Record::parse(&line).unwrap().unwrap(),
            Record::Failure { name, why }
        );
    }

    #[test]
    fn consoles_say_other_things_too() {
        assert!(Record::parse("[    1.0] Run /init as init process").is_none());
        assert!(Record::parse("").is_none());
    }

    #[test]
    fn half_a_record_is_an_error() {
        assert!(
            Record::parse("{\"record\":\"case\",\"name\":\"a\"")
                .unwrap()
                .is_err()
        );
        assert!(
            Record::parse("{\"record\":\"case\",\"name\":\"a\"}")
                .unwrap()
                .is_err()
        );
        assert!(Record::parse("{\"record\":\"what\"}").unwrap().is_err());
    }
}
