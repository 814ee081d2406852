//! How measured cases are shown: a table, a histogram each, or JSON lines for machines.

use crate::samples::{Samples, Summary};
use alloc::string::String;
use core::fmt::{self, Write};

/// Width of a histogram's longest bar, in characters.
const BAR: usize = 50;

/// A figure that stands beside the samples: a counter's growth over the case, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// What was counted, in snake case: the key in JSON.
    pub name: &'static str,
    /// How much, over all samples of the case.
    pub value: u64,
}

/// One measured case.
#[derive(Debug)]
pub struct Case {
    /// Its name, as `bench CASE` takes it.
    pub name: &'static str,
    /// What one sample spans, in a line.
    pub what: &'static str,
    /// Time of the kernel's path, in nanoseconds.
    pub kernel: Samples,
    /// Time that the device had the request, in nanoseconds; empty where no device is asked.
    pub device: Samples,
    /// Counters over the whole case.
    pub figures: alloc::vec::Vec<Figure>,
}

/// Prints `cases` as one table, then a histogram each.
pub fn table(cases: &mut [Case], out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "{:<26}{:>8}{:>9}{:>9}{:>9}{:>9}{:>11}{:>9}",
        "nanoseconds", "count", "min", "p50", "p90", "p99", "max", "mean"
    )?;
    for case in cases.iter_mut() {
        if let Some(kernel) = case.kernel.summary() {
            row(out, case.name, &kernel)?;
        }
        if let Some(device) = case.device.summary() {
            row(out, "  of which device", &device)?;
        }
    }
    for case in cases.iter() {
        writeln!(out, "\n{}: {}", case.name, case.what)?;
        for figure in &case.figures {
            writeln!(out, "  {} {}", figure.value, figure.name)?;
        }
        histogram(out, &case.kernel)?;
        if !case.device.is_empty() {
            writeln!(out, "  device:")?;
            histogram(out, &case.device)?;
        }
    }
    Ok(())
}

/// Prints each case as one JSON object on a line of its own.
pub fn json(cases: &mut [Case], out: &mut dyn Write) -> fmt::Result {
    for case in cases {
        write!(out, "{{\"case\":\"{}\",\"unit\":\"ns\"", case.name)?;
        for (key, samples) in [("kernel", &mut case.kernel), ("device", &mut case.device)] {
            if let Some(s) = samples.summary() {
                write!(
                    out,
                    ",\"{key}\":{{\"count\":{},\"min\":{},\"p50\":{},\"p90\":{},\"p99\":{},\"max\":{},\"mean\":{},\"histogram\":[",
                    s.count, s.min, s.p50, s.p90, s.p99, s.max, s.mean
                )?;
                for (i, (from, count)) in samples.buckets().iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    write!(out, "{comma}[{from},{count}]")?;
                }
                write!(out, "]}}")?;
            }
        }
        for figure in &case.figures {
            write!(out, ",\"{}\":{}", figure.name, figure.value)?;
        }
        writeln!(out, "}}")?;
    }
    Ok(())
}

fn row(out: &mut dyn Write, name: &str, s: &Summary) -> fmt::Result {
    writeln!(
        out,
        "{name:<26}{:>8}{:>9}{:>9}{:>9}{:>9}{:>11}{:>9}",
        s.count, s.min, s.p50, s.p90, s.p99, s.max, s.mean
    )
}

fn histogram(out: &mut dyn Write, samples: &Samples) -> fmt::Result {
    let buckets = samples.buckets();
    let most = buckets.iter().map(|&(_, count)| count).max().unwrap_or(1);
    for (from, count) in buckets {
        // A bucket that holds anything shows at least one mark.
        let length = (count * BAR / most).max(usize::from(count > 0));
        let mut bar = String::new();
        for _ in 0..length {
            bar.push('#');
        }
        writeln!(out, "  >= {from:>10} {count:>8} {bar}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn case() -> Case {
        let mut kernel = Samples::with_capacity(4).unwrap();
        for value in [100, 110, 120, 500] {
            kernel.push(value);
        }
        Case {
            name: "first-touch",
            what: "a write",
            kernel,
            device: Samples::with_capacity(0).unwrap(),
            figures: vec![Figure {
                name: "heap_allocations",
                value: 0,
            }],
        }
    }

    #[test]
    fn the_table_has_a_row_and_a_histogram() {
        let mut out = String::new();
        table(&mut [case()], &mut out).unwrap();
        assert!(
            out.contains(
                "first-touch                      4      100      110      500      500        500      207"
            ),
            "{out}"
        );
        assert!(out.contains("0 heap_allocations"), "{out}");
        assert!(out.contains(">=        256        1 ####"), "{out}");
        assert!(!out.contains("device"), "{out}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let mut out = String::new();
        json(&mut [case()], &mut out).unwrap();
        assert_eq!(
            out,
            "{\"case\":\"first-touch\",\"unit\":\"ns\",\"kernel\":{\"count\":4,\"min\":100,\"p50\":110,\"p90\":500,\
             \"p99\":500,\"max\":500,\"mean\":207,\"histogram\":[[64,3],[128,0],[256,1]]},\"heap_allocations\":0}\n"
        );
    }
}
