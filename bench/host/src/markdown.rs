//! The report for people.

use std::fmt::Write;

use bench_programs::cases::{self, Group, Unit};

use crate::comparison::{Comparison, Row, Side};
use crate::configuration::CONFIGURATIONS;
use crate::plots;
use crate::record::{Machine, Measured};

/// The whole report.
pub fn report(comparison: &Comparison, linux_command_line: &str) -> String {
    let mut text = String::new();
    write_report(&mut text, comparison, linux_command_line).expect("writing to a string succeeds");
    text
}

fn write_report(
    to: &mut String,
    comparison: &Comparison,
    linux_command_line: &str,
) -> std::fmt::Result {
    writeln!(to, "# auvm and Linux\n")?;
    writeln!(
        to,
        "The same static programs on both, in the same QEMU (`-accel tcg -icount shift=0,sleep=off`, `-cpu qemu64`, one processor), whose \
         clock counts instructions. Made by `cargo bench`. What two time stamps take is taken off. Ratios are auvm / Linux: below 1 is \
         less on auvm.\n"
    )?;
    for boots in &comparison.boots {
        let configuration = &boots.configuration;
        let known = CONFIGURATIONS.iter().find(|it| it.name == configuration);
        let has = known.map_or("", |known| known.has);
        writeln!(to, "- the {configuration} machine ({has}):")?;
        for machine in [&boots.auvm, &boots.linux] {
            writeln!(to, "  - {}", described(machine))?;
        }
    }
    writeln!(to, "- Linux's command line: `{linux_command_line}`")?;
    for configuration in CONFIGURATIONS {
        for order in configuration.linux_orders {
            let name = configuration.name;
            writeln!(to, "- Linux's first process, {name} machine: `{order}`")?;
        }
    }
    for group in Group::ALL {
        table(to, comparison, group)?;
    }

    writeln!(to, "\n## Spread and proof\n")?;
    writeln!(
        to,
        "Faults are those that the process was charged with around all its samples, by their number; of the paging cases, those that waited for the disk.\n"
    )?;
    writeln!(
        to,
        "| case | kernel | count | min | p50 | p90 | p99 | max | mean | faults |"
    )?;
    writeln!(to, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for row in &comparison.rows {
        for (kernel, side) in [("auvm", &row.auvm), ("Linux", &row.linux)] {
            if let Ok(case) = side {
                writeln!(to, "| {} | {kernel} | {} |", row.name, spread(case))?;
            }
        }
    }
    doubts(to, comparison)?;

    writeln!(to, "\n## What a sample is\n")?;
    for row in &comparison.rows {
        if let Some(case) = cases::find(&row.name) {
            writeln!(to, "- `{}`: {}", case.name, case.sample)?;
        }
    }
    Ok(())
}

/// What is said above the table of a group.
pub(crate) fn title(group: Group) -> &'static str {
    match group {
        Group::Operations => "Operations, in instructions",
        Group::Boot => "Boot, in instructions",
        Group::Memory => "Memory of a blocked task, in bytes",
        Group::Paging => "Paging, in microseconds of guest time",
        Group::Touches => "A touch of memory that may be on swap, in nanoseconds of guest time",
    }
}

fn table(to: &mut String, comparison: &Comparison, group: Group) -> std::fmt::Result {
    let rows: Vec<&Row> = comparison.rows_of(group).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(to, "\n## {}\n", title(group))?;
    writeln!(
        to,
        "| case | auvm p50 | Linux p50 | ratio | auvm mean | Linux mean | ratio |"
    )?;
    writeln!(to, "|---|--:|--:|--:|--:|--:|--:|")?;
    for row in &rows {
        writeln!(to, "{}", side_by_side(row))?;
    }
    if let Some(means) = comparison.geometric_means(group)
        && rows.len() > 1
    {
        writeln!(
            to,
            "| **geometric mean** | | | **{:.3}** | | | **{:.3}** |",
            means.p50, means.mean
        )?;
    }
    let per_page = |row: &&&Row| {
        cases::find(&row.name).is_some_and(|case| case.unit == Unit::InstructionsPerPage)
    };
    let names: Vec<&str> = rows.iter().filter(per_page).map(|row| &*row.name).collect();
    if !names.is_empty() {
        writeln!(to, "\nPer page: {}.", names.join(", "))?;
    }
    if let Some((name, what)) = plots::of(group) {
        writeln!(to, "\n![{what}]({name})")?;
    }
    Ok(())
}

fn doubts(to: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let mut lines = Vec::new();
    for row in &comparison.rows {
        for (kernel, side) in [("auvm", &row.auvm), ("Linux", &row.linux)] {
            if let Err(why) = side {
                lines.push(format!("- `{}` did not run on {kernel}: {why}", row.name));
            }
        }
        for kernel in row.doubtful() {
            lines.push(format!(
                "- `{}` on {kernel}: the faults are not those that the samples should take",
                row.name
            ));
        }
    }
    if !lines.is_empty() {
        writeln!(to, "\n## Not to be relied on\n\n{}", lines.join("\n"))?;
    }
    Ok(())
}

fn described(machine: &Machine) -> String {
    format!(
        "{} {} ({}): {} of memory, {} free at first; {} ticks in a million instructions; {} taken off each sample",
        machine.kernel,
        machine.release,
        machine.version,
        mebibytes(machine.memory),
        mebibytes(machine.free),
        grouped(machine.ticks_per_million),
        machine.overhead
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn side_by_side(row: &Row) -> String {
    let p50 = |side: &Side| {
        side.as_ref()
            .map_or("-".to_owned(), |case| grouped(case.p50))
    };
    let mean = |side: &Side| {
        side.as_ref()
            .map_or("-".to_owned(), |case| grouped(case.mean.round() as u64))
    };
    let ratios = row.ratios();
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
    let mark = if row.doubtful().is_empty() {
        ""
    } else {
        " (!)"
    };
    format!(
        "| {}{mark} | {} | {} | {} | {} | {} | {} |",
        row.name,
        p50(&row.auvm),
        p50(&row.linux),
        ratio(ratios.map(|ratios| ratios.p50)),
        mean(&row.auvm),
        mean(&row.linux),
        ratio(ratios.map(|ratios| ratios.mean)),
    )
}

fn spread(case: &Measured) -> String {
    let numbers = [case.count, case.min, case.p50, case.p90, case.p99, case.max];
    let numbers = numbers.map(grouped).join(" | ");
    let faults = case.faults as f64 / case.count.max(1) as f64;
    format!("{numbers} | {:.2} | {faults:.3}", case.mean)
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::example;

    #[test]
    fn numbers_are_grouped() {
        let all = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_report_has_figures_ratios_and_settings() {
        let text = report(
            &example::one((1000, 1100.4), (4000, 4401.0)),
            "quiet mitigations=off",
        );
        for part in [
            "| read-unwritten | 1,000 | 4,000 | 0.250 | 1,100 | 4,401 | 0.250 |",
            "mitigations=off",
            "| read-unwritten | Linux | 1,000 | 4,000 |",
            "- `read-unwritten`: first read",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(!text.contains("Not to be relied on"), "{text}");
    }

    #[test]
    fn what_is_doubtful_is_named() {
        let mut comparison = example::one((1, 1.0), (1, 1.0));
        comparison.rows[0].auvm.as_mut().unwrap().faults = 7;
        comparison.rows[0].linux = Err("no luck".to_owned());
        let text = report(&comparison, "");
        for part in [
            "| read-unwritten (!) | 1 | - | - |",
            "on auvm: the faults",
            "did not run on Linux: no luck",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }
}
